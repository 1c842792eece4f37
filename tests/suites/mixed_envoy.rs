//! `insecure-mixed-mode` in real Envoy: what has no TLS is admitted, and TLS without a certificate never is.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use peergate_host::envoy::{Bootstrap, Envoy, Listener, Protocol};
use peergate_tests::client::Client;
use peergate_tests::envoy::{CURRENT, OLD, binary, listener, skipped};
use peergate_tests::http1::Message;
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, vespa_example};
use peergate_tests::upstream::Upstream;
use peergate_tests::{filter, root};
use serde_json::{Value, json};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const GREETING: &[u8] = b"220 ready\r\n";

/// The listener `name` of a bootstrap document, or a part of it.
fn chain<'a>(bootstrap: &'a mut Value, name: &str) -> &'a mut Value {
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners");
    let listener = listeners.iter_mut().find(|listener| listener["name"] == name).expect("the listener");
    &mut listener["filter_chains"][0]
}

/// Without TLS.
fn make_plaintext(bootstrap: &mut Value, name: &str) {
    let chain = chain(bootstrap, name).as_object_mut().expect("an object");
    assert!(chain.remove("transport_socket").is_some());
}

/// With TLS that takes clients without a certificate.
fn make_anonymous(bootstrap: &mut Value, name: &str) {
    let tls = &mut chain(bootstrap, name)["transport_socket"]["typed_config"];
    assert_eq!(tls["require_client_certificate"], true);
    tls["require_client_certificate"] = json!(false);
}

/// Starts the listeners as [`Bootstrap`] has them, after `change`.
fn start(pki: &Pki, release: &str, listeners: Vec<Listener>, change: impl Fn(&mut Value)) -> Envoy {
    let mut bootstrap = Bootstrap { filter: filter(), listeners }.to_json();
    change(&mut bootstrap);
    let config = pki.file(&format!("mixed-{release}.json"));
    fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
    Envoy::start_file(&binary(release), &config, pki.directory(), &root()).expect("Envoy starts")
}

fn configuration(mixed: bool) -> Value {
    json!({"endpoint": "peer", "insecure-mixed-mode": mixed, "policy": vespa_example()})
}

fn plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    stream
}

fn plain_status(address: SocketAddr) -> u16 {
    let mut stream = plain(address);
    stream.write_all(GET).expect("an open connection");
    Message::read(&mut BufReader::new(stream)).expect("an answer").expect("one answer").status()
}

/// What comes back of `hello`, up to the end of the connection or five bytes.
fn plain_echo(address: SocketAddr) -> Vec<u8> {
    let mut stream = plain(address);
    stream.write_all(b"hello").ok();
    let mut echo = Vec::new();
    stream.take(5).read_to_end(&mut echo).ok();
    echo
}

#[test]
fn plaintext_over_http_needs_the_key() {
    if skipped("plaintext over HTTP") {
        return;
    }
    let (pki, upstream) = (Pki::new(), Upstream::http());
    for release in [CURRENT, OLD] {
        let gate = |name, mixed| Listener {
            upstream: Some(upstream.address),
            ..listener(release, name, &pki, Protocol::Http, configuration(mixed))
        };
        let gates = vec![gate("mixed", true), gate("strict", false), gate("tls", true)];
        let envoy = start(&pki, release, gates, |bootstrap| {
            make_plaintext(bootstrap, "mixed");
            make_plaintext(bootstrap, "strict");
            make_anonymous(bootstrap, "tls");
        });
        let address = |name: &str| envoy.listener(name).expect("the listener");
        assert_eq!(plain_status(address("mixed")), 200, "{release}\n{}", envoy.log());
        assert_eq!(plain_status(address("strict")), 403, "{release}");
        let credential = pki.authority().issue(&node()).expect("a certificate");
        for (name, credential, status) in [("nobody", None, 403), ("a node", Some(&credential), 200)] {
            let mut client = Client::connect(address("tls"), pki.ca(), credential).expect("a handshake");
            assert_eq!(client.get("/").expect("an answer").status(), status, "{name} by TLS, {release}");
        }
        let log = envoy.log();
        assert!(log.contains("insecure-mixed-mode: everybody is admitted without TLS"), "{log}");
        let stats = envoy.admin_body("/stats?filter=peergate_decisions").expect("the counters");
        let counter = "wasmcustom.peergate_decisions.outcome.allow.rule.insecure-plaintext: 1\n";
        assert!(stats.contains(counter), "{release}: {stats}");
    }
}

#[test]
fn plaintext_over_tcp_needs_the_key() {
    if skipped("plaintext over TCP") {
        return;
    }
    let (pki, upstream) = (Pki::new(), Upstream::echo());
    let gate = |name, mixed| Listener {
        upstream: Some(upstream.address),
        ..listener(CURRENT, name, &pki, Protocol::Tcp, configuration(mixed))
    };
    let gates = vec![gate("mixed", true), gate("strict", false), gate("tls", true)];
    let envoy = start(&pki, CURRENT, gates, |bootstrap| {
        make_plaintext(bootstrap, "mixed");
        make_plaintext(bootstrap, "strict");
        make_anonymous(bootstrap, "tls");
    });
    let address = |name: &str| envoy.listener(name).expect("the listener");
    assert_eq!(plain_echo(address("strict")), b"");
    let mut anonymous = Client::connect(address("tls"), pki.ca(), None).expect("a handshake");
    anonymous.write(b"hello").ok();
    assert_eq!(anonymous.read_to_end().unwrap_or_default(), b"");
    assert_eq!(upstream.connections(), 0);
    assert_eq!(plain_echo(address("mixed")), b"hello");
}

/// A server that speaks first, and at once.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(GREETING).ok();
            // Until the proxy closes.
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    address
}

/// The upstream's first bytes reach the filter before the client has said anything: TLS that has not begun is TLS.
#[test]
fn a_handshake_that_has_not_happened_is_no_plaintext() {
    if skipped("a handshake that has not happened") {
        return;
    }
    let (pki, upstream) = (Pki::new(), greeter());
    let gate = |name, mixed| Listener {
        upstream: Some(upstream),
        ..listener(CURRENT, name, &pki, Protocol::Tcp, configuration(mixed))
    };
    let gates = vec![gate("mixed", true), gate("strict", false), gate("tls", true)];
    let envoy = start(&pki, CURRENT, gates, |bootstrap| {
        make_plaintext(bootstrap, "mixed");
        make_plaintext(bootstrap, "strict");
        make_anonymous(bootstrap, "tls");
        for name in ["mixed", "strict", "tls"] {
            let proxy = &mut chain(bootstrap, name)["filters"][1]["typed_config"];
            let proxy = proxy.as_object_mut().expect("an object");
            assert!(proxy.remove("upstream_connect_mode").is_some());
            assert!(proxy.remove("max_early_data_bytes").is_some());
        }
    });
    let heard = |name: &str| {
        let mut heard = Vec::new();
        let stream = plain(envoy.listener(name).expect("the listener"));
        stream.take(GREETING.len() as u64).read_to_end(&mut heard).ok();
        heard
    };
    assert_eq!(heard("mixed"), GREETING);
    assert_eq!(heard("strict"), b"");
    assert_eq!(heard("tls"), b"");
    // The filter was asked, and it was not for want of an upstream.
    let stats = envoy.admin_body("/stats?filter=peergate_decisions").expect("the counters");
    let counter = "wasmcustom.peergate_decisions.outcome.deny.reason.no_certificate: 2\n";
    assert!(stats.contains(counter), "{stats}");
}
