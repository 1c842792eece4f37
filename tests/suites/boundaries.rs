//! Two trust boundaries at once, and what a service that takes bytes is told of its peers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use peergate_host::pki::{Credential, Leaf};
use peergate_tests::{
    client::Client,
    commands::{curl, run},
    host::{Start, write_policy},
    pki::{Peer, Pki},
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn peers(cn: &str) -> Value {
    json!({"authorized-peers": [{"name": cn, "required-credentials": [{"field": "CN", "must-match": cn}]}]})
}

/// The beginning of what a service was sent, in the types of the PROXY protocol version 2.
struct Header {
    command: u8,
    addresses: Vec<u8>,
    values: Vec<(u8, Vec<u8>)>,
    rest: Vec<u8>,
}

impl Header {
    fn read(stream: &mut impl Read, rest: usize) -> Self {
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).expect("a header");
        assert_eq!(&fixed[..12], SIGNATURE);
        let mut payload = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
        stream.read_exact(&mut payload).expect("its payload");
        // AF_INET, SOCK_STREAM.
        assert_eq!(fixed[13], 0x11);
        let (addresses, values) = payload.split_at(12);
        let mut following = vec![0; rest];
        stream.read_exact(&mut following).expect("what the peer sent");
        let (addresses, values) = (addresses.to_vec(), nested(values));
        Self { command: fixed[12], addresses, values, rest: following }
    }

    fn value(&self, kind: u8) -> Option<&[u8]> {
        self.values.iter().find(|(it, _)| *it == kind).map(|(_, value)| value.as_slice())
    }
}

fn nested(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut values = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        values.push((*kind, value.to_vec()));
        bytes = rest;
    }
    values
}

#[test]
fn a_service_that_takes_bytes_is_told_who_the_peer_is() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let policy = write_policy(&pki, &peers("node"));
    let host = Start::endpoint("peer", &policy, address).tcp().argument("--proxy-protocol").start();
    let service = thread::spawn(move || Header::read(&mut listener.accept().expect("a connection").0, 5));
    let peer = pki.peer(&Leaf::new().cn("node"));
    let mut client = Client::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
    client.write(b"hello").expect("written");
    let header = service.join().expect("a header");
    // Version 2, PROXY.
    assert_eq!(header.command, 0x21);
    assert_eq!(header.rest, b"hello");
    assert_eq!(header.addresses[..8], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(header.addresses[10..], host.address.port().to_be_bytes());
    assert_eq!(header.value(0x02), Some(&b"localhost"[..]), "PP2_TYPE_AUTHORITY");
    let ssl = header.value(0x20).expect("PP2_TYPE_SSL");
    // Over TLS, with a certificate on this connection, verified.
    assert_eq!(ssl[..5], [7, 0, 0, 0, 0]);
    let ssl = nested(&ssl[5..]);
    assert_eq!(ssl[0], (0x21, b"TLSv1.3".to_vec()));
    assert_eq!(ssl[1], (0x22, b"node".to_vec()));
    assert_eq!(ssl[2], (0x28, peer.credential.leaf().to_vec()));
}

#[test]
fn the_proxy_protocol_is_for_bytes() {
    let pki = Pki::new();
    let policy = write_policy(&pki, &peers("node"));
    let start = Start::endpoint("peer", &policy, Upstream::http().address).argument("--proxy-protocol");
    let started = run(&mut start.command(), b"");
    assert_eq!(started.code, Some(2), "{}", started.output());
    assert!(started.stderr.contains("use protocol `tcp`"), "{}", started.stderr);
}

/// Each boundary has its own authority: who is trusted within the cluster is nobody at its edge.
struct Boundaries {
    node: Pki,
    edge: Pki,
    inner: PathBuf,
    outer: PathBuf,
}

impl Boundaries {
    fn new(outer: &Value) -> Self {
        let (node, edge) = (Pki::new(), Pki::new());
        let inner = write_policy(&node, &peers("node"));
        let outer = write_policy(&edge, outer);
        Self { node, edge, inner, outer }
    }

    fn start(&self, start: Start) -> Start {
        let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
        start
            .environment("VESPA_TLS_CONFIG_FILE", &text(&self.inner))
            .environment("VESPA_TLS_CONFIG_FILE_INGRESS", &text(&self.outer))
            .environment("VESPA_TLS_INSECURE_MIXED_MODE", "tls_client_mixed_server")
    }

    fn config(&self, kind: &str, upstream: &Upstream) -> PathBuf {
        let listener = |endpoint: Value| json!({"address": "127.0.0.1:0", "upstream": {"address": upstream.address.to_string()}, "endpoints": [endpoint]});
        let document = json!({"inbound": [
            listener(json!({"endpoint": "peer"})),
            listener(json!({"endpoint": kind, "boundary": "ingress"})),
        ]});
        let path = self.node.file("host.json");
        fs::write(&path, document.to_string()).expect("the configuration");
        path
    }
}

fn status(pki: &Pki, address: std::net::SocketAddr, peer: &Peer) -> u16 {
    curl(pki, address, Some(peer), "/", &[]).status
}

#[test]
fn two_boundaries_have_their_own_policies() {
    let upstream = Upstream::http();
    let boundaries = Boundaries::new(&peers("client"));
    let (node, client) =
        (boundaries.node.peer(&Leaf::new().cn("node")), boundaries.edge.peer(&Leaf::new().cn("client")));
    let by_config = boundaries.start(Start::config(&boundaries.config("peer", &upstream)));
    let by_flags = boundaries.start(Start::by_environment(&boundaries.inner, upstream.address));
    let by_flags = ["--ingress", "127.0.0.1:0", "--ingress-upstream", &upstream.address.to_string()]
        .into_iter()
        .fold(by_flags, Start::argument);
    for start in [by_config, by_flags] {
        let host = start.start();
        wait::until("both ports listen", || host.addresses().len() == 2);
        let (inner, outer) = (host.addresses()[0], host.addresses()[1]);
        assert_eq!(status(&boundaries.node, inner, &node), 200, "{}", host.log());
        assert_eq!(status(&boundaries.edge, outer, &client), 200, "{}", host.log());
        assert_eq!(status(&boundaries.edge, outer, &node), 0);
        assert_eq!(status(&boundaries.node, inner, &client), 0);
        // Mixed mode is a matter of the cluster, and ends at its edge.
        let plaintext = |address: std::net::SocketAddr| {
            let mut socket = std::net::TcpStream::connect(address).expect("a connection");
            socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("written");
            let mut answer = Vec::new();
            // An alert is followed by a reset at times.
            socket.read_to_end(&mut answer).ok();
            answer.starts_with(b"HTTP/1.1 200")
        };
        assert_eq!((plaintext(inner), plaintext(outer)), (true, false));
    }
}

/// With a `data-plane` the port is for its clients.
#[test]
fn the_ingress_is_for_data_plane_clients_where_its_policy_has_them() {
    let upstream = Upstream::http();
    let pinned = Credential::self_signed(&Leaf::new().cn("client")).expect("a certificate");
    let edge = Pki::new();
    let client = edge.store(pinned);
    let clients =
        json!([{"id": "reader", "permissions": ["read"], "certificates": [{"file": client.chain}]}]);
    let boundaries = Boundaries::new(&json!({"data-plane": {"clients": clients}}));
    let by_flags = boundaries.start(Start::by_environment(&boundaries.inner, upstream.address));
    let by_flags = ["--ingress", "127.0.0.1:0", "--ingress-upstream", &upstream.address.to_string()]
        .into_iter()
        .fold(by_flags, Start::argument);
    let host = by_flags.start();
    wait::until("both ports listen", || host.addresses().len() == 2);
    let outer = host.addresses()[1];
    assert_eq!(status(&boundaries.edge, outer, &client), 200, "{}", host.log());
    assert_eq!(curl(&boundaries.edge, outer, Some(&client), "/", &["--data", "x"]).status, 403);
}

#[test]
fn a_boundary_without_its_variable_stops_the_start() {
    let boundaries = Boundaries::new(&peers("client"));
    let config = boundaries.config("peer", &Upstream::http());
    let text = boundaries.inner.to_str().expect("text");
    let start = Start::config(&config).environment("VESPA_TLS_CONFIG_FILE", text);
    let started = run(&mut start.environment("VESPA_TLS_CONFIG_FILE_INGRESS", "").command(), b"");
    assert_eq!(started.code, Some(2), "{}", started.output());
    assert!(started.stderr.contains("set VESPA_TLS_CONFIG_FILE_INGRESS"), "{}", started.stderr);
}
