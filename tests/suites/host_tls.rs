//! Our host with `openssl s_client`, `curl` and rustls as clients: who gets in, which alert the others see, and what
//! passes.

use std::{fs, path::PathBuf};

use peergate_host::pki::{Authority, Credential, Leaf};
use peergate_tests::{
    client::{Client, alert},
    commands::{Finished, GET, curl, payload, s_client},
    host::{Host, Start},
    hostile::{self, Hostile},
    pki::{Peer, Pki},
    policies::{many_names, node, second_name, stranger, vespa_example},
    upstream::Upstream,
    wait,
};
use rustls::AlertDescription;
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// Alert numbers (RFC 8446, 6).
const HANDSHAKE_FAILURE: u8 = 40;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const PROTOCOL_VERSION: u8 = 70;
const CERTIFICATE_REQUIRED: u8 = 116;

const VERSIONS: [&str; 2] = ["-tls1_3", "-tls1_2"];

/// A host in front of a recording upstream.
struct Gate {
    pki: Pki,
    upstream: Upstream,
    host: Host,
}

impl Gate {
    fn http() -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let host = Start::new(&pki, &vespa_example(), upstream.address).start();
        Self { pki, upstream, host }
    }

    fn tcp() -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::echo());
        let host = Start::new(&pki, &vespa_example(), upstream.address).tcp().start();
        Self { pki, upstream, host }
    }

    fn s_client(&self, peer: Option<&Peer>, arguments: &[&str], input: &[u8]) -> Finished {
        s_client(&self.pki, self.host.address, peer, arguments, input)
    }

    fn connect(&self, peer: &Peer) -> std::io::Result<Client> {
        Client::connect(self.host.address, self.pki.ca(), Some(&peer.credential))
    }

    /// Nothing may have reached the upstream, and a good peer still gets through.
    fn assert_untouched(&self) {
        assert_eq!(self.upstream.requests().len(), 0);
        let node = self.pki.peer(&node());
        assert_eq!(self.s_client(Some(&node), &[], GET).status(), Some(200));
    }
}

#[test]
fn peers_are_admitted_by_their_names() {
    let gate = Gate::http();
    for (name, leaf) in
        [("a node", node()), ("its second name", second_name()), ("the last of 600 names", many_names())]
    {
        let peer = gate.pki.peer(&leaf);
        for version in VERSIONS {
            let answer = gate.s_client(Some(&peer), &[version], GET);
            assert_eq!(answer.status(), Some(200), "{name} {version}\n{}", answer.output());
        }
        let answer = curl(&gate.pki, gate.host.address, Some(&peer), "/", &[]);
        assert_eq!((answer.status, answer.body.as_str()), (200, "upstream\n"), "{name}: {answer:?}");
    }
}

#[test]
fn a_refused_peer_sees_access_denied_every_time() {
    let gate = Gate::http();
    let stranger = gate.pki.peer(&stranger());
    let mut upload = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3000000\r\n\r\n".to_vec();
    upload.resize(upload.len() + 3_000_000, b'x');
    for version in VERSIONS {
        for (what, input) in [("GET", GET), ("3 MB", &upload)] {
            for run in 0..20 {
                let refused = gate.s_client(Some(&stranger), &[version], input);
                assert_eq!(
                    refused.alert(),
                    Some(ACCESS_DENIED),
                    "{version} {what} {run}\n{}",
                    refused.stderr
                );
            }
        }
    }
    gate.assert_untouched();
}

#[test]
fn curl_is_told_access_denied_every_time() {
    let gate = Gate::http();
    let stranger = gate.pki.peer(&stranger());
    let upload = format!("@{}", payload(&gate.pki, 3_000_000).display());
    for arguments in [&[][..], &["--tls-max", "1.2"], &["--data-binary", &upload]] {
        for run in 0..20 {
            let refused = curl(&gate.pki, gate.host.address, Some(&stranger), "/", arguments);
            assert!(refused.error.contains("alert access denied"), "{arguments:?} {run}: {refused:?}");
            assert_eq!(refused.status, 0);
        }
    }
    gate.assert_untouched();
}

/// A client that writes everything before it reads anything learns why only if the host reads on after its alert.
#[test]
fn a_client_that_is_still_writing_sees_access_denied() {
    let gate = Gate::http();
    let stranger = gate.pki.peer(&stranger());
    for run in 0..20 {
        let mut client = gate.connect(&stranger).expect("the client's side of the handshake");
        for _ in 0..30 {
            client.write(&[b'x'; 100_000]).unwrap_or_else(|error| panic!("run {run}: {error}"));
        }
        let error = client.read_to_end().expect_err("an alert");
        assert_eq!(alert(&error), Some(AlertDescription::AccessDenied), "run {run}: {error}");
    }
    gate.assert_untouched();
}

#[test]
fn certificates_that_prove_nothing_are_refused_by_name() {
    let gate = Gate::http();
    let expired = gate.pki.peer(&node().expired());
    let other = Authority::root("Other root").expect("a root").issue(&node()).expect("a certificate");
    let self_signed = Credential::self_signed(&node()).expect("a certificate");
    let (other, self_signed) = (gate.pki.store(other), gate.pki.store(self_signed));
    for (name, peer, expected) in [
        ("none", None, CERTIFICATE_REQUIRED),
        ("expired", Some(&expired), CERTIFICATE_EXPIRED),
        ("another CA", Some(&other), UNKNOWN_CA),
        ("self-signed", Some(&self_signed), UNKNOWN_CA),
    ] {
        let refused = gate.s_client(peer, &["-tls1_3"], GET);
        assert_eq!(refused.alert(), Some(expected), "{name}\n{}", refused.stderr);
        let refused = gate.s_client(peer, &["-tls1_2"], GET);
        assert!(refused.alert().is_some() && refused.status().is_none(), "{name}\n{}", refused.output());
    }
    gate.assert_untouched();
}

/// Whoever has a certificate without its key must not learn what the policy says about it.
#[test]
fn a_stolen_certificate_learns_nothing_about_the_policy() {
    let gate = Gate::http();
    for leaf in [node(), stranger()] {
        let mut thief = gate.pki.peer(&leaf).credential;
        thief.replace_key(&gate.pki.peer(&Leaf::new()).credential);
        let refused = Client::connect_unchecked(gate.host.address, gate.pki.ca(), &thief)
            .and_then(|mut client| client.get("/"))
            .expect_err("no key, no answer");
        assert_eq!(alert(&refused), Some(AlertDescription::DecryptError), "{refused}");
    }
    gate.assert_untouched();
}

#[test]
fn hostile_certificates_are_refused() {
    let pki = Pki::new();
    let upstream = Upstream::http();
    for Hostile { name, policy, credential, reason } in hostile::all(&pki) {
        let host = Start::new(&pki, &policy, upstream.address).start();
        let answer =
            Client::connect(host.address, pki.ca(), Some(&credential)).and_then(|mut client| client.get("/"));
        match reason {
            None => assert_eq!(answer.expect(name).status(), 200, "{name}"),
            Some(_) => {
                let error = answer.expect_err(name);
                assert_eq!(alert(&error), Some(AlertDescription::AccessDenied), "{name}: {error}");
            }
        }
    }
}

#[test]
fn old_protocol_versions_are_refused() {
    let gate = Gate::http();
    let node = gate.pki.peer(&node());
    for version in ["-tls1_1", "-tls1"] {
        // OpenSSL itself offers these versions only at security level 0.
        let refused = gate.s_client(Some(&node), &[version, "-cipher", "DEFAULT@SECLEVEL=0"], GET);
        // Both alerts are right: there is no such version here, and no common parameters either.
        let right = matches!(refused.alert(), Some(PROTOCOL_VERSION | HANDSHAKE_FAILURE));
        assert!(right && refused.status().is_none(), "{version}\n{}", refused.output());
    }
    gate.assert_untouched();
}

#[test]
fn no_session_is_resumed_and_no_early_data_is_offered() {
    let gate = Gate::http();
    let node = gate.pki.peer(&node());
    for version in VERSIONS {
        let session = gate.pki.file(&format!("session{version}"));
        let path = session.to_str().expect("a path");
        let first = gate.s_client(Some(&node), &[version, "-sess_out", path], GET);
        assert_eq!(first.status(), Some(200), "{}", first.output());
        assert!(first.stdout.contains("\nNew, TLSv1."), "{}", first.stdout);
        assert!(!first.output().contains("Session Ticket arrived"), "{}", first.output());
        if !session.exists() {
            continue; // TLS 1.3 without a ticket has nothing to keep.
        }
        let second = gate.s_client(Some(&node), &[version, "-sess_in", path], GET);
        assert_eq!(second.status(), Some(200), "{}", second.output());
        assert!(second.stdout.contains("\nNew, TLSv1."), "{}", second.stdout);
        assert!(!second.stdout.contains("Reused"), "{}", second.stdout);
    }
}

#[test]
fn http2_passes() {
    let gate = Gate::http();
    let node = gate.pki.peer(&node());
    for (argument, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let answer = curl(&gate.pki, gate.host.address, Some(&node), "/", &[argument]);
        let seen = (answer.status, answer.version.as_str(), answer.body.as_str());
        assert_eq!(seen, (200, version, "upstream\n"), "{answer:?}");
    }
}

#[test]
fn bodies_and_trailers_pass() {
    let gate = Gate::http();
    let node = gate.pki.peer(&node());
    let upload = format!("@{}", payload(&gate.pki, 3_000_000).display());
    for version in ["--http2", "--http1.1"] {
        let arguments = [version, "--data-binary", &upload, "--header", "te: trailers"];
        let answer = curl(&gate.pki, gate.host.address, Some(&node), "/trailers", &arguments);
        assert_eq!((answer.status, answer.body.as_str()), (200, "upstream\n"), "{answer:?}");
        assert!(answer.head.contains("x-checksum: 1234"), "{version}: {}", answer.head);
        assert_eq!(gate.upstream.last_request().body.len(), 3_000_000, "{version}");
    }
}

#[test]
fn trailers_of_a_request_pass_without_identity_headers() {
    let gate = Gate::http();
    let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
    let request =
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\nx-sum: 5\r\nX-Peergate-Policy: admin\r\nx-forwarded-client-cert: Hash=00\r\n\r\n";
    assert_eq!(client.request(request).expect("an answer").status(), 200);
    let arrived = gate.upstream.last_request();
    assert_eq!(arrived.body, b"hello");
    assert_eq!(arrived.trailers, [("x-sum".to_owned(), b"5".to_vec())]);
}

#[test]
fn bytes_that_are_no_text_do_not_stop_the_filter() {
    let gate = Gate::http();
    let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-bytes: \xff\xfe\x80\r\nx-peergate-a: \xff\r\n\r\n";
    assert_eq!(client.request(request).expect("an answer").status(), 200);
    assert_eq!(gate.upstream.last_request().header("x-bytes"), Some(&b"\xff\xfe\x80"[..]));
    assert_eq!(client.get("/").expect("an answer").status(), 200);
}

#[test]
fn identity_headers_of_the_client_never_reach_the_upstream() {
    let gate = Gate::http();
    let node = gate.pki.peer(&node());
    let names = [
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "X-PeerGate-Policy",
        "x_peergate_subject",
        "x-peergate_capabilities",
    ];
    let headers: Vec<_> = names.iter().map(|name| format!("{name}: CN=admin")).collect();
    let mut arguments: Vec<&str> = headers.iter().flat_map(|header| ["--header", header.as_str()]).collect();
    arguments.extend(["--header", "x-harmless: 1"]);
    for version in ["--http2", "--http1.1"] {
        arguments.push(version);
        let answer = curl(&gate.pki, gate.host.address, Some(&node), "/", &arguments);
        assert_eq!(answer.status, 200, "{answer:?}");
        let arrived = gate.upstream.last_request();
        assert_eq!(arrived.header("x-harmless"), Some(&b"1"[..]));
        for (name, _) in &arrived.headers {
            let name = name.to_ascii_lowercase().replace('_', "-");
            let identity = name.starts_with("x-peergate-") || name == "x-forwarded-client-cert";
            assert!(!identity, "{version}: {:?}", arrived.headers);
        }
    }
}

#[test]
fn a_certificate_that_expires_on_an_open_connection_is_refused() {
    let gate = Gate::http();
    let now = OffsetDateTime::now_utc();
    let end = now + Duration::seconds(4);
    let peer = gate.pki.peer(&node().valid(now - Duration::HOUR, end));
    let mut client = gate.connect(&peer).expect("a connection");
    assert_eq!(client.get("/").expect("an answer").status(), 200);
    wait::until("the certificate has expired", || OffsetDateTime::now_utc() > end + Duration::SECOND);
    // A request just before the connection is ended is answered.
    if let Ok(refused) = client.get("/") {
        assert_eq!(refused.status(), 403);
        let body: serde_json::Value = serde_json::from_slice(&refused.body).expect("JSON");
        assert_eq!(body, json!({"code": 403, "message": "Forbidden"}));
    }
    assert_eq!(gate.upstream.requests().len(), 1);
    wait::until("the connection is ended", || gate.host.log().contains("certificate-expired"));
    wait::until("the client sees it", || client.get("/").is_err());
}

#[test]
fn tcp_reaches_the_upstream_only_for_admitted_peers() {
    let gate = Gate::tcp();
    let mut refused = gate.connect(&gate.pki.peer(&stranger())).expect("the client's side of the handshake");
    refused.write(b"hello").ok();
    let error = refused.read_to_end().expect_err("an alert");
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied), "{error}");
    assert_eq!((gate.upstream.connections(), gate.upstream.bytes()), (0, 0));
    let mut admitted = gate.connect(&gate.pki.peer(&node())).expect("a connection");
    admitted.write(b"hello").expect("an open connection");
    let mut echo = [0; 5];
    admitted.read_exact(&mut echo).expect("the echo");
    assert_eq!(&echo, b"hello");
    assert_eq!((gate.upstream.connections(), gate.upstream.bytes()), (1, 5));
}

#[test]
fn a_filter_that_traps_or_never_ends_denies_and_is_replaced() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let host = Start::new(&pki, &json!({}), upstream.address).filter(&faulty_filter(&pki)).start();
    let good = pki.peer(&Leaf::new().cn("good").dns("any"));
    let connect = |peer: &Peer| Client::connect(host.address, pki.ca(), Some(&peer.credential));
    for fault in ["trap", "loop"] {
        let bad = pki.peer(&Leaf::new().cn(fault));
        for _ in 0..3 {
            let error = connect(&bad).and_then(|mut client| client.get("/")).expect_err(fault);
            assert_eq!(alert(&error), Some(AlertDescription::AccessDenied), "{fault}: {error}");
            let answer = connect(&good).and_then(|mut client| client.get("/")).expect("an answer");
            assert_eq!(answer.status(), 200, "after {fault}\n{}", host.log());
        }
    }
}

/// Bytes are judged when they connect or never.
#[test]
fn tcp_is_not_forwarded_by_a_filter_that_cannot_refuse_connections() {
    let (pki, upstream) = (Pki::new(), Upstream::echo());
    let marks = r#"(memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_context_create") (param i32 i32))"#;
    let requests =
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)"#;
    for (callbacks, protocol, refusal) in [
        (requests, "tcp", Some("the filter cannot refuse connections")),
        ("", "tcp", Some("the filter cannot refuse connections")),
        ("", "http", Some("the filter can refuse neither connections nor requests")),
        (requests, "http", None),
    ] {
        let path = pki.file("weak.wasm");
        fs::write(&path, wat::parse_str(format!("(module {marks} {callbacks})")).expect("a module"))
            .expect("the filter");
        let start = Start::new(&pki, &json!({}), upstream.address).filter(&path);
        let start = if protocol == "tcp" { start.tcp() } else { start };
        let Some(refusal) = refusal else {
            drop(start.start());
            continue;
        };
        let finished = start.command().output().expect("a process");
        let error = String::from_utf8_lossy(&finished.stderr);
        assert_eq!(finished.status.code(), Some(2), "{protocol}: {error}");
        assert!(error.contains(refusal), "{protocol}: {error}");
    }
}

#[test]
fn transfer_codings_that_would_be_lost_are_refused() {
    let gate = Gate::http();
    for codings in ["gzip, chunked", "chunked, chunked", "chunked\r\ntransfer-encoding: chunked"] {
        let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: {codings}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), 501, "{codings}");
    }
    gate.assert_untouched();
}

/// RFC 9112, 6.1 leaves two ways, and hyper goes the second: it forgets the length. We refuse, as Envoy does, before hyper sees
/// it; what a client hid behind one of the two lengths is never a request.
#[test]
fn nothing_is_smuggled_between_two_lengths() {
    let gate = Gate::http();
    for framing in
        ["content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 5"]
    {
        let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
        let request = format!(
            "POST /outer HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n0\r\n\r\nGET /inner HTTP/1.1\r\nhost: localhost\r\n\r\n"
        );
        assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), 400, "{framing}");
        assert!(client.read_to_end().expect("the end of the connection").is_empty());
    }
    gate.assert_untouched();
}

#[test]
fn a_response_that_is_framed_twice_is_a_bad_gateway() {
    let gate = Gate::http();
    let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
    for path in ["/two-lengths", "/gzip-coding", "/two-lengths"] {
        assert_eq!(client.get(path).expect("an answer").status(), 502, "{path}");
        assert_eq!(client.get("/").expect("an answer").text(), "upstream\n", "after {path}");
    }
}

/// A request that never reaches the filter leaves a line all the same.
#[test]
fn a_request_that_the_host_refuses_is_logged() {
    let gate = Gate::http();
    let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
    let twice = b"GET /twice?secret=1 HTTP/1.1\r\nhost: localhost\r\nhost: other\r\n\r\n";
    assert_eq!(client.request(twice).expect("an answer").status(), 400);
    wait::until("the refusal is in the log", || {
        gate.host
            .log()
            .lines()
            .any(|line| line.contains("deny request") && line.contains("path=/twice status=400"))
    });
    assert!(!gate.host.log().contains("secret"), "{}", gate.host.log());
    gate.assert_untouched();
}

/// A malformed body is the client's fault, not the upstream's.
#[test]
fn a_body_that_is_no_body_is_a_bad_request() {
    let gate = Gate::http();
    let mut client = gate.connect(&gate.pki.peer(&node())).expect("a connection");
    let request =
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n";
    assert_eq!(client.request(request).expect("an answer").status(), 400);
    gate.assert_untouched();
}

/// The filter's own line about a refusal would be the second one.
#[test]
fn a_refusal_is_logged_once() {
    let gate = Gate::http();
    let refused = gate.s_client(Some(&gate.pki.peer(&stranger())), &["-tls1_3"], GET);
    assert_eq!(refused.alert(), Some(ACCESS_DENIED), "{}", refused.stderr);
    gate.assert_untouched();
    wait::until("the next peer is in the log", || gate.host.log().contains("allow request"));
    let log = gate.host.log();
    assert_eq!(log.matches("no-rule-matched").count(), 1, "{log}");
}

#[test]
fn a_filter_that_everybody_can_change_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let (pki, upstream) = (Pki::new(), Upstream::http());
    let path = faulty_filter(&pki);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("a mode");
    let start = Start::new(&pki, &json!({}), upstream.address).filter(&path);
    let finished = start.command().output().expect("a process");
    let error = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status.code(), Some(2), "{error}");
    assert!(error.contains("is writable by everybody; chmod o-w it"), "{error}");
}

/// A filter of the same ABI that traps for the subject `CN=trap`, never ends for `CN=loop`, and admits everyone else.
fn faulty_filter(pki: &Pki) -> PathBuf {
    let path = pki.file("faulty.wasm");
    let wasm = wat::parse_str(include_str!("faulty.wat")).expect("a module");
    fs::write(&path, wasm).expect("the filter");
    path
}

/// A dump would hold the private key.
#[test]
fn the_host_leaves_no_core_dump() {
    let gate = Gate::http();
    let limits = fs::read_to_string(format!("/proc/{}/limits", gate.host.pid())).expect("the limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
