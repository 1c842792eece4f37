//! What operators see and rely on: admin pages, audit log, sandbox, exit codes.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use peergate_host::pki::Leaf;
use peergate_tests::admin::{get, json, metric};
use peergate_tests::client::{Client, alert};
use peergate_tests::commands::{curl, run};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::policies::{node, stranger, vespa_example};
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use rustix::process::Signal;
use rustls::AlertDescription;
use serde_json::{Value, json};

/// A host with admin pages in front of a recording service.
struct Gate {
    pki: Pki,
    upstream: Upstream,
    host: Host,
}

impl Gate {
    fn start(with: impl FnOnce(Start, &Pki) -> Start) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let start = Start::new(&pki, &vespa_example(), upstream.address).admin();
        let host = with(start, &pki).start();
        Self { pki, upstream, host }
    }

    fn connect(&self, leaf: &Leaf) -> std::io::Result<Client> {
        Client::connect(self.host.address, self.pki.ca(), Some(&self.pki.peer(leaf).credential))
    }

    /// The status of a request of this peer, or the alert it got.
    fn get(&self, leaf: &Leaf, path: &str) -> Result<u16, Option<AlertDescription>> {
        let answer = self.connect(leaf).and_then(|mut client| client.get(path));
        answer.map(|answer| answer.status()).map_err(|error| alert(&error))
    }

    fn metric(&self, name_and_labels: &str) -> f64 {
        metric(self.host.admin(), name_and_labels)
    }
}

const DENIED: Result<u16, Option<AlertDescription>> = Err(Some(AlertDescription::AccessDenied));

#[test]
fn decisions_handshakes_and_connections_are_counted() {
    let gate = Gate::start(|start, _| start);
    let name = gate.host.address.to_string();
    assert_eq!(gate.get(&node(), "/"), Ok(200));
    assert_eq!(gate.get(&stranger(), "/"), DENIED);
    assert!(Client::connect(gate.host.address, gate.pki.ca(), None).and_then(|mut it| it.get("/")).is_err());
    let failures = |word: &str| {
        gate.metric(&format!("peergate_handshake_failures_total{{listener=\"{name}\",failure=\"{word}\"}}"))
    };
    wait::until("all are counted", || failures("no-certificate") == 1.0);
    assert_eq!(failures("denied"), 1.0);
    let page = get(gate.host.admin(), "/metrics");
    assert_eq!(page.header("content-type"), Some(&b"text/plain; version=0.0.4; charset=utf-8"[..]));
    let decided = |outcome: &str| {
        let page = get(gate.host.admin(), "/metrics").text();
        let prefix = format!("peergate_decisions_total{{outcome=\"{outcome}\"");
        page.lines().filter(|line| line.starts_with(&prefix)).map(value).sum::<f64>()
    };
    // The peer itself and its request; the stranger.
    assert_eq!((decided("allow"), decided("deny")), (2.0, 1.0));
    // The first decision of a VM is timed.
    let duration = |part: &str| gate.metric(&format!("peergate_decision_duration_ns{part}"));
    let count = duration("_count{outcome=\"allow\"}");
    assert!(count >= 1.0 && duration("_sum{outcome=\"allow\"}") > 0.0);
    assert_eq!(duration("_bucket{outcome=\"allow\",le=\"+Inf\"}"), count);
    assert_eq!(gate.metric(&format!("peergate_connections_accepted_total{{listener=\"{name}\"}}")), 3.0);
    // What was counted under an old policy stays counted.
    gate.host.reload();
    assert_eq!(gate.get(&node(), "/"), Ok(200));
    wait::until("the new ones are added", || decided("allow") == 4.0);
}

fn value(line: &str) -> f64 {
    line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).expect("a number")
}

#[test]
fn an_open_connection_is_listed() {
    let gate = Gate::start(|start, _| start);
    let mut client = gate.connect(&node()).expect("a connection");
    assert_eq!(client.get("/").expect("an answer").status(), 200);
    let page = json(gate.host.admin(), "/connections");
    let [connection] = page["connections"].as_array().expect("a list").as_slice() else { panic!("{page}") };
    assert_eq!((&page["open"], &connection["subject"]), (&json!(1), &json!("CN=node1")), "{page}");
    assert_eq!(connection["matched"], json!(["authorized-peers[1]"]));
    assert_eq!(connection["certificate-sha256"].as_str().map(str::len), Some(64), "{page}");
    drop(client);
    wait::until("it is gone", || json(gate.host.admin(), "/connections")["open"] == 0);
}

#[test]
fn vms_that_trapped_are_counted() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let path = pki.file("faulty.wasm");
    fs::write(&path, wat::parse_str(include_str!("faulty.wat")).expect("a module")).expect("the filter");
    let host = Start::new(&pki, &json!({}), upstream.address).admin().filter(&path).start();
    let trap = pki.peer(&Leaf::new().cn("trap"));
    let refused =
        Client::connect(host.address, pki.ca(), Some(&trap.credential)).and_then(|mut it| it.get("/"));
    assert!(refused.is_err());
    wait::until("it is counted", || metric(host.admin(), "peergate_vm_restarts_total") == 1.0);
}

#[test]
fn a_host_that_drains_is_not_ready() {
    let mut gate = Gate::start(|start, _| start);
    let admin = gate.host.admin();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(admin, path).status(), 200, "{path}");
    }
    let mut client = gate.connect(&node()).expect("a connection");
    // Half a request keeps the drain waiting.
    client.write(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n1").expect("written");
    wait::until("it is in flight", || {
        !gate.upstream.address.ip().is_unspecified() && gate.upstream.connections() == 1
    });
    gate.host.signal(Signal::TERM);
    wait::until("it says so", || get(admin, "/readyz").status() == 503);
    assert_eq!(get(admin, "/healthz").status(), 200);
    // Whoever comes now is refused, instead of waiting for a handshake that nobody makes.
    wait::until("nobody listens", || TcpStream::connect(gate.host.address).is_err());
    assert_eq!(gate.metric("peergate_draining"), 1.0);
    client.write(b"2").expect("written");
    assert_eq!(gate.host.ended(), Some(0), "{}", gate.host.log());
}

#[test]
fn the_pages_change_nothing_and_show_no_secret() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let hash = "ab".repeat(32);
    let versions = json!([{"fingerprint": "aa:".repeat(16).trim_end_matches(':'), "check-access-hash": hash, "expiration": "<none>"}]);
    let policy = json!({"data-plane": {"token-context": "context", "clients": [
        {"id": "query", "permissions": ["read"], "tokens": [{"id": "query-token", "versions": versions}]},
    ]}});
    let path = write_policy(&pki, &policy);
    let host = Start::endpoint("token", &path, upstream.address).admin().start();
    let key = fs::read_to_string(pki.file("server.key")).expect("the key");
    let secret = key.lines().nth(1).expect("a line of the key").to_owned();
    for page in ["/", "/metrics", "/config", "/connections", "/nothing"] {
        let text = get(host.admin(), page).text();
        for secret in [&*hash, &*secret, "PRIVATE"] {
            assert!(!text.contains(secret), "{page}: {text}");
        }
    }
    assert_eq!(get(host.admin(), "/nothing").status(), 404);
    let config = json(host.admin(), "/config");
    assert_eq!(config["configuration"]["inbound"][0]["endpoints"][0]["endpoint"], "token");
    let files = config["files"].as_array().expect("a list");
    assert!(files.iter().any(|file| file["path"] == json!(pki.file("server.pem"))), "{config}");
    let url = format!("http://{}/config", host.admin());
    let posted = run(std::process::Command::new("curl").args(["-si", "-X", "POST", &url]), b"");
    assert!(posted.stdout.starts_with("HTTP/1.1 405 "), "{}", posted.stdout);
}

#[test]
fn insecure_modes_are_shown() {
    let gate = Gate::start(|start, _| start.environment("VESPA_TLS_INSECURE_AUTHORIZATION_MODE", "log_only"));
    assert_eq!(gate.metric("peergate_insecure_mode{mode=\"authorization-mode=log_only\"}"), 1.0);
    assert_eq!(json(gate.host.admin(), "/config")["insecure-modes"], json!(["authorization-mode=log_only"]));
}

/// In Vespa even status and metrics are behind mTLS.
#[test]
fn peers_see_the_admin_pages_where_the_filter_lets_them() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let mut policy = vespa_example();
    policy["http-capabilities"] = json!([{"paths": ["/peergate-admin/**"], "methods": ["GET"], "requires": ["vespa.content.metrics_api"]},
               {"paths": ["/**"], "requires": []}]);
    policy["authorized-peers"][0]["capabilities"] = json!(["vespa.telemetry"]);
    policy["authorized-peers"][1]["capabilities"] = json!(["vespa.none"]);
    let path = write_policy(&pki, &policy);
    let inbound = json!([{
        "name": "node", "address": "127.0.0.1:0", "upstream": {"address": upstream.address.to_string()},
        "endpoints": [{"endpoint": "peer", "policy": path}], "admin-path": "/peergate-admin",
    }]);
    let config = pki.file("host.json");
    fs::write(&config, json!({"inbound": inbound}).to_string()).expect("written");
    let host = Start::config(&config).start();
    let monitor = Leaf::new().cn("vespa-monitoring.example.com").dns("m.us-east-1.monitor.example.com");
    let monitor = pki.peer(&monitor);
    let ask = |peer: &Peer, path: &str| {
        Client::connect(host.address, pki.ca(), Some(&peer.credential))
            .and_then(|mut client| client.get(path))
    };
    let page = ask(&monitor, "/peergate-admin/metrics").expect("an answer");
    assert!(page.text().contains("peergate_connections_open{listener=\"node\"} 1"), "{}", page.text());
    assert_eq!(ask(&monitor, "/peergate-admin/readyz").expect("an answer").text(), "ready\n");
    // A peer without the capability, and one that no rule admits.
    assert_eq!(ask(&pki.peer(&node()), "/peergate-admin/metrics").expect("an answer").status(), 403);
    let refused = ask(&pki.peer(&stranger()), "/peergate-admin/metrics").expect_err("an alert");
    assert_eq!(alert(&refused), Some(AlertDescription::AccessDenied));
    assert_eq!(upstream.connections(), 0, "the service was asked");
    // Everything else is the service's, also what only looks like it.
    assert_eq!(ask(&monitor, "/peergate-administration").expect("an answer").text(), "upstream\n");
    let curled = curl(&pki, host.address, Some(&monitor), "/peergate-admin", &["--http2"]);
    assert!(curled.body.contains("/metrics"), "{curled:?}");
}

#[test]
fn admin_pages_are_for_this_machine_only() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    for (address, message) in [
        ("0.0.0.0:0", "can be reached from other machines"),
        ("[::]:0", "can be reached from other machines"),
        ("unix:/tmp/admin", "expected a loopback address"),
    ] {
        let start =
            Start::new(&pki, &vespa_example(), upstream.address).argument("--admin").argument(address);
        let finished = run(&mut start.command(), b"");
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(message), "{}", finished.stderr);
    }
}

#[test]
fn what_stops_the_start_is_exit_code_2() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let start = || Start::new(&pki, &vespa_example(), upstream.address);
    let mut listens = start().command();
    listens.args(["--admin", &taken]);
    let mut writes = start().command();
    writes.args(["--audit", "/nowhere/audit.log"]);
    let mut policy = vespa_example();
    policy["files"] = json!({});
    let mut lacks = Start::endpoint("peer", &pki.file("no-such-policy.json"), upstream.address).command();
    for (command, message) in [
        (&mut listens, "admin: cannot listen on"),
        (&mut writes, "audit log: cannot write `/nowhere/audit.log`"),
        (&mut lacks, "no-such-policy.json"),
    ] {
        let finished = run(command, b"");
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(message), "{}", finished.stderr);
    }
    let config = pki.file("host.json");
    let endpoints = json!([{"endpoint": "peer", "policy": write_policy(&pki, &vespa_example())}]);
    let inbound = json!([{"address": taken, "upstream": {"address": "127.0.0.1:9"}, "endpoints": endpoints}]);
    fs::write(&config, json!({"inbound": inbound}).to_string()).expect("written");
    let finished = run(&mut Start::config(&config).command(), b"");
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("cannot listen on {taken}")), "{}", finished.stderr);
}

fn audited(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn decisions_are_json_lines() {
    let log = |pki: &Pki| pki.file("audit.log");
    let gate = Gate::start(|start, pki| start.argument("--audit").argument(log(pki)));
    let path = log(&gate.pki);
    assert_eq!(gate.get(&node(), "/search/?q=secret%0a"), Ok(200));
    assert_eq!(gate.get(&stranger(), "/"), DENIED);
    wait::until("three lines are written", || audited(&path).len() >= 3);
    let lines = audited(&path);
    let [connection, request, refused] = lines.as_slice() else { panic!("{lines:?}") };
    for line in &lines {
        let time = line["time"].as_str().expect("a time");
        assert!(time.ends_with('Z') && time.starts_with("20"), "{time}");
        assert_eq!(
            (&line["listener"], &line["endpoint"]),
            (&json!(gate.host.address.to_string()), &json!("peer"))
        );
        assert!(line["source"].as_str().is_some_and(|source| source.parse::<SocketAddr>().is_ok()), "{line}");
    }
    assert_eq!((&connection["event"], &connection["decision"]), (&json!("connection"), &json!("allow")));
    assert_eq!(connection["matched"], json!(["authorized-peers[1]"]));
    assert_eq!((&request["event"], &request["path"]), (&json!("request"), &json!("/search/")));
    assert_eq!(request["connection"], connection["connection"]);
    assert_eq!((&refused["decision"], &refused["reason"]), (&json!("deny"), &json!("no-rule-matched")));
    assert!(!fs::read_to_string(&path).expect("the log").contains("secret"));
    assert!(!gate.host.log().contains("allow request"), "{}", gate.host.log());

    // As logrotate does it.
    let old = gate.pki.file("audit.log.1");
    fs::rename(&path, &old).expect("renamed");
    gate.host.signal(Signal::HUP);
    wait::until("the file is opened again", || path.exists());
    assert_eq!(gate.get(&node(), "/"), Ok(200));
    wait::until("lines go to the new file", || audited(&path).len() == 2);
    assert_eq!(audited(&old).len(), 3);
}

#[test]
fn a_flood_of_refusals_leaves_few_lines_and_their_number() {
    let path = |pki: &Pki| pki.file("audit.log");
    let gate = Gate::start(|start, pki| {
        start.argument("--workers").argument("1").argument("--audit").argument(path(pki))
    });
    let stranger = gate.pki.peer(&stranger());
    let tries = 60;
    for _ in 0..tries {
        let client = Client::connect(gate.host.address, gate.pki.ca(), Some(&stranger.credential));
        assert!(client.and_then(|mut client| client.get("/")).is_err());
    }
    let counted = || {
        let lines = audited(&path(&gate.pki));
        let left_out = lines.iter().filter(|line| line["event"] == "lines-left-out");
        let left_out: u64 = left_out.filter_map(|line| line["lines"].as_u64()).sum();
        (lines.iter().filter(|line| line["event"] == "connection").count() as u64, left_out)
    };
    wait::until("every refusal is a line or counted", || counted().0 + counted().1 == tries);
    assert!(counted().1 > 0, "{:?}", counted());
}

/// A reader that has stopped costs lines, which are counted, and no request.
#[test]
fn an_audit_log_that_nobody_reads_holds_up_nothing() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let start =
        Start::new(&pki, &vespa_example(), upstream.address).admin().argument("--audit").argument("-");
    let mut host = start.stdout(Stdio::piped()).start();
    let node = pki.peer(&node());
    let mut client = Client::connect(host.address, pki.ca(), Some(&node.credential)).expect("a connection");
    let lost = |host: &Host| metric(host.admin(), "peergate_audit_lines_lost_total");
    for _ in 0..12_000 {
        assert_eq!(client.get("/").expect("an answer").status(), 200);
    }
    assert!(lost(&host) > 0.0);
    let mut stdout = host.stdout().expect("piped");
    let mut first = [0; 1];
    stdout.read_exact(&mut first).expect("a line");
    assert_eq!(&first, b"{");
}

#[test]
fn tokens_are_never_in_the_audit_log() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let path = write_policy(&pki, &json!({"data-plane": {"token-context": "context", "clients": []}}));
    let log = pki.file("audit.log");
    let host = Start::endpoint("token", &path, upstream.address).argument("--audit").argument(&log).start();
    let token = "vespa_cloud_secret_0123456789abcdefghijklmnopqrstuv";
    let mut client = Client::connect(host.address, pki.ca(), None).expect("a connection");
    let request =
        format!("GET /?token={token} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), 403);
    wait::until("the refusal is a line", || audited(&log).iter().any(|line| line["status"] == 403));
    let text = fs::read_to_string(&log).expect("the log");
    assert!(!text.contains("secret") && !host.log().contains("secret"), "{text}");
}

fn status_of(host: &Host, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", host.pid())).expect("the status");
    let line = status.lines().find(|line| line.starts_with(key)).expect("the line");
    line[key.len()..].trim_matches([':', '\t']).to_owned()
}

/// Whether the host says that the kernel enforces files and ports.
fn is_enforced(host: &Host) -> bool {
    let enforced = host.log().contains("sandbox: files and ports");
    if !enforced {
        eprintln!("not tested: this kernel's Landlock cannot, or has none: {}", host.log());
    }
    enforced
}

#[test]
fn a_reload_cannot_leave_the_sandbox_and_says_what_to_do() {
    let pki = Pki::new();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let outside = elsewhere.path().join("policy.json");
    fs::write(&outside, pki.with_files(&vespa_example()).to_string()).expect("written");
    let (one, two) = (Upstream::http().address, Upstream::http().address);
    let config = pki.file("host.json");
    let write = |policy: &PathBuf, upstream: SocketAddr| {
        let endpoints = json!([{"endpoint": "peer", "policy": policy}]);
        let upstream = json!({"address": upstream.to_string()});
        let inbound = json!([{"address": "127.0.0.1:0", "upstream": upstream, "endpoints": endpoints}]);
        let text = json!({"inbound": inbound, "admin": {"address": "127.0.0.1:0"}}).to_string();
        fs::write(&config, text).expect("written");
    };
    let inside = write_policy(&pki, &vespa_example());
    for sandbox in [true, false] {
        write(&inside, one);
        let start = Start::config(&config);
        let host = if sandbox { start } else { start.argument("--no-sandbox") }.start();
        assert_eq!(status_of(&host, "NoNewPrivs"), if sandbox { "1" } else { "0" });
        assert_eq!(host.log().contains("no sandbox: the host keeps all rights"), !sandbox, "{}", host.log());
        let generation = || metric(host.admin(), "peergate_reload_generation");
        if !sandbox {
            write(&outside, two);
            wait::until("everything is allowed", || generation() == 2.0);
            continue;
        }
        if !is_enforced(&host) {
            continue;
        }
        let error = || json(host.admin(), "/config")["last-attempt"]["error"].as_str().map(str::to_owned);
        write(&outside, one);
        wait::until("the file is refused", || {
            error().is_some_and(|it| it.contains("was not granted this directory"))
        });
        let message = error().expect("an error");
        assert!(
            message.contains(outside.to_str().expect("text")) && message.contains("restart the host"),
            "{message}"
        );
        write(&inside, two);
        let port = format!("to connect to port {}", two.port());
        wait::until("the port is refused", || error().is_some_and(|it| it.contains(&port)));
        write(&inside, one);
        wait::until("the old content is good again", || error().is_none());
        assert_eq!(generation(), 1.0);
    }
}

/// Names are looked up, a filter is compiled, and a socket is removed, all from within the sandbox.
#[test]
fn what_the_configuration_needs_works_in_the_sandbox() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let socket = pki.file("in.sock");
    let filter = pki.file("filter.wasm");
    fs::copy(peergate_tests::filter(), &filter).expect("copied");
    let config = pki.file("host.json");
    let endpoints = json!([{"endpoint": "peer", "policy": write_policy(&pki, &json!({}))}]);
    let by_name = json!({"address": format!("localhost:{}", upstream.address.port())});
    let inbound = json!([
        {"address": "127.0.0.1:0", "upstream": by_name, "endpoints": endpoints},
        {"address": format!("unix:{}", socket.display()), "upstream": by_name, "endpoints": endpoints},
    ]);
    let admin = json!({"address": "127.0.0.1:0"});
    let text = json!({"inbound": inbound, "admin": admin, "filter": "filter.wasm"}).to_string();
    fs::write(&config, text).expect("written");
    let mut host = Start::config(&config).start();
    let node = pki.peer(&node());
    let get =
        || Client::connect(host.address, pki.ca(), Some(&node.credential)).and_then(|mut it| it.get("/"));
    assert_eq!(get().expect("an answer").status(), 200);
    fs::write(&filter, wat::parse_str(include_str!("faulty.wat")).expect("a module")).expect("written");
    wait::until("the other filter is live", || metric(host.admin(), "peergate_reload_generation") == 2.0);
    let looping = pki.peer(&Leaf::new().cn("trap"));
    assert!(
        Client::connect(host.address, pki.ca(), Some(&looping.credential))
            .and_then(|mut it| it.get("/"))
            .is_err()
    );
    assert!(socket.exists());
    host.signal(Signal::TERM);
    assert_eq!(host.ended(), Some(0));
    assert!(!socket.exists(), "the socket is left behind: {}", host.log());
}
