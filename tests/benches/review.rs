//! What it costs to judge open connections again: 10,000 of them, each with a certificate of its own.
//!
//! Ten thousand is the host's own limit; as many sockets are needed here, and the limit on open files is raised for them.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use peergate_host::pki::{Authority, Leaf};
use peergate_tests::client::Client;
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

const CONNECTIONS: usize = 9_990;
/// Every hundredth goes.
const LEAVING: usize = 100;

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("the limit on open files");
    let pki = Pki::new();
    let policy = write_policy(&pki, &peers(&["staying-*", "leaving-*"]));
    let change = |names: &[&str]| {
        fs::write(&policy, pki.with_files(&peers(names)).to_string()).expect("the policy");
    };
    let start = Start::endpoint("peer", &policy, Upstream::http().address);
    let host = start.argument("--limit").argument("connections=10000").start();
    change(&["staying-*", "leaving-*", "another-*"]);
    let empty = reload(&host);
    println!("reload without connections: {} ms of CPU", empty.as_millis());

    let peer = pki.peer(&Leaf::new().cn("staying-0"));
    requests(&host, &pki, &peer);

    let began = Instant::now();
    let mut staying = Vec::new();
    let mut leaving = Vec::new();
    for index in 0..CONNECTIONS {
        let (list, name) = match index % LEAVING {
            0 => (&mut leaving, "leaving"),
            _ => (&mut staying, "staying"),
        };
        let own = pki.authority().issue(&Leaf::new().cn(&format!("{name}-{index}"))).expect("a certificate");
        let mut client = Client::connect(host.address, pki.ca(), Some(&own)).expect("a connection");
        if index % 1000 == 0 {
            assert_eq!(client.get("/").expect("an answer").status(), 200);
        }
        list.push(client);
    }
    println!(
        "{CONNECTIONS} connections in {:.1} s, host at {} MB",
        began.elapsed().as_secs_f64(),
        memory(&host)
    );
    let before = cpu(&host);
    thread::sleep(Duration::from_secs(5));
    println!("idle: {:.1} ms of CPU a second", (cpu(&host) - before).as_secs_f64() * 200.0);

    change(&["staying-*", "leaving-*", "yet-another-*"]);
    report("judged, all stay", reload(&host), empty);
    let another = Authority::root("Another root").expect("a root").pem();
    fs::write(pki.file("ca.pem"), pki.root().pem() + &another).expect("ca.pem");
    report("judged and chains verified, all stay", reload(&host), empty);
    change(&["staying-*"]);
    let began = Instant::now();
    let used = reload(&host);
    for mut client in leaving.drain(..) {
        // Any end will do, and there must be one.
        client.read_to_end().ok();
    }
    report("judged, every hundredth goes", used, empty);
    println!("the last of those is closed {:.2} s after the change", began.elapsed().as_secs_f64());
    for client in staying.iter_mut().step_by(997) {
        assert_eq!(client.get("/").expect("an answer of a connection that stays").status(), 200);
    }
}

fn report(what: &str, used: Duration, empty: Duration) {
    let review = used.saturating_sub(empty);
    let each = review.as_secs_f64() * 1e6 / CONNECTIONS as f64;
    println!("{what}: {} ms of CPU, {each:.0} us each", review.as_millis());
}

/// Requests one after the other on one connection.
fn requests(host: &Host, pki: &Pki, peer: &Peer) {
    const REQUESTS: u32 = 20_000;
    let address: SocketAddr = host.address;
    let mut client = Client::connect(address, pki.ca(), Some(&peer.credential)).expect("a connection");
    let before = cpu(host);
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").expect("an answer").status(), 200);
    }
    let each = (cpu(host) - before) / REQUESTS;
    println!("a request: {:.1} us of CPU", each.as_secs_f64() * 1e6);
}

fn peers(names: &[&str]) -> Value {
    let rule = |name: &&str| json!({"required-credentials": [{"field": "CN", "must-match": name}]});
    json!({"authorized-peers": names.iter().map(rule).collect::<Vec<_>>()})
}

/// CPU time from the signal until nothing more is done.
fn reload(host: &Host) -> Duration {
    let before = cpu(host);
    host.reload();
    let mut last = cpu(host);
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = cpu(host);
        // What runs once a second is less than two ticks of the clock.
        if now - last <= Duration::from_millis(10) {
            return now - before;
        }
        last = now;
    }
}

/// User and system time (`proc_pid_stat(5)`, fields 14 and 15), in ticks of 10 ms.
fn cpu(host: &Host) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid())).expect("the process");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<u64> =
        rest.split_ascii_whitespace().skip(11).take(2).map(|it| it.parse().expect("ticks")).collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

fn memory(host: &Host) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("the process");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("its memory");
    line.split_ascii_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).expect("kilobytes") / 1024
}
