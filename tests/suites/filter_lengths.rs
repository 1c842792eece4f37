//! Filters that leave a length which is not the body's: the message ends with 500 and a reason in the log, at once. Nobody waits for
//! bytes that never come, and no client is blamed with 400.

use peergate_tests::{
    commands::curl,
    host::{Host, Start},
    pki::{Peer, Pki},
    policies::node,
    root,
    upstream::Upstream,
    wait,
};
use serde_json::json;

const HTTP1: &[&str] = &["--http1.1"];
const HTTP2: &[&str] = &["--http2"];
const BODY: &[&str] = &["--data-binary", "hello"];
const CHUNKED: &[&str] = &["--data-binary", "hello", "--header", "transfer-encoding: chunked"];
const REASON: &str = "the filter left a `content-length` that the body does not have";

struct Gate {
    pki: Pki,
    peer: Peer,
    upstream: Upstream,
    host: Host,
}

impl Gate {
    fn new() -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let peer = pki.peer(&node());
        let filter = root().join("target/wasm32-wasip1/wasm/lengths.wasm");
        assert!(filter.is_file(), "{} is missing; build it: make filters", filter.display());
        let host = Start::new(&pki, &json!({}), upstream.address).filter(&filter).start();
        Self { pki, peer, upstream, host }
    }

    /// The status and body of an answer, which must come without the client's help.
    fn ask(&self, path: &str, arguments: &[&[&str]]) -> (u16, String) {
        let answer = curl(&self.pki, self.host.address, Some(&self.peer), path, &arguments.concat());
        assert_eq!(answer.code, Some(0), "{path} {arguments:?}: {answer:?}\n{}", self.host.log());
        (answer.status, answer.body)
    }

    fn said(&self) -> usize {
        self.host.log().matches(REASON).count()
    }
}

#[test]
fn a_wrong_length_of_a_request_is_500_at_once() {
    let gate = Gate::new();
    for (path, bodies) in [
        ("/request/says", &[&[][..], BODY][..]),
        ("/request/says-twice", &[BODY]),
        ("/request/says-nonsense", &[&[], BODY]),
        ("/request/says-and-cuts", &[BODY, CHUNKED]),
        ("/request/shortens", &[BODY]),
        ("/request/drops", &[BODY]),
        ("/request/lengthens", &[BODY]),
    ] {
        for body in bodies {
            for version in [HTTP1, HTTP2] {
                let body = if version == HTTP2 && *body == CHUNKED { BODY } else { body };
                let (status, _) = gate.ask(path, &[version, body]);
                assert_eq!(status, 500, "{path} {body:?} {version:?}\n{}", gate.host.log());
            }
        }
    }
    wait::until("the reason is in the log", || gate.said() > 0);
    let complete = |length: usize| gate.upstream.requests().iter().any(|it| it.body.len() == length);
    assert!(!complete(1) && !complete(2) && !complete(5 + 9), "{:?}", gate.upstream.requests());
}

#[test]
fn a_request_whose_length_fits_or_is_left_out_passes() {
    let gate = Gate::new();
    for (path, body, forwarded) in [
        ("/request/nothing", BODY, "hello"),
        ("/request/nothing", CHUNKED, "hello"),
        ("/request/nothing", &[], ""),
        ("/request/forgets", BODY, "hello"),
        ("/request/forgets", &[], ""),
        ("/request/forgets-and-shortens", BODY, "x"),
        ("/request/chunks", BODY, "hello"),
        ("/request/chunks", &[], ""),
        ("/request/says-and-fits", BODY, "abc"),
        ("/request/says-and-fits", CHUNKED, "abc"),
    ] {
        for version in [HTTP1, HTTP2] {
            let body = if version == HTTP2 && body == CHUNKED { BODY } else { body };
            let answer = gate.ask(path, &[version, body]);
            assert_eq!(answer, (200, "upstream\n".to_owned()), "{path} {body:?}\n{}", gate.host.log());
            assert_eq!(gate.upstream.last_request().text(), forwarded, "{path} {body:?} {version:?}");
        }
    }
    assert_eq!(gate.said(), 0);
}

#[test]
fn a_wrong_length_of_a_response_is_500_at_once() {
    let gate = Gate::new();
    for path in [
        "/response/says",
        "/response/says-twice",
        "/response/says-nonsense",
        "/response/says-and-cuts",
        "/response/shortens",
        "/response/drops",
        "/response/lengthens",
        "/response/no-content",
    ] {
        for version in [HTTP1, HTTP2] {
            let (status, body) = gate.ask(path, &[version]);
            assert_eq!(status, 500, "{path} {version:?} {body}\n{}", gate.host.log());
        }
    }
    wait::until("the reason is in the log", || gate.said() > 0);
}

#[test]
fn an_error_has_no_body_where_head_asks() {
    let gate = Gate::new();
    for version in [HTTP1, HTTP2] {
        let (status, _) = gate.ask("/response/says-twice", &[version, &["--head"]]);
        assert_eq!(status, 500, "{version:?}\n{}", gate.host.log());
    }
}

#[test]
fn a_response_whose_length_fits_or_is_left_out_passes() {
    let gate = Gate::new();
    for (path, arguments, status, body) in [
        ("/response/nothing", &[][..], 200, "upstream\n"),
        ("/response/forgets", &[], 200, "upstream\n"),
        ("/response/forgets-and-shortens", &[], 200, "x"),
        ("/response/chunks", &[], 200, "upstream\n"),
        ("/response/says-and-fits", &[], 200, "abc"),
        ("/response/no-content-and-drops", &[], 204, ""),
        // The length of an answer to GET.
        ("/response/nothing", &["--head"], 200, ""),
        ("/response/says", &["--head"], 200, ""),
    ] {
        for version in [HTTP1, HTTP2] {
            let (seen, answer) = gate.ask(path, &[version, arguments]);
            // curl shows the head of an answer to HEAD in the place of its body.
            let answer = if arguments.is_empty() { answer.as_str() } else { "" };
            assert_eq!((seen, answer), (status, body), "{path} {version:?}\n{}", gate.host.log());
        }
    }
    assert_eq!(gate.said(), 0);
}
