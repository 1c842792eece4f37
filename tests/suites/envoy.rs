//! `filter.wasm` in real Envoy: who gets in, what reaches the upstream, and what a bad policy does.

use std::{fs, io, path::Path};

use peergate_host::{
    envoy::{Bootstrap, Envoy, EnvoyError, Listener, Protocol},
    pki::{Authority, Credential, Leaf},
};
use peergate_tests::{
    client::Client,
    commands::{GET, s_client},
    envoy::{CURRENT, OLD, Running, binary, listener, skipped, start, try_start},
    filter,
    http1::Message,
    pki::Pki,
    policies::{many_names, node, peer_endpoint, second_name, stranger, vespa_example},
    root,
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// One Envoy with an HTTP listener in front of a recording upstream.
struct Gate {
    pki: Pki,
    upstream: Upstream,
    envoy: Running,
}

impl Gate {
    fn http(release: &str) -> Self {
        Self::with(release, Protocol::Http, |_| ())
    }

    fn with(release: &str, protocol: Protocol, change: impl FnOnce(&mut Listener)) -> Self {
        let pki = Pki::new();
        let upstream = if protocol == Protocol::Http { Upstream::http() } else { Upstream::echo() };
        let mut gate = listener(release, "gate", &pki, protocol, peer_endpoint(&vespa_example()));
        gate.upstream = Some(upstream.address);
        change(&mut gate);
        let envoy = start(release, vec![gate]);
        Self { pki, upstream, envoy }
    }

    fn connect(&self, credential: &Credential) -> io::Result<Client> {
        Client::connect(self.envoy.address("gate"), self.pki.ca(), Some(credential))
    }

    fn get(&self, credential: &Credential) -> io::Result<Message> {
        self.connect(credential)?.get("/")
    }

    fn issue(&self, leaf: &Leaf) -> Credential {
        self.pki.authority().issue(leaf).expect("a certificate")
    }

    fn status(&self, leaf: &Leaf) -> u16 {
        self.get(&self.issue(leaf)).expect("an answer").status()
    }
}

#[test]
fn peers_are_admitted_by_their_names() {
    if skipped("peers are admitted by their names") {
        return;
    }
    for release in [CURRENT, OLD] {
        let gate = Gate::http(release);
        for (name, leaf, status) in [
            ("a node", node(), 200),
            ("its second name", second_name(), 200),
            ("the last of 600 names", many_names(), 200),
            ("a stranger", stranger(), 403),
            ("no name at all", Leaf::new(), 403),
        ] {
            assert_eq!(gate.status(&leaf), status, "{name} in {release}\n{}", gate.envoy.log());
        }
        assert_eq!(gate.upstream.requests().len(), 3, "{release}");
    }
}

#[test]
fn certificates_that_prove_nothing_get_no_answer() {
    if skipped("certificates that prove nothing get no answer") {
        return;
    }
    let gate = Gate::http(CURRENT);
    let address = gate.envoy.address("gate");
    let none = Client::connect(address, gate.pki.ca(), None).and_then(|mut client| client.get("/"));
    assert!(none.is_err(), "without a certificate: {none:?}");
    let other = Authority::root("Other root").expect("a root").issue(&node()).expect("a certificate");
    let self_signed = Credential::self_signed(&node()).expect("a certificate");
    for (name, credential) in
        [("expired", gate.issue(&node().expired())), ("wrong CA", other), ("self-signed", self_signed)]
    {
        let answer = gate.get(&credential);
        assert!(answer.is_err(), "{name}: {answer:?}");
    }
    assert_eq!(gate.upstream.connections(), 0);
    assert_eq!(gate.status(&node()), 200);
}

#[test]
fn a_certificate_that_envoy_did_not_verify_is_refused() {
    if skipped("a certificate that Envoy did not verify is refused") {
        return;
    }
    let gate = Gate::with(CURRENT, Protocol::Http, |gate| gate.tls.accept_untrusted = true);
    let self_signed = Credential::self_signed(&node()).expect("a certificate");
    assert_eq!(gate.get(&self_signed).expect("an answer").status(), 403);
    assert_eq!(gate.status(&node()), 200, "verified on the same listener\n{}", gate.envoy.log());
}

/// Envoy does not verify the certificate of a resumed session, so nothing vouches for it.
#[test]
fn a_resumed_session_is_refused() {
    if skipped("a resumed session is refused") {
        return;
    }
    let pki = Pki::new();
    let gate = listener(CURRENT, "gate", &pki, Protocol::Http, peer_endpoint(&vespa_example()));
    let mut bootstrap = Bootstrap { filter: filter(), listeners: vec![gate] }.to_json();
    let socket = "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config";
    let tls = bootstrap.pointer_mut(socket).and_then(Value::as_object_mut).expect("the TLS context");
    assert_eq!(
        tls.insert("disable_stateless_session_resumption".to_owned(), json!(false)),
        Some(json!(true))
    );
    assert_eq!(tls.insert("disable_stateful_session_resumption".to_owned(), json!(false)), Some(json!(true)));
    let config = pki.file("resuming.json");
    fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
    let envoy = Envoy::start_file(&binary(CURRENT), &config, pki.directory(), &root()).expect("Envoy starts");
    let address = envoy.listener("gate").expect("the listener");
    let node = pki.peer(&node());
    for version in ["-tls1_3", "-tls1_2"] {
        let session = pki.file(&format!("session{version}"));
        let path = session.to_str().expect("a path");
        let first = s_client(&pki, address, Some(&node), &[version, "-sess_out", path], GET);
        assert_eq!(first.status(), Some(200), "{version}\n{}", first.output());
        let second = s_client(&pki, address, Some(&node), &[version, "-sess_in", path], GET);
        assert!(second.stdout.contains("\nReused, TLSv1."), "{version}\n{}", second.output());
        assert_eq!(second.status(), Some(403), "{version}\n{}", second.output());
    }
}

#[test]
fn a_denial_is_json_and_says_nothing_about_the_rules() {
    if skipped("a denial is JSON and says nothing about the rules") {
        return;
    }
    let gate = Gate::http(CURRENT);
    let denied = gate.get(&gate.issue(&stranger())).expect("an answer");
    assert_eq!(denied.status(), 403);
    assert_eq!(denied.header("content-type"), Some(&b"application/json"[..]));
    let body: Value = serde_json::from_slice(&denied.body).expect("JSON");
    assert_eq!(body, json!({"code": 403, "message": "Forbidden"}));
}

#[test]
fn a_denied_grpc_call_ends_with_permission_denied() {
    if skipped("a denied gRPC call ends with permission denied") {
        return;
    }
    let gate = Gate::http(CURRENT);
    let call = b"POST /service/Method HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\n\
                 content-length: 0\r\n\r\n";
    let denied = gate.connect(&gate.issue(&stranger())).and_then(|mut client| client.request(call));
    let denied = denied.expect("an answer");
    // The status code of gRPC over HTTP/2: PERMISSION_DENIED.
    assert_eq!(denied.header("grpc-status"), Some(&b"7"[..]), "{denied:?}");
}

#[test]
fn bytes_that_are_no_text_do_not_stop_the_filter() {
    if skipped("bytes that are no text do not stop the filter") {
        return;
    }
    let gate = Gate::http(CURRENT);
    let mut client = gate.connect(&gate.issue(&node())).expect("a connection");
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-bytes: \xff\xfe\x80\r\n\r\n";
    assert_eq!(client.request(request).expect("an answer").status(), 200);
    assert_eq!(gate.upstream.last_request().header("x-bytes"), Some(&b"\xff\xfe\x80"[..]));
    assert_eq!(client.get("/").expect("an answer").status(), 200);
    let xfcc =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx-forwarded-client-cert: \xff\r\nx-peergate-a: \xff\r\n\r\n";
    assert_eq!(client.request(xfcc).expect("an answer").status(), 200);
    assert_eq!(gate.status(&stranger()), 403);
    assert_eq!(gate.status(&node()), 200);
}

#[test]
fn identity_headers_of_the_client_never_reach_the_upstream() {
    if skipped("identity headers of the client never reach the upstream") {
        return;
    }
    let gate = Gate::http(CURRENT);
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nX-Forwarded-Client-Cert: Hash=00\r\n\
        x-forwarded-client-cert: Hash=01\r\nx_forwarded_client_cert: Hash=02\r\nX-PeerGate-Policy: admin\r\n\
        x-peergate-capabilities: vespa.all\r\nX_Peergate_Subject: CN=admin\r\nx-peergate_policy: admin\r\n\
        x-harmless: 1\r\n\r\n";
    let mut client = gate.connect(&gate.issue(&node())).expect("a connection");
    assert_eq!(client.request(request).expect("an answer").status(), 200);
    let arrived = gate.upstream.last_request();
    assert_eq!(arrived.header("x-harmless"), Some(&b"1"[..]));
    for (name, _) in &arrived.headers {
        let name = name.to_ascii_lowercase().replace('_', "-");
        assert!(
            !name.starts_with("x-peergate-") && name != "x-forwarded-client-cert",
            "{:?}",
            arrived.headers
        );
    }
}

#[test]
fn bodies_and_trailers_pass() {
    if skipped("bodies and trailers pass") {
        return;
    }
    let gate = Gate::http(CURRENT);
    let mut client = gate.connect(&gate.issue(&node())).expect("a connection");
    let mut request = b"POST /trailers HTTP/1.1\r\nhost: localhost\r\nte: trailers\r\ntrailer: x-sum\r\n\
        transfer-encoding: chunked\r\n\r\n2dc6c0\r\n"
        .to_vec();
    request.extend(vec![b'x'; 0x2d_c6c0]);
    request.extend(b"\r\n0\r\nx-sum: 5\r\nX-Peergate-Policy: admin\r\n\r\n");
    let answer = client.request(&request).expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "upstream\n"));
    assert_eq!(answer.trailers, [("x-checksum".to_owned(), b"1234".to_vec())]);
    let arrived = gate.upstream.last_request();
    assert_eq!(arrived.body.len(), 3_000_000);
    assert_eq!(arrived.trailers, [("x-sum".to_owned(), b"5".to_vec())]);
}

#[test]
fn a_certificate_that_expires_on_an_open_connection_is_refused() {
    if skipped("a certificate that expires on an open connection is refused") {
        return;
    }
    for release in [CURRENT, OLD] {
        let gate = Gate::http(release);
        let now = OffsetDateTime::now_utc();
        let end = now + Duration::seconds(4);
        let credential = gate.issue(&node().valid(now - Duration::HOUR, end));
        let mut client = gate.connect(&credential).expect("a connection");
        assert_eq!(client.get("/").expect("an answer").status(), 200, "{release}");
        wait::until("the certificate has expired", || OffsetDateTime::now_utc() > end + Duration::SECOND);
        assert_eq!(client.get("/").expect("an answer").status(), 403, "{release}");
    }
}

#[test]
fn a_denied_tcp_client_never_touches_the_upstream() {
    if skipped("a denied TCP client never touches the upstream") {
        return;
    }
    let gate = Gate::with(CURRENT, Protocol::Tcp, |_| ());
    let mut denied = gate.connect(&gate.issue(&stranger())).expect("a handshake");
    // The write may already meet the closed connection; what counts is that nothing comes back.
    denied.write(b"hello").ok();
    assert_eq!(denied.read_to_end().unwrap_or_default(), b"");
    assert_eq!((gate.upstream.connections(), gate.upstream.bytes()), (0, 0));
    let mut admitted = gate.connect(&gate.issue(&node())).expect("a handshake");
    admitted.write(b"hello").expect("an open connection");
    let mut echo = [0; 5];
    admitted.read_exact(&mut echo).expect("the echo");
    assert_eq!(&echo, b"hello");
    assert_eq!((gate.upstream.connections(), gate.upstream.bytes()), (1, 5));
}

#[test]
fn the_time_of_decisions_is_a_histogram() {
    if skipped("the time of decisions") {
        return;
    }
    for release in [CURRENT, OLD] {
        let pki = Pki::new();
        let gate = listener(release, "gate", &pki, Protocol::Http, peer_endpoint(&vespa_example()));
        let mut bootstrap = Bootstrap { filter: filter(), listeners: vec![gate] }.to_json();
        // Histograms show what was recorded before the last flush.
        bootstrap["stats_flush_interval"] = json!("0.1s");
        let config = pki.file("histogram.json");
        fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
        let envoy =
            Envoy::start_file(&binary(release), &config, pki.directory(), &root()).expect("Envoy starts");
        let peer = pki.authority().issue(&node()).expect("a certificate");
        let address = envoy.listener("gate").expect("the listener");
        let mut client = Client::connect(address, pki.ca(), Some(&peer)).expect("a connection");
        // The first of sixteen is timed.
        for _ in 0..17 {
            assert_eq!(client.get("/").expect("an answer").status(), 200);
        }
        let value = |line: &str| {
            let page = envoy.admin_body("/stats/prometheus").expect("the statistics");
            let value = page.lines().find_map(|it| it.strip_prefix(line)).map(str::trim);
            value.map_or(0.0, |value| value.parse::<f64>().expect("a number"))
        };
        let family = "peergate_decision_duration_ns";
        wait::until("two decisions are timed", || {
            value(&format!("{family}_count{{outcome=\"allow\"}}")) == 2.0
        });
        assert!(value(&format!("{family}_sum{{outcome=\"allow\"}}")) > 0.0, "{release}");
        assert_eq!(value(&format!("{family}_bucket{{outcome=\"allow\",le=\"+Inf\"}}")), 2.0, "{release}");
        let stats = envoy.admin_body("/stats?filter=peergate_decision_duration").expect("the statistics");
        assert!(stats.starts_with("wasmcustom.peergate_decision_duration_ns.outcome.allow: P0("), "{stats}");
    }
}

#[test]
fn envoy_refuses_to_start_with_a_bad_policy() {
    if skipped("Envoy refuses to start with a bad policy") {
        return;
    }
    let misspelt = json!({"authorised-peers": []});
    for (name, configuration, expected) in [
        ("misspelt key", peer_endpoint(&misspelt), "authorized-peers"),
        ("no rule", peer_endpoint(&json!({"authorized-peers": []})), "authorized-peers"),
        ("nothing", Value::Null, ""),
    ] {
        let pki = Pki::new();
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let gate = Listener {
                upstream: Some(Upstream::echo().address),
                ..listener(CURRENT, "gate", &pki, protocol, configuration.clone())
            };
            let refusal = refused_start(vec![gate.clone()]);
            assert!(refusal.contains(expected), "{name}: {refusal}");
            let validation = validate(&pki, vec![gate]).expect_err("a bad policy is no valid configuration");
            assert!(validation.contains(expected), "{name}: {validation}");
        }
    }
    let pki = Pki::new();
    let good = listener(CURRENT, "gate", &pki, Protocol::Http, peer_endpoint(&vespa_example()));
    assert_eq!(validate(&pki, vec![good]), Ok(()));
}

fn refused_start(listeners: Vec<Listener>) -> String {
    match try_start(CURRENT, listeners) {
        Err(EnvoyError::Ended(log)) => log,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("Envoy started"),
    }
}

fn validate(pki: &Pki, listeners: Vec<Listener>) -> Result<(), String> {
    let config = pki.file("validate.json");
    let bootstrap = Bootstrap { filter: filter(), listeners };
    fs::write(&config, bootstrap.to_json().to_string()).expect("the bootstrap");
    run_validation(&config)
}

fn run_validation(config: &Path) -> Result<(), String> {
    Envoy::validate(&binary(CURRENT), config).expect("Envoy runs")
}
