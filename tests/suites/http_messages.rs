//! Requests byte by byte: what the host passes on, in which form, and what it refuses by itself, with the reason in the log.

use std::fs;

use peergate_host::envoy::{Listener, Protocol};
use peergate_tests::{
    admin,
    client::Client,
    commands::curl,
    envoy::{CURRENT, listener, skipped, start},
    host::{Host, Start},
    http1::Message,
    http2::{Frame, Http2},
    pki::{Peer, Pki},
    policies::{node, peer_endpoint, vespa_example},
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};

struct Gate {
    pki: Pki,
    peer: Peer,
    upstream: Upstream,
    host: Host,
}

impl Gate {
    fn new() -> Self {
        Self::with(|start| start)
    }

    fn with(change: impl FnOnce(Start) -> Start) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let peer = pki.peer(&node());
        let host = change(Start::new(&pki, &vespa_example(), upstream.address)).start();
        Self { pki, peer, upstream, host }
    }

    fn connect(&self) -> Client {
        let credential = Some(&self.peer.credential);
        Client::connect(self.host.address, self.pki.ca(), credential).expect("a connection")
    }

    fn status(&self, request: &[u8]) -> u16 {
        let answer = self.connect().request(request);
        answer.unwrap_or_else(|error| panic!("{}: {error}", request.escape_ascii())).status()
    }

    /// Waits for the line about a refused request.
    fn tells(&self, path: &str, status: u16, reason: &str) {
        let text = format!("path={path} status={status} reason={reason}");
        wait::until(&text, || self.host.log().lines().any(|line| line.contains(&text)));
        assert!(!self.host.log().contains("secret"), "{}", self.host.log());
    }

    /// Waits until nothing of a request, or of a connection, is held any more.
    fn is_free_again(&self) {
        wait::until("all is given back", || {
            let page = admin::get(self.host.admin(), "/metrics").text();
            ["requests", "connections"]
                .iter()
                .all(|limit| page.contains(&format!("peergate_limit_used{{limit=\"{limit}\"}} 0\n")))
        });
    }
}

/// What two readers could take for two different messages, or could not read at all. The first word of each path is the reason.
const MALFORMED: &[(&str, u16)] = &[
    (
        "POST /two-framings/1?secret HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST /two-framings/2?secret HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST /malformed-line-end/1?secret HTTP/1.1\r\nhost: a\r\nx: y\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("GET /malformed-line-end/2?secret HTTP/1.1\nhost: a\n\n", 400),
    ("GET /malformed-line-end/3 HTTP/1.1\r\nhost: a\r\nx: y\rz: 1\r\n\r\n", 400),
    ("POST /malformed-content-length/1 HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", 400),
    (
        "POST /malformed-content-length/4 HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\nhello",
        400,
    ),
    ("POST /malformed-content-length/2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello", 400),
    (
        "POST /malformed-content-length/3 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        400,
    ),
    (
        "POST /unknown-transfer-coding/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
    ("POST /two-framings/3 HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("GET /malformed-field/1 HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n", 400),
    ("GET /malformed-field/2 HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", 400),
    ("GET /malformed-request-line/1  HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /unknown-http-version/1 HTTP/1.2\r\nhost: a\r\n\r\n", 400),
    ("GET /malformed-target/1\u{1} HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET /no-authority/1 HTTP/1.1\r\n\r\n", 400),
    ("GET /malformed-authority/1 HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
    ("TRACE /method-not-allowed/1 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
];

/// Requests of [`MALFORMED`] that would be hidden in, or behind, one of them, never arrive.
#[test]
fn malformed_requests_are_refused_with_the_reason_and_the_path_in_the_log() {
    for (request, status) in MALFORMED {
        // A gate for each: lines about refusals are limited.
        let gate = Gate::new();
        let mut client = gate.connect();
        let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = client.request(format!("{request}{hidden}").as_bytes()).expect("an answer");
        assert_eq!(answer.status(), *status, "{request:?}");
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["code"], *status);
        let path = request.split([' ', '?', '\u{1}']).nth(1).expect("a path");
        let reason = path.split('/').nth(1).expect("a reason");
        wait::until("a line in the log", || {
            gate.host.log().lines().any(|line| {
                line.contains(&format!("path={path}"))
                    && line.contains(&format!("status={status} reason={reason}"))
            })
        });
        assert!(!gate.host.log().contains("secret"), "{}", gate.host.log());
        if answer.header("connection") == Some(b"close") {
            assert!(client.read_to_end().expect("the end").is_empty(), "{request:?}");
            assert!(gate.upstream.requests().is_empty(), "{request:?}");
        }
    }
}

#[test]
fn the_audit_log_has_the_reason_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let audit = directory.path().join("audit.log");
    let gate = Gate::with(|start| start.argument("--audit").argument(&audit));
    assert_eq!(gate.status(b"GET /a?secret HTTP/1.1\r\nhost: a\nx: y\r\n\r\n"), 400);
    let lines = || fs::read_to_string(&audit).unwrap_or_default();
    wait::until("a line in the audit log", || lines().contains("malformed-line-end"));
    let line = lines().lines().find(|line| line.contains("malformed-line-end")).expect("a line").to_owned();
    let record: Value = serde_json::from_str(&line).expect("JSON");
    let expected = json!(["request", "deny", "GET", "/a", 400, "malformed-line-end"]);
    let found =
        json!(["event", "decision", "method", "path", "status", "reason"].map(|name| record[name].clone()));
    assert_eq!(found, expected);
    assert!(!lines().contains("secret"));
}

/// However slowly it comes, and whatever follows at once.
#[test]
fn requests_are_found_however_their_bytes_are_cut() {
    let gate = Gate::new();
    let chunked = "POST /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        5;ext=1\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n";
    let counted = "\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /";
    let plain = "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n";
    let all = [chunked, counted, plain].concat();
    let mut whole = gate.connect();
    whole.write(all.as_bytes()).expect("sent");
    let mut dripping = gate.connect();
    for byte in all.as_bytes() {
        dripping.write(&[*byte]).expect("sent");
    }
    for client in [&mut whole, &mut dripping] {
        for _ in 0..3 {
            assert_eq!(client.request(b"").expect("an answer").status(), 200);
        }
    }
    let requests = gate.upstream.requests();
    let mut arrived: Vec<_> = requests.iter().map(|it| format!("{} {}", it.start, it.text())).collect();
    arrived.sort();
    let expected = ["GET /3 HTTP/1.1 ", "POST /1 HTTP/1.1 hello", "POST /2 HTTP/1.1 GET /"];
    let expected: Vec<_> = expected.into_iter().flat_map(|it| [it, it]).collect();
    assert_eq!(arrived, expected);
}

/// haproxy's check without options (haproxy/haproxy#1225, lmenezes/cerebro#494): the service is asked, by the address that the
/// client has connected to.
#[test]
fn http_1_0_without_a_host_is_judged_and_forwarded() {
    let gate = Gate::new();
    let mut client = gate.connect();
    let answer = client.request(b"OPTIONS / HTTP/1.0\r\n\r\n").expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "upstream\n"));
    assert!(client.read_to_end().expect("the end").is_empty());
    let arrived = gate.upstream.last_request();
    assert_eq!(arrived.start, "OPTIONS / HTTP/1.1");
    assert_eq!(arrived.header("host"), Some(gate.host.address.to_string().as_bytes()));
    let named = b"GET /named HTTP/1.0\r\nhost: a.example\r\nconnection: keep-alive\r\n\r\n";
    let mut client = gate.connect();
    for _ in 0..2 {
        assert_eq!(client.request(named).expect("an answer").status(), 200);
        assert_eq!(gate.upstream.last_request().header("host"), Some(&b"a.example"[..]));
    }
    assert_eq!(gate.status(b"OPTIONS / HTTP/1.1\r\n\r\n"), 400);
    gate.tells("/", 400, "no-authority");
}

/// Where an authority chooses the endpoint, none is made up.
#[test]
fn http_1_0_without_a_host_is_refused_where_endpoints_have_names() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let peer = pki.peer(&node());
    let policy = peergate_tests::host::write_policy(&pki, &vespa_example());
    let endpoint = |name: &str| json!({"endpoint": "peer", "policy": policy, "names": [name]});
    let config = json!({"inbound": [{
        "address": "127.0.0.1:0",
        "upstream": {"address": upstream.address.to_string()},
        "endpoints": [endpoint("localhost"), endpoint("other.example")],
    }]});
    let path = pki.file("host.json");
    fs::write(&path, config.to_string()).expect("the configuration");
    let host = Start::config(&path).start();
    let connect = || Client::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
    let refused = connect().request(b"OPTIONS / HTTP/1.0\r\n\r\n").expect("an answer");
    assert_eq!(refused.status(), 400);
    let named = connect().request(b"OPTIONS / HTTP/1.0\r\nhost: localhost\r\n\r\n").expect("an answer");
    assert_eq!(named.status(), 200);
    wait::until("the reason", || host.log().contains("path=/ status=400 reason=no-authority"));
    assert_eq!(upstream.requests().len(), 1);
}

/// hyperium/http#693, #342, puma/puma#3345: what browsers, `curl -g` and scripts send as it is. To the right what arrives.
const TARGETS: &[(&str, &str)] = &[
    ("/search/?yql=select%20*", "/search/?yql=select%20*"),
    ("/?a=[\"x\"]", "/?a=[%22x%22]"),
    ("/?a={targetHits:10}", "/?a={targetHits:10}"),
    ("/?a=b|c^d`e\\f", "/?a=b|c^d`e\\f"),
    ("/?a=year<2000", "/?a=year%3C2000"),
    ("/?a=year>2000", "/?a=year%3E2000"),
    ("/?a=bl\u{e5}b\u{e6}r", "/?a=bl\u{e5}b\u{e6}r"),
    ("/bl\u{e5}b\u{e6}r", "/bl\u{e5}b\u{e6}r"),
    ("/a|b\"c[d]^e", "/a|b\"c[d]^e"),
    ("/a<b>`c`", "/a%3Cb%3E%60c%60"),
    ("/?a=100%", "/?a=100%"),
    ("//x//y?", "//x//y?"),
];

#[test]
fn what_no_uri_may_hold_passes_percent_encoded() {
    let gate = Gate::new();
    for (sent, passed) in TARGETS {
        let request = format!("GET {sent} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = gate.connect().request(request.as_bytes()).expect("an answer");
        let status = answer.status();
        // The engine refuses some paths; that is a decision like others.
        if status == 200 {
            let start = gate.upstream.last_request().start;
            assert_eq!(start, format!("GET {passed} HTTP/1.1"), "{sent}");
        }
        assert!(status == 200, "{sent}: {status}\n{}", gate.host.log());
    }
}

#[test]
fn envoy_takes_the_same_targets() {
    if skipped("odd targets") {
        return;
    }
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let peer = pki.peer(&node());
    let listener = listener(CURRENT, "http", &pki, Protocol::Http, peer_endpoint(&vespa_example()));
    let envoy = start(CURRENT, vec![Listener { upstream: Some(upstream.address), ..listener }]);
    let connect = || Client::connect(envoy.address("http"), pki.ca(), Some(&peer.credential));
    // Envoy takes only ASCII; nginx takes all.
    for (sent, _) in TARGETS.iter().filter(|(sent, _)| sent.is_ascii()) {
        let request = format!("GET {sent} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer: Message =
            connect().and_then(|mut client| client.request(request.as_bytes())).expect("an answer");
        assert_eq!(answer.status(), 200, "{sent}");
    }
}

/// What decides is the form that is forwarded.
#[test]
fn what_was_percent_encoded_is_judged_in_that_form() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let peer = pki.peer(&node());
    let mut policy = vespa_example();
    let (guarded, others) = (json!(["/a%3Cb"]), json!(["/**"]));
    policy["http-capabilities"] = json!([
        {"paths": guarded, "requires": ["vespa.content_node"]},
        {"paths": others, "requires": []},
    ]);
    for rule in policy["authorized-peers"].as_array_mut().expect("rules") {
        rule["capabilities"] = json!(["vespa.telemetry"]);
    }
    let host = Start::new(&pki, &policy, upstream.address).start();
    for (path, status) in [("/a<b", 403), ("/a%3Cb", 403), ("/a", 200)] {
        let mut client =
            Client::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), status, "{path}");
    }
}

#[test]
fn http_2_takes_as_many_fields_as_http_1() {
    let gate = Gate::new();
    let http1 = |count: usize| {
        let fields: String = (0..count).map(|index| format!("x-{index}: 1\r\n")).collect();
        gate.status(format!("GET /fields HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes())
    };
    assert_eq!((http1(99), http1(100)), (200, 431));
    let http2 = |count: usize| {
        let fields: Vec<String> = (0..count).map(|index| format!("x-{index}: 1")).collect();
        let mut arguments = vec!["--http2"];
        arguments.extend(fields.iter().flat_map(|field| ["--header", field.as_str()]));
        let answer = curl(&gate.pki, gate.host.address, Some(&gate.peer), "/fields", &arguments);
        assert_eq!(answer.version, "2");
        answer.status
    };
    // curl sends `user-agent` and `accept` too.
    assert_eq!((http2(98), http2(99), http2(300)), (200, 431, 431));
    gate.tells("/fields", 431, "too-many-fields");
}

#[test]
fn a_head_without_end_is_told_that_it_is_too_large() {
    let gate = Gate::new();
    let request = format!("GET /large HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    for _ in 0..5 {
        assert_eq!(gate.status(request.as_bytes()), 431);
    }
    gate.tells("/large", 431, "head-too-large");
}

#[test]
fn a_malformed_body_is_told_with_its_path() {
    let gate = Gate::new();
    for (path, body) in
        [("/1", "3\nabc\r\n0\r\n\r\n"), ("/2", "0x3\r\nabc\r\n0\r\n\r\n"), ("/3", "3\r\nabcd\r\n")]
    {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(gate.status(format!("{head}{body}").as_bytes()), 400, "{path}");
        gate.tells(path, 400, "malformed-body");
    }
    assert!(gate.upstream.requests().is_empty());
}

/// The service answers before it has read. hyper shows trailers only when it closes the body, which after an answer it does with
/// the next request.
#[test]
fn an_answer_that_overtakes_a_chunked_body_ends_the_connection() {
    let gate = Gate::with(Start::admin);
    let head =
        "POST /early HTTP/1.1\r\nhost: a\r\ntrailer: x-t\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (end, is_leaving) in [
        ("0\r\nx-t: 1\r\n\r\n", false),
        ("0\r\nx-t: 1\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ("0\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ("0\r\nx-t: 1\r\n\r\n", true),
    ] {
        let mut client = gate.connect();
        let answer = client.request(head.as_bytes()).expect("an answer");
        client.write(end.as_bytes()).expect("sent");
        if !is_leaving {
            assert!(client.read_to_end().expect("the end").is_empty(), "{end:?}");
        }
        drop(client);
        gate.is_free_again();
        assert_eq!((answer.status(), answer.header("connection")), (200, Some(&b"close"[..])), "{end:?}");
    }
    let requests = gate.upstream.requests();
    let arrived: Vec<_> = requests.iter().map(|it| (it.text(), it.trailers.len())).collect();
    assert_eq!(arrived, [("hello", 1), ("hello", 1), ("hello", 0), ("hello", 1)].map(|(a, b)| (a.into(), b)));
}

/// With a length it is known where the body ends.
#[test]
fn after_an_answer_that_overtakes_a_body_with_a_length_the_connection_goes_on() {
    let gate = Gate::new();
    for (start, status) in [("POST /early", 200), ("TRACE /", 405)] {
        let mut client = gate.connect();
        let head = format!("{start} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
        assert_eq!(client.request(head.as_bytes()).expect("an answer").status(), status);
        let rest = b"helloGET /b HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(client.request(rest).expect("an answer").status(), 200, "{start}");
    }
}

/// Whatever it has sent meanwhile.
#[test]
fn a_client_that_leaves_before_its_answer_is_noticed() {
    let gate = Gate::with(Start::admin);
    for next in ["", "G", "GET /b HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let before = gate.upstream.requests().len();
        let mut client = gate.connect();
        client.write(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        client.write(next.as_bytes()).expect("sent");
        wait::until("the request", || gate.upstream.requests().len() > before);
        drop(client);
        gate.is_free_again();
    }
}

/// Where a head should be, anything may stand: a field, or the rest of a body.
#[test]
fn what_is_no_request_line_is_not_logged() {
    let lines = [
        "/path?token=secret HTTP/1.1\n",
        "Authorization:Basic secret\r\n\r\n",
        "GET http://user:secret@localhost/ HTTP/1.1\nhost: a\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcuser=a&password=secret\n",
        "GET ?secret HTTP/1.1\n",
        "GET secret HTTP/1.1\n",
    ];
    for line in lines {
        // A gate for each: lines about refusals are limited.
        let gate = Gate::new();
        let mut client = gate.connect();
        client.write(line.as_bytes()).expect("sent");
        let told = || gate.host.log().lines().any(|it| it.contains("status=400 reason=malformed-"));
        wait::until("the reason", told);
        assert!(!gate.host.log().contains("secret"), "{line:?}\n{}", gate.host.log());
    }
}

#[test]
fn http_2_messages_are_refused_by_the_same_rules() {
    let gate = Gate::new();
    let mut client =
        Http2::connect(gate.host.address, gate.pki.ca(), Some(&gate.peer.credential)).expect("a connection");
    let stream = client.request("TRACE", "/trace", &[], true).expect("sent");
    assert!(!client.stream(stream).expect("an answer").is_empty());
    gate.tells("/trace", 405, "method-not-allowed");
}

/// hyper's URIs hold none of these, and over HTTP/2 nobody can be asked before. The log says what happened.
#[test]
fn http_2_requests_that_are_refused_by_their_stream_are_logged() {
    let gate = Gate::with(Start::admin);
    let mut client =
        Http2::connect(gate.host.address, gate.pki.ca(), Some(&gate.peer.credential)).expect("a connection");
    for path in ["/search/?secret<5", "/a<b"] {
        let stream = client.request("GET", path, &[], true).expect("sent");
        let frames = client.stream(stream).expect("an answer");
        assert_eq!(frames.last().map(|frame| frame.kind), Some(Frame::RST_STREAM), "{frames:?}");
    }
    let log = || gate.host.log();
    for path in ["/search/", "/a<b"] {
        let line = format!("malformed path (\"{path}\")");
        wait::until(&line, || log().lines().any(|it| it.contains("request refused") && it.contains(&line)));
    }
    assert!(!log().contains("secret"), "{}", log());
    let page = admin::get(gate.host.admin(), "/metrics").text();
    let counted = page
        .lines()
        .find(|line| line.starts_with("peergate_requests_refused_total") && line.contains("malformed-http2"));
    assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{page}");
    let stream = client.request("GET", "/", &[], true).expect("the connection goes on");
    assert_eq!(client.stream(stream).expect("an answer")[0].status(), 200);
}
