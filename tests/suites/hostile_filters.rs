//! Filters that are out for the host: they take memory and time, and refuse in ways that cannot be sent. The host keeps its memory,
//! answers others, and admits nobody whom a filter meant to refuse.

use std::{
    fs,
    path::{Path, PathBuf},
};

use peergate_tests::{
    client::Client,
    commands::{peergate, run},
    filter,
    host::{Host, Start, write_policy},
    pki::{Peer, Pki},
    policies::{node, vespa_example},
    upstream::Upstream,
    wait,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A module with the prelude, and a request callback that does `cases` by the first letter of the path and goes on.
fn hostile(pki: &Pki, cases: &[(char, &str)]) -> PathBuf {
    let cases: String = cases
        .iter()
        .map(|(letter, work)| {
            format!("(if (i32.eq (local.get $case) (i32.const {})) (then {work}))\n", u32::from(*letter))
        })
        .collect();
    module(
        pki,
        &format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
              (local $case i32) (local $left i32)
              (local.set $case (call $case))
              {cases}
              (i32.const 0))"#
        ),
    )
}

fn module(pki: &Pki, parts: &str) -> PathBuf {
    let path = pki.file("hostile.wasm");
    let text = format!("(module {} {parts})", include_str!("hostile.wat"));
    fs::write(&path, wat::parse_str(text).expect("a module")).expect("the filter");
    path
}

/// `work` so many times.
fn times(count: u32, work: &str) -> String {
    format!(
        "(local.set $left (i32.const {count})) (loop $again {work}
           (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    )
}

struct Gate {
    pki: Pki,
    peer: Peer,
    upstream: Upstream,
    host: Host,
}

impl Gate {
    /// A host with one worker.
    fn new(filter: impl FnOnce(&Pki) -> PathBuf) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let (peer, filter) = (pki.peer(&node()), filter(&pki));
        let config = json!({
            "filter": filter, "workers": 1,
            "clusters": {"auth": {"address": upstream.address}},
            "admin": {"address": "127.0.0.1:0"},
            "inbound": [{
                "address": "127.0.0.1:0",
                "upstream": {"address": upstream.address},
                "endpoints": [{"endpoint": "peer", "policy": write_policy(&pki, &json!({}))}],
            }],
        });
        let path = pki.file("host.json");
        fs::write(&path, config.to_string()).expect("written");
        let host = Start::config(&path).start();
        Self { pki, peer, upstream, host }
    }

    fn client(&self) -> Client {
        Client::connect(self.host.address, self.pki.ca(), Some(&self.peer.credential)).expect("a connection")
    }

    fn get(&self, path: &str) -> u16 {
        let answer = self.client().get(path);
        answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.host.log())).status()
    }

    /// MiB of the host that are in memory.
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.host.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib >> 10
    }
}

/// What the host may take: about 30 MiB itself, what the filter takes of its 64, and each limit once.
const RESIDENT: usize = 256;

/// Findings of a hostile test: shared data 61 to 5,207 MB, names of queues and metrics 18 to 2,946 MB in 8 s.
#[test]
fn what_a_filter_makes_the_host_keep_is_bounded() {
    let long = |size: u32| format!("(call $name) (i32.const {size})");
    let cases = [
        // Small keys, large keys, large values.
        ('a', times(20_000, "(drop (call $set_shared (call $name) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const 0)))")),
        ('b', times(8, &format!("(drop (call $set_shared {} (i32.const 0) (i32.const 0) (i32.const 0)))", long(1 << 20)))),
        ('c', times(8, "(drop (call $set_shared (call $name) (i32.const 8) (i32.const 0) (i32.const 1048576) (i32.const 0)))")),
        // Names of queues and metrics, many and large.
        ('d', times(4, &format!("(drop (call $register {} (i32.const 8)))", long(16 << 20)))),
        ('e', times(2_000, "(drop (call $register (call $name) (i32.const 8) (i32.const 8)))")),
        ('f', times(4, &format!("(drop (call $define (i32.const 0) {} (i32.const 8)))", long(16 << 20)))),
        ('g', times(2_000, "(drop (call $define (i32.const 2) (call $name) (i32.const 3000) (i32.const 8)))")),
        // Items: many empty ones, taken out again, in one queue after the other.
        (
            'h',
            format!(
                "(drop (call $register (call $name) (i32.const 8) (i32.const 8))) {}",
                times(20_000, "(drop (call $enqueue (i32.load (i32.const 8)) (i32.const 0) (i32.const 0)))"),
            ),
        ),
        ('i', times(8, "(drop (call $enqueue (i32.load (i32.const 8)) (i32.const 0) (i32.const 1048576)))")),
        // Calls that are never answered, each with a large body.
        (
            'j',
            times(
                64,
                "(drop (call $call (i32.const 1040) (i32.const 4) (i32.const 1104) (i32.const 74)
                   (i32.const 2097152) (i32.const 1048576) (i32.const 0) (i32.const 0) (i32.const 60000) (i32.const 8)))",
            ),
        ),
        // Properties, many and large.
        ('k', times(20_000, "(drop (call $set_property (call $name) (i32.const 8) (i32.const 0) (i32.const 0)))")),
        ('l', times(8, "(drop (call $set_property (call $name) (i32.const 8) (i32.const 0) (i32.const 262000)))")),
        // Header fields.
        ('m', times(40_000, "(drop (call $add_value (i32.const 0) (i32.const 1056) (i32.const 7) (i32.const 0) (i32.const 0)))")),
        ('n', times(64, "(drop (call $add_value (i32.const 0) (i32.const 1056) (i32.const 7) (i32.const 200000) (i32.const 100000)))")),
    ];
    let gate = Gate::new(|pki| {
        let cases: Vec<_> = cases.iter().map(|(letter, work)| (*letter, work.as_str())).collect();
        hostile(pki, &cases)
    });
    for (letter, _) in &cases {
        for _ in 0..60 {
            // It is over its time, or its header fields are more than the service takes: then it is refused.
            gate.get(&format!("/{letter}"));
        }
        let resident = gate.resident();
        println!("/{letter}: {resident} MiB");
        assert!(resident < RESIDENT, "/{letter}: {resident} MiB\n{}", gate.host.log());
    }
    assert_eq!(gate.get("/z"), 200);
    let log = gate.host.log();
    for what in [
        "shared data",
        "1024 shared queues",
        "metrics of the filter",
        "items of shared queues",
        "calls of the filter",
    ] {
        let lines = log.lines().filter(|line| line.contains("limit reached") && line.contains(what));
        assert_eq!(lines.count(), 1, "{what}\n{log}");
    }
}

/// 2,000,000 parts of one `fd_write` held a worker for 6 s, 60 MB of randomness for 1.4 s, and a SIGTERM with it.
#[test]
fn one_call_of_the_host_does_not_escape_the_filters_time() {
    // Parts of eight bytes that lead to one byte each.
    let fill = times(
        2_000_000,
        "(i32.store (i32.add (i32.const 16777216) (i32.mul (local.get $left) (i32.const 8))) (i32.const 1024))
         (i32.store offset=4 (i32.add (i32.const 16777216) (i32.mul (local.get $left) (i32.const 8))) (i32.const 1))",
    );
    // Called again and again without a loop: nothing of the filter looks at the time.
    let again = |call: &str| format!("(drop {call})").repeat(2_000);
    let calls = [
        ('b', "(drop (call $fd_write (i32.const 1) (i32.const 16777216) (i32.const 2000000) (i32.const 8)))".to_owned()),
        ('c', "(drop (call $random (i32.const 131072) (i32.const 50000000)))".to_owned()),
        ('d', again("(call $random (i32.const 131072) (i32.const 65536))")),
        ('e', again("(call $fd_write (i32.const 2) (i32.const 16777216) (i32.const 1024) (i32.const 8))")),
        ('f', again("(call $set_shared (i32.const 131072) (i32.const 8) (i32.const 0) (i32.const 8388608) (i32.const 0))")),
        ('g', again("(call $set_pairs (i32.const 0) (i32.const 131072) (i32.const 50000000))")),
        ('h', again("(call $define (i32.const 0) (i32.const 131072) (i32.const 50000000) (i32.const 8))")),
        ('i', again("(call $log (i32.const 4) (i32.const 131072) (i32.const 50000000))")),
        ('j', again("(call $set_property (i32.const 131072) (i32.const 50000000) (i32.const 131072) (i32.const 200000))")),
        ('k', again("(call $add_value (i32.const 0) (i32.const 131072) (i32.const 25000000) (i32.const 131072) (i32.const 25000000))")),
        ('l', again("(call $reply (i32.const 200) (i32.const 0) (i32.const 50000000) (i32.const 0) (i32.const 50000000)
                       (i32.const 0) (i32.const 50000000) (i32.const -1))")),
    ];
    let mut cases = vec![('a', fill.as_str())];
    cases.extend(calls.iter().map(|(letter, work)| (*letter, work.as_str())));
    let mut gate = Gate::new(|pki| hostile(pki, &cases));
    for (letter, _) in &calls {
        let before = worker_time(&gate.host);
        gate.get("/a");
        let filled = worker_time(&gate.host);
        let status = gate.get(&format!("/{letter}"));
        let took = worker_time(&gate.host) - filled;
        println!("/{letter}: {status}, {took} ms of CPU, {} ms to fill", filled - before);
        // The worker's CPU time, not the clock's: 20 ms, and what a few looks at it are apart. It was 1,400 and more.
        assert!(took < 400, "/{letter}: {status} after {took} ms of CPU\n{}", gate.host.log());
    }
    gate.host.signal(Signal::TERM);
    assert_eq!(gate.host.ended(), Some(0));
}

/// CPU time of the one worker, in ms.
fn worker_time(host: &Host) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.pid())).expect("its threads");
    let mut worker = tasks.flatten().filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("worker-"))
    });
    let path = worker.next().expect("a worker").path().join("schedstat");
    let nanoseconds = fs::read_to_string(path).expect("its times");
    let nanoseconds: u64 = nanoseconds.split(' ').next().and_then(|it| it.parse().ok()).expect("a number");
    nanoseconds / 1_000_000
}

/// The filter goes on all the same, and must not admit anybody by that. Envoy 1.40 sends such replies: 0, 100 and 199 as they stand,
/// so that clients fail or wait, 600 and 999 too, 65939 as 403, and more than 1 MiB.
#[test]
fn a_refusal_that_cannot_be_sent_is_503() {
    let reply = |status: u32, body: (u32, u32), headers: (u32, u32)| {
        format!(
            "(drop (call $reply (i32.const {status}) (i32.const 0) (i32.const 0) (i32.const {}) (i32.const {})
               (i32.const {}) (i32.const {}) (i32.const -1)))",
            body.0, body.1, headers.0, headers.1,
        )
    };
    let none = (0, 0);
    let bad = [
        ('a', reply(0, none, none)),
        ('b', reply(100, none, none)),
        ('c', reply(199, none, none)),
        ('d', reply(600, none, none)),
        ('e', reply(999, none, none)),
        ('f', reply(65_536 + 403, none, none)),
        ('g', reply(403, (0, (1 << 20) + 1), none)),
        ('h', reply(403, (0, u32::MAX), none)),
        ('i', reply(403, none, (1072, 20))),
        ('j', reply(403, none, (1072, 15))),
        ('k', reply(403, none, (0, u32::MAX))),
        ('l', "(drop (call $close (i32.const 77)))".to_owned()),
        ('m', "(drop (call $close (i32.const 0)))".to_owned()),
    ];
    let good = [
        ('n', reply(403, none, none), 403),
        ('o', reply(200, none, none), 200),
        ('p', reply(599, none, none), 599),
        // The reply that can be sent counts, whichever comes first.
        ('q', [reply(0, none, none), reply(403, none, none)].concat(), 403),
        ('r', [reply(403, none, none), reply(0, none, none)].concat(), 403),
    ];
    let cases = bad.iter().map(|(letter, work)| (*letter, work.as_str()));
    let cases: Vec<_> = cases.chain(good.iter().map(|(letter, work, _)| (*letter, work.as_str()))).collect();
    let gate = Gate::new(|pki| hostile(pki, &cases));
    for (letter, work) in &bad {
        assert_eq!(gate.get(&format!("/{letter}")), 503, "{work}\n{}", gate.host.log());
    }
    for (letter, work, status) in &good {
        assert_eq!(gate.get(&format!("/{letter}")), *status, "{work}\n{}", gate.host.log());
    }
    assert!(gate.upstream.requests().is_empty(), "{:?}", gate.upstream.requests());
    assert!(gate.host.log().contains("filter-refusal-failed"), "{}", gate.host.log());
    assert_eq!(gate.get("/z"), 200);
}

/// As the response comes, and on a connection: a network filter has no reply, and one that sends one wants the connection to end.
#[test]
fn a_refusal_that_cannot_be_sent_admits_nobody_elsewhere_either() {
    let bad = "(drop (call $reply (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const -1)))";
    let gate = Gate::new(|pki| {
        module(
            pki,
            &format!(
                r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
                (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) {bad} (i32.const 0))"#
            ),
        )
    });
    assert_eq!(gate.get("/"), 503, "{}", gate.host.log());

    let (pki, upstream) = (Pki::new(), Upstream::echo());
    let peer = pki.peer(&node());
    let good = bad.replacen("(i32.const 0)", "(i32.const 403)", 1);
    for (callback, parameters) in
        [("proxy_on_new_connection", "i32"), ("proxy_on_downstream_data", "i32 i32 i32")]
    {
        for refusal in [bad, &good, "(drop (call $close (i32.const 77)))"] {
            let parts = format!(
                r#"(func (export "{callback}") (param {parameters}) (result i32) {refusal} (i32.const 0))"#
            );
            let filter = module(&pki, &parts);
            let host = Start::new(&pki, &json!({}), upstream.address).tcp().filter(&filter).start();
            let connected = Client::connect(host.address, pki.ca(), Some(&peer.credential));
            let echoed = connected.and_then(|mut client| {
                client.write(b"hello")?;
                client.read_exact(&mut [0; 5])
            });
            assert!(echoed.is_err(), "{callback} {refusal}\n{}", host.log());
        }
    }
    assert_eq!(upstream.bytes(), 0);
}

/// More header fields than a message may have were a panic of the worker.
#[test]
fn a_filter_that_adds_fields_without_end_stops_nobody_else() {
    let add = times(
        40_000,
        "(drop (call $add_value (i32.const 0) (i32.const 1056) (i32.const 7) (i32.const 0) (i32.const 0)))",
    );
    // Names that differ are what fills the table of a message.
    let names = times(
        40_000,
        "(i32.store (i32.const 131072) (i32.add (i32.const 0x61616161)
           (i32.or (i32.or (i32.and (local.get $left) (i32.const 15))
             (i32.shl (i32.and (local.get $left) (i32.const 240)) (i32.const 4)))
             (i32.or (i32.shl (i32.and (local.get $left) (i32.const 3840)) (i32.const 8))
             (i32.shl (i32.and (local.get $left) (i32.const 61440)) (i32.const 12))))))
         (drop (call $add_value (i32.const 0) (i32.const 131072) (i32.const 4) (i32.const 0) (i32.const 0)))",
    );
    let gate = Gate::new(|pki| hostile(pki, &[('a', &add), ('b', &names)]));
    for path in ["/a", "/b", "/z"] {
        // The service may refuse so many, or the filter's time be used up.
        gate.client().get(path).map(|answer| answer.status()).ok();
        assert_eq!(gate.get("/z"), 200, "{}", gate.host.log());
    }
    assert!(!gate.host.log().contains("panicked"), "{}", gate.host.log());
}

fn policies_with_rules() -> Vec<(&'static str, Value)> {
    vec![
        ("authorized-peers", vespa_example()),
        ("http-capabilities", json!({"http-capabilities": [{"paths": ["/**"], "requires": []}]})),
        ("spiffe-strict", json!({"spiffe-strict": true})),
        ("upstream-headers", json!({"upstream-headers": {"subject": true}})),
        ("capability-mode", json!({"capability-mode": "log_only"})),
        ("authorization-mode", json!({"authorization-mode": "log_only"})),
    ]
}

/// A host whose filter is not ours would not enforce the rules of its policy.
#[test]
fn a_policy_with_rules_does_not_run_with_a_filter_of_others() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let foreign = hostile(&pki, &[]);
    let remedy = "only Peergate's own filter enforces";
    for (key, policy) in policies_with_rules() {
        let path = write_policy(&pki, &policy);
        let refused = |command: &mut std::process::Command| {
            let finished = run(command, b"");
            assert_eq!(finished.code, Some(2), "{key}: {}", finished.output());
            assert!(finished.stderr.contains(&format!("has `{key}`, which {remedy}")), "{}", finished.stderr);
            assert!(finished.stderr.contains("leave `filter` out"), "{}", finished.stderr);
        };
        refused(&mut Start::endpoint("peer", &path, upstream.address).filter(&foreign).command());
        refused(peergate().args(["check", "--policy"]).arg(&path).arg("--filter").arg(&foreign));
        let config = pki.file("host.json");
        fs::write(&config, configuration(&foreign, &path, &upstream).to_string()).expect("written");
        refused(peergate().args(["check", "--config"]).arg(&config));
        refused(&mut Start::config(&config).command());

        // Our own, from a file, is ours.
        drop(Start::endpoint("peer", &path, upstream.address).filter(&filter()).start());
        let good = run(peergate().args(["check", "--policy"]).arg(&path).arg("--filter").arg(filter()), b"");
        assert_eq!(good.code, Some(0), "{key}: {}", good.output());
        assert!(!good.stderr.contains("not Peergate's"), "{key}: {}", good.stderr);
    }
}

fn configuration(filter: &Path, policy: &Path, upstream: &Upstream) -> Value {
    json!({
        "filter": filter,
        "admin": {"address": "127.0.0.1:0"},
        "inbound": [{
            "address": "127.0.0.1:0",
            "upstream": {"address": upstream.address},
            "endpoints": [{"endpoint": "peer", "policy": policy}],
        }],
    })
}

#[test]
fn servers_and_endpoints_by_name_need_our_filter_too() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let foreign = hostile(&pki, &[]);
    let no_rules = write_policy(&pki, &json!({}));
    let mut config = configuration(&foreign, &no_rules, &upstream);
    config["inbound"][0]["endpoints"] = json!([
        {"endpoint": "peer", "policy": no_rules, "names": ["a.example"]},
        {"endpoint": "peer", "policy": no_rules, "names": ["b.example"]},
    ]);
    let path = pki.file("host.json");
    fs::write(&path, config.to_string()).expect("written");
    let finished = run(&mut Start::config(&path).command(), b"");
    assert_eq!(finished.code, Some(2), "{}", finished.output());
    assert!(finished.stderr.contains("has several endpoints"), "{}", finished.stderr);

    let network = r#"(func (export "proxy_on_new_connection") (param i32) (result i32) (i32.const 0))"#;
    let mut config = configuration(&module(&pki, network), &no_rules, &upstream);
    let rules = write_policy(&pki, &vespa_example());
    config["inbound"] = json!([]);
    config["outbound"] = json!([
        {"address": "127.0.0.1:0", "upstream": {"address": "localhost:4443"}, "policy": rules},
    ]);
    fs::write(&path, config.to_string()).expect("written");
    let finished = run(&mut Start::config(&path).command(), b"");
    assert_eq!(finished.code, Some(2), "{}", finished.output());
    assert!(finished.stderr.contains("has `authorized-peers`, which"), "{}", finished.stderr);
}

/// Without rules the other filter decides alone, which a start says. A reload that brings rules is refused.
#[test]
fn a_policy_that_gains_rules_is_a_refused_generation() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let (peer, foreign) = (pki.peer(&node()), hostile(&pki, &[]));
    let policy = write_policy(&pki, &json!({}));
    let host = Start::endpoint("peer", &policy, upstream.address).filter(&foreign).admin().start();
    let told = "the filter is not Peergate's: it alone decides";
    assert!(host.log().contains(told), "{}", host.log());
    let check = run(peergate().args(["check", "--policy"]).arg(&policy).arg("--filter").arg(&foreign), b"");
    assert_eq!(check.code, Some(0), "{}", check.output());
    assert!(check.stderr.contains(told), "{}", check.stderr);

    let get = || {
        let mut client = Client::connect(host.address, pki.ca(), Some(&peer.credential)).expect("connected");
        client.get("/").expect("an answer").status()
    };
    assert_eq!(get(), 200);
    fs::write(&policy, pki.with_files(&vespa_example()).to_string()).expect("written");
    wait::until("the policy is refused", || {
        host.log().contains("has `authorized-peers`, which only Peergate's own filter enforces")
    });
    assert_eq!(get(), 200, "the old generation stays in use");
}
