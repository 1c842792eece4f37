//! Mixed mode: TLS and plaintext on one port while a cluster goes over, as `VESPA_TLS_INSECURE_MIXED_MODE` says.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use peergate_host::pki::Leaf;
use peergate_tests::{
    client::Client,
    commands::run,
    host::{Host, Start},
    http1::Message,
    pki::{Peer, Pki},
    upstream::Upstream,
    wait,
};
use rustix::process::Signal;
use serde_json::json;

const VARIABLE: &str = "VESPA_TLS_INSECURE_MIXED_MODE";
const PHASES: [&str; 3] =
    ["plaintext_client_mixed_server", "tls_client_mixed_server", "tls_client_tls_server"];

/// A node of a cluster with Vespa's own configuration file.
struct Node {
    pki: Pki,
    upstream: Upstream,
    config: PathBuf,
    peer: Peer,
}

impl Node {
    fn new(upstream: Upstream) -> Self {
        let pki = Pki::new();
        let policy = json!({"authorized-peers": [{"name": "nodes", "required-credentials": [{"field": "CN", "must-match": "node"}]}]});
        let config = pki.file("tls-config.json");
        fs::write(&config, pki.with_files(&policy).to_string()).expect("the configuration");
        let peer = pki.peer(&Leaf::new().cn("node"));
        Self { pki, upstream, config, peer }
    }

    fn start(&self, phase: &str) -> Host {
        Start::by_environment(&self.config, self.upstream.address).environment(VARIABLE, phase).start()
    }

    fn tls(&self, address: SocketAddr) -> Option<u16> {
        let mut client = Client::connect(address, self.pki.ca(), Some(&self.peer.credential)).ok()?;
        client.get("/").ok().map(|answer| answer.status())
    }
}

/// A request without TLS.
fn plaintext(address: SocketAddr) -> Option<u16> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").ok()?;
    Some(Message::read(&mut std::io::BufReader::new(socket)).ok()??.status())
}

#[test]
fn each_phase_admits_what_it_says() {
    let node = Node::new(Upstream::http());
    for (phase, admits_plaintext) in [(PHASES[0], true), (PHASES[1], true), (PHASES[2], false), ("", false)] {
        let host = node.start(phase);
        assert_eq!(node.tls(host.address), Some(200), "{phase}");
        assert_eq!(plaintext(host.address).is_some_and(|status| status == 200), admits_plaintext, "{phase}");
        if admits_plaintext {
            wait::until("the decision is logged", || {
                host.log().contains("\"matched\":[\"insecure-plaintext\"]")
            });
        }
        // Said at the start, before anybody comes.
        assert_eq!(host.log().contains("mixed mode"), admits_plaintext, "{phase}: {}", host.log());
        // TLS is no way around the rules.
        let stranger = node.pki.peer(&Leaf::new().cn("stranger"));
        let refused = Client::connect(host.address, node.pki.ca(), Some(&stranger.credential));
        assert!(refused.and_then(|mut client| client.get("/")).is_err(), "{phase}");
        // Nor is HTTP/2 without TLS another thing than plaintext.
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--http2-prior-knowledge",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        let curl = run(curl.arg(format!("http://{}/", host.address)), b"");
        assert_eq!(curl.stdout == "200", admits_plaintext, "{phase}: {}", curl.output());
    }
}

/// A ClientHello that arrives byte by byte, or in several records (RFC 8446 section 5.1), which Vespa's own sniffing
/// takes for plaintext.
#[test]
fn a_client_hello_in_pieces_is_not_taken_for_plaintext() {
    let node = Node::new(Upstream::http());
    let host = node.start(PHASES[1]);
    for cut in [in_bytes, in_records] {
        let front = front(host.address, cut);
        assert_eq!(node.tls(front), Some(200), "{}", host.log());
    }
    assert!(!host.log().contains("insecure-plaintext"), "{}", host.log());
}

/// A port that passes everything on, the first record of each client cut.
fn front(target: SocketAddr, cut: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = proxy.local_addr().expect("bound");
    thread::spawn(move || {
        for mut client in proxy.incoming().flatten() {
            let mut server = TcpStream::connect(target).expect("the host");
            server.set_nodelay(true).expect("a socket");
            let mut record = vec![0; 5];
            client.read_exact(&mut record).expect("a record's header");
            record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
            client.read_exact(&mut record[5..]).expect("a record");
            for piece in cut(&record) {
                server.write_all(&piece).expect("written");
            }
            let handles = |stream: &TcpStream| stream.try_clone().expect("a handle");
            let (mut from, mut to) = (handles(&client), handles(&server));
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    address
}

fn in_bytes(record: &[u8]) -> Vec<Vec<u8>> {
    record.iter().map(|byte| vec![*byte]).collect()
}

fn in_records(record: &[u8]) -> Vec<Vec<u8>> {
    let header = |length: u16| [&record[..3], &length.to_be_bytes()].concat();
    let pieces = record[5..].chunks(3);
    pieces.map(|piece| [header(piece.len() as u16), piece.to_vec()].concat()).collect()
}

#[test]
fn bytes_without_tls_reach_the_service_in_mixed_mode_only() {
    let node = Node::new(Upstream::echo());
    for (phase, admitted) in [(PHASES[1], true), (PHASES[2], false)] {
        let start = Start::by_environment(&node.config, node.upstream.address).tcp();
        let host = start.environment(VARIABLE, phase).start();
        let mut socket = TcpStream::connect(host.address).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        socket.write_all(b"hello").expect("written");
        let mut answer = [0; 5];
        assert_eq!(socket.read_exact(&mut answer).is_ok() && &answer == b"hello", admitted, "{phase}");
    }
    assert_eq!(node.upstream.bytes(), 5);
}

/// Whoever comes without TLS is admitted, and yet nobody: the pages are not for him, nor is their path the service's.
#[test]
fn the_admin_pages_are_for_peers_with_tls_only() {
    let node = Node::new(Upstream::http());
    let config = node.pki.file("host.json");
    let document = json!({
        "inbound": [{"address": "127.0.0.1:0", "upstream": {"address": node.upstream.address.to_string()},
                     "admin-path": "/peergate-admin", "endpoints": [{"endpoint": "peer"}]}],
    });
    fs::write(&config, document.to_string()).expect("the configuration");
    let start = Start::config(&config).environment(VARIABLE, PHASES[1]);
    let host = start.environment("VESPA_TLS_CONFIG_FILE", node.config.to_str().expect("a path")).start();
    let ask = |path: &str| {
        let mut socket = TcpStream::connect(host.address).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("written");
        Message::read(&mut std::io::BufReader::new(socket)).expect("an answer").expect("an answer")
    };
    let mut peer = Client::connect(host.address, node.pki.ca(), Some(&node.peer.credential)).expect("a peer");
    for page in ["/metrics", "/config", "/connections", "/healthz", ""] {
        let page = format!("/peergate-admin{page}");
        let refused = ask(&page);
        assert_eq!((refused.status(), refused.text().contains("peergate_")), (403, false), "{page}");
        assert_ne!(peer.get(&page).expect("an answer").status(), 403, "{page}");
    }
    assert!(
        peer.get("/peergate-admin/metrics").expect("an answer").text().contains("peergate_insecure_mode")
    );
    assert!(node.upstream.requests().is_empty());
    assert_eq!(ask("/peergate-administrator").text(), "upstream\n");
    wait::until("the refusal is logged", || host.log().contains("deny request"));
}

/// The variable is about the policy of VESPA_TLS_CONFIG_FILE and about nothing else.
#[test]
fn other_policies_stay_strict() {
    let node = Node::new(Upstream::http());
    let start = Start::endpoint("peer", &node.config, node.upstream.address);
    let host = start.environment(VARIABLE, PHASES[1]).start();
    assert_ne!(plaintext(host.address), Some(200));
    assert!(host.log().contains("mixed mode is asked for"), "{}", host.log());
    let unknown =
        Start::by_environment(&node.config, node.upstream.address).environment(VARIABLE, "plaintext");
    let refused = run(&mut unknown.command(), b"");
    assert_eq!(refused.code, Some(2), "{}", refused.output());
    assert!(
        refused.stderr.contains("unknown value `plaintext`; expected one of `plaintext_client_mixed_server`"),
        "{}",
        refused.stderr
    );
}

/// Two nodes go over one after the other, phase by phase, and no request fails.
#[test]
fn a_rollout_in_three_phases_fails_no_request() {
    let node = Node::new(Upstream::http());
    let leaf = node.pki.authority().issue(&Leaf::new().cn("node").dns("localhost")).expect("a certificate");
    leaf.write(node.pki.directory(), "server").expect("the node's files");
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let start = |index: usize, phase: &str| -> Host {
        let (inbound, outbound, other) = (ports[index], ports[2 + index], ports[1 - index]);
        let config = node.pki.file(&format!("node{index}.json"));
        let document = json!({
            "workers": 1,
            "inbound": [{"address": format!("127.0.0.1:{inbound}"), "upstream": {"address": node.upstream.address.to_string()},
                         "endpoints": [{"endpoint": "peer"}]}],
            "outbound": [{"address": format!("127.0.0.1:{outbound}"), "upstream": {"address": format!("localhost:{other}")}}],
        });
        fs::write(&config, document.to_string()).expect("the configuration");
        let start = Start::config(&config)
            .environment("VESPA_TLS_CONFIG_FILE", node.config.to_str().expect("a path"));
        start.environment(VARIABLE, phase).start()
    };
    let mut hosts = [start(0, PHASES[0]), start(1, PHASES[0])];
    let (done, served, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // A node that is restarted serves nobody meanwhile: its clients try again, as Vespa's do, and must find it.
    let senders: Vec<_> = [ports[2], ports[3]]
        .into_iter()
        .map(|port| {
            let (done, served, failed) = (Arc::clone(&done), Arc::clone(&served), Arc::clone(&failed));
            thread::spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    match plaintext(SocketAddr::from(([127, 0, 0, 1], port))) {
                        Some(200) => served.fetch_add(1, Ordering::SeqCst),
                        // Not there, or the other one is not.
                        None | Some(502) => 0,
                        Some(_) => failed.fetch_add(1, Ordering::SeqCst),
                    };
                }
            })
        })
        .collect();
    let both_serve = |what: &str| {
        for port in [ports[2], ports[3]] {
            wait::until(what, || plaintext(SocketAddr::from(([127, 0, 0, 1], port))) == Some(200));
        }
    };
    both_serve("the first phase serves");
    for phase in [PHASES[1], PHASES[2]] {
        for index in [0, 1] {
            stop(&mut hosts[index]);
            hosts[index] = start(index, phase);
            both_serve(phase);
        }
    }
    done.store(true, Ordering::SeqCst);
    senders.into_iter().for_each(|sender| sender.join().expect("a thread"));
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    assert!(served.load(Ordering::SeqCst) > 10);
    for (index, host) in hosts.iter().enumerate() {
        assert_ne!(plaintext(SocketAddr::from(([127, 0, 0, 1], ports[index]))), Some(200), "{}", host.log());
    }
}

fn stop(host: &mut Host) {
    host.signal(Signal::TERM);
    assert_eq!(host.ended(), Some(0), "{}", host.log());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
