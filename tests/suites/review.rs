//! Open connections after a reload: who is no longer admitted goes, everybody else stays.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use peergate_host::pki::{Authority, Credential, Leaf};
use peergate_policy::token::Derivation;
use peergate_tests::admin::get;
use peergate_tests::client::Client;
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::http2::{Frame, Http2};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, NameConstraints,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// A host with one endpoint, whose policy changes.
struct Site {
    pki: Pki,
    policy: PathBuf,
    upstream: Upstream,
    host: Host,
}

impl Site {
    fn start(pki: Pki, kind: &str, policy: &Value, upstream: Upstream, tcp: bool) -> Self {
        let path = write_policy(&pki, policy);
        let start = Start::endpoint(kind, &path, upstream.address);
        let host = if tcp { start.tcp() } else { start }.start();
        Self { pki, policy: path, upstream, host }
    }

    fn peers(names: &[&str]) -> (Self, Peer, Peer) {
        let pki = Pki::new();
        let (leaving, staying) = (pki.peer(&Leaf::new().cn("leaving")), pki.peer(&Leaf::new().cn("staying")));
        (Self::start(pki, "peer", &peers(names), Upstream::http(), false), leaving, staying)
    }

    fn change(&self, policy: &Value) {
        fs::write(&self.policy, self.pki.with_files(policy).to_string()).expect("the policy");
        self.host.reload();
    }

    fn client(&self, peer: Option<&Peer>) -> Client {
        let credential = peer.map(|peer| &peer.credential);
        Client::connect(self.host.address, self.pki.ca(), credential).expect("a connection")
    }

    fn http2(&self, peer: Option<&Peer>) -> Http2 {
        let credential = peer.map(|peer| &peer.credential);
        Http2::connect(self.host.address, self.pki.ca(), credential).expect("a connection")
    }

    /// Lines of the log about the end of connections, or of requests.
    fn ends(&self, what: &str) -> Vec<String> {
        let log = self.host.log();
        log.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
    }

    fn wait_for_ends(&self, what: &str, count: usize) -> Vec<String> {
        wait::until(&format!("{count} times {what}"), || self.ends(what).len() >= count);
        self.ends(what)
    }
}

fn peers(names: &[&str]) -> Value {
    let rule =
        |name: &&str| json!({"name": name, "required-credentials": [{"field": "CN", "must-match": name}]});
    json!({"authorized-peers": names.iter().map(rule).collect::<Vec<_>>()})
}

/// The head of a response and the first bytes of its endless body.
fn begin_stream(client: &mut Client, fields: &str) {
    client
        .write(format!("GET /stream HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n").as_bytes())
        .expect("sent");
    read_until(client, b"tick");
}

fn read_until(client: &mut Client, end: &[u8]) {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("more of the stream");
        seen.extend(byte);
    }
}

/// The connection ends, in whichever way: a reset, an alert, or just so. Waiting in vain is none.
fn assert_closed(mut client: Client) -> Vec<u8> {
    match client.read_to_end() {
        Ok(bytes) => bytes,
        Err(error) => {
            let kind = error.kind();
            assert!(!matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "it stays open");
            Vec::new()
        }
    }
}

#[test]
fn idle_connections_of_a_peer_that_is_no_longer_admitted_end() {
    let (site, leaving, staying) = Site::peers(&["leaving", "staying"]);
    let mut ends = (site.client(Some(&leaving)), site.http2(Some(&leaving)));
    let mut stays = (site.client(Some(&staying)), site.http2(Some(&staying)));
    for client in [&mut ends.0, &mut stays.0] {
        assert_eq!(client.get("/").expect("an answer").status(), 200);
    }
    for client in [&mut ends.1, &mut stays.1] {
        let stream = client.request("GET", "/", &[], true).expect("sent");
        assert_eq!(client.stream(stream).expect("an answer")[0].status(), 200);
    }
    site.change(&peers(&["staying"]));
    assert_eq!(assert_closed(ends.0), b"");
    let last = ends.1.rest();
    assert!(last.iter().any(|frame| frame.kind == Frame::GOAWAY), "{last:?}");
    let lines = site.wait_for_ends("end connection", 2);
    assert!(
        lines.iter().all(|line| line.contains("no-longer-admitted") && line.contains("no-rule-matched")),
        "{lines:?}"
    );
    assert_eq!(stays.0.get("/").expect("an answer on the open connection").status(), 200);
    let stream = stays.1.request("GET", "/", &[], true).expect("sent");
    assert_eq!(stays.1.stream(stream).expect("an answer on the open connection")[0].status(), 200);
    assert_eq!(site.ends("end connection").len(), 2);
}

#[test]
fn answers_under_way_end_with_their_connection() {
    let (site, leaving, staying) = Site::peers(&["leaving", "staying"]);
    let mut ends = (site.client(Some(&leaving)), site.http2(Some(&leaving)));
    let mut stays = (site.client(Some(&staying)), site.http2(Some(&staying)));
    for client in [&mut ends.0, &mut stays.0] {
        begin_stream(client, "");
    }
    for client in [&mut ends.1, &mut stays.1] {
        client.request("GET", "/stream", &[], true).expect("sent");
        assert_eq!(client.frame().expect("a head").status(), 200);
    }
    site.change(&peers(&["staying"]));
    assert_closed(ends.0);
    let last = ends.1.rest();
    assert!(last.iter().any(|frame| frame.kind == Frame::GOAWAY), "{last:?}");
    assert!(last.iter().any(|frame| (frame.kind, frame.stream) == (Frame::RST_STREAM, 1)), "{last:?}");
    site.wait_for_ends("end connection", 2);
    for _ in 0..10 {
        read_until(&mut stays.0, b"tick");
        assert_eq!(stays.1.frame().expect("more of the stream").kind, Frame::DATA);
    }
    assert_eq!(site.ends("end connection").len(), 2, "{}", site.host.log());
}

/// Whoever waits for an answer gets one.
#[test]
fn requests_without_an_answer_are_refused() {
    let (site, leaving, staying) = Site::peers(&["leaving", "staying"]);
    let mut ends = (site.client(Some(&leaving)), site.http2(Some(&leaving)));
    let mut stays = site.http2(Some(&staying));
    ends.0.write(b"GET /hang HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
    let waiting = ends.1.request("GET", "/hang", &[], true).expect("sent");
    let kept = stays.request("POST", "/", &[], false).expect("sent");
    wait::until("the upstream has the requests", || site.upstream.requests().len() == 2);
    site.change(&peers(&["staying"]));
    let answer = ends.0.request(b"").expect("an answer");
    assert_eq!(answer.status(), 403, "{answer:?}");
    assert_closed(ends.0);
    assert_eq!(ends.1.stream(waiting).expect("an answer")[0].status(), 403);
    stays.data(kept, b"the rest").expect("sent");
    stays.end(kept).expect("sent");
    assert_eq!(stays.stream(kept).expect("an answer")[0].status(), 200);
    assert_eq!(site.upstream.last_request().text(), "the rest");
}

#[test]
fn uploads_end_and_never_become_whole() {
    let (site, leaving, staying) = Site::peers(&["leaving", "staying"]);
    let head =
        b"POST /upload HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\npart1\r\n";
    let (mut ends, mut stays) = (site.client(Some(&leaving)), site.client(Some(&staying)));
    ends.write(head).expect("sent");
    stays.write(head).expect("sent");
    wait::until("the upstream is reached", || site.upstream.connections() == 2);
    site.change(&peers(&["staying"]));
    let answer = ends.request(b"").expect("an answer");
    assert_eq!(answer.status(), 403, "{answer:?}");
    assert_closed(ends);
    assert_eq!(stays.request(b"5\r\npart2\r\n0\r\n\r\n").expect("an answer").status(), 200);
    let whole: Vec<_> = site.upstream.requests().iter().map(|request| request.text()).collect();
    assert_eq!(whole, ["part1part2"]);
}

#[test]
fn bytes_of_a_peer_that_is_no_longer_admitted_stop() {
    let pki = Pki::new();
    let (leaving, staying) = (pki.peer(&Leaf::new().cn("leaving")), pki.peer(&Leaf::new().cn("staying")));
    let site = Site::start(pki, "peer", &peers(&["leaving", "staying"]), Upstream::echo(), true);
    let mut both = [site.client(Some(&leaving)), site.client(Some(&staying))];
    let echo = |client: &mut Client| {
        client.write(b"ping").expect("sent");
        let mut echoed = [0; 4];
        client.read_exact(&mut echoed).map(|()| echoed)
    };
    for client in &mut both {
        assert_eq!(&echo(client).expect("an echo"), b"ping");
    }
    site.change(&peers(&["staying"]));
    let [ends, mut stays] = both;
    assert_closed(ends);
    assert_eq!(&echo(&mut stays).expect("an echo"), b"ping");
    let lines = site.wait_for_ends("end connection", 1);
    assert!(lines.len() == 1 && lines[0].contains("no-longer-admitted"), "{lines:?}");
}

/// A peer stays, and loses a capability: only what it needs that one for ends.
#[test]
fn a_request_whose_capability_is_taken_away_ends_alone() {
    let pki = Pki::new();
    let peer = pki.peer(&Leaf::new().cn("peer"));
    let policy = |capabilities: &[&str]| {
        let mut policy = peers(&["peer"]);
        policy["authorized-peers"][0]["capabilities"] = json!(capabilities);
        policy["http-capabilities"] = json!([
            {"paths": ["/stream"], "requires": ["vespa.container.state_api"]},
            {"paths": ["/"], "requires": ["vespa.http.unclassified"]},
        ]);
        policy
    };
    let both = policy(&["vespa.container.state_api", "vespa.http.unclassified"]);
    let site = Site::start(pki, "peer", &both, Upstream::http(), false);
    let (mut first, mut second) = (site.client(Some(&peer)), site.http2(Some(&peer)));
    begin_stream(&mut first, "");
    let stream = second.request("GET", "/stream", &[], true).expect("sent");
    assert_eq!(second.frame().expect("a head").status(), 200);
    site.change(&policy(&["vespa.http.unclassified"]));
    assert_closed(first);
    let last = second.stream(stream).expect("the connection stays");
    assert_eq!(last.last().map(|frame| frame.kind), Some(Frame::RST_STREAM));
    let next = second.request("GET", "/", &[], true).expect("sent");
    assert_eq!(second.stream(next).expect("an answer")[0].status(), 200);
    let lines = site.wait_for_ends("end request", 2);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("path=/stream")), "{lines:?}");
    assert_eq!(site.ends("end connection"), Vec::<String>::new());
}

const CONTEXT: &str = "Vespa Cloud tenant data plane:review";

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

/// Streams of one connection are of different tokens.
#[test]
fn the_stream_of_a_revoked_token_ends_alone() {
    let policy = tokens(&[("leaving", "<none>"), ("staying", "<none>")]);
    let site = Site::start(Pki::new(), "token", &policy, Upstream::http(), false);
    let bearer = |name: &str| format!("Bearer {}", token(name));
    let (mut shared, mut own) = (site.http2(None), site.client(None));
    begin_stream(&mut own, &format!("authorization: {}\r\n", bearer("leaving")));
    let mut begin = |name: &str| {
        let stream =
            shared.request("GET", "/stream", &[("authorization", &bearer(name))], true).expect("sent");
        while shared.frame().expect("a frame").stream != stream {}
        stream
    };
    let (ends, stays) = (begin("leaving"), begin("staying"));
    site.change(&tokens(&[("staying", "<none>")]));
    let last = shared.stream(ends).expect("the connection stays");
    assert_eq!(last.last().map(|frame| frame.kind), Some(Frame::RST_STREAM));
    assert_closed(own);
    for _ in 0..10 {
        let frame = shared.frame().expect("more of the other stream");
        assert_eq!((frame.kind, frame.stream), (Frame::DATA, stays));
    }
    let lines = site.wait_for_ends("end request", 2);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.contains("path=/stream") && line.contains("token-unknown")),
        "{lines:?}"
    );
}

/// Nobody reads the policy again when a token ends.
#[test]
fn the_stream_of_a_token_ends_with_the_token() {
    let soon = OffsetDateTime::now_utc() + Duration::seconds(4);
    let soon = soon.replace_nanosecond(0).expect("whole seconds");
    let format = time::format_description::well_known::Rfc3339;
    let soon = soon.format(&format).expect("an instant");
    let policy = tokens(&[("leaving", &soon), ("staying", "2100-01-01T00:00:00Z")]);
    let site = Site::start(Pki::new(), "token", &policy, Upstream::http(), false);
    let begin = |name: &str| {
        let mut client = site.client(None);
        begin_stream(&mut client, &format!("authorization: Bearer {}\r\n", token(name)));
        client
    };
    let (ends, mut stays) = (begin("leaving"), begin("staying"));
    assert_closed(ends);
    let lines = site.wait_for_ends("end request", 1);
    assert!(lines.len() == 1 && lines[0].contains("token-expired"), "{lines:?}");
    read_until(&mut stays, b"tick");
}

fn pinned(clients: &[&Peer]) -> Value {
    let client = |(index, peer): (usize, &&Peer)| json!({"id": format!("c{index}"), "permissions": ["read"], "certificates": [{"file": peer.chain}]});
    let clients: Vec<_> = clients.iter().enumerate().map(client).collect();
    json!({"data-plane": {"clients": clients}})
}

#[test]
fn connections_of_a_client_that_is_removed_end() {
    let pki = Pki::new();
    let client = |name| pki.store(Credential::self_signed(&Leaf::new().cn(name)).expect("a certificate"));
    let (leaving, staying) = (client("leaving"), client("staying"));
    let (before, after) = (pinned(&[&leaving, &staying]), pinned(&[&staying]));
    let site = Site::start(pki, "mtls", &before, Upstream::http(), false);
    let mut idle = [site.client(Some(&leaving)), site.client(Some(&staying))];
    let mut busy = [site.client(Some(&leaving)), site.client(Some(&staying))];
    for client in &mut idle {
        assert_eq!(client.get("/").expect("an answer").status(), 200);
    }
    for client in &mut busy {
        begin_stream(client, "");
    }
    site.change(&after);
    let ([idle_ends, mut idle_stays], [busy_ends, mut busy_stays]) = (idle, busy);
    assert_closed(idle_ends);
    assert_closed(busy_ends);
    assert_eq!(idle_stays.get("/").expect("an answer").status(), 200);
    read_until(&mut busy_stays, b"tick");
    let lines = site.wait_for_ends("end connection", 2);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("no-longer-a-client")), "{lines:?}");
}

/// A client whose certificate had expired before it came is told so, on a connection that stays.
#[test]
fn a_pinned_certificate_that_had_expired_is_answered() {
    let pki = Pki::new();
    let expired = Leaf::new().cn("expired").expired();
    let expired = pki.store(Credential::self_signed(&expired).expect("a certificate"));
    let policy = pinned(&[&expired]);
    let site = Site::start(pki, "mtls", &policy, Upstream::http(), false);
    let mut client = site.client(Some(&expired));
    for _ in 0..3 {
        assert_eq!(client.get("/").expect("an answer").status(), 403);
        // The host looks for what has ended once a second.
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
}

#[test]
fn connections_of_an_authority_that_is_removed_end() {
    let pki = Pki::new();
    let other = Authority::root("Another root").expect("a root");
    let write = |text: String| fs::write(pki.file("ca.pem"), text).expect("ca.pem");
    write(pki.root().pem() + &other.pem());
    let staying = pki.peer(&Leaf::new().cn("peer"));
    let leaving = pki.store(other.issue(&Leaf::new().cn("peer")).expect("a certificate"));
    let own = pki.root().pem();
    let site = Site::start(pki, "peer", &peers(&["peer"]), Upstream::http(), false);
    let (ends, mut stays) = (site.client(Some(&leaving)), site.client(Some(&staying)));
    fs::write(site.pki.file("ca.pem"), own).expect("ca.pem");
    site.host.reload();
    assert_closed(ends);
    assert_eq!(stays.get("/").expect("an answer").status(), 200);
    let lines = site.wait_for_ends("end connection", 1);
    assert!(lines.len() == 1 && lines[0].contains("chain-not-verified"), "{lines:?}");
}

#[test]
fn a_new_certificate_of_an_authority_counts_in_full() {
    let pki = Pki::new();
    let [replaced, constrained] = ["Replaced", "Constrained"].map(|cn| Authority::root(cn).expect("a root"));
    let write = |roots: &[String]| fs::write(pki.file("ca.pem"), roots.concat()).expect("ca.pem");
    let own = pki.root().pem();
    write(&[own.clone(), replaced.pem(), constrained.pem()]);
    let leaf = Leaf::new().cn("peer").dns("peer.example");
    let staying = pki.peer(&leaf);
    let leaving = [&replaced, &constrained].map(|root| pki.store(root.issue(&leaf).expect("a certificate")));
    let policy = write_policy(&pki, &peers(&["peer"]));
    let upstream = Upstream::http();
    let host = Start::endpoint("peer", &policy, upstream.address).start();
    let connect =
        |peer: &Peer| Client::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
    let (ends, mut stays) = (leaving.each_ref().map(connect), connect(&staying));

    // One has the name and another key, the other the key and says for whom.
    let other_key = Authority::root("Replaced").expect("a root").pem();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Constrained");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let elsewhere = vec![GeneralSubtree::DnsName("elsewhere.example".to_owned())];
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: elsewhere, excluded_subtrees: Vec::new() });
    let same_key = params.self_signed(constrained.key()).expect("a root").pem();
    write(&[own, other_key, same_key]);
    host.reload();
    for client in ends {
        assert_closed(client);
    }
    assert_eq!(stays.get("/").expect("an answer").status(), 200);
    wait::until("two ends in the log", || host.log().matches("chain-not-verified").count() == 2);
}

#[test]
fn connections_end_with_their_certificate() {
    let now = OffsetDateTime::now_utc();
    let soon = Leaf::new().cn("peer").valid(now - Duration::hours(1), now + Duration::seconds(4));
    let pki = Pki::new();
    let (leaving, staying) = (pki.peer(&soon), pki.peer(&Leaf::new().cn("peer")));
    // What a peer sends and nobody needs may end when it likes.
    let stray = Credential::self_signed(&soon).expect("a certificate");
    let mut with_stray = staying.credential.clone();
    with_stray.chain.extend(stray.chain);
    let site = Site::start(pki, "peer", &peers(&["peer"]), Upstream::http(), false);
    let mut stays = [site.client(Some(&staying)), {
        Client::connect(site.host.address, site.pki.ca(), Some(&with_stray)).expect("a connection")
    }];
    let (idle, mut busy) = (site.client(Some(&leaving)), site.client(Some(&leaving)));
    begin_stream(&mut busy, "");
    assert_closed(idle);
    assert_closed(busy);
    let lines = site.wait_for_ends("end connection", 2);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("certificate-expired")), "{lines:?}");
    // Beyond the next look at the clock.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for client in &mut stays {
        assert_eq!(client.get("/").expect("an answer").status(), 200);
    }
}

#[test]
fn connections_to_an_endpoint_that_is_removed_end() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let server =
        ["one.example", "two.example", "three.example"].into_iter().fold(Leaf::new().cn("s"), Leaf::dns);
    pki.authority().issue(&server).expect("a certificate").write(pki.directory(), "server").expect("written");
    let peer = pki.peer(&Leaf::new().cn("peer"));
    let policy = write_policy(&pki, &peers(&["peer"]));
    let config = pki.file("host.json");
    let write = |names: &[&str]| {
        let endpoint = |name: &&str| json!({"endpoint": "peer", "policy": policy, "names": [name]});
        let endpoints: Vec<_> = names.iter().map(endpoint).collect();
        let inbound = json!({
            "address": "127.0.0.1:0",
            "upstream": {"address": upstream.address.to_string()},
            "endpoints": endpoints,
        });
        fs::write(&config, json!({"inbound": [inbound]}).to_string()).expect("the configuration");
    };
    write(&["one.example", "two.example", "three.example"]);
    let host = Start::config(&config).start();
    let connect = |name| {
        Client::connect_by_name(host.address, name, pki.ca(), Some(&peer.credential)).expect("a connection")
    };
    let (ends, mut stays) = (connect("one.example"), connect("two.example"));
    write(&["two.example", "three.example"]);
    host.reload();
    assert_closed(ends);
    let request = b"GET / HTTP/1.1\r\nhost: two.example\r\n\r\n";
    assert_eq!(stays.request(request).expect("an answer").status(), 200);
    wait::until("the reason is logged", || host.log().contains("endpoint-removed"));
}

/// A client that was shaking hands under the old policy is judged by the new one.
#[test]
fn a_handshake_during_a_reload_is_judged_by_the_new_policy() {
    let (site, leaving, staying) = Site::peers(&["leaving", "staying"]);
    let begin = |peer: &Peer| {
        let mut roots = RootCertStore::empty();
        roots.add(site.pki.ca().clone()).expect("a root");
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_client_auth_cert(peer.credential.chain.clone(), peer.credential.key())
                .expect("a certificate");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut socket = TcpStream::connect(site.host.address).expect("a connection");
        while connection.wants_write() {
            connection.write_tls(&mut socket).expect("sent");
        }
        // The host has answered: the rest of the handshake is on the terms of before.
        let mut byte = [0];
        socket.peek(&mut byte).expect("an answer");
        (connection, socket)
    };
    let (late, kept) = (begin(&leaving), begin(&staying));
    site.change(&peers(&["staying"]));
    // Workers take a generation one after the other; a connection of its own shows that each has.
    wait::until("new connections are refused", || {
        (0..4).all(|_| {
            let client = Client::connect(site.host.address, site.pki.ca(), Some(&leaving.credential));
            client.and_then(|mut client| client.get("/")).is_err()
        })
    });
    let get = |(mut connection, mut socket): (ClientConnection, TcpStream)| {
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok::<_, io::Error>(line)
    };
    let refused = get(late);
    assert!(!refused.as_ref().is_ok_and(|line| line.contains("200")), "{refused:?}");
    assert!(get(kept).expect("an answer").contains("200"));
    let lines = site.wait_for_ends("end connection", 1);
    assert!(lines.len() == 1 && lines[0].contains("no-longer-admitted"), "{lines:?}");
    assert_eq!(site.upstream.requests().len(), 1);
}

/// Others' clients see it too.
#[test]
fn curl_and_openssl_see_the_end() {
    let (site, leaving, staying) = Site::peers(&["leaving", "staying"]);
    let curl = |version: &str, peer: &Peer| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--no-buffer", version, "--resolve"]);
        command.arg(format!("localhost:{}:127.0.0.1", site.host.address.port()));
        command.arg("--cacert").arg(site.pki.file("ca.pem")).arg("--cert").arg(&peer.chain);
        command
            .arg("--key")
            .arg(&peer.key)
            .arg(format!("https://localhost:{}/stream", site.host.address.port()));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("output");
        assert_eq!(line, "tick\n");
        (child, output)
    };
    let mut s_client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &site.host.address.to_string(), "-CAfile"])
        .arg(site.pki.file("ca.pem"))
        .arg("-cert")
        .arg(&leaving.chain)
        .arg("-cert_chain")
        .arg(&leaving.chain)
        .arg("-key")
        .arg(&leaving.key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    wait::until("openssl is admitted", || site.ends("allow connection").len() == 1);
    let ends = [curl("--http1.1", &leaving), curl("--http2", &leaving)];
    let (mut kept, mut output) = curl("--http2", &staying);
    site.change(&peers(&["staying"]));
    for (mut child, mut output) in ends {
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).expect("the rest");
        assert_ne!(child.wait().expect("ended").code(), Some(0), "curl takes the answer for whole");
    }
    let mut rest = Vec::new();
    s_client.stdout.take().expect("piped").read_to_end(&mut rest).expect("the rest");
    s_client.wait().expect("ended");
    let mut line = String::new();
    output.read_line(&mut line).expect("more");
    assert_eq!(line, "tick\n");
    assert!(kept.try_wait().expect("a child").is_none(), "it runs on");
    kept.kill().and_then(|()| kept.wait()).expect("ended");
    assert_eq!(site.wait_for_ends("end connection", 3).len(), 3);
}

/// At a review a client is judged by requests that it has not made: nothing is counted or logged about them.
#[test]
fn requests_that_nobody_made_are_neither_counted_nor_logged() {
    let pki = Pki::new();
    let peer = pki.store(Credential::self_signed(&Leaf::new().cn("writer")).expect("a certificate"));
    let policy = |id: &str| {
        let client = json!({"id": id, "permissions": ["write"], "certificates": [{"file": peer.chain}]});
        pki.with_files(&json!({"data-plane": {"clients": [client]}})).to_string()
    };
    let path = pki.file("policy.json");
    fs::write(&path, policy("before")).expect("the policy");
    let upstream = Upstream::http();
    let host = Start::endpoint("mtls", &path, upstream.address).admin().start();
    let decided = || {
        let page = get(host.admin(), "/metrics").text();
        let lines: Vec<_> =
            page.lines().filter(|line| line.starts_with("peergate_decisions_total")).collect();
        lines.join("\n")
    };
    let mut client = Client::connect(host.address, pki.ca(), Some(&peer.credential)).expect("a connection");
    assert_eq!(client.request(PUT).expect("an answer").status(), 200);
    wait::until("the request is counted", || decided().contains("outcome=\"allow\""));
    let before = decided();
    fs::write(&path, policy("after")).expect("the policy");
    host.reload();
    assert!(host.log().contains("reloaded"), "{}", host.log());
    // Its request is judged by the new policy, so the review is over.
    wait::until("the new policy is in use", || {
        assert_eq!(client.request(PUT).expect("an answer").status(), 200);
        host.log().contains("\"after\"")
    });
    let requests = upstream.requests().len();
    // Each request that was made is counted, and nothing else is.
    let count = |text: &str| -> f64 {
        let values = text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    };
    wait::until("all are counted", || count(&decided()) >= requests as f64);
    assert_eq!(count(&decided()), requests as f64, "before:\n{before}\nafter:\n{}", decided());
    assert!(!host.log().contains("\"decision\":\"deny\""), "{}", host.log());
}

const PUT: &[u8] = b"PUT /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
