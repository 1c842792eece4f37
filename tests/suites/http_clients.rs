//! Clients as they are, in public bug reports: what they offer in the handshake, and what they do with an early answer.

use std::{net::SocketAddr, process::Command, thread};

use peergate_host::envoy::{Listener, Protocol};
use peergate_tests::{
    client::Client,
    commands::{curl, payload, run, s_client},
    envoy::{CURRENT, listener, skipped, start},
    host::{Host, Start, write_policy},
    pki::{Peer, Pki},
    policies::{node, peer_endpoint, vespa_example},
    root,
    upstream::Upstream,
    wait,
};
use serde_json::json;

/// More than all buffers on the way.
const LARGE: usize = 30_000_000;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// The protocols that sidecars and others offer, and what is agreed on (istio/istio#6928, #24619, #34728).
const OFFERS: [(&str, &str, &str); 5] = [
    ("istio-peer-exchange,istio", "", ""),
    ("istio", "", ""),
    ("http/1.0", "", ""),
    ("istio-http/1.1,istio,http/1.1", "http/1.1", "http/1.1"),
    ("h2,http/1.1", "h2", "h2"),
];

fn agreed_on(pki: &Pki, address: SocketAddr, peer: &Peer, offer: &str) -> (String, Option<u16>) {
    let finished = s_client(pki, address, Some(peer), &["-alpn", offer], GET);
    assert_eq!(finished.alert(), None, "{offer}\n{}", finished.output());
    let agreed = finished.stdout.lines().find_map(|line| line.strip_prefix("ALPN protocol: "));
    (agreed.unwrap_or_default().to_owned(), finished.status())
}

#[test]
fn clients_that_offer_only_foreign_protocols_get_http_1_1() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let peer = pki.peer(&node());
    let host = Start::new(&pki, &vespa_example(), upstream.address).start();
    for (offer, agreed, _) in OFFERS {
        // What is no preface ends a connection of HTTP/2.
        let status = (agreed != "h2").then_some(200);
        assert_eq!(agreed_on(&pki, host.address, &peer, offer), (agreed.to_owned(), status), "{offer}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let finished = s_client(&pki, host.address, Some(&peer), &["-alpn", "istio", version], GET);
        assert_eq!(finished.status(), Some(200), "{version} {}", finished.output());
    }
}

#[test]
fn envoy_does_the_same_about_foreign_protocols() {
    if skipped("protocols that clients offer") {
        return;
    }
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let peer = pki.peer(&node());
    let listener = listener(CURRENT, "http", &pki, Protocol::Http, peer_endpoint(&vespa_example()));
    let envoy = start(CURRENT, vec![Listener { upstream: Some(upstream.address), ..listener }]);
    for (offer, _, agreed) in OFFERS.iter().filter(|(offer, ..)| !offer.starts_with("h2")) {
        let (_, status) = agreed_on(&pki, envoy.address("http"), &peer, offer);
        assert_eq!(status, Some(200), "{offer} {agreed}");
    }
}

#[test]
fn bytes_are_taken_whatever_protocol_a_client_offers() {
    let (pki, upstream) = (Pki::new(), Upstream::echo());
    let peer = pki.peer(&node());
    let host = Start::new(&pki, &vespa_example(), upstream.address).tcp().start();
    for protocol in [&b"istio"[..], b"istio-peer-exchange", b"h2"] {
        let mut client = Client::connect_alpn(host.address, pki.ca(), Some(&peer.credential), protocol)
            .expect("a connection");
        client.write(b"hello").expect("sent");
        let mut echo = [0; 5];
        client.read_exact(&mut echo).expect("the echo");
        assert_eq!(&echo, b"hello");
    }
}

/// A client, a file to send, and who refuses it: the host, or a service that answers before it has read.
struct Upload {
    pki: Pki,
    peer: Peer,
    host: Host,
    body: String,
}

impl Upload {
    fn new(upstream: SocketAddr, reads: bool) -> Self {
        let pki = Pki::new();
        let peer = pki.peer(&node());
        let permissions: &[&str] = if reads { &["read"] } else { &["read", "write"] };
        let client = json!({"id": "a", "permissions": permissions, "certificates": [{"file": peer.chain}]});
        let policy = write_policy(&pki, &json!({"data-plane": {"clients": [client]}}));
        let host = Start::endpoint("mtls", &policy, upstream).start();
        let body = payload(&pki, LARGE).display().to_string();
        Self { pki, peer, host, body }
    }

    /// What Python prints.
    fn python(&self, path: &str, fields: &[&str]) -> String {
        let mut command = Command::new("python3");
        command.arg(root().join("tests/clients/post_body.py")).arg(self.host.address.port().to_string());
        command.arg(self.pki.file("ca.pem")).arg(&self.peer.chain).arg(&self.peer.key).arg(&self.body);
        let finished = run(command.arg(path).args(fields), b"");
        assert_eq!(finished.code, Some(0), "{path} {fields:?}\n{}", finished.stderr);
        finished.stdout
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> u16 {
        let body = format!("@{}", self.body);
        let arguments = [arguments, &["--data-binary", &body]].concat();
        let answer = curl(&self.pki, self.host.address, Some(&self.peer), path, &arguments);
        assert_eq!(answer.code, Some(0), "{path} {arguments:?} {answer:?}");
        answer.status
    }
}

const CURLS: [&[&str]; 4] = [
    &["--http1.1"],
    &["--http1.1", "--header", "Expect:"],
    &["--http2"],
    &["--http2", "--header", "Expect:"],
];

/// httpie/cli#600, psf/requests#2422: clients that read only when they have written see a reset in the place of the refusal.
/// The connection goes on: its body was read to the end.
#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::http();
    let upload = Upload::new(upstream.address, true);
    for _ in 0..3 {
        let printed = upload.python("/document/v1/a", &[]);
        assert!(printed.starts_with("403 ") && printed.ends_with("\n200\n"), "{printed}");
        for arguments in CURLS {
            assert_eq!(upload.curl("/document/v1/a", arguments), 403, "{arguments:?}");
        }
    }
    assert!(upstream.requests().iter().all(|request| request.body.is_empty()));
}

/// A client that waits for `100 Continue` may lose its patience.
#[test]
fn a_refusal_reaches_a_client_that_does_not_wait_for_it() {
    let upstream = Upstream::http();
    let upload = Upload::new(upstream.address, true);
    let printed = upload.python("/document/v1/a", &["Expect=100-continue"]);
    // Without another request on that connection: it ends, and the answer said so.
    assert!(printed.starts_with("403 ") && printed.lines().count() == 1, "{printed}");
}

/// villadora/express-http-proxy#546, haproxy/haproxy#3316: the same with a service that answers early, however it goes on.
#[test]
fn an_early_answer_of_the_service_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::hasty();
    let upload = Upload::new(upstream.address, false);
    for path in ["/close", "/end", "/read"] {
        for _ in 0..3 {
            let printed = upload.python(path, &[]);
            assert!(printed.starts_with("413 too large\n"), "{path} {printed}\n{}", upload.host.log());
            for arguments in CURLS {
                assert_eq!(upload.curl(path, arguments), 413, "{path} {arguments:?}\n{}", upload.host.log());
            }
        }
    }
}

/// An upload of one does not hold up others on the same connection.
#[test]
fn requests_pass_beside_a_refused_upload() {
    let upstream = Upstream::http();
    let upload = Upload::new(upstream.address, true);
    thread::scope(|scope| {
        let uploads = scope.spawn(|| upload.curl("/document/v1/a", &["--http2", "--limit-rate", "10M"]));
        wait::until("the upload is refused", || upload.host.log().contains("deny request"));
        let answer = curl(&upload.pki, upload.host.address, Some(&upload.peer), "/", &["--http2"]);
        assert_eq!(answer.status, 200);
        assert_eq!(uploads.join().expect("curl"), 403);
    });
}
