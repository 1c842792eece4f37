//! The grant that the filter of a connection leaves for the filter of its requests, each in a VM of its own as in Envoy.

use std::cell::RefCell;
use std::rc::Rc;

use peergate_policy::UnixTime;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::super::clock::Clock;
use super::super::{Connection, Filter, PeerCertificate, Tls, Worker};
use super::embedded::{asked, certificate, counted, started};
use super::with_peer;

const RULES: &str = r#"{"authorized-peers": [
    {"name": "a", "required-credentials": [{"field": "CN", "must-match": "a"}]},
    {"name": "b", "required-credentials": [{"field": "CN", "must-match": "b"}]}]}"#;

const ALLOWED: &str = r#"{"decision":"allow","matched":["a"],"capabilities":["vespa.all"]}"#;

/// Bytes that no engine reads as a certificate, with the digest of one that it does.
fn unreadable(der: &[u8]) -> PeerCertificate {
    PeerCertificate::from_der(b"no certificate").stating(&PeerCertificate::from_der(der))
}

/// A connection on which `worker` has decided about the holder of `der`, and which then shows `peer`.
fn decided(worker: &Worker, der: &[u8], peer: PeerCertificate, chain_verified: bool) -> Rc<Connection> {
    let before = with_peer(1, Some(PeerCertificate::from_der(der)));
    assert!(worker.judge_connection(&before).allow);
    let tls = Tls { version: "TLSv1.3", server_name: None, alpn: None, peer: Some(peer), chain_verified };
    let mut after = Connection::new(1, before.source, before.destination, Some(tls));
    after.filter_state = RefCell::new(before.filter_state.take());
    Rc::new(after)
}

/// How many grants were taken over, and how many not for that reason.
fn grants(worker: &Worker, reason: &str) -> (u64, u64) {
    let family = "peergate_connection_grants.outcome";
    let judged_again = format!("{family}.judged_again.reason.{reason}");
    (counted(worker, &format!("{family}.taken_over")), counted(worker, &judged_again))
}

#[test]
fn a_grant_spares_the_certificate() {
    let (connections, requests) = (started(RULES), started(RULES));
    let der = certificate("a");
    let connection = decided(&connections, &der, unreadable(&der), true);
    for _ in 0..3 {
        assert_eq!(asked(&requests, &connection, "x"), (200, ALLOWED.to_owned()));
    }
    assert_eq!(grants(&requests, "broken"), (1, 0));
    // Nobody decided about this connection, so the certificate is asked.
    let undecided = with_peer(2, Some(unreadable(&der)));
    assert_eq!(asked(&started(RULES), &undecided, "x").0, 403);
    // The VM of the connections knows already.
    assert_eq!(asked(&connections, &connection, "x"), (200, ALLOWED.to_owned()));
    assert_eq!(grants(&connections, "broken"), (0, 0));
}

#[test]
fn every_mismatch_asks_the_certificate() {
    let der = certificate("a");
    let malformed = r#"{"decision":"deny","reason":"malformed-certificate","matched":[]}"#.to_owned();
    // Another policy, and another certificate.
    let connections = started(RULES);
    let other = started(&format!("{RULES} "));
    let connection = decided(&connections, &der, unreadable(&der), true);
    assert_eq!(asked(&other, &connection, "x"), (403, malformed.clone()));
    assert_eq!(grants(&other, "other_policy"), (0, 1));

    let requests = started(RULES);
    let connection = decided(&connections, &der, unreadable(&certificate("b")), true);
    assert_eq!(asked(&requests, &connection, "x"), (403, malformed));
    assert_eq!(grants(&requests, "other_certificate"), (0, 1));

    // What no other certificate spoils is still good.
    let connection = decided(&connections, &der, unreadable(&der), true);
    assert_eq!(asked(&requests, &connection, "x"), (200, ALLOWED.to_owned()));
}

#[test]
fn a_chain_that_is_not_verified_is_refused_before() {
    let (connections, requests) = (started(RULES), started(RULES));
    let der = certificate("a");
    let connection = decided(&connections, &der, PeerCertificate::from_der(&der), false);
    let (status, decision) = asked(&requests, &connection, "x");
    assert_eq!((status, decision.contains("chain-not-verified")), (403, true), "{decision}");
    assert_eq!(grants(&requests, "broken"), (0, 0));
}

#[test]
fn a_grant_ends_with_its_certificate() {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a");
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    // In 2128.
    let later = Clock::Fixed(UnixTime::from_seconds(5_000_000_000));
    let filter = Filter::embedded().expect("the embedded filter");
    let connections = started(RULES);
    let requests = Rc::new(Worker::start_at(&filter, RULES, later).expect("a VM"));
    let connection = decided(&connections, &der, PeerCertificate::from_der(&der), true);
    let (status, decision) = asked(&requests, &connection, "x");
    assert_eq!((status, decision.contains(r#""reason":"expired""#)), (403, true), "{decision}");
    assert_eq!(grants(&requests, "lapsed"), (0, 1));
}
