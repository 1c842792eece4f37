//! Filters as others write them, in our host and in Envoy: the same requests, the same answers.
//!
//! What differs by design is left out of the comparison: the fields each proxy adds, how it frames a message, and the body
//! of a 503 of its own.

use std::{
    fs,
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use peergate_host::envoy::{Bootstrap, Envoy, Protocol};
use peergate_tests::{
    client::Client,
    envoy::{self, CURRENT, skipped},
    host::{Host, Start, write_policy},
    http1::Message,
    pki::{Peer, Pki},
    policies::node,
    root,
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One filter in both proxies, each in front of a service of its own.
struct Both {
    pki: Pki,
    peer: Peer,
    proxies: [Proxy; 2],
    _running: (Host, Envoy),
    _directory: TempDir,
}

struct Proxy {
    name: &'static str,
    address: SocketAddr,
    upstream: Upstream,
}

/// What is compared of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<String>,
    body: String,
    trailers: Vec<String>,
}

impl Both {
    fn new(filter: &Path) -> Self {
        Self::with_clusters(filter, &[])
    }

    /// With services that the filter may call.
    fn with_clusters(filter: &Path, clusters: &[(&str, SocketAddr)]) -> Self {
        let (pki, directory) = (Pki::new(), tempfile::tempdir().expect("a directory"));
        let peer = pki.peer(&node());
        let [upstream, envoys_upstream] = [Upstream::http(), Upstream::http()];
        let host = Start::config(&host_configuration(&pki, filter, &upstream, clusters)).start();
        // Envoy has a cluster of the listener's name for each listener.
        let listeners = [("http", envoys_upstream.address)].into_iter().chain(clusters.iter().copied()).map(
            |(name, address)| {
                let mut listener = envoy::listener(CURRENT, name, &pki, Protocol::Http, json!({}));
                listener.upstream = Some(address);
                listener
            },
        );
        let bootstrap = Bootstrap { filter: filter.to_owned(), listeners: listeners.collect() };
        let envoy = Envoy::start(&envoy::binary(CURRENT), &bootstrap, directory.path()).expect("an Envoy");
        let envoys_address = envoy.listener("http").expect("a listener");
        let proxies = [
            Proxy { name: "the host", address: host.address, upstream },
            Proxy { name: "Envoy", address: envoys_address, upstream: envoys_upstream },
        ];
        Self { pki, peer, proxies, _running: (host, envoy), _directory: directory }
    }

    fn answer(&self, proxy: &Proxy, request: &str) -> Message {
        let client = Client::connect(proxy.address, self.pki.ca(), Some(&self.peer.credential));
        let answer = client.and_then(|mut client| client.request(request.as_bytes()));
        answer.unwrap_or_else(|error| panic!("{} does not answer `{request}`: {error}", proxy.name))
    }

    /// Sends the same to both; what the host answers, when it is what Envoy answers.
    #[track_caller]
    fn same(&self, request: &str) -> Seen {
        let [host, envoy] = self.proxies.each_ref().map(|proxy| seen(&self.answer(proxy, request)));
        assert_eq!(host, envoy, "the host and Envoy answer `{request}`");
        host
    }

    /// What reached the services behind both, when it is the same.
    #[track_caller]
    fn same_forwarded(&self) -> Seen {
        let [host, envoy] = self.proxies.each_ref().map(|proxy| {
            let request = proxy.upstream.last_request();
            Seen { status: 0, ..seen_parts(&request) }
        });
        assert_eq!(host, envoy, "what the host and Envoy forward");
        host
    }
}

fn host_configuration(
    pki: &Pki,
    filter: &Path,
    upstream: &Upstream,
    clusters: &[(&str, SocketAddr)],
) -> PathBuf {
    let workers = if clusters.is_empty() { 2 } else { 1 };
    let clusters: Value =
        clusters.iter().map(|(name, address)| (name.to_string(), json!({"address": address}))).collect();
    let configuration = json!({
        "filter": filter,
        "clusters": clusters,
        "workers": workers,
        "inbound": [{
            "address": "127.0.0.1:0",
            "upstream": {"address": upstream.address},
            "endpoints": [{"endpoint": "peer", "policy": write_policy(pki, &json!({}))}],
        }],
    });
    let path = pki.file("host.json");
    fs::write(&path, configuration.to_string()).expect("written");
    path
}

fn seen(message: &Message) -> Seen {
    let seen = Seen { status: message.status(), ..seen_parts(message) };
    // Envoy's own 503 has no body and ours has one.
    if seen.status == 503 { Seen { headers: Vec::new(), body: String::new(), ..seen } } else { seen }
}

fn seen_parts(message: &Message) -> Seen {
    // What each proxy adds, and how it frames a message.
    let own = ["connection", "content-length", "date", "host", "server", "transfer-encoding", "x-request-id"];
    let fields = |fields: &[(String, Vec<u8>)]| {
        let mut fields: Vec<_> = fields
            .iter()
            .filter(|(name, _)| !own.contains(&name.as_str()))
            .filter(|(name, _)| !name.starts_with("x-envoy-") && !name.starts_with("x-forwarded-"))
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
            .collect();
        fields.sort();
        fields
    };
    Seen {
        status: 0,
        headers: fields(&message.headers),
        body: message.text(),
        trailers: fields(&message.trailers),
    }
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nte: trailers\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nte: trailers\r\n\r\n")
}

/// A filter of tests/filters.
fn sdk_filter(name: &str) -> PathBuf {
    let path = root().join("target/wasm32-wasip1/wasm").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing; build it: make filters", path.display());
    path
}

#[test]
fn every_import_answers_what_envoys_does() {
    if skipped("statuses of host functions") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let wasm = directory.path().join("statuses.wasm");
    let module = wat::parse_str(include_str!("statuses.wat")).expect("a module");
    fs::write(&wasm, module).expect("written");
    let statuses = Both::new(&wasm).same(&get("/")).body;
    let lines: Vec<_> = statuses.lines().collect();
    assert_eq!(lines.first().map(|line| line.chars().all(|status| status == '6')), Some(true), "{statuses}");
    assert_eq!(lines.len(), 7, "{statuses}");
}

#[test]
fn callbacks_come_in_envoys_order() {
    if skipped("the order of callbacks") {
        return;
    }
    let both = Both::new(&sdk_filter("trace"));
    for (path, status, traced) in [
        ("/", 200, true),
        ("/trailers", 200, true),
        ("/reply", 403, true),
        ("/reply-and-continue", 403, true),
        ("/reply-empty", 403, true),
        // The first of two replies is sent, and the reply to a response in its place.
        ("/reply-twice", 403, true),
        ("/reply-to-reply", 418, false),
        ("/reply-in-response", 418, false),
        ("/panic", 503, false),
        ("/panic-in-body", 503, false),
        ("/panic-in-response", 503, false),
        // And the next request finds a filter that works.
        ("/", 200, true),
    ] {
        let answer = both.same(&post(path, "hello"));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers.contains(&format!("x-traced: {status}")), traced, "{path}: {answer:?}");
        let [host, envoy] = both.proxies.each_ref().map(|proxy| notes(&both, proxy, status != 503));
        assert_eq!(host, envoy, "notes about {path}");
        if status != 503 {
            assert!(host.ends_with("done\ndelete\n") && host.contains("log "), "{path}: {host}");
        }
    }
}

/// What the filter `trace` noted about the last request. Its last callbacks may come after the answer.
fn notes(both: &Both, proxy: &Proxy, to_the_end: bool) -> String {
    let mut notes = String::new();
    wait::until("the last callback", || {
        let report = both.answer(proxy, &get("/report"));
        if report.status() != 200 {
            // After a panic, Envoy waits before it starts the filter again.
            return false;
        }
        notes.push_str(&report.text());
        notes.ends_with("delete\n") || !to_the_end
    });
    notes
}

#[test]
fn bodies_are_rewritten_as_by_envoy() {
    if skipped("rewritten bodies") {
        return;
    }
    let both = Both::new(&sdk_filter("rewrite"));
    let long = "a secret, again ".repeat(20_000);
    for (path, body, forwarded, answered) in [
        ("/", "keep this secret", "keep this ******", "UPSTREAM\n"),
        ("/", "", "", "UPSTREAM\n"),
        ("/", long.as_str(), &long.replace("secret", "******"), "UPSTREAM\n"),
        ("/around", "secret", "<******>", "UPSTREAM\n"),
        ("/as-it-is", "secret", "secret", "upstream\n"),
        ("/wrapped", "x", "x", "[upstream\n]"),
        ("/trailers", "x", "x", "UPSTREAM\n"),
    ] {
        let answer = both.same(&post(path, body));
        assert_eq!((answer.status, answer.body.as_str()), (200, answered), "{path}");
        assert!(answer.headers.contains(&"x-rewritten: yes".to_owned()), "{path}: {answer:?}");
        assert_eq!(both.same_forwarded().body, forwarded, "{path}");
    }
    let chunked =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n4\r\nret!\r\n0\r\n\r\n";
    assert_eq!(both.same(chunked).status, 200);
    assert_eq!(both.same_forwarded().body, "******!");
    assert_eq!(both.same(&get("/trailers")).trailers, ["x-checksum: none"]);
}

#[test]
fn a_body_can_be_refused_as_by_envoy() {
    if skipped("refused bodies") {
        return;
    }
    let both = Both::new(&sdk_filter("rewrite"));
    let refused = both.same(&post("/", "some forbidden words"));
    assert_eq!((refused.status, refused.body.as_str()), (422, "NOT WITH THESE WORDS\n"));
    assert!(refused.headers.contains(&"x-rewritten: yes".to_owned()), "{refused:?}");
    let large = "x".repeat(3 << 20);
    assert_eq!(both.same(&post("/", &large)).status, 413);
    assert_eq!(both.same(&post("/as-it-is", &large)).status, 200);
    assert_eq!(both.same_forwarded().body.len(), large.len());
    for proxy in &both.proxies {
        let bodies: Vec<_> = proxy.upstream.requests().into_iter().map(|request| request.body).collect();
        assert_eq!(bodies.len(), 1, "{}: a refused body does not arrive", proxy.name);
    }
}

#[test]
fn queues_timers_shared_data_and_metrics_are_envoys() {
    if skipped("queues and timers") {
        return;
    }
    let both = Both::new(&sdk_filter("ledger"));
    for number in 0..20 {
        both.same(&get(&format!("/{number}")));
    }
    // What is in the queue is taken out by one of the workers, whichever asks; ten paths have one digit and ten two.
    let complete = |books: &str| books.contains("items 20 bytes 50") && books.contains("ticks yes");
    wait::until("the books are complete", || {
        both.proxies.iter().all(|proxy| complete(&both.answer(proxy, &get("/report")).text()))
    });
    let books = both.same(&get("/report"));
    assert!(books.body.contains("others' queue Ok(None)"), "{}", books.body);
}

/// How many requests wait at an authority, and whether they may go on.
#[derive(Default)]
struct Waiting {
    count: Mutex<(usize, bool)>,
    changed: Condvar,
}

/// Requests for `/wait` that an authority sees before it answers about `/release`.
const WAITING: usize = 3;

/// A service that knows one credential, `good`. It never answers about `/slow`, and about `/wait` only when it was asked
/// about `/release`.
fn authority() -> SocketAddr {
    let waiting = Arc::<Waiting>::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let waiting = Arc::clone(&waiting);
            // A client that breaks off is its own affair.
            thread::spawn(move || check(stream, &waiting).ok());
        }
    });
    address
}

fn check(mut stream: TcpStream, waiting: &Waiting) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Message::read(&mut reader)? {
        let field = |name| String::from_utf8_lossy(request.header(name).unwrap_or_default()).into_owned();
        let mut count = waiting.count.lock().expect("no panic");
        match field("x-path").as_str() {
            "/slow" => drop(waiting.changed.wait_while(count, |_| true)),
            "/wait" => {
                count.0 += 1;
                waiting.changed.notify_all();
                drop(waiting.changed.wait_while(count, |(_, released)| !*released));
            }
            "/release" => {
                let all = waiting.changed.wait_while(count, |(count, _)| *count < WAITING);
                all.expect("no panic").1 = true;
                waiting.changed.notify_all();
            }
            _ => drop(count),
        }
        let asked = request.start == "POST /check HTTP/1.1" && field("host") == "auth.example";
        let answer: &[u8] = if asked && field("x-credential") == "good" && request.body == b"good" {
            b"HTTP/1.1 200 OK\r\nx-user: alice\r\ncontent-length: 2\r\n\r\nok"
        } else {
            b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 7\r\n\r\nunknown"
        };
        stream.write_all(answer)?;
    }
    Ok(())
}

#[test]
fn a_request_waits_for_an_authority_as_in_envoy() {
    if skipped("calls to clusters") {
        return;
    }
    let down = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let both = Both::with_clusters(&sdk_filter("authorize"), &[("auth", authority()), ("down", down)]);
    let with = |path: &str, credential: &str| {
        let length = path.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nx-credential: {credential}\r\ncontent-length: {length}\r\n\r\n{path}"
        )
    };
    for _ in 0..3 {
        let answer = both.same(&with("/", "good"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "upstream\n"));
        assert!(answer.headers.contains(&"x-seen: authorize".to_owned()), "{answer:?}");
        let forwarded = both.same_forwarded();
        assert!(forwarded.headers.contains(&"x-user: alice".to_owned()), "{forwarded:?}");
        assert_eq!(forwarded.body, "/", "the body waited too");
    }
    for (path, credential, status, body) in [
        ("/", "bad", 403, "401 all headers, 0 trailers: unknown"),
        ("/nowhere", "good", 500, "BadArgument"),
        ("/without-path", "good", 500, "BadArgument"),
    ] {
        let answer = both.same(&with(path, credential));
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
        assert!(answer.headers.contains(&"x-from: authorize".to_owned()), "{answer:?}");
        assert!(answer.headers.contains(&"x-seen: authorize".to_owned()), "{answer:?}");
    }
    // Envoy says more about why a connection failed, so only the beginning is the same.
    for (path, body) in [
        ("/down", "503 all headers, 0 trailers: upstream connect error or disconnect/reset before headers"),
        ("/slow", "504 all headers, 0 trailers: upstream request timeout"),
    ] {
        for proxy in &both.proxies {
            let answer = both.answer(proxy, &with(path, "good"));
            assert_eq!(answer.status(), 403, "{path}: {}", proxy.name);
            assert!(answer.text().starts_with(body), "{path}: {}: {}", proxy.name, answer.text());
        }
    }
    for proxy in &both.proxies {
        assert_eq!(proxy.upstream.requests().len(), 3, "{}: nothing refused arrives", proxy.name);
    }
}

#[test]
fn a_request_that_waits_holds_up_no_other() {
    if skipped("requests that wait") {
        return;
    }
    // The host has one worker here, as Envoy has. Were it blocked, nobody could release it.
    for index in 0..2 {
        let both = Both::with_clusters(&sdk_filter("authorize"), &[("auth", authority())]);
        let proxy = &both.proxies[index];
        let ask = |path| {
            both.answer(proxy, &format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-credential: good\r\n\r\n"))
        };
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..WAITING).map(|_| scope.spawn(|| ask("/wait").text())).collect();
            ask("/release");
            for answer in waiting {
                assert_eq!(answer.join().expect("an answer"), "upstream\n", "{}", proxy.name);
            }
        });
    }
}
