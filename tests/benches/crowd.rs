//! Whether an honest client is served while others take all they can get: 10,100 connections that say nothing, one admitted peer
//! whose requests the service never answers, 150 idle connections to the admin port; and how long it takes to end 8,000 idle
//! connections.
//!
//! With `PEERGATE_BENCH=path/to/peergate` another binary is measured.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use peergate_host::pki::{Credential, Leaf};
use peergate_tests::client::Client;
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::http2::Http2;
use peergate_tests::pki::Pki;
use peergate_tests::upstream::Upstream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

const SILENT: usize = 10_100;
const IDLE: usize = 8_000;
/// An honest client that is not served within this time is locked out.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("the limit on open files");
    silent_connections();
    for (open_files, connections) in [(1024, 10), (4096, 32)] {
        unanswered_requests(open_files, connections);
    }
    idle_admin_connections();
    for protocol in [&b"http/1.1"[..], b"h2"] {
        end_idle_connections(protocol);
    }
}

/// A host that admits `node-*`.
struct Scene {
    pki: Pki,
    host: Host,
    policy: std::path::PathBuf,
    honest: Credential,
    greedy: Credential,
}

impl Scene {
    fn start(with: impl FnOnce(Start) -> Start) -> Self {
        let pki = Pki::new();
        let policy = write_policy(&pki, &peers("node-*"));
        let start = Start::endpoint("peer", &policy, Upstream::http().address).admin();
        let host = with(start).start();
        let own = |name: &str| pki.authority().issue(&Leaf::new().cn(name)).expect("a certificate");
        let (honest, greedy) = (own("node-honest"), own("node-greedy"));
        Self { pki, host, policy, honest, greedy }
    }

    /// New connections with a request each, for `time`: how many were served, and how long they took.
    fn honest(&self, time: Duration) -> Served {
        let (began, mut served) = (Instant::now(), Served::default());
        while began.elapsed() < time {
            let asked = Instant::now();
            let answer = Client::connect(self.host.address, self.pki.ca(), Some(&self.honest))
                .and_then(|mut client| client.get("/"));
            match answer {
                Ok(answer) if answer.status() == 200 => served.times.push(asked.elapsed()),
                _ => served.failed += 1,
            }
            thread::sleep(Duration::from_millis(20));
        }
        served.times.sort_unstable();
        served
    }
}

#[derive(Default)]
struct Served {
    times: Vec<Duration>,
    failed: usize,
}

impl Served {
    fn report(&self, what: &str) {
        let at = |part: usize| self.times.get(self.times.len().saturating_sub(1) * part / 100);
        let ms = |time: Option<&Duration>| {
            time.map_or("never".to_owned(), |it| format!("{:.0} ms", it.as_secs_f64() * 1e3))
        };
        println!(
            "{what}: {} served, {} failed, median {}, p99 {}, longest {}",
            self.times.len(),
            self.failed,
            ms(at(50)),
            ms(at(99)),
            ms(self.times.last())
        );
    }
}

fn peers(name: &str) -> Value {
    json!({"authorized-peers": [{"required-credentials": [{"field": "CN", "must-match": name}]}]})
}

fn silent_connections() {
    let scene = Scene::start(|start| start);
    scene.honest(Duration::from_secs(2)).report("nobody else");
    let began = Instant::now();
    let crowd = silent(scene.host.address, SILENT);
    println!("{} silent connections in {:.1} s", crowd.len(), began.elapsed().as_secs_f64());
    scene.honest(PATIENCE).report("while they are open");
}

/// From another address than the honest client, which changes nothing for a host that does not look at addresses.
fn silent(address: SocketAddr, count: usize) -> Vec<Socket> {
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).ok()?;
        socket.connect_timeout(&address.into(), Duration::from_secs(1)).ok()?;
        Some(socket)
    };
    (0..count).filter_map(connect).collect()
}

/// Connections of one peer, with 128 requests each.
fn unanswered_requests(open_files: u32, connections: usize) {
    let scene = Scene::start(|start| start.open_files(open_files));
    let mut greedy = Vec::new();
    for _ in 0..connections {
        let Ok(mut client) = Http2::connect(scene.host.address, scene.pki.ca(), Some(&scene.greedy)) else {
            continue;
        };
        for _ in 0..128 {
            client.request("GET", "/hang", &[], true).ok();
        }
        greedy.push(client);
    }
    thread::sleep(Duration::from_secs(2));
    println!(
        "{open_files} open files, {} connections with 128 requests each: {} open files taken",
        greedy.len(),
        fs::read_dir(format!("/proc/{}/fd", scene.host.pid())).expect("its files").count()
    );
    scene.honest(PATIENCE).report("while they wait for an answer");
}

fn idle_admin_connections() {
    let scene = Scene::start(|start| start);
    let idle: Vec<_> = (0..150).filter_map(|_| TcpStream::connect(scene.host.admin()).ok()).collect();
    let began = Instant::now();
    let probe = peergate_tests::commands::run(
        peergate_tests::commands::peergate().args([
            "probe",
            "--admin",
            &scene.host.admin().to_string(),
            "--path",
            "/healthz",
        ]),
        b"",
    );
    println!(
        "{} idle connections to the admin port: the probe exits with {:?} after {:.2} s",
        idle.len(),
        probe.code,
        began.elapsed().as_secs_f64()
    );
}

fn end_idle_connections(protocol: &[u8]) {
    let scene = Scene::start(|start| start);
    // One client would not get as many.
    let own = |index| {
        scene.pki.authority().issue(&Leaf::new().cn(&format!("node-{index}"))).expect("a certificate")
    };
    let clients: Vec<_> = (0..10).map(own).collect();
    let connect = |index: usize| {
        let credential = &clients[index % clients.len()];
        Client::connect_alpn(scene.host.address, scene.pki.ca(), Some(credential), protocol).ok()
    };
    let mut idle: Vec<_> = (0..IDLE).filter_map(connect).collect();
    if protocol == b"h2" {
        for client in &mut idle {
            client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("written");
        }
        thread::sleep(Duration::from_secs(2));
    }
    let open = || peergate_tests::admin::json(scene.host.admin(), "/connections")["open"].as_u64();
    let before = open();
    fs::write(&scene.policy, scene.pki.with_files(&peers("other")).to_string()).expect("the policy");
    let began = Instant::now();
    while open() != Some(0) && began.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(20));
    }
    println!(
        "{} idle connections ({}): all ended {:.2} s after the policy changed",
        before.unwrap_or(0),
        String::from_utf8_lossy(protocol),
        began.elapsed().as_secs_f64()
    );
    drop(idle);
}
