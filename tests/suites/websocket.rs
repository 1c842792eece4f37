//! WebSockets through the host: real clients and services, refusals, smuggling, and the end of open ones.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use peergate_host::envoy::{Bootstrap, Envoy, Protocol};
use peergate_host::pki::Leaf;
use peergate_policy::token::Derivation;
use peergate_tests::client::Client as Bytes;
use peergate_tests::commands::run;
use peergate_tests::envoy::{self, CURRENT, skipped};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::http2::{Frame, Http2};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use peergate_tests::websocket::{Client, HANDSHAKE, Odd, Service};
use peergate_tests::{admin, filter, root, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A host whose listener takes WebSockets, with one endpoint whose policy changes.
struct Site {
    pki: Pki,
    policy: PathBuf,
    host: Host,
}

impl Site {
    fn start(pki: Pki, kind: &str, policy: &Value, upstream: SocketAddr) -> Self {
        let path = write_policy(&pki, policy);
        let host = Start::endpoint(kind, &path, upstream).argument("--websocket").admin().start();
        Self { pki, policy: path, host }
    }

    /// Two peers, who may both come in.
    fn peers(upstream: SocketAddr) -> (Self, Peer, Peer) {
        let pki = Pki::new();
        let (leaving, staying) = (pki.peer(&Leaf::new().cn("leaving")), pki.peer(&Leaf::new().cn("staying")));
        (Self::start(pki, "peer", &peers(&["leaving", "staying"]), upstream), leaving, staying)
    }

    fn change(&self, policy: &Value) {
        fs::write(&self.policy, self.pki.with_files(policy).to_string()).expect("the policy");
        self.host.reload();
    }

    /// A real client on its way to `path`.
    fn client(&self, peer: Option<&Peer>, path: &str, token: Option<&str>) -> Client {
        let mut terms = json!({"ca": self.pki.file("ca.pem")});
        if let Some(peer) = peer {
            terms["cert"] = peer.chain.to_str().into();
            terms["key"] = peer.key.to_str().into();
        }
        if let Some(token) = token {
            terms["headers"] = json!({"authorization": format!("Bearer {token}")});
        }
        Client::connect(&format!("wss://localhost:{}{path}", self.host.address.port()), &terms)
    }

    /// One with an open WebSocket.
    fn open(&self, peer: &Peer) -> Client {
        let client = self.client(Some(peer), "/", None);
        assert_eq!(client.line(), "open", "{}", self.host.log());
        client
    }

    fn bytes(&self, peer: &Peer) -> Bytes {
        Bytes::connect(self.host.address, self.pki.ca(), Some(&peer.credential)).expect("a connection")
    }

    fn http2(&self, peer: &Peer) -> Http2 {
        Http2::connect(self.host.address, self.pki.ca(), Some(&peer.credential)).expect("a connection")
    }

    fn log_tells(&self, what: &[&str]) {
        wait::until(&format!("the log tells of {what:?}"), || {
            self.host.log().lines().any(|line| what.iter().all(|it| line.contains(it)))
        });
    }
}

fn peers(names: &[&str]) -> Value {
    let rule =
        |name: &&str| json!({"name": name, "required-credentials": [{"field": "CN", "must-match": name}]});
    json!({"authorized-peers": names.iter().map(rule).collect::<Vec<_>>()})
}

/// Peers who need a capability that they do not have for `/denied`.
fn with_a_denied_path() -> Value {
    let mut policy = peers(&["leaving", "staying"]);
    for rule in policy["authorized-peers"].as_array_mut().expect("rules") {
        rule["capabilities"] = json!(["vespa.http.unclassified"]);
    }
    policy["http-capabilities"] = json!([
        {"paths": ["/denied"], "requires": ["vespa.content.state_api"]},
        {"paths": ["/**"], "requires": ["vespa.http.unclassified"]},
    ]);
    policy
}

fn handshake(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n")
}

/// The head of the next answer.
fn head(client: &mut Bytes) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after `{}`", head.escape_ascii()));
        head.extend(byte);
    }
    String::from_utf8(head).expect("text").to_ascii_lowercase()
}

fn echo(client: &mut Bytes, text: &[u8]) -> Vec<u8> {
    client.write(text).expect("sent");
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).expect("the echo");
    answer
}

#[test]
fn messages_pass_both_ways_byte_for_byte() {
    let service = Service::new();
    let (site, peer, _) = Site::peers(service.address);
    let mut client = site.open(&peer);
    assert_eq!(client.ask("text hello"), "text hello");
    for size in [0, 1, 125, 126, 65_535, 65_536, 8 << 20] {
        assert_eq!(client.ask(&format!("bytes {size}")), "bytes same", "{size}");
    }
    assert_eq!(client.ask("ping"), "pong");
    let open = |count: &str| {
        let labels = format!("{{listener=\"{}\"}}", site.host.address);
        wait::until("connections are counted", || {
            admin::metric(site.host.admin(), &format!("peergate_connections_open{labels}")).to_string()
                == count
        });
    };
    open("1");
    assert_eq!(client.ask("close 4001"), "closed 4001");
    open("0");
    assert_eq!(service.requests(), ["/"]);
}

#[test]
fn whoever_is_refused_reaches_no_service() {
    let odd = Odd::new();
    let pki = Pki::new();
    let (peer, stranger) = (pki.peer(&Leaf::new().cn("staying")), pki.peer(&Leaf::new().cn("stranger")));
    let site = Site::start(pki, "peer", &with_a_denied_path(), odd.address);
    assert_eq!(site.client(Some(&peer), "/denied", None).line(), "status 403");
    let failed = site.client(Some(&stranger), "/switch", None).line();
    assert!(failed.starts_with("failed"), "{failed}");
    site.log_tells(&["deny connection", "no-rule-matched"]);
    // Nor do the bytes behind the handshake of one who does not wait for the answer.
    let mut hasty = site.bytes(&peer);
    hasty.write(format!("{}GET /denied HTTP/1.1\r\n\r\n", handshake("/denied")).as_bytes()).expect("sent");
    assert!(head(&mut hasty).starts_with("http/1.1 403 "));
    let mut client = site.http2(&peer);
    let stream = connect(&mut client, "/denied");
    assert_eq!(client.frame().map(|frame| (frame.stream, frame.status())).ok(), Some((stream, 403)));
    assert!(odd.requests().is_empty(), "{:?}", odd.requests());
    assert_eq!((odd.open(), odd.bytes()), (0, 0));
}

#[test]
fn a_listener_that_takes_no_websockets_answers_the_request_without_the_upgrade() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let peer = pki.peer(&Leaf::new().cn("peer"));
    let host = Start::new(&pki, &peers(&["peer"]), upstream.address).start();
    let mut client = Bytes::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
    assert_eq!(client.request(handshake("/").as_bytes()).expect("an answer").status(), 200);
    let sent = upstream.last_request();
    assert!(sent.header("upgrade").is_none() && sent.header("connection").is_none(), "{sent:?}");
    let mut client = Http2::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
    connect(&mut client, "/");
    let refused = client.frame().expect("a frame");
    assert!([Frame::RST_STREAM, Frame::GOAWAY].contains(&refused.kind), "{refused:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn what_is_no_handshake_is_answered_as_any_other_request() {
    let (site, peer, _) = Site::peers(Upstream::http().address);
    let upstream = Upstream::http();
    let config = json!({"inbound": [{
        "address": "127.0.0.1:0", "websocket": true, "upstream": {"address": upstream.address},
        "endpoints": [{"endpoint": "peer", "policy": site.policy}],
    }]});
    fs::write(site.pki.file("host.json"), config.to_string()).expect("the configuration");
    let host = Start::config(&site.pki.file("host.json")).start();
    let good = handshake("/");
    for (from, to) in [
        ("GET ", "POST "),
        ("upgrade: websocket", "upgrade: h2c"),
        ("upgrade: websocket", "upgrade: h2c, websocket"),
        ("upgrade: websocket", "upgrade: websocket\r\nupgrade: websocket"),
        ("connection: Upgrade", "connection: keep-alive"),
        ("connection: Upgrade", "connection: Upgrade, sec-websocket-key"),
        ("version: 13", "version: 8"),
        ("version: 13", "version: 13\r\nsec-websocket-version: 13"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
        (
            "dGhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        ("\r\n\r\n", "\r\ncontent-length: 5\r\n\r\nbody\n"),
        ("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbody\n\r\n0\r\n\r\n"),
        ("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("HTTP/1.1", "HTTP/1.0"),
    ] {
        let request = good.replacen(from, to, 1);
        assert_ne!(request, good, "{from}");
        let mut client =
            Bytes::connect(host.address, site.pki.ca(), Some(&peer.credential)).expect("a connection");
        assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), 200, "{request}");
        let sent = upstream.last_request();
        assert!(
            sent.header("upgrade").is_none() && sent.header("connection").is_none(),
            "{request}\n{sent:?}"
        );
    }
}

/// Proxies that look only at the status, or not at all, can be made to carry requests that nobody judged.
#[test]
fn a_service_that_does_not_really_switch_makes_no_tunnel() {
    let odd = Odd::new();
    let (site, peer, _) = Site::peers(odd.address);
    for path in ["/wrong-accept", "/no-accept", "/other-protocol", "/no-connection"] {
        let mut client = site.bytes(&peer);
        let hasty = format!("{}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n", handshake(path));
        let answer = client.request(hasty.as_bytes()).expect("an answer");
        assert_eq!(answer.status(), 502, "{path}");
        // What came behind it was a request to us, and was answered as one.
        assert_eq!(client.request(b"").expect("an answer").status(), 404, "{path}");
        assert_eq!(odd.bytes(), 0, "{path}");
        let mut client = site.http2(&peer);
        let stream = connect(&mut client, path);
        assert_ne!(client.stream(stream).expect("an answer")[0].payload[0], OK, "{path}");
    }
    site.log_tells(&["upstream failed", "`Sec-WebSocket-Accept` is not that of the key"]);
}

#[test]
fn bytes_behind_a_refused_handshake_are_requests_and_are_judged() {
    let odd = Odd::new();
    let pki = Pki::new();
    let peer = pki.peer(&Leaf::new().cn("staying"));
    let site = Site::start(pki, "peer", &with_a_denied_path(), odd.address);
    for (path, status) in [("/refuse", 426), ("/page", 200)] {
        let mut client = site.bytes(&peer);
        let before = odd.requests().len();
        let hasty = format!("{}GET /denied HTTP/1.1\r\nhost: localhost\r\n\r\n", handshake(path));
        let answer = client.request(hasty.as_bytes()).expect("an answer");
        assert_eq!((answer.status(), answer.text().as_str()), (status, "page\n"));
        assert_eq!(client.request(b"").expect("an answer").status(), 403, "the second one is judged");
        // The connection goes on, and may still become a WebSocket.
        client.write(handshake("/switch").as_bytes()).expect("sent");
        assert!(head(&mut client).starts_with("http/1.1 101 "));
        assert_eq!(echo(&mut client, b"bytes"), b"bytes");
        let asked: Vec<_> = odd.requests()[before..].iter().map(|it| it.start.clone()).collect();
        assert_eq!(asked, [format!("GET {path} HTTP/1.1"), "GET /switch HTTP/1.1".to_owned()]);
    }
}

#[test]
fn early_bytes_of_both_sides_arrive_and_ends_are_passed_on() {
    let odd = Odd::new();
    let (site, peer, _) = Site::peers(odd.address);
    let mut client = site.bytes(&peer);
    client.write(format!("{}hasty", handshake("/early")).as_bytes()).expect("sent");
    let answer = head(&mut client);
    for field in
        ["101 switching protocols", "upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pp"]
    {
        assert!(answer.contains(field), "{answer}");
    }
    let mut bytes = [0; 10];
    client.read_exact(&mut bytes).expect("bytes of both");
    assert_eq!(&bytes, b"earlyhasty");
    let sent = odd.requests().pop().expect("a request");
    for (name, value) in
        [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13")]
    {
        assert_eq!(sent.header(name), Some(value.as_bytes()), "{sent:?}");
    }
    drop(client);
    wait::until("the service's connection ends", || odd.open() == 0);
}

#[test]
fn a_service_that_does_not_answer_is_not_waited_for() {
    let odd = Odd::new();
    let (site, peer, _) = Site::peers(odd.address);
    let answer = site.bytes(&peer).request(handshake("/silent").as_bytes()).expect("an answer");
    assert_eq!(answer.status(), 504);
    wait::until("the service's connection ends", || odd.open() == 0);
}

#[test]
fn the_websocket_of_a_peer_that_is_no_longer_admitted_ends() {
    let service = Service::new();
    let (site, leaving, staying) = Site::peers(service.address);
    let (ends, mut stays) = (site.open(&leaving), site.open(&staying));
    site.change(&peers(&["staying"]));
    assert_eq!(ends.line(), "lost");
    site.log_tells(&["end connection", "no-longer-admitted", "no-rule-matched"]);
    assert!(stays.is_open());
    assert_eq!(site.host.log().matches("end connection").count(), 1);
}

#[test]
fn the_websocket_whose_capability_is_taken_away_ends() {
    let service = Service::new();
    let pki = Pki::new();
    let peer = pki.peer(&Leaf::new().cn("staying"));
    let site = Site::start(pki, "peer", &with_a_denied_path(), service.address);
    let (ends, mut stays) = (site.client(Some(&peer), "/chat", None), site.open(&peer));
    assert_eq!(ends.line(), "open");
    let mut shared = site.http2(&peer);
    let [chat, other] = ["/chat", "/other"].map(|path| {
        let stream = connect(&mut shared, path);
        assert_eq!(shared.frame().expect("a head").status(), 200);
        stream
    });
    let mut policy = with_a_denied_path();
    policy["http-capabilities"][0]["paths"] = json!(["/chat"]);
    site.change(&policy);
    assert_eq!(ends.line(), "lost");
    site.log_tells(&["end request", "path=/chat"]);
    assert!(stays.is_open());
    // Of a connection over HTTP/2 nothing else ends.
    shared.stream(chat).expect("the end of the stream");
    hello(&mut shared, other);
}

const CONTEXT: &str = "Vespa Cloud tenant data plane:websocket";

fn token(name: &str) -> String {
    format!("vespa_cloud_{name}_0123456789abcdefghijklmnopqrstuvwxyz")
}

fn tokens(versions: &[(&str, &str)]) -> Value {
    let version = |(name, expiration): &(&str, &str)| {
        let derived = Derivation::of(&token(name));
        json!({
            "fingerprint": derived.fingerprint().to_string(),
            "check-access-hash": derived.check_hash(CONTEXT).to_hex(),
            "expiration": expiration,
        })
    };
    let versions: Vec<_> = versions.iter().map(version).collect();
    let client = json!({"id": "c", "permissions": ["read"], "tokens": [{"id": "t", "versions": versions}]});
    json!({"data-plane": {"token-context": CONTEXT, "clients": [client]}})
}

#[test]
fn websockets_of_a_token_end_when_it_is_revoked_and_when_it_expires() {
    let service = Service::new();
    let soon = from_now(Duration::seconds(6));
    let all = [("expiring", soon.as_str()), ("revoked", "<none>"), ("staying", "<none>")];
    let site = Site::start(Pki::new(), "token", &tokens(&all), service.address);
    assert_eq!(site.client(None, "/", Some("vespa_cloud_unknown")).line(), "status 403");
    let [expiring, revoked, mut staying] = all.map(|(name, _)| {
        let client = site.client(None, "/", Some(&token(name)));
        assert_eq!(client.line(), "open", "{}", site.host.log());
        client
    });
    site.change(&tokens(&[all[0], all[2]]));
    assert_eq!(revoked.line(), "lost");
    site.log_tells(&["end request", "token-unknown"]);
    assert_eq!(expiring.line(), "lost");
    site.log_tells(&["end request", "token-expired"]);
    assert!(staying.is_open());
    // A token that was to stay is given an end: it was asked for before, and is asked for again.
    site.change(&tokens(&[("staying", &from_now(Duration::seconds(3)))]));
    assert_eq!(staying.line(), "lost");
}

fn from_now(time: Duration) -> String {
    let then = (OffsetDateTime::now_utc() + time).replace_nanosecond(0).expect("whole seconds");
    then.format(&time::format_description::well_known::Rfc3339).expect("an instant")
}

#[test]
fn the_websocket_of_a_certificate_ends_with_it() {
    let now = OffsetDateTime::now_utc();
    let (service, pki) = (Service::new(), Pki::new());
    let soon = Leaf::new().cn("peer").valid(now - Duration::hours(1), now + Duration::seconds(6));
    let (leaving, staying) = (pki.peer(&soon), pki.peer(&Leaf::new().cn("peer")));
    let site = Site::start(pki, "peer", &peers(&["peer"]), service.address);
    let (ends, mut stays) = (site.open(&leaving), site.open(&staying));
    assert_eq!(ends.line(), "lost");
    site.log_tells(&["end connection", "certificate-expired"]);
    assert!(stays.is_open());
}

#[test]
fn open_websockets_may_finish_while_the_host_drains() {
    let service = Service::new();
    let (mut site, peer, _) = Site::peers(service.address);
    let mut client = site.open(&peer);
    site.host.signal(Signal::TERM);
    wait::until("it drains", || admin::metric(site.host.admin(), "peergate_draining") == 1.0);
    assert!(client.is_open());
    assert_eq!(client.ask("close 1000"), "closed 1000");
    assert_eq!(site.host.ended(), Some(0));
}

#[test]
fn a_listener_that_takes_no_websockets_any_more_keeps_none() {
    let (service, pki) = (Service::new(), Pki::new());
    let peer = pki.peer(&Leaf::new().cn("peer"));
    let policy = write_policy(&pki, &peers(&["peer"]));
    let config = pki.file("host.json");
    let write = |first: bool, second: Option<bool>| {
        let listener = |name: &str, websocket: bool| {
            json!({"name": name, "address": "127.0.0.1:0", "websocket": websocket,
                "upstream": {"address": service.address}, "endpoints": [{"endpoint": "peer", "policy": &policy}]})
        };
        let second = second.map(|websocket| listener("second", websocket));
        let inbound: Vec<_> = [listener("first", first)].into_iter().chain(second).collect();
        fs::write(&config, json!({"inbound": inbound}).to_string()).expect("the configuration");
    };
    write(true, Some(true));
    let host = Start::config(&config).start();
    let site = Site { pki, policy: policy.clone(), host };
    let terms = json!({"ca": site.pki.file("ca.pem"), "cert": peer.chain, "key": peer.key});
    let [ends, mut stays] = [0, 1].map(|index| {
        wait::until("both listen", || site.host.addresses().len() == 2);
        Client::connect(&format!("wss://localhost:{}/", site.host.addresses()[index].port()), &terms)
    });
    assert_eq!((ends.line().as_str(), stays.line().as_str()), ("open", "open"));
    write(false, Some(true));
    site.host.reload();
    assert_eq!(ends.line(), "lost");
    site.log_tells(&["end connection", "endpoint-changed"]);
    assert!(stays.is_open());
    // No policy judges what a removed listener has let in.
    write(false, None);
    site.host.reload();
    assert_eq!(stays.line(), "lost");
    site.log_tells(&["end connection", "endpoint-removed"]);
}

/// `:status: 200` in HPACK's static table.
const OK: u8 = 0x88;

/// Asks for a WebSocket on a stream (RFC 8441).
fn connect(client: &mut Http2, path: &str) -> u32 {
    let fields =
        [(":protocol", "websocket"), ("sec-websocket-version", "13"), ("origin", "https://localhost")];
    client.request("CONNECT", path, &fields, false).expect("sent")
}

/// Sends a message on a stream and sees it come back.
fn hello(client: &mut Http2, stream: u32) {
    client.data(stream, b"\x81\x85\0\0\0\0hello").expect("sent");
    // Another stream may still be ending.
    let mut frames = std::iter::from_fn(|| client.frame().ok());
    let frame = frames.find(|frame| frame.stream == stream).expect("the echo");
    assert_eq!((frame.kind, frame.payload.as_slice()), (Frame::DATA, &b"\x81\x05hello"[..]));
}

#[test]
fn streams_of_http2_are_websockets_too() {
    let service = Service::new();
    let (site, leaving, staying) = Site::peers(service.address);
    let (mut ends, mut stays) = (site.http2(&leaving), site.http2(&staying));
    let streams = [&mut ends, &mut stays].map(|client| {
        let stream = connect(client, "/");
        assert_eq!(client.frame().expect("a head").status(), 200);
        hello(client, stream);
        stream
    });
    // A second one, beside an ordinary request.
    let second = connect(&mut stays, "/second");
    assert_eq!(stays.frame().expect("a head").status(), 200);
    hello(&mut stays, second);
    // What a stream does not end like ends it: the service sees the end, and says its own.
    stays.end(second).expect("sent");
    let rest = stays.stream(second).expect("the end");
    assert!(rest.iter().all(|frame| frame.kind == Frame::DATA), "{rest:?}");
    site.change(&peers(&["staying"]));
    let last = ends.rest();
    assert!(last.iter().any(|frame| frame.kind == Frame::GOAWAY), "{last:?}");
    hello(&mut stays, streams[1]);
    assert_eq!(service.requests(), ["/", "/", "/second"]);
}

/// Over HTTP/2 any success would be a tunnel.
#[test]
fn a_page_is_no_websocket_over_http2() {
    let odd = Odd::new();
    let (site, peer, _) = Site::peers(odd.address);
    let mut client = site.http2(&peer);
    let stream = connect(&mut client, "/page");
    let answer = client.stream(stream).expect("an answer");
    assert!(answer[0].kind == Frame::HEADERS && answer[0].payload[0] != OK, "{answer:?}");
    // Other protocols and other methods stay what they were.
    let fields = [(":protocol", "connect-udp"), ("sec-websocket-version", "13")];
    let stream = client.request("CONNECT", "/switch", &fields, false).expect("sent");
    let answer = client.stream(stream).expect("an answer");
    assert!(answer[0].kind == Frame::HEADERS && answer[0].payload[0] != OK, "{answer:?}");
    let asked: Vec<_> = odd.requests().iter().map(|it| it.start.clone()).collect();
    assert_eq!(asked, ["GET /page HTTP/1.1"]);
}

/// The same service behind the host and behind Envoy, by one filter.
struct Both {
    pki: Pki,
    peer: Peer,
    proxies: [(&'static str, SocketAddr, Odd); 2],
    _running: (Host, Envoy),
    _directory: TempDir,
}

impl Both {
    fn new(filter: &Path, policy: &Value) -> Self {
        let (pki, directory) = (Pki::new(), tempfile::tempdir().expect("a directory"));
        let peer = pki.peer(&Leaf::new().cn("staying"));
        let [service, envoys] = [Odd::new(), Odd::new()];
        let host = Start::new(&pki, policy, service.address).filter(filter).argument("--websocket").start();
        let configuration = json!({"endpoint": "peer", "policy": policy});
        let mut listener = envoy::listener(CURRENT, "http", &pki, Protocol::Http, configuration);
        listener.upstream = Some(envoys.address);
        listener.websocket = true;
        let bootstrap = Bootstrap { filter: filter.to_owned(), listeners: vec![listener] };
        let envoy = Envoy::start(&envoy::binary(CURRENT), &bootstrap, directory.path()).expect("an Envoy");
        let envoys_address = envoy.listener("http").expect("a listener");
        let proxies = [("the host", host.address, service), ("Envoy", envoys_address, envoys)];
        Self { pki, peer, proxies, _running: (host, envoy), _directory: directory }
    }

    /// Sends a handshake to each, and looks at what comes of it.
    fn each(&self, path: &str, look: impl Fn(&str, &Odd, &str, &mut Bytes)) {
        for (name, address, service) in &self.proxies {
            let client = Bytes::connect(*address, self.pki.ca(), Some(&self.peer.credential));
            let mut client = client.expect("a connection");
            client.write(handshake(path).as_bytes()).expect("sent");
            let answer = head(&mut client);
            look(name, service, &answer, &mut client);
        }
    }

    /// The same over HTTP/2.
    fn each_http2(&self, path: &str, look: impl Fn(&str, Frame, &mut Http2, u32)) {
        for (name, address, _) in &self.proxies {
            let client = Http2::connect(*address, self.pki.ca(), Some(&self.peer.credential));
            let mut client = client.expect("a connection");
            // Extended CONNECT is for those who were told that it is there (RFC 8441 section 3).
            let stream = connect(&mut client, path);
            let answer = client.frame().expect("an answer");
            look(name, answer, &mut client, stream);
        }
    }
}

#[test]
fn the_filter_decides_on_handshakes_as_in_envoy() {
    if skipped("WebSockets in Envoy") {
        return;
    }
    let both = Both::new(&filter(), &with_a_denied_path());
    both.each("/switch", |name, _, answer, client| {
        assert!(
            answer.starts_with("http/1.1 101 ") && answer.contains("upgrade: websocket"),
            "{name}: {answer}"
        );
        assert_eq!(echo(client, b"bytes"), b"bytes", "{name}");
    });
    both.each("/refuse", |name, _, answer, _| {
        assert!(answer.starts_with("http/1.1 426 "), "{name}: {answer}")
    });
    both.each("/denied", |name, service, answer, _| {
        assert!(answer.starts_with("http/1.1 403 "), "{name}: {answer}");
        let asked: Vec<_> = service.requests().iter().map(|it| it.start.clone()).collect();
        assert_eq!(asked, ["GET /switch HTTP/1.1", "GET /refuse HTTP/1.1"], "{name}");
    });
    both.each_http2("/denied", |name, answer, _, stream| {
        assert_eq!((answer.stream, answer.status()), (stream, 403), "{name}");
    });
}

/// What passes a tunnel is the body of the exchange, to a filter that reads bodies.
#[test]
fn other_filters_see_what_passes_as_in_envoy() {
    if skipped("WebSockets in Envoy") {
        return;
    }
    let rewrite = root().join("target/wasm32-wasip1/wasm/rewrite.wasm");
    assert!(rewrite.is_file(), "rewrite.wasm is missing; build it: make filters");
    let both = Both::new(&rewrite, &json!({}));
    both.each("/as-it-is", |name, _, answer, client| {
        assert!(
            answer.starts_with("http/1.1 101 ") && answer.contains("x-rewritten: yes"),
            "{name}: {answer}"
        );
        assert_eq!(echo(client, b"bytes"), b"bytes", "{name}");
    });
    // Answers are put into capitals, and requests held back to their end, which a WebSocket does not have.
    both.each("/early", |name, service, answer, client| {
        assert!(answer.starts_with("http/1.1 101 "), "{name}: {answer}");
        let mut early = [0; 5];
        client.read_exact(&mut early).expect("bytes of the service");
        assert_eq!(&early, b"EARLY", "{name}");
        client.write(b"a secret").expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(service.bytes(), b"bytes".len(), "{name}");
    });
}

/// Two nodes: a program speaks plaintext to the first, which speaks TLS to the second, which has the service.
struct Nodes {
    pki: Pki,
    servers: PathBuf,
    clients: PathBuf,
    inbound: Host,
    outbound: Host,
}

impl Nodes {
    fn new(service: SocketAddr, websocket: bool) -> Self {
        let pki = Pki::new();
        let leaf = Leaf::new().cn("first").dns("localhost");
        let credential = pki.authority().issue(&leaf).expect("a certificate");
        credential.write(pki.directory(), "first").expect("the node's files");
        let (servers, clients) = (pki.file("servers.json"), pki.file("clients.json"));
        fs::write(&clients, pki.with_files(&peers(&["first"])).to_string()).expect("a policy");
        let inbound = json!({"inbound": [{"address": "127.0.0.1:0", "websocket": true,
            "upstream": {"address": service}, "endpoints": [{"endpoint": "peer", "policy": "clients.json"}]}]});
        fs::write(pki.file("inbound.json"), inbound.to_string()).expect("a configuration");
        let inbound = Start::config(&pki.file("inbound.json")).start();
        let upstream = json!({"address": format!("localhost:{}", inbound.address.port())});
        let outbound = json!({"outbound": [{"address": "127.0.0.1:0", "websocket": websocket,
            "upstream": upstream, "policy": "servers.json"}]});
        fs::write(pki.file("outbound.json"), outbound.to_string()).expect("a configuration");
        Self::admit(&pki, &servers, &["localhost"]);
        let outbound = Start::config(&pki.file("outbound.json")).start();
        Self { pki, servers, clients, inbound, outbound }
    }

    fn admit(pki: &Pki, servers: &PathBuf, names: &[&str]) {
        let mut policy = pki.with_files(&peers(names));
        policy["files"]["certificates"] = pki.file("first.pem").to_str().into();
        policy["files"]["private-key"] = pki.file("first.key").to_str().into();
        fs::write(servers, policy.to_string()).expect("a policy");
    }

    fn client(&self) -> Client {
        Client::connect(&format!("ws://{}/", self.outbound.address), &json!({}))
    }

    fn open(&self) -> Client {
        let client = self.client();
        assert_eq!(client.line(), "open", "{}\n{}", self.outbound.log(), self.inbound.log());
        client
    }
}

#[test]
fn a_websocket_passes_two_hosts_until_either_dismisses_the_other() {
    let service = Service::new();
    let nodes = Nodes::new(service.address, true);
    let mut client = nodes.open();
    assert_eq!(client.ask("text through both"), "text through both");
    assert_eq!(client.ask("bytes 3000000"), "bytes same");
    assert_eq!(client.ask("ping"), "pong");
    // The first dismisses the server.
    Nodes::admit(&nodes.pki, &nodes.servers, &["somebody-else"]);
    nodes.outbound.reload();
    assert_eq!(client.line(), "lost");
    wait::until("the log tells", || nodes.outbound.log().contains("no-longer-admitted"));
    assert_eq!(nodes.client().line(), "status 502");
    Nodes::admit(&nodes.pki, &nodes.servers, &["localhost"]);
    nodes.outbound.reload();
    // The second dismisses the client.
    let client = nodes.open();
    fs::write(&nodes.clients, nodes.pki.with_files(&peers(&["somebody-else"])).to_string())
        .expect("a policy");
    nodes.inbound.reload();
    assert_eq!(client.line(), "lost");
    wait::until("the log tells", || nodes.inbound.log().contains("no-longer-admitted"));
}

#[test]
fn a_program_gets_no_websocket_where_outbound_takes_none() {
    let upstream = Upstream::http();
    let nodes = Nodes::new(upstream.address, false);
    // As an answer to a handshake it is none, and the client says so.
    assert_eq!(nodes.client().line(), "status 200");
    assert!(upstream.last_request().header("upgrade").is_none());
}

#[test]
fn a_listener_that_cannot_take_websockets_does_not_start() {
    let pki = Pki::new();
    let policy = write_policy(&pki, &peers(&["peer"]));
    let config = pki.file("host.json");
    for (listener, key, message) in [
        ("inbound", "protocol", "host.json:6:18: `inbound.0.websocket`: protocol `tcp` has no requests"),
        (
            "inbound",
            "upstream-protocol",
            "host.json:6:18: `inbound.0.websocket`: a WebSocket begins in HTTP/1.1",
        ),
        ("outbound", "protocol", "host.json:6:18: `outbound.0.websocket`: protocol `tcp` has no requests"),
    ] {
        let mut one = json!({"address": "127.0.0.1:0", "upstream": {"address": "127.0.0.1:9"}});
        match listener {
            "inbound" => one["endpoints"] = json!([{"endpoint": "peer", "policy": policy}]),
            _ => one["policy"] = json!(policy),
        }
        match key {
            "protocol" => one["protocol"] = "tcp".into(),
            _ => one["upstream"]["protocol"] = "h2c".into(),
        }
        let rest = one.to_string();
        let text =
            format!("{{\n  \"{listener}\":\n  [\n   {{\n\n    \"websocket\": true,\n {}]}}", &rest[1..]);
        fs::write(&config, text).expect("the configuration");
        let started = run(&mut Start::config(&config).command(), b"");
        assert_eq!(started.code, Some(2), "{key}: {}", started.output());
        assert!(started.stderr.contains(message), "{key}: {}", started.stderr);
    }
}

/// Bytes of a tunnel are not kept for a client that does not take them.
#[test]
fn a_client_that_does_not_read_holds_up_its_service() {
    let odd = Odd::new();
    let (site, peer, other) = Site::peers(odd.address);
    let mut client = site.bytes(&peer);
    client.write(handshake("/switch").as_bytes()).expect("sent");
    assert!(head(&mut client).contains(" 101 "));
    let resident = || {
        let status =
            fs::read_to_string(format!("/proc/{}/status", site.host.pid())).expect("the host's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    let before = resident();
    // Written until nobody takes any more.
    let writing = std::thread::spawn(move || {
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..4096 {
            if client.write(&piece).is_err() {
                return;
            }
        }
    });
    let mut seen = (odd.bytes(), 0);
    wait::until("nothing moves", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = odd.bytes();
        seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
        now > 0 && seen.1 > 3
    });
    assert!(odd.bytes() < 256 << 20, "{} bytes passed", odd.bytes());
    assert!(resident() < before + (32 << 10), "{before} kB became {} kB", resident());
    assert_eq!(site.bytes(&other).get("/").expect("an answer").status(), 404);
    drop(site);
    writing.join().expect("a writer");
}

#[test]
fn a_program_that_is_refused_sees_no_byte_of_the_service() {
    let odd = Odd::new();
    let nodes = Nodes::new(odd.address, true);
    let mut program = TcpStream::connect(nodes.outbound.address).expect("a connection");
    program.write_all(format!("{}secret", handshake("/wrong-accept")).as_bytes()).expect("sent");
    let mut answer = [0; 12];
    program.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 502");
    assert_eq!(odd.bytes(), 0);
}
