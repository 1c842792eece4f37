//! The embedded filter itself, where only a VM shows what it does.

use std::rc::Rc;

use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

use super::super::{Connection, Filter, HeaderPairs, MetricKind, Outcome, PeerCertificate, Worker};
use super::{plain, with_peer, with_tls};

pub(super) fn started(configuration: &str) -> Rc<Worker> {
    let filter = Filter::embedded().expect("the embedded filter");
    Rc::new(Worker::start(&filter, configuration).expect(configuration))
}

pub(super) fn certificate(common_name: &str) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

pub(super) fn request(authority: &str, path: &str) -> HeaderPairs {
    [(":authority", authority), (":path", path), (":method", "GET")]
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .to_vec()
}

/// What an HTTP context says: 200 for admitted, and the decision.
pub(super) fn asked(worker: &Rc<Worker>, connection: &Rc<Connection>, authority: &str) -> (u16, String) {
    let mut stream = worker.open_stream(connection);
    let status = match stream.request_headers(request(authority, "/"), true) {
        Outcome::Continue(_) => 200,
        Outcome::Reply(reply) => reply.status,
        Outcome::Failed(reason) => panic!("{reason}"),
    };
    (status, stream.decision().unwrap_or_default())
}

/// The counter of that name; 0 where there is none.
pub(super) fn counted(worker: &Worker, name: &str) -> u64 {
    let metrics = worker.metrics();
    let counters = metrics.iter().filter(|metric| metric.kind == MetricKind::Counter);
    counters.filter(|metric| metric.name == name).map(|metric| metric.value).sum()
}

const MIXED: &str = r#"{"insecure-mixed-mode": true, "policy": {"authorized-peers": [
    {"name": "a", "required-credentials": [{"field": "CN", "must-match": "a"}]}]}}"#;
const PLAINTEXT: &str =
    r#"{"decision":"allow","matched":["insecure-plaintext"],"capabilities":["vespa.all"]}"#;
const NO_CERTIFICATE: &str = r#"{"decision":"deny","reason":"no-certificate","matched":[]}"#;

#[test]
fn mixed_mode_admits_what_has_no_tls_and_nothing_else() {
    let mixed = started(MIXED);
    let strict = started(&MIXED.replace("true", "false"));
    let peer = with_tls(2, Some(&certificate("a")));
    let stranger = with_tls(3, Some(&certificate("b")));
    for (worker, connection, allow, decision) in [
        (&mixed, &plain(1), true, PLAINTEXT),
        (&strict, &plain(1), false, NO_CERTIFICATE),
        (&mixed, &with_tls(1, None), false, NO_CERTIFICATE),
        (&strict, &with_tls(1, None), false, NO_CERTIFICATE),
        (&mixed, &peer, true, r#"{"decision":"allow","matched":["a"],"capabilities":["vespa.all"]}"#),
    ] {
        let verdict = worker.judge_connection(connection);
        assert_eq!((verdict.allow, verdict.decision.as_str()), (allow, decision));
        let status = if allow { 200 } else { 403 };
        assert_eq!(asked(worker, connection, "a.example"), (status, decision.to_owned()));
    }
    assert!(!mixed.judge_connection(&stranger).allow);
    assert_eq!(counted(&mixed, "peergate_decisions.outcome.allow.rule.insecure-plaintext"), 2);
    assert_eq!(counted(&mixed, "peergate_decisions.outcome.allow.rule.a"), 2);
}

#[test]
fn mixed_mode_is_for_peers_only() {
    let filter = Filter::embedded().expect("the embedded filter");
    for endpoint in ["mtls", "token"] {
        let configuration = format!(
            r#"{{"endpoint": "{endpoint}", "insecure-mixed-mode": true, "policy": {{"data-plane": {{"clients": []}}}}}}"#
        );
        let error = Worker::start(&filter, &configuration).map(|_| ()).expect_err(endpoint).to_string();
        assert!(error.contains("only an endpoint of kind `peer` takes plaintext"), "{error}");
    }
}

#[test]
fn deprecated_names_are_served_told_and_counted() {
    let worker = started(
        r#"{"names": ["new.example"], "deprecated-names": ["Old.example", "older.example"], "policy": {"authorized-peers": [
            {"name": "a", "required-credentials": [{"field": "CN", "must-match": "a"}]}]}}"#,
    );
    let peer = with_tls(1, Some(&certificate("a")));
    let stranger = with_tls(2, Some(&certificate("b")));
    let allowed = r#"{"decision":"allow","matched":["a"],"capabilities":["vespa.all"]}"#;
    let deprecated = allowed.replace('}', r#","deprecated_name":"Old.example"}"#);
    for (authority, status, decision) in [
        ("new.example", 200, allowed),
        ("OLD.example.:8443", 200, &deprecated),
        ("old.example", 200, &deprecated),
        ("oldest.example", 421, allowed),
        ("", 421, allowed),
    ] {
        assert_eq!(asked(&worker, &peer, authority), (status, decision.to_owned()), "{authority}");
    }
    let (status, decision) = asked(&worker, &stranger, "old.example");
    assert_eq!(status, 403);
    assert!(decision.ends_with(r#","deprecated_name":"Old.example"}"#), "{decision}");
    assert_eq!(counted(&worker, "peergate_deprecated_names.name.old_example"), 3);
    assert_eq!(counted(&worker, "peergate_deprecated_names.name.older_example"), 0);
    assert_eq!(counted(&worker, "peergate_decisions.outcome.allow.rule.a"), 5);
}

#[test]
fn decisions_are_counted_by_outcome_reason_and_rule() {
    let rule = |name: &str, mode: &str, cn: &str| {
        format!(
            r#"{{"name": "{name}", "mode": "{mode}", "required-credentials": [{{"field": "CN", "must-match": "{cn}"}}]}}"#
        )
    };
    let mut rules = vec![
        rule("tenant: a.b", "enforce", "a"),
        rule("all", "enforce", "a"),
        rule("shadow.1", "log_only", "a"),
        rule("shadow.2", "log_only", "?"),
    ];
    rules.extend((0..97).map(|index| rule(&format!("rule-{index}"), "enforce", &format!("cn{index}"))));
    let worker = started(&format!(r#"{{"authorized-peers": [{}]}}"#, rules.join(",")));
    for (cn, times) in [("a", 3), ("b", 2), ("cn95", 1), ("cn96", 1)] {
        let connection = with_tls(1, Some(&certificate(cn)));
        (0..times).for_each(|_| drop(worker.judge_connection(&connection)));
    }
    let counters = worker.metrics().into_iter().filter(|metric| metric.kind == MetricKind::Counter);
    let mut counters: Vec<_> = counters.map(|metric| format!("{} {}", metric.name, metric.value)).collect();
    counters.sort();
    assert_eq!(
        counters,
        [
            "peergate_decisions.outcome.allow.rule.other 1",
            "peergate_decisions.outcome.allow.rule.rule-95 1",
            "peergate_decisions.outcome.allow.rule.tenant__a_b 3",
            "peergate_decisions.outcome.deny.reason.no_rule_matched 2",
            "peergate_shadow_matched.rule.shadow_1 3",
            "peergate_shadow_matched.rule.shadow_2 5",
        ]
    );
}

#[test]
fn peers_with_some_capabilities_are_asked_for_those_of_vespas_paths() {
    let policy = |mode: &str| {
        format!(
            r#"{{"capability-mode": "{mode}", "authorized-peers": [
            {{"name": "some", "capabilities": ["vespa.telemetry"], "required-credentials": [{{"field": "CN", "must-match": "some*"}}]}},
            {{"name": "more", "capabilities": ["vespa.http.unclassified"], "required-credentials": [{{"field": "CN", "must-match": "some-more"}}]}},
            {{"name": "all", "required-credentials": [{{"field": "CN", "must-match": "*all"}}]}}]}}"#
        )
    };
    let [some, more, all, some_and_all] =
        ["some", "some-more", "all", "some-all"].map(|cn| with_tls(1, Some(&certificate(cn))));
    let status = |worker: &Rc<Worker>, connection: &Rc<Connection>, path: &str| {
        let mut stream = worker.open_stream(connection);
        match stream.request_headers(request("a.example", path), true) {
            Outcome::Continue(_) => (200, stream.decision().unwrap()),
            Outcome::Reply(reply) => (reply.status, String::from_utf8(reply.body).unwrap()),
            Outcome::Failed(reason) => panic!("{reason}"),
        }
    };
    let enforcing = started(&policy("enforce"));
    for (connection, path, expected) in [
        (&some, "/state/v1/health", 200),
        (&some, "/state/v1/metrics", 200),
        (&some, "/metrics/v2/values", 200),
        (&some, "/logs", 403),
        (&some, "/", 403),
        (&more, "/", 200),
        (&more, "/logs", 403),
        (&all, "/", 200),
        (&all, "/state/v1/../x", 200),
        (&some_and_all, "/logs", 200),
    ] {
        let (status, text) = status(&enforcing, connection, path);
        assert_eq!(status, expected, "{path}: {text}");
        if status == 403 {
            assert_eq!(text, r#"{"error-code":"403","message":"Missing required capabilities"}"#);
        }
    }
    for (mode, would_deny) in [("log_only", true), ("disable", false)] {
        let (status, decision) = status(&started(&policy(mode)), &some, "/");
        assert_eq!(status, 200, "{mode}: {decision}");
        assert_eq!(
            decision.contains(r#""would_deny":"capability-missing""#),
            would_deny,
            "{mode}: {decision}"
        );
    }
}

/// Everything differs but the names: the filter checks no signature, so a certificate is as good with another serial number.
fn renumbered(der: &[u8], number: u16) -> Vec<u8> {
    // The version, then the serial number, rcgen's twenty bytes.
    let place = der.windows(7).position(|window| window == [0xa0, 3, 2, 1, 2, 2, 20]).unwrap() + 7;
    let mut other = der.to_vec();
    other[place + 10..place + 12].copy_from_slice(&number.to_be_bytes());
    other
}

#[test]
fn a_pinned_certificate_is_not_asked_for_its_names() {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    let name = rcgen::string::BmpString::try_from("feed").unwrap();
    params.distinguished_name.push(DnType::CommonName, DnValue::BmpString(name));
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let policy = |trust: &str| {
        format!(
            r#"{{"endpoint": "mtls", "policy": {{"data-plane": {{"trusted-certificates": "{trust}", "clients": [
            {{"id": "feed", "permissions": ["read"], "certificates": [{:?}]}}]}}}}}}"#,
            certificate.pem()
        )
    };
    let (leaf, other) = (certificate.der().to_vec(), renumbered(certificate.der(), 7));
    let malformed = r#"{"decision":"deny","reason":"malformed-name","matched":[]}"#;
    let allowed = r#"{"decision":"allow","matched":[],"client":{"ids":["feed"],"permissions":["read"]}}"#;
    for (trust, der, status, decision) in [
        ("clients", &leaf, 200, allowed),
        ("clients", &other, 403, r#"{"decision":"deny","reason":"certificate-unknown","matched":[]}"#),
        ("any", &leaf, 403, malformed),
        ("any", &other, 403, malformed),
    ] {
        let answer = asked(&started(&policy(trust)), &with_tls(1, Some(der)), "a.example");
        assert_eq!(answer, (status, decision.to_owned()), "{trust}");
    }
    let peers = started(r#"{"policy": {}}"#);
    assert_eq!(peers.judge_connection(&with_tls(1, Some(&leaf))).decision, malformed);
}

const ANYBODY: &str = r#"{"upstream-headers": {"subject": true}, "authorized-peers": [
    {"name": "a", "required-credentials": [{"field": "CN", "must-match": "a"}]}]}"#;

#[test]
fn a_digest_of_another_certificate_is_no_evidence() {
    let (der, other) = (certificate("a"), certificate("b"));
    for (stated, decision) in [
        (&der, r#"{"decision":"allow","matched":["a"],"capabilities":["vespa.all"]}"#),
        (&other, r#"{"decision":"deny","reason":"malformed-certificate","matched":[]}"#),
    ] {
        let worker = started(ANYBODY);
        let peer = PeerCertificate::from_der(&der).stating(&PeerCertificate::from_der(stated));
        assert_eq!(worker.judge_connection(&with_peer(1, Some(peer))).decision, decision);
    }
}

/// There is no room for one more header: the filter cannot tell the upstream who it is, so the request goes nowhere.
#[test]
fn a_call_that_the_proxy_refuses_refuses_the_request() {
    let worker = started(ANYBODY);
    let few = with_tls(1, Some(&certificate_with_names(1, 10)));
    let many = with_tls(2, Some(&certificate_with_names(100, 100)));
    let status = |connection: &Rc<Connection>| {
        // The host holds 1 MiB of headers.
        let filling = (b"x-filling".to_vec(), vec![b'x'; (1 << 20) - 5_000]);
        let headers = request("a.example", "/").into_iter().chain([filling]).collect();
        match worker.open_stream(connection).request_headers(headers, true) {
            Outcome::Continue(_) => 200,
            Outcome::Reply(reply) => reply.status,
            Outcome::Failed(reason) => panic!("{reason}"),
        }
    };
    assert_eq!(status(&few), 200);
    assert!(worker.judge_connection(&many).allow);
    assert_eq!(asked(&worker, &many, "a.example").0, 200, "where there is room");
    assert_eq!(status(&many), 503);
    assert_eq!((worker.restarts(), status(&few)), (0, 200));
}

/// With the common name `a`, and alternative names of that length.
fn certificate_with_names(count: usize, length: usize) -> Vec<u8> {
    let names: Vec<_> = (0..count).map(|number| format!("{number:0length$}")).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a");
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// What is remembered of each of these is 80 kB, and a VM has 64 MiB.
#[test]
fn what_is_remembered_is_bounded_in_bytes() {
    let worker = started(ANYBODY);
    let der = certificate_with_names(320, 250);
    for number in 0..1_000 {
        let verdict = worker.judge_connection(&with_tls(1, Some(&renumbered(&der, number))));
        assert!(verdict.allow, "{number}: {}", verdict.decision);
    }
    assert_eq!(worker.restarts(), 0);
}
