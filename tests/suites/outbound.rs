//! Outbound listeners: local plaintext in, TLS to a server that the filter judges like a peer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use peergate_host::pki::{Credential, Leaf};
use peergate_tests::{
    commands::run,
    host::{Host, Start, write_policy},
    http1::Message,
    pki::Pki,
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};

/// Two nodes with a certificate each: an inbound host in front of a service, an outbound host towards it.
struct Nodes {
    pki: Pki,
    upstream: Upstream,
    inbound: Host,
    /// Of the outbound node.
    config: PathBuf,
    policy: PathBuf,
}

fn peers(cn: &str) -> Value {
    json!({"authorized-peers": [{"name": "nodes", "required-credentials": [{"field": "CN", "must-match": cn}]}]})
}

impl Nodes {
    fn new(upstream: Upstream, protocol: &str) -> Self {
        let pki = Pki::new();
        node(&pki, "first");
        let policy = pki.file("outbound.json");
        let nodes = json!({
            "inbound": [{
                "address": "127.0.0.1:0",
                "protocol": protocol,
                "upstream": {"address": upstream.address.to_string()},
                "endpoints": [{"endpoint": "peer", "policy": write_policy(&pki, &peers("first"))}],
            }],
        });
        let config = pki.file("inbound.json");
        fs::write(&config, nodes.to_string()).expect("the configuration");
        let inbound = Start::config(&config).start();
        let config = pki.file("host.json");
        let nodes = Self { pki, upstream, inbound, config, policy };
        nodes.admit(&peers("localhost"));
        nodes
    }

    /// Which servers the outbound node takes.
    fn admit(&self, policy: &Value) {
        let mut policy = self.pki.with_files(policy);
        policy["files"]["certificates"] = self.pki.file("first.pem").to_str().into();
        policy["files"]["private-key"] = self.pki.file("first.key").to_str().into();
        fs::write(&self.policy, policy.to_string()).expect("the policy");
    }

    fn start(&self, protocol: &str, upstream: Value) -> Host {
        let outbound = json!({"outbound": [{
            "name": "to-second",
            "address": "127.0.0.1:0",
            "protocol": protocol,
            "upstream": upstream,
            "policy": "outbound.json",
        }]});
        fs::write(&self.config, outbound.to_string()).expect("the configuration");
        Start::config(&self.config).start()
    }

    fn server(&self) -> Value {
        json!({"address": format!("localhost:{}", self.inbound.address.port())})
    }
}

/// A node's own certificate, for both directions.
fn node(pki: &Pki, name: &str) {
    let leaf = pki.authority().issue(&Leaf::new().cn(name).dns("localhost")).expect("a certificate");
    leaf.write(pki.directory(), name).expect("the node's files");
}

fn get(address: SocketAddr, arguments: &[&str]) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]).args(arguments);
    let finished = run(command.arg(format!("http://{address}/")), b"");
    let (body, status) = finished.stdout.rsplit_once('\n').expect("curl writes the status");
    (status.parse().expect("a status"), body.to_owned())
}

#[test]
fn requests_of_local_programs_reach_the_service_as_this_node() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let host = nodes.start("http", nodes.server());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(get(host.address, &[version]), (200, "upstream\n".to_owned()), "{}", host.log());
        let body = "x".repeat(100_000);
        assert_eq!(get(host.address, &[version, "--data", &body]).0, 200);
        assert_eq!(nodes.upstream.last_request().body.len(), body.len());
    }
    wait::until("the log tells", || nodes.inbound.log().contains("\"matched\":[\"nodes\"]"));
    // The local name of the server stays where the configuration does not name it otherwise.
    let sent = nodes.upstream.last_request();
    assert_eq!(sent.header("host"), Some(host.address.to_string().as_bytes()));
    let mut named = nodes.server();
    named["server-name"] = "localhost".into();
    let host = nodes.start("http", named);
    assert_eq!(get(host.address, &[]).0, 200);
    assert_eq!(nodes.upstream.last_request().header("host"), Some(&b"localhost"[..]));
}

#[test]
fn bytes_pass_both_ways() {
    let nodes = Nodes::new(Upstream::echo(), "tcp");
    let host = nodes.start("tcp", nodes.server());
    let mut socket = TcpStream::connect(host.address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let mut writer = socket.try_clone().expect("a second handle");
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy));
    let mut received = vec![0; sent.len()];
    socket.read_exact(&mut received).expect("the echo");
    assert!(received == sent);
    writing.join().expect("a thread").expect("all is written");
}

#[test]
fn a_server_that_is_not_an_authorized_peer_gets_no_request() {
    let nodes = Nodes::new(Upstream::http(), "http");
    nodes.admit(&peers("somebody-else"));
    let host = nodes.start("http", nodes.server());
    assert_eq!(get(host.address, &[]).0, 502);
    wait::until("the denial is logged", || host.log().contains("deny connection"));
    assert!(nodes.upstream.requests().is_empty());
    // The server is told why: access_denied.
    wait::until("the server saw the alert", || nodes.inbound.log().to_lowercase().contains("accessdenied"));
    nodes.admit(&peers("localhost"));
    host.reload();
    wait::until("the new policy is in use", || get(host.address, &[]).0 == 200);
}

#[test]
fn the_servers_name_is_validated_and_the_names_it_has_are_told() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let mut server = nodes.server();
    server["server-name"] = "node2.example".into();
    let host = nodes.start("http", server.clone());
    assert_eq!(get(host.address, &[]).0, 502);
    let log = host.log();
    assert!(log.contains("node2.example") && log.contains("only valid for"), "{log}");
    assert!(log.contains("localhost"), "the names of the certificate: {log}");
    // Vespa's switch turns the name off, and nothing else.
    let mut policy = peers("localhost");
    policy["disable-hostname-validation"] = true.into();
    nodes.admit(&policy);
    let host = nodes.start("http", server.clone());
    assert_eq!(get(host.address, &[]).0, 200, "{}", host.log());
    let other = Pki::new();
    policy["files"] = Value::Null;
    let mut policy = nodes.pki.with_files(&policy);
    policy["files"]["certificates"] = nodes.pki.file("first.pem").to_str().into();
    policy["files"]["private-key"] = nodes.pki.file("first.key").to_str().into();
    policy["files"]["ca-certificates"] = other.file("ca.pem").to_str().into();
    fs::write(&nodes.policy, policy.to_string()).expect("the policy");
    let host = nodes.start("http", server);
    assert_eq!(get(host.address, &[]).0, 502);
    wait::until("the log tells", || host.log().contains("invalid peer certificate"));
}

/// The name is asked for in the handshake, or the server could not choose an endpoint.
#[test]
fn the_name_is_sent() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let host =
        nodes.start("http", json!({"address": format!("127.0.0.1:{port}"), "server-name": "node2.example"}));
    let asking = std::thread::spawn(move || get(host.address, &[]).0);
    let (mut socket, _) = listener.accept().expect("a connection");
    let mut hello = [0; 512];
    let count = socket.read(&mut hello).expect("a ClientHello");
    let name = b"node2.example";
    assert!(hello[..count].windows(name.len()).any(|window| window == name));
    drop((socket, listener));
    assert_eq!(asking.join().expect("a thread"), 502);
}

/// Idle ones, and those that are used again, end when the policy no longer has the server.
#[test]
fn open_connections_to_a_server_end_with_its_admission() {
    let nodes = Nodes::new(Upstream::echo(), "tcp");
    let host = nodes.start("tcp", nodes.server());
    let mut socket = TcpStream::connect(host.address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let mut echo = |text: &[u8]| -> std::io::Result<Vec<u8>> {
        socket.write_all(text)?;
        let mut answer = vec![0; text.len()];
        socket.read_exact(&mut answer).map(|()| answer)
    };
    assert_eq!(echo(b"one").expect("the echo"), b"one");
    // What changes nothing for the server ends nothing.
    let mut policy = peers("localhost");
    policy["authorized-peers"][0]["description"] = "changed".into();
    nodes.admit(&policy);
    host.reload();
    assert_eq!(echo(b"two").expect("still open"), b"two");
    nodes.admit(&peers("somebody-else"));
    host.reload();
    wait::until("the connection ends", || echo(b"three").is_err());
    wait::until("the log tells", || host.log().contains("no-longer-admitted"));
}

#[test]
fn what_would_lend_our_identity_to_others_does_not_start() {
    let nodes = Nodes::new(Upstream::http(), "http");
    for (key, value, message) in [
        ("address", json!("0.0.0.0:0"), "whoever connects here speaks as this node"),
        ("upstream", json!({"address": "unix:/x"}), "give `server-name`"),
        ("upstream", json!({"address": "127.0.0.1:0"}), "port 0"),
        ("endpoints", json!([]), "unknown field `endpoints`"),
    ] {
        let mut outbound =
            json!({"address": "127.0.0.1:0", "upstream": nodes.server(), "policy": "outbound.json"});
        outbound[key] = value;
        fs::write(&nodes.config, json!({"outbound": [outbound]}).to_string()).expect("the configuration");
        let started = run(&mut Start::config(&nodes.config).command(), b"");
        assert_eq!(started.code, Some(2), "{key}: {}", started.output());
        assert!(started.stderr.contains(message), "{key}: {}", started.stderr);
    }
    // A self-signed certificate is nobody's.
    let stranger =
        Credential::self_signed(&Leaf::new().cn("localhost").dns("localhost")).expect("a certificate");
    stranger.write(nodes.pki.directory(), "server").expect("the server's files");
    nodes.inbound.reload();
    let host = nodes.start("http", nodes.server());
    wait::until("the new certificate is served", || get(host.address, &[]).0 == 502);
}

/// A program's open connection was begun to a server. It must not become a way into what the port protects.
#[test]
fn a_port_that_becomes_inbound_takes_no_open_connection_with_it() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let service = Upstream::http();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let outbound =
        json!({"outbound": [{"address": address, "upstream": nodes.server(), "policy": "outbound.json"}]});
    // The sandbox grants what the first configuration needs: a second listener names the service too.
    let inbound = |address: &str| {
        json!({"address": address, "upstream": {"address": service.address.to_string()},
        "endpoints": [{"endpoint": "peer", "policy": "outbound.json"}]})
    };
    let mut first = outbound;
    first["inbound"] = json!([inbound("127.0.0.1:0")]);
    fs::write(&nodes.config, first.to_string()).expect("the configuration");
    let host = Start::config(&nodes.config).start();
    let mut program = TcpStream::connect(&address).expect("a connection");
    program.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let mut ask = || -> std::io::Result<u16> {
        program.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-client-cert: forged\r\n\r\n")?;
        let answer = Message::read(&mut std::io::BufReader::new(&program))?;
        answer.map(|it| it.status()).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    };
    assert_eq!(ask().expect("an answer"), 200);
    fs::write(&nodes.config, json!({"inbound": [inbound("127.0.0.1:0"), inbound(&address)]}).to_string())
        .expect("the configuration");
    host.reload();
    wait::until("the connection ends", || ask().is_err());
    assert!(service.requests().is_empty(), "{:?}", service.requests());
    // The port is the new one's.
    let refused = run(
        Command::new("curl").args(["--silent", "--show-error", "--insecure", &format!("https://{address}/")]),
        b"",
    );
    assert!(refused.stderr.contains("alert"), "{}", refused.output());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
