//! Crowds, and clients that take all they can get: everybody else is served all the same. Limits are set low, so that a few
//! connections are a crowd.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use peergate_host::pki::{Credential, Leaf};
use peergate_tests::admin::{get, get_as, metric};
use peergate_tests::client::Client;
use peergate_tests::commands::run;
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::http2::{Frame, Http2};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::policies::vespa_example;
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Where crowds come from: another address than everybody else.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A host, and two peers that it admits.
struct Gate {
    pki: Pki,
    host: Host,
    greedy: Peer,
    modest: Peer,
}

impl Gate {
    fn start(upstream: &Upstream, with: impl FnOnce(Start) -> Start) -> Self {
        let pki = Pki::new();
        let policy = json!({"authorized-peers": [{"required-credentials": [{"field": "CN", "must-match": "node-*"}]}]});
        let host = with(Start::new(&pki, &policy, upstream.address).admin()).start();
        let (greedy, modest) = (pki.peer(&Leaf::new().cn("node-a")), pki.peer(&Leaf::new().cn("node-b")));
        Self { pki, host, greedy, modest }
    }

    fn connect(&self, peer: &Peer) -> std::io::Result<Client> {
        Client::connect(self.host.address, self.pki.ca(), Some(&peer.credential))
    }

    fn http2(&self, peer: &Peer) -> Http2 {
        Http2::connect(self.host.address, self.pki.ca(), Some(&peer.credential)).expect("a connection")
    }

    fn status(&self, peer: &Peer) -> u16 {
        let answer = self.connect(peer).and_then(|mut client| client.get("/"));
        answer.unwrap_or_else(|error| panic!("{error}: {}", self.host.log())).status()
    }

    fn used(&self, limit: &str) -> f64 {
        self.metric("peergate_limit_used", limit)
    }

    fn refused(&self, limit: &str) -> f64 {
        self.metric("peergate_limit_refused_total", limit)
    }

    fn metric(&self, name: &str, limit: &str) -> f64 {
        metric(self.host.admin(), &format!("{name}{{limit=\"{limit}\"}}"))
    }
}

fn limits(start: Start, limits: &[&str]) -> Start {
    limits.iter().fold(start, |start, limit| start.argument("--limit").argument(limit))
}

/// Connections from [`ELSEWHERE`] that say nothing.
fn silent_crowd(address: SocketAddr, count: usize) -> Vec<Socket> {
    let connect = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((ELSEWHERE, 0)).into()).expect("an address of this machine");
        socket.connect(&address.into()).expect("a connection");
        socket
    };
    (0..count).map(connect).collect()
}

#[test]
fn silent_connections_keep_nobody_out() {
    let gate = Gate::start(&Upstream::http(), |start| limits(start, &["handshakes=8"]));
    // It came before the crowd, and takes its time.
    let early = TcpStream::connect(gate.host.address).expect("a connection");
    wait::until("it is accepted", || gate.used("handshakes") == 1.0);
    let crowd = silent_crowd(gate.host.address, 50);
    wait::until("the oldest of the crowd made room", || gate.refused("handshakes-per-source") >= 46.0);
    assert_eq!(gate.status(&gate.modest), 200);
    let mut early =
        Client::connect_over(early, gate.pki.ca(), Some(&gate.modest.credential)).expect("a handshake");
    assert_eq!(early.get("/").expect("an answer").status(), 200);
    assert!(gate.used("handshakes") <= 8.0);
    assert!(gate.host.log().contains("limit `handshakes-per-source` is reached"), "{}", gate.host.log());
    let crowded_out = format!(
        "peergate_handshake_failures_total{{listener=\"{}\",failure=\"crowded-out\"}}",
        gate.host.address
    );
    assert!(metric(gate.host.admin(), &crowded_out) >= 46.0);
    drop(crowd);
}

/// A crowd of many sources: of each only one connection, so the oldest one makes room, whoever it is.
#[test]
fn of_many_sources_the_oldest_makes_room() {
    // Of one worker, which accepts in the order of connecting.
    let gate = Gate::start(&Upstream::http(), |start| {
        limits(start, &["handshakes=4", "handshakes-per-source=4"]).argument("--workers").argument("1")
    });
    let mut crowd = silent_crowd(gate.host.address, 4);
    wait::until("all are there", || gate.used("handshakes") == 4.0);
    assert_eq!(gate.status(&gate.modest), 200);
    let oldest = &mut crowd[0];
    oldest.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    assert_eq!(oldest.read(&mut [0]).expect("closed"), 0);
    assert_eq!(gate.refused("handshakes"), 1.0);
}

/// Who is admitted is told by the first request only, where clients are pinned or have a token: until then a client is one of
/// those that wait.
#[test]
fn clients_that_shake_hands_and_ask_nothing_keep_nobody_out() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let own = |name: &str| Credential::self_signed(&Leaf::new().cn(name)).expect("a certificate");
    let client = pki.store(own("client"));
    let clients =
        json!([{"id": "reader", "permissions": ["read"], "certificates": [{"file": client.chain}]}]);
    let policy = write_policy(&pki, &json!({"data-plane": {"clients": clients}}));
    let start = Start::endpoint("mtls", &policy, upstream.address).admin();
    let host = limits(start, &["handshakes=6", "handshakes-per-source=6", "connections=2"]).start();
    let connect = |credential: &Credential| Client::connect(host.address, pki.ca(), Some(credential));
    let crowd: Vec<_> = (0..20).map(|index| connect(&own(&format!("stranger-{index}")))).collect();
    let mut admitted = connect(&client.credential).expect("a connection");
    assert_eq!(admitted.get("/").expect("an answer").status(), 200, "{}", host.log());
    // And stays, whatever comes.
    let more: Vec<_> = (0..20).map(|index| connect(&own(&format!("stranger-{index}")))).collect();
    assert_eq!(admitted.get("/").expect("an answer").status(), 200, "{}", host.log());
    assert_eq!(metric(host.admin(), "peergate_limit_used{limit=\"connections\"}"), 1.0);
    drop((crowd, more));
}

#[test]
fn a_client_with_many_connections_leaves_some_for_others() {
    let gate = Gate::start(&Upstream::http(), |start| limits(start, &["connections=20"]));
    let taken = || gate.connect(&gate.greedy).and_then(|mut client| client.get("/").map(|_| client));
    let held: Vec<_> = (0..40).filter_map(|_| taken().ok()).collect();
    // Three times what is free.
    assert_eq!(held.len(), 15);
    assert_eq!(gate.status(&gate.modest), 200);
    assert_eq!(gate.refused("connections-per-client"), 25.0);
    let over = format!("peergate_connections_over_limit_total{{listener=\"{}\"}}", gate.host.address);
    assert_eq!(metric(gate.host.admin(), &over), 25.0);
    assert!(gate.host.log().contains("limit=\"connections-per-client\""), "{}", gate.host.log());
    drop(held);
    wait::until("all are given back", || gate.used("connections") == 0.0);
    assert!(taken().is_ok());
}

/// The heads that answer these streams; those that the service leaves without an answer get none.
fn heads(client: &mut Http2, count: usize) -> Vec<Frame> {
    let mut frames = std::iter::from_fn(|| client.frame().ok()).filter(|frame| frame.kind == Frame::HEADERS);
    let heads: Vec<_> = frames.by_ref().take(count).collect();
    assert_eq!(heads.len(), count, "not all were answered");
    heads
}

#[test]
fn requests_that_a_service_leaves_without_answer_keep_nobody_out() {
    let upstream = Upstream::http();
    let gate = Gate::start(&upstream, |start| limits(start, &["requests=20"]));
    let mut greedy = gate.http2(&gate.greedy);
    for _ in 0..40 {
        greedy.request("GET", "/hang", &[], true).expect("written");
    }
    let refused = heads(&mut greedy, 25);
    assert_eq!(refused[0].status(), 503);
    assert_eq!(gate.used("requests"), 15.0);
    // As many connections as requests, and one that waits for the next request.
    assert!(upstream.connections() <= 16, "{}", upstream.connections());
    assert_eq!(gate.status(&gate.modest), 200);
    assert_eq!(gate.refused("requests-per-client"), 25.0);
    let log = gate.host.log();
    assert!(
        log.contains("refused, a limit is reached") && log.contains("limit=\"requests-per-client\""),
        "{log}"
    );
    drop(greedy);
    wait::until("all are given back", || {
        gate.used("requests") == 0.0 && gate.used("upstream-connections") <= 1.0
    });
}

#[test]
fn a_request_over_a_limit_is_told_when_to_come_again() {
    let gate = Gate::start(&Upstream::http(), |start| limits(start, &["requests-per-client=1"]));
    let mut greedy = gate.http2(&gate.greedy);
    greedy.request("GET", "/hang", &[], true).expect("written");
    wait::until("it is under way", || gate.used("requests") == 1.0);
    let answer = gate.connect(&gate.greedy).and_then(|mut client| client.get("/")).expect("an answer");
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some(&b"1"[..])));
    assert_eq!(answer.text(), r#"{"code":503,"message":"Service Unavailable"}"#);
}

#[test]
fn connections_that_are_forwarded_keep_nobody_out() {
    let upstream = Upstream::echo();
    let gate = Gate::start(&upstream, |start| limits(start.tcp(), &["requests=10"]));
    let echoed = |peer: &Peer| {
        let mut client = gate.connect(peer)?;
        client.write(b"x")?;
        client.read_exact(&mut [0])?;
        std::io::Result::Ok(client)
    };
    let held: Vec<_> = (0..20).filter_map(|_| echoed(&gate.greedy).ok()).collect();
    assert_eq!(held.len(), 8);
    assert!(echoed(&gate.modest).is_ok());
    assert_eq!(gate.refused("requests-per-client"), 12.0);
    drop(held);
    wait::until("all are given back", || gate.used("upstream-connections") == 0.0);
}

/// The limits are made for the open files that there are.
#[test]
fn a_client_cannot_take_the_last_descriptor() {
    let gate =
        Gate::start(&Upstream::http(), |start| start.argument("--workers").argument("2").open_files(256));
    let log = gate.host.log();
    assert!(log.contains("limits are below their defaults") && log.contains("256 are allowed"), "{log}");
    let mut greedy: Vec<_> = (0..4).map(|_| gate.http2(&gate.greedy)).collect();
    for client in &mut greedy {
        for _ in 0..40 {
            client.request("GET", "/hang", &[], true).expect("written");
        }
    }
    wait::until("it has all it gets", || gate.refused("requests-per-client") >= 100.0);
    let crowd = silent_crowd(gate.host.address, 100);
    for _ in 0..20 {
        assert_eq!(gate.status(&gate.modest), 200);
    }
    assert!(!gate.host.log().contains("accept failed"), "{}", gate.host.log());
    drop((crowd, greedy));
}

#[test]
fn limits_that_do_not_fit_stop_the_start_with_the_remedy() {
    let pki = Pki::new();
    let policy = write_policy(&pki, &vespa_example());
    let start = |setting: &str| {
        let start = Start::endpoint("peer", &policy, Upstream::http().address).open_files(256);
        let started = run(&mut limits(start, &[setting]).command(), b"");
        assert_eq!(started.code, Some(2), "{}", started.output());
        started.stderr
    };
    let text = start("connections=1000");
    assert!(
        text.contains("the system allows 256; raise `LimitNOFILE=`") && text.contains("or lower"),
        "{text}"
    );
    assert!(start("conections=1").contains("no limit is called `conections`; there are connections, "));
    assert!(start("requests=0").contains("limit `requests`: `0` is no number from 1"));
    assert!(start("requests").contains("`requests` is not NAME=NUMBER"));
}

fn host_json(pki: &Pki, upstream: SocketAddr, limits: &Value) -> PathBuf {
    let path = pki.file("host.json");
    let policy = pki.file("policy.json");
    if !policy.exists() {
        let peers =
            json!({"authorized-peers": [{"required-credentials": [{"field": "CN", "must-match": "node"}]}]});
        fs::write(&policy, pki.with_files(&peers).to_string()).expect("the policy");
    }
    let inbound = json!({"address": "127.0.0.1:0", "upstream": {"address": upstream.to_string()},
        "endpoints": [{"endpoint": "peer", "policy": policy}]});
    let document = json!({"inbound": [inbound], "admin": {"address": "127.0.0.1:0"}, "limits": limits});
    fs::write(&path, document.to_string()).expect("the configuration");
    path
}

#[test]
fn a_reload_changes_limits() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let path = host_json(&pki, upstream.address, &json!({"requests": 100, "connections-per-client": 7}));
    let host = Start::config(&path).start();
    let limit = |name: &str| metric(host.admin(), &format!("peergate_limit{{limit=\"{name}\"}}"));
    assert_eq!((limit("requests"), limit("connections-per-client")), (100.0, 7.0));
    host_json(&pki, upstream.address, &json!({"requests": 1}));
    wait::until("the new limit is there", || limit("requests") == 1.0);
    // None is configured any more.
    assert_eq!(limit("connections-per-client"), 0.0);
    let generation = metric(host.admin(), "peergate_reload_generation");
    host_json(&pki, upstream.address, &json!({"connections": 4_000_000_000_u32}));
    wait::until("what does not fit is refused", || {
        metric(host.admin(), "peergate_reload_last_attempt_successful") == 0.0
    });
    assert_eq!((limit("requests"), metric(host.admin(), "peergate_reload_generation")), (1.0, generation));
}

#[test]
fn idle_connections_to_the_admin_port_keep_no_health_check_out() {
    let gate = Gate::start(&Upstream::http(), |start| start);
    let idle: Vec<_> =
        (0..150).map(|_| TcpStream::connect(gate.host.admin()).expect("a connection")).collect();
    for _ in 0..5 {
        assert_eq!(get(gate.host.admin(), "/healthz").status(), 200);
    }
    drop(idle);
}

/// A web page could make a browser ask for these pages under its own name (DNS rebinding).
#[test]
fn the_admin_pages_answer_no_foreign_host() {
    let gate = Gate::start(&Upstream::http(), |start| start.argument("--admin-host").argument("ops.example"));
    let admin = gate.host.admin();
    let own = admin.to_string();
    for host in [
        own.as_str(),
        "localhost",
        "localhost:9901",
        "10.0.0.1:9901",
        "[::1]",
        "ops.example",
        "OPS.example:1",
    ] {
        assert_eq!(get_as(admin, host, "/metrics").status(), 200, "{host}");
    }
    for host in ["evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.nip.io"] {
        let page = get_as(admin, host, "/config");
        assert_eq!(page.status(), 421, "{host}");
        assert!(
            page.text().contains("is not: these pages answer requests for IP addresses"),
            "{}",
            page.text()
        );
    }
    let (pki, upstream) = (&gate.pki, Upstream::http());
    let policy = write_policy(pki, &vespa_example());
    let start =
        Start::endpoint("peer", &policy, upstream.address).admin().argument("--admin-host").argument("a:1");
    let started = run(&mut start.command(), b"");
    assert_eq!(started.code, Some(2), "{}", started.output());
    assert!(started.stderr.contains("expected a host name"), "{}", started.stderr);
}
