//! Several listeners and several endpoints on a port, by `--config`: the name a client asks for chooses.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use peergate_host::pki::{Credential, Leaf};
use peergate_policy::token::Derivation;
use peergate_tests::{
    client::Client,
    commands::{Curl, Finished, curl_by_name, peergate, run},
    host::{Host, Start, write_policy},
    pki::{Peer, Pki},
    upstream::{GREETING, Upstream},
    wait,
};
use serde_json::{Value, json};

/// Alert numbers (RFC 8446, 6; RFC 6066, 3).
const CERTIFICATE_REQUIRED: u8 = 116;
const UNRECOGNIZED_NAME: u8 = 112;

const TOKEN: &str = "vespa_cloud_reads_0123456789abcdefghijklmnopqrstuv";
const AUTHORIZATION: &str = "Authorization: Bearer vespa_cloud_reads_0123456789abcdefghijklmnopqrstuv";

/// One port with an endpoint of each kind.
struct Port {
    pki: Pki,
    upstream: Upstream,
    config: PathBuf,
    policy: PathBuf,
    peer: Peer,
    client: Peer,
}

impl Port {
    fn new() -> Self {
        let pki = Pki::new();
        let names = ["peer.example", "mtls.example", "token.example", "old.example", "localhost"];
        let server = names.into_iter().fold(Leaf::new().cn("node"), Leaf::dns);
        let server = pki.authority().issue(&server).expect("a certificate");
        server.write(pki.directory(), "server").expect("the server's files");
        let peer = pki.peer(&Leaf::new().cn("peer"));
        let client = pki.store(Credential::self_signed(&Leaf::new().cn("client")).expect("a certificate"));
        let token = Derivation::of(TOKEN);
        let context = "Vespa Cloud tenant data plane:test";
        let policy = json!({
            "authorized-peers": [{"name": "peers", "required-credentials": [{"field": "CN", "must-match": "peer"}]}],
            "data-plane": {
                "token-context": context,
                "clients": [
                    {"id": "pinned", "permissions": ["read"], "certificates": [{"file": client.chain}]},
                    {"id": "bearer", "permissions": ["read"], "tokens": [{"id": "t", "versions": [{
                        "fingerprint": token.fingerprint().to_string(),
                        "check-access-hash": token.check_hash(context).to_hex(),
                        "expiration": "<none>",
                    }]}]},
                ],
            },
        });
        let policy = write_policy(&pki, &policy);
        let config = pki.file("host.json");
        Self { upstream: Upstream::http(), config, policy, pki, peer, client }
    }

    /// Relative to the configuration's directory, as operators write it.
    fn policy(&self) -> Value {
        self.policy.file_name().and_then(|name| name.to_str()).into()
    }

    fn endpoints(&self) -> Value {
        json!([
            {"endpoint": "peer", "policy": self.policy(), "names": ["peer.example"]},
            {"endpoint": "mtls", "policy": self.policy(), "names": ["mtls.example"]},
            {"endpoint": "token", "policy": self.policy(), "names": ["token.example"], "deprecated-names": ["old.example"]},
        ])
    }

    fn write(&self, config: &Value) {
        fs::write(&self.config, format!("{config:#}")).expect("the configuration");
    }

    fn start(&self) -> Host {
        self.write(&json!({"inbound": [self.listener(&self.endpoints())]}));
        Start::config(&self.config).start()
    }

    fn listener(&self, endpoints: &Value) -> Value {
        json!({
            "address": "127.0.0.1:0",
            "upstream": {"address": self.upstream.address.to_string()},
            "endpoints": endpoints,
        })
    }

    fn curl(&self, address: SocketAddr, name: &str, peer: Option<&Peer>, arguments: &[&str]) -> Curl {
        curl_by_name(name, &self.pki, address, peer, "/", arguments)
    }

    /// A handshake with this name, or none.
    fn shake_hands(&self, address: SocketAddr, name: Option<&str>, peer: Option<&Peer>) -> Finished {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-ign_eof", "-tls1_3", "-connect", &address.to_string(), "-CAfile"]);
        command.arg(self.pki.file("ca.pem"));
        match name {
            Some(name) => command.args(["-servername", name]),
            None => command.arg("-noservername"),
        };
        if let Some(peer) = peer {
            command
                .arg("-cert")
                .arg(&peer.chain)
                .arg("-cert_chain")
                .arg(&peer.chain)
                .arg("-key")
                .arg(&peer.key);
        }
        run(&mut command, b"GET / HTTP/1.1\r\nhost: token.example\r\nconnection: close\r\n\r\n")
    }
}

#[test]
fn the_name_chooses_the_endpoint() {
    let port = Port::new();
    let address = port.start().address;
    assert!(std::net::TcpStream::connect(address).is_err(), "the host has ended");
    let host = port.start();
    for version in ["--http1.1", "--http2"] {
        let status = |name, peer, arguments: &[&str]| {
            port.curl(host.address, name, peer, &[&[version], arguments].concat()).status
        };
        assert_eq!(status("peer.example", Some(&port.peer), &[]), 200);
        assert_eq!(status("mtls.example", Some(&port.client), &[]), 200);
        assert_eq!(status("token.example", None, &["--header", AUTHORIZATION]), 200);
        assert_eq!(status("old.example", None, &["--header", AUTHORIZATION]), 200);
        // No kind falls back to another.
        assert_eq!(status("token.example", Some(&port.client), &[]), 401);
        assert_eq!(status("mtls.example", Some(&port.peer), &["--header", AUTHORIZATION]), 403);
    }
    // Token endpoints ask for no certificate, the others need one.
    let asked = |name| port.shake_hands(host.address, Some(name), None);
    assert!(asked("token.example").stdout.contains("No client certificate CA names sent"));
    for name in ["peer.example", "mtls.example"] {
        assert_eq!(asked(name).alert(), Some(CERTIFICATE_REQUIRED), "{name}");
    }
    assert!(port.shake_hands(host.address, Some("peer.example"), Some(&port.client)).alert().is_some());
}

#[test]
fn a_missing_or_unknown_name_is_unrecognized() {
    let port = Port::new();
    let host = port.start();
    for name in [None, Some("other.example"), Some("token.example.other"), Some("x.token.example")] {
        let refused = port.shake_hands(host.address, name, Some(&port.peer));
        assert_eq!(refused.alert(), Some(UNRECOGNIZED_NAME), "{name:?}: {}", refused.output());
    }
    assert!(host.log().contains("no endpoint is called `other.example`"), "{}", host.log());
    assert!(port.upstream.requests().is_empty());
}

#[test]
fn a_request_for_another_endpoint_is_misdirected() {
    let port = Port::new();
    let host = port.start();
    for version in ["--http1.1", "--http2"] {
        for (authority, status) in [
            ("token.example", 200),
            ("TOKEN.example.:443", 200),
            ("old.example", 200),
            ("mtls.example", 421),
            ("peer.example", 421),
            ("other.example", 421),
        ] {
            let field = format!("Host: {authority}");
            let arguments = [version, "--header", &field, "--header", AUTHORIZATION];
            let answer = port.curl(host.address, "token.example", None, &arguments);
            assert_eq!(answer.status, status, "{version} {authority}: {answer:?}");
        }
    }
    assert_eq!(port.upstream.requests().len(), 6);
}

/// With one endpoint any name will do, and none.
#[test]
fn the_only_endpoint_is_for_every_name() {
    let port = Port::new();
    let only = json!([{"endpoint": "token", "policy": port.policy(), "names": ["token.example"]}]);
    port.write(&json!({"inbound": [port.listener(&only)]}));
    let host = Start::config(&port.config).start();
    assert_eq!(port.curl(host.address, "localhost", None, &["--header", AUTHORIZATION]).status, 200);
    assert_eq!(port.shake_hands(host.address, None, None).status(), Some(401));
    assert!(host.log().contains("are not asked for"), "{}", host.log());
}

#[test]
fn listeners_come_and_go_with_a_reload() {
    let port = Port::new();
    let token = json!([{"endpoint": "token", "policy": port.policy()}]);
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    port.write(&json!({"inbound": [port.listener(&token)], "workers": 2}));
    let host = Start::config(&port.config).start();
    let first = host.address;
    let mut second = port.listener(&peers);
    second["name"] = "second".into();
    port.write(&json!({"inbound": [port.listener(&token), second], "workers": 2}));
    host.reload();
    wait::until("there are two listeners", || host.addresses().len() == 2);
    let second = host.addresses()[1];
    wait::until("the second one accepts", || {
        port.curl(second, "localhost", Some(&port.peer), &[]).status == 200
    });
    assert_eq!(port.curl(first, "localhost", None, &["--header", AUTHORIZATION]).status, 200);
    assert!(host.log().contains("`second`"), "{}", host.log());
    // A configuration that cannot work changes nothing.
    port.write(&json!({"inbound": []}));
    host.reload();
    assert!(host.log().contains("host.json:1:1: nothing to serve"), "{}", host.log());
    assert_eq!(port.curl(second, "localhost", Some(&port.peer), &[]).status, 200);
    port.write(&json!({"inbound": [port.listener(&token)], "workers": 2}));
    host.reload();
    wait::until("the second one is gone", || std::net::TcpStream::connect(second).is_err());
    assert_eq!(port.curl(first, "localhost", None, &["--header", AUTHORIZATION]).status, 200);
}

#[test]
fn sockets_in_the_file_system_serve_and_are_served() {
    let port = Port::new();
    let (inside, outside) = (port.pki.file("inside.sock"), port.pki.file("outside.sock"));
    let address = |path: &PathBuf| format!("unix:{}", path.display());
    // The outer one forwards bytes to the inner one, which terminates TLS a second time.
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    let mut inner = port.listener(&peers);
    inner["address"] = address(&inside).into();
    let mut outer = port.listener(&peers);
    outer["protocol"] = "tcp".into();
    outer["upstream"] = json!({"address": address(&outside)});
    port.write(&json!({"inbound": [outer, inner]}));
    let echo = std::os::unix::net::UnixListener::bind(&outside).expect("a socket");
    let host = Start::config(&port.config).start();
    wait::until("the socket is there", || inside.exists());
    let curl = Command::new("curl")
        .args(["--silent", "--unix-socket"])
        .arg(&inside)
        .arg("--cacert")
        .arg(port.pki.file("ca.pem"))
        .arg("--cert")
        .arg(&port.peer.chain)
        .arg("--key")
        .arg(&port.peer.key)
        .arg("https://localhost/")
        .output()
        .expect("curl");
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "upstream\n", "{}", host.log());
    // A service that ends a connection at once: what counts is that it was reached.
    let service = std::thread::spawn(move || drop(echo.accept().expect("a connection")));
    let shaken = port.shake_hands(host.address, Some("localhost"), Some(&port.peer));
    assert!(service.is_finished(), "{}{}", shaken.output(), host.log());
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_place() {
    let port = Port::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    for (pointer, value, message) in [
        ("/inbound/0/address", json!(taken), "cannot listen on"),
        (
            "/inbound/0/endpoints/1/names",
            json!(["Peer.Example"]),
            "host.json:15:20: `inbound.0.endpoints.1.names`: `Peer.Example` is named twice",
        ),
        ("/inbound/0/endpoints/1/names", json!([]), "needs `names`"),
        ("/inbound/0/endpoints/0/policy", json!("none.json"), "none.json"),
        ("/inbound/0/upstream/address", json!("127.0.0.1"), "`127.0.0.1` is no address; expected HOST:PORT"),
        (
            "/inbound/0/endpoints/2/endpoint",
            json!("tokn"),
            "unknown variant `tokn`, expected one of `peer`, `mtls`, `token`",
        ),
        ("/workers", json!(0), "`workers`: expected 1 to 1024"),
    ] {
        let mut config = json!({"inbound": [port.listener(&port.endpoints())], "workers": 1});
        *config.pointer_mut(pointer).expect("a key") = value;
        port.write(&config);
        let started = run(&mut Start::config(&port.config).command(), b"");
        assert_eq!(started.code, Some(2), "{pointer}: {}", started.output());
        assert!(started.stderr.contains(message), "{pointer}: {}", started.stderr);
        assert_eq!(started.stderr.lines().count(), 1, "{}", started.stderr);
        // Binding is the one thing that `check` leaves out.
        if !pointer.ends_with("0/address") {
            let checked = run(peergate().args(["check", "--config"]).arg(&port.config), b"");
            assert_eq!((checked.code, checked.stderr), (Some(2), started.stderr));
        }
    }
    port.write(&json!({"inbound": [port.listener(&port.endpoints())]}));
    let checked = run(peergate().args(["check", "--config"]).arg(&port.config), b"");
    assert_eq!(checked.code, Some(0), "{}", checked.output());
    assert!(checked.stdout.contains("host.json: good, 1 listener"), "{}", checked.stdout);
}

/// What is decrypted here must not be sent to a port that waits for a ClientHello.
#[test]
fn an_upstream_that_speaks_tls_stops_the_start() {
    let port = Port::new();
    let inner = port.start();
    let path = port.pki.file("inner.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    let target = inner.address;
    thread::spawn(move || {
        for mut client in socket.incoming().flatten() {
            let mut server = TcpStream::connect(target).expect("the host");
            let (mut from, mut to) =
                (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            thread::spawn(move || io::copy(&mut from, &mut to));
            thread::spawn(move || io::copy(&mut server, &mut client));
        }
    });
    let by_name = format!("localhost:{}", inner.address.port());
    for (address, protocol) in [
        (inner.address.to_string(), "http1"),
        (inner.address.to_string(), "h2c"),
        (by_name, "http1"),
        (format!("unix:{}", path.display()), "http1"),
    ] {
        let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
        // Beside others, which are asked at the same time.
        let (first, mut second) = (port.listener(&peers), port.listener(&peers));
        second["upstream"] = json!({"address": address, "protocol": protocol});
        port.write(&json!({"inbound": [first, second]}));
        let started = run(&mut Start::config(&port.config).command(), b"");
        assert_eq!(started.code, Some(2), "{address} {protocol}: {}", started.output());
        let said = format!("the upstream {address} speaks TLS, and the host sends plaintext there");
        assert!(started.stderr.contains(&said), "{protocol}: {}", started.stderr);
    }
}

/// One that takes HTTP/2 without TLS is what it is said to be, also where its own answer to the question is HTTP/2.
#[test]
fn an_upstream_of_another_protocol_than_tls_stops_nothing() {
    let port = Port::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = service.local_addr().expect("bound");
    let copy = Arc::clone(&heard);
    thread::spawn(move || {
        for mut client in service.incoming().flatten() {
            // SETTINGS without any (RFC 9113 section 3.4).
            client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("written");
            let mut said = Vec::new();
            client.read_to_end(&mut said).expect("no reset");
            copy.lock().expect("kept").push(said);
        }
    });
    let mut listener = port.listener(&json!([{"endpoint": "peer", "policy": port.policy()}]));
    listener["upstream"] = json!({"address": address.to_string(), "protocol": "h2c"});
    port.write(&json!({"inbound": [listener]}));
    let _host = Start::config(&port.config).start();
    wait::until("the service was asked", || !heard.lock().expect("kept").is_empty());
    let said = heard.lock().expect("kept").concat();
    let settings_and_goaway = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(said, [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings_and_goaway].concat());
}

/// A service that takes bytes could take any byte for something.
#[test]
fn a_service_that_takes_bytes_is_not_asked() {
    let port = Port::new();
    let service = Upstream::greeting();
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    let (mut bytes, requests) = (port.listener(&peers), port.listener(&peers));
    bytes["protocol"] = "tcp".into();
    bytes["upstream"]["address"] = service.address.to_string().into();
    port.write(&json!({"inbound": [bytes, requests]}));
    let host = Start::config(&port.config).start();
    let mut client =
        Client::connect(host.address, port.pki.ca(), Some(&port.peer.credential)).expect("a connection");
    let mut greeting = vec![0; GREETING.len()];
    client.read_exact(&mut greeting).expect("a greeting");
    // The client's own, and no other one before it.
    assert_eq!((service.connections(), service.bytes()), (1, 0));
}

/// The question has one limit for all of its answer.
#[test]
fn a_service_that_drips_does_not_hold_up_the_start() {
    let port = Port::new();
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = service.local_addr().expect("bound");
    thread::spawn(move || {
        for mut client in service.incoming().flatten() {
            thread::spawn(move || {
                // One byte: whether an alert follows is not known.
                while client.write_all(&[21]).is_ok() {
                    thread::sleep(Duration::from_secs(60));
                }
            });
        }
    });
    let dripping = TcpListener::bind("127.0.0.1:0").expect("a port");
    let drips = dripping.local_addr().expect("bound");
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        for mut client in dripping.incoming().flatten() {
            while client.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
            // Nobody may wait for it any more.
            let _ = ended.send(());
        }
    });
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    let (mut first, mut second) = (port.listener(&peers), port.listener(&peers));
    first["upstream"]["address"] = address.to_string().into();
    second["upstream"]["address"] = drips.to_string().into();
    port.write(&json!({"inbound": [first, second]}));
    let _host = Start::config(&port.config).start();
    end.recv_timeout(Duration::from_secs(20)).expect("the question ends though the answer does not");
}

/// A byte pipe is not judged by request: it ends where its port begins to forward requests.
#[test]
fn a_port_that_begins_to_judge_requests_keeps_no_pipe() {
    let port = Port::new();
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    let mut listener = port.listener(&peers);
    listener["protocol"] = "tcp".into();
    port.write(&json!({"inbound": [listener]}));
    let host = Start::config(&port.config).start();
    let mut pipe =
        Client::connect(host.address, port.pki.ca(), Some(&port.peer.credential)).expect("a connection");
    assert_eq!(pipe.get("/").expect("an answer").status(), 200);
    listener = port.listener(&peers);
    port.write(&json!({"inbound": [listener]}));
    host.reload();
    wait::until("the pipe ends", || pipe.get("/").is_err());
    assert_eq!(port.curl(host.address, "localhost", Some(&port.peer), &[]).status, 200, "{}", host.log());
}

/// While an old connection drains, nobody is left waiting at a port that nobody serves, and it can come back.
#[test]
fn a_listener_that_was_removed_can_come_back_at_once() {
    let port = Port::new();
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    let address = free_address();
    let mut listener = port.listener(&peers);
    listener["address"] = address.as_str().into();
    listener["protocol"] = "tcp".into();
    let both = json!({"inbound": [port.listener(&peers), listener]});
    port.write(&both);
    let host = Start::config(&port.config).start();
    let second: SocketAddr = address.parse().expect("an address");
    let mut open = Client::connect(second, port.pki.ca(), Some(&port.peer.credential)).expect("a connection");
    assert_eq!(open.get("/").expect("an answer").status(), 200);
    port.write(&json!({"inbound": [port.listener(&peers)]}));
    host.reload();
    wait::until("nobody listens", || std::net::TcpStream::connect(second).is_err());
    port.write(&both);
    host.reload();
    wait::until("it is back", || port.curl(second, "localhost", Some(&port.peer), &[]).status == 200);
}

/// Requests of open connections go where those of new ones go.
#[test]
fn a_service_that_moved_is_found_by_open_connections() {
    let port = Port::new();
    let peers = json!([{"endpoint": "peer", "policy": port.policy()}]);
    let other = Upstream::http();
    // The sandbox grants what the first configuration needs.
    let mut spare = port.listener(&peers);
    spare["upstream"]["address"] = other.address.to_string().into();
    port.write(&json!({"inbound": [port.listener(&peers), spare]}));
    let host = Start::config(&port.config).start();
    let mut open =
        Client::connect(host.address, port.pki.ca(), Some(&port.peer.credential)).expect("a connection");
    assert_eq!(open.get("/").expect("an answer").status(), 200);
    port.write(&json!({"inbound": [spare]}));
    host.reload();
    wait::until("the other one is asked", || {
        assert_eq!(open.get("/").expect("an answer").status(), 200);
        !other.requests().is_empty()
    });
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}
