//! Properties as Envoy names and encodes them.

use std::rc::Rc;

use super::super::Connection;
use super::super::account::Account;
use super::super::context::{MapType, Root};
use super::super::filter::Abi;
use super::super::headers::HeaderMap;
use super::super::host::{Host, Surroundings};
use super::super::property::lookup;
use super::{plain, with_tls, worker};

/// A host with an effective context of this kind.
fn host(root: Root, connection: &Rc<Connection>) -> Host {
    let roots = [Root::Network, Root::Http];
    let mut host = Host::new(Surroundings::none(), Default::default(), Abi::V0_2, &roots, true);
    let id = host.contexts.open(root, Rc::clone(connection)).unwrap();
    host.contexts.enter(id);
    host
}

fn value(host: &Host, path: &[&str]) -> Option<Vec<u8>> {
    lookup(host, path.join("\0").as_bytes()).map(|value| value.bytes().to_vec())
}

fn number(value: u64) -> Option<Vec<u8>> {
    Some(value.to_le_bytes().to_vec())
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn certificate() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn of_a_tls_connection() {
    let der = certificate();
    let host = host(Root::Network, &with_tls(0x0102, Some(&der)));
    let pem = value(&host, &["connection", "peer_certificate"]).unwrap();
    assert_eq!(pem::parse(&pem).unwrap().contents(), der);
    assert_eq!(
        value(&host, &["connection", "sha256_peer_certificate_digest"]).map(|hex| hex.len()),
        Some(64)
    );
    assert_eq!(value(&host, &["connection", "dns_san_peer_certificate"]), text("a.example"));
    for (path, expected) in [
        (&["connection", "id"], number(0x0102)),
        (&["connection", "mtls"], Some(vec![1])),
        (&["connection", "peer_certificate_valid"], Some(vec![1])),
        (&["connection", "tls_version"], text("TLSv1.3")),
        (&["connection", "requested_server_name"], text("node.example")),
        (&["connection", "uri_san_peer_certificate"], None),
        (&["connection", "termination_details"], None),
        (&["source", "address"], text("127.0.0.1:40000")),
        (&["source", "port"], number(40_000)),
        (&["destination", "address"], text("127.0.0.1:443")),
        (&["destination", "port"], number(443)),
        (&["request", "path"], None),
    ] {
        assert_eq!(value(&host, path), expected, "{path:?}");
    }
    assert_eq!(value(&host, &["listener_direction"]), number(1));
    assert_eq!(value(&host, &["plugin_root_id"]), text("peergate_l4"));
    assert_eq!(value(&host, &["plugin_name"]), text("peergate"));
}

#[test]
fn of_a_connection_without_a_certificate_or_without_tls() {
    let anonymous = host(Root::Network, &with_tls(1, None));
    assert_eq!(value(&anonymous, &["connection", "mtls"]), Some(vec![0]));
    assert_eq!(value(&anonymous, &["connection", "peer_certificate_valid"]), Some(vec![0]));
    assert_eq!(value(&anonymous, &["connection", "peer_certificate"]), None);

    let plain = host(Root::Network, &plain(1));
    assert_eq!(value(&plain, &["connection", "mtls"]), Some(vec![0]));
    for name in ["peer_certificate_valid", "peer_certificate", "tls_version", "requested_server_name"] {
        assert_eq!(value(&plain, &["connection", name]), None, "{name}");
    }
}

#[test]
fn of_a_request() {
    let mut host = host(Root::Http, &with_tls(1, None));
    let fields = [
        (":authority", "node.example:443"),
        (":path", "/a/b?c=d?e"),
        (":method", "GET"),
        (":scheme", "https"),
        ("x-request-id", "r1"),
        ("accept", "x"),
        ("accept", "y"),
    ];
    let pairs = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    host.contexts.current_mut().unwrap().maps[MapType::RequestHeaders as usize] =
        Some(HeaderMap::new(pairs.to_vec()));
    for (name, expected) in [
        ("path", text("/a/b?c=d?e")),
        ("url_path", text("/a/b")),
        ("query", text("c=d?e")),
        ("host", text("node.example:443")),
        ("scheme", text("https")),
        ("method", text("GET")),
        ("protocol", text("HTTP/2")),
        ("id", text("r1")),
        ("useragent", None),
        ("headers", None),
        ("total_size", None),
    ] {
        assert_eq!(value(&host, &["request", name]), expected, "{name}");
    }
    assert_eq!(value(&host, &["request", "headers", "Accept"]), text("x,y"));
    assert_eq!(value(&host, &["request", "headers", "cookie"]), None);
    assert_eq!(value(&host, &["plugin_root_id"]), text("peergate_http"));
}

#[test]
fn what_the_filter_stored_is_found_under_both_names_and_hides_nothing() {
    let mut host = host(Root::Http, &with_tls(1, None));
    let stored = &mut host.contexts.current_mut().unwrap().stored;
    let account = Account::new("test", 1024);
    stored.insert(b"own", b"1", &account).unwrap();
    stored.insert(b"connection\0mtls", b"\x01", &account).unwrap();
    stored.insert(b"connection", b"2", &account).unwrap();
    stored.insert(b"request\0path", b"3", &account).unwrap();
    assert_eq!(value(&host, &["own"]), text("1"));
    assert_eq!(value(&host, &["filter_state", "wasm.own"]), text("1"));
    assert_eq!(value(&host, &["filter_state", "own"]), None);
    assert_eq!(value(&host, &["connection", "mtls"]), Some(vec![0]));
    assert_eq!(value(&host, &["request", "path"]), None);
    for absent in [&["xds", "listener_direction"], &["node", "id"], &["filter_state", "wasm.other"]] {
        assert_eq!(value(&host, absent), None, "{absent:?}");
    }
    for absent in [&[""], &["node"], &["metadata"]] {
        assert_eq!(value(&host, absent), None, "{absent:?}");
    }
}

#[test]
fn what_the_gate_stored_is_read_by_requests_until_it_judges_again() {
    // The gate stores `gate`, and traps at the third judgement after it did; a request reports whether it finds it.
    let worker = worker(
        r#"(data (i32.const 1040) "gate")
        (global $judged (mut i32) (i32.const 0))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
          (if (i32.eqz (call $get_property (i32.const 1040) (i32.const 4) (i32.const 0) (i32.const 4)))
            (then (unreachable)))
          (drop (call $set_property (i32.const 1040) (i32.const 4) (i32.const 1040) (i32.const 4)))
          (global.set $judged (i32.add (global.get $judged) (i32.const 1)))
          (if (i32.eq (global.get $judged) (i32.const 3)) (then (unreachable)))
          (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $report (call $get_property (i32.const 1040) (i32.const 4) (i32.const 0) (i32.const 4)))
          (call $decide_report) (i32.const 0))"#,
    );
    let found = |connection: &Rc<Connection>| {
        let mut stream = worker.open_stream(connection);
        stream.request_headers(Vec::new(), true);
        stream.decision()
    };
    let connection = plain(1);
    assert_eq!(found(&connection).as_deref(), Some("1"), "not found before the gate ran");
    for _ in 0..2 {
        assert!(worker.judge_connection(&connection).allow, "and the gate does not read its own last answer");
        assert_eq!(found(&connection).as_deref(), Some("0"));
    }
    assert!(!worker.judge_connection(&connection).allow);
    assert_eq!(found(&connection).as_deref(), Some("1"), "nothing of an earlier judgement is left");
}
