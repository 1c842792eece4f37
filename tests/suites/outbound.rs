//! Outbound listeners: local plaintext in, TLS to a server that the filter judges like a peer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
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
use socket2::SockRef;

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
    wait::until("the log tells", || host.log().contains("wrong-name: "));
    let log = host.log();
    assert!(log.contains("node2.example"), "{log}");
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
    wait::until("the log tells", || host.log().contains("bad-signature: "));
}

/// The name is asked for in the handshake, or the server could not choose an endpoint.
#[test]
fn the_name_is_sent() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
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
    let mut program = Program::connect(&address);
    assert_eq!(program.get().expect("an answer"), 200);
    fs::write(&nodes.config, json!({"inbound": [inbound("127.0.0.1:0"), inbound(&address)]}).to_string())
        .expect("the configuration");
    host.reload();
    wait::until("the connection ends", || program.get().is_err());
    assert!(service.requests().is_empty(), "{:?}", service.requests());
    // The port is the new one's.
    let refused = run(
        Command::new("curl").args(["--silent", "--show-error", "--insecure", &format!("https://{address}/")]),
        b"",
    );
    assert!(refused.stderr.contains("alert"), "{}", refused.output());
}

/// A service without TLS that answers requests and keeps what each connection began with.
struct Plain {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Plain {
    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let heard = Arc::clone(&copy);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = socket.read(&mut buffer) {
                        heard.lock().expect("kept").push(buffer[..count].to_vec());
                        if !buffer.starts_with(b"GET ")
                            || socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn requests(&self) -> usize {
        self.heard.lock().expect("kept").iter().filter(|bytes| bytes.starts_with(b"GET ")).count()
    }

    fn handshakes(&self) -> usize {
        self.heard.lock().expect("kept").iter().filter(|bytes| bytes.starts_with(&[22, 3])).count()
    }
}

/// A connection of a local program that stays open.
struct Program(TcpStream);

impl Program {
    fn connect(address: impl ToSocketAddrs) -> Self {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        Self(socket)
    }

    fn get(&mut self) -> std::io::Result<u16> {
        self.0.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-client-cert: forged\r\n\r\n")?;
        let answer = Message::read(&mut std::io::BufReader::new(&self.0))?;
        answer.map(|it| it.status()).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

/// An outbound listener by Vespa's variable, which sends plaintext while the cluster goes over, and by a policy of its own,
/// which does not.
struct GoingOver<'a> {
    nodes: &'a Nodes,
    server: SocketAddr,
}

impl GoingOver<'_> {
    fn listens(&self, port: u16, policy: Option<&str>) {
        let server = json!({"address": format!("localhost:{}", self.server.port())});
        let mut outbound = json!({"address": format!("127.0.0.1:{port}"), "upstream": server});
        if let Some(policy) = policy {
            outbound["policy"] = policy.into();
        }
        // With one worker there is one pool of connections.
        let document = json!({"workers": 1, "outbound": [outbound]});
        fs::write(&self.nodes.config, document.to_string()).expect("the configuration");
    }

    fn start(&self) -> (u16, Host) {
        let port = free_port();
        self.listens(port, None);
        let policy = self.nodes.policy.to_str().expect("a path");
        let start = Start::config(&self.nodes.config).environment("VESPA_TLS_CONFIG_FILE", policy);
        (port, start.environment("VESPA_TLS_INSECURE_MIXED_MODE", "plaintext_client_mixed_server").start())
    }
}

/// A connection without TLS that is kept for the next request was made on terms that are no longer ours.
#[test]
fn no_connection_without_tls_outlives_mixed_mode() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let plain = Plain::serve(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let going = GoingOver { nodes: &nodes, server: plain.address };
    let (port, host) = going.start();
    let mut program = Program::connect(("127.0.0.1", port));
    for request in 1..=2 {
        assert_eq!(program.get().expect("an answer"), 200, "{}", host.log());
        assert_eq!(plain.requests(), request);
    }
    going.listens(port, Some("outbound.json"));
    host.reload();
    // Whichever connection a program has or makes: the server is asked for TLS, or not spoken to.
    while program.get().is_ok_and(|status| status == 502) {}
    wait::until("the server is asked for TLS", || {
        assert_eq!(Program::connect(("127.0.0.1", port)).get().expect("an answer"), 502);
        plain.handshakes() > 0
    });
    assert_eq!(plain.requests(), 2, "{}", host.log());
}

/// A port that takes no connection until it is told to: a second one waits, as for a server that is far away.
struct Reluctant {
    listener: TcpListener,
    _first: TcpStream,
}

impl Reluctant {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        // Room for one that nobody accepts: the kernel does not answer the next one.
        SockRef::from(&listener).listen(0).expect("a short queue");
        let first = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        Self { listener, _first: first }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    /// Waits until somebody tries to connect, as Linux shows it: the address in hexadecimal, and 02 for SYN_SENT.
    fn wait_for_a_client(&self) {
        let waiting = format!(":{:04X} 02 ", self.address().port());
        wait::until("the host connects", || {
            fs::read_to_string("/proc/net/tcp").expect("the kernel's list").contains(&waiting)
        });
    }

    /// Takes the first one away, which makes room for the second one.
    fn relent(self) -> TcpListener {
        drop(self.listener.accept().expect("the first one"));
        SockRef::from(&self.listener).listen(128).expect("a queue");
        self.listener
    }
}

/// Between the beginning and the end of a connect there may be a reload. What was begun without TLS must not go on so.
#[test]
fn a_connection_being_made_over_a_reload_goes_not_on_without_tls() {
    let nodes = Nodes::new(Upstream::http(), "http");
    for becomes_inbound in [false, true] {
        let reluctant = Reluctant::new();
        let going = GoingOver { nodes: &nodes, server: reluctant.address() };
        let (port, host) = going.start();
        let program = std::thread::spawn(move || Program::connect(("127.0.0.1", port)).get());
        reluctant.wait_for_a_client();
        if becomes_inbound {
            let inbound = json!([{"address": format!("127.0.0.1:{port}"), "upstream": {"address": going.server.to_string()},
                "endpoints": [{"endpoint": "peer", "policy": "outbound.json"}]}]);
            let document = json!({"workers": 1, "inbound": inbound});
            fs::write(&nodes.config, document.to_string()).expect("the configuration");
        } else {
            going.listens(port, Some("outbound.json"));
        }
        host.reload();
        assert!(host.log().contains("reloaded"), "{}", host.log());
        let plain = Plain::serve(reluctant.relent());
        // Refused, or cut off: answered by the server it is not.
        let answer = program.join().expect("a thread");
        assert!(!matches!(answer, Ok(200)), "{answer:?} {}", host.log());
        assert_eq!(plain.requests(), 0, "{}", host.log());
    }
}

/// The terms that count are those there are when the server answers.
#[test]
fn a_connection_being_made_over_a_reload_is_judged_by_the_new_policy() {
    let nodes = Nodes::new(Upstream::http(), "http");
    let reluctant = Reluctant::new();
    let server = json!({"address": format!("localhost:{}", reluctant.address().port())});
    let host = nodes.start("http", server);
    let address = host.address;
    let program = std::thread::spawn(move || Program::connect(address).get());
    reluctant.wait_for_a_client();
    nodes.admit(&peers("somebody-else"));
    host.reload();
    let (listener, target) = (reluctant.relent(), nodes.inbound.address);
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the host");
        let mut server = TcpStream::connect(target).expect("the server");
        let handles = |stream: &TcpStream| stream.try_clone().expect("a handle");
        let (mut from, mut to) = (handles(&client), handles(&server));
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        std::io::copy(&mut server, &mut client)
    });
    assert_eq!(program.join().expect("a thread").expect("an answer"), 502, "{}", host.log());
    wait::until("the denial is logged", || host.log().contains("deny connection"));
    assert!(nodes.upstream.requests().is_empty());
}

/// Who a peer is a filter says. The server need not have one, and this node's certificate would stand behind what a program
/// says. (Behind this server's port are bytes: what arrives is what was sent.)
#[test]
fn what_a_program_says_about_peers_does_not_leave() {
    let nodes = Nodes::new(Upstream::http(), "tcp");
    let host = nodes.start("http", nodes.server());
    let mut program = TcpStream::connect(host.address).expect("a connection");
    program.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let request = "POST / HTTP/1.1\r\nhost: x\r\nX-Peergate-Policy: admin\r\nx_forwarded_client_cert: forged\r\n\
        x-request-id: 7\r\ntransfer-encoding: chunked\r\n\
        trailer: x-checksum, x-peergate-subject, X-Forwarded-Client-Cert, x_peergate_policy\r\n\r\n\
        2\r\nab\r\n0\r\nx-checksum: 1234\r\nx-peergate-subject: CN=admin\r\nX-Forwarded-Client-Cert: forged\r\n\
        x_peergate_policy: admin\r\n\r\n";
    program.write_all(request.as_bytes()).expect("written");
    let answer = Message::read(&mut std::io::BufReader::new(&program)).expect("an answer");
    assert_eq!(answer.expect("an answer").status(), 200, "{}", host.log());
    let sent = nodes.upstream.last_request();
    assert_eq!((sent.text().as_str(), sent.header("x-request-id")), ("ab", Some(&b"7"[..])));
    assert_eq!(sent.trailers, [("x-checksum".to_owned(), b"1234".to_vec())]);
    let names: Vec<String> = sent.headers.iter().map(|(name, _)| name.replace('_', "-")).collect();
    let tells = |name: &String| name.starts_with("x-peergate") || name.starts_with("x-forwarded");
    assert!(!names.iter().any(tells), "{names:?}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
