use super::*;
use crate::{Configuration, Decision, Grant, PeerIdentity};

const RULES_TEXT: &str = r#"{"authorized-peers": [
    {"name": "a", "required-credentials": [{"field": "CN", "must-match": "a"}], "capabilities": ["vespa.telemetry"]},
    {"name": "shadow", "mode": "log_only", "required-credentials": [{"field": "CN", "must-match": "?"}]},
    {"name": "b", "required-credentials": [{"field": "CN", "must-match": "b"}]},
    {"name": "both", "required-credentials": [{"field": "CN", "must-match": "?"}], "capabilities": ["vespa.logserver.api"]}]}"#;

const LEAF: Digest = [7; 32];
const VALIDITY: Validity =
    Validity { not_before: UnixTime::from_seconds(100), not_after: UnixTime::from_seconds(200) };
const NOW: UnixTime = UnixTime::from_seconds(150);

fn configuration(text: &str) -> Configuration {
    Configuration::parse(text).expect(text)
}

fn grant(configuration: &Configuration, common_name: &str) -> Grant {
    let peer = PeerIdentity { common_name: Some(common_name.to_owned()), ..PeerIdentity::default() };
    match configuration.policy().authorize(&peer) {
        Decision::Allow(grant) => grant,
        Decision::Deny(denial) => panic!("{common_name}: {}", denial.reason()),
    }
}

fn sealed(configuration: &Configuration, common_name: &str) -> Vec<u8> {
    configuration.seal(&grant(configuration, common_name), &LEAF, VALIDITY).expect("sealed")
}

#[test]
fn what_is_opened_is_what_was_sealed() {
    let one = configuration(RULES_TEXT);
    let other = configuration(RULES_TEXT);
    for name in ["a", "b", "c"] {
        let opened = other.open(&sealed(&one, name), &LEAF, NOW);
        assert_eq!(opened, Ok((grant(&one, name), VALIDITY)), "{name}");
    }
    assert_eq!(grant(&one, "a").matched().shadow.len(), 1);
    let anybody = configuration("{}");
    assert_eq!(anybody.open(&sealed(&anybody, "x"), &LEAF, NOW), Ok((grant(&anybody, "x"), VALIDITY)));
}

#[test]
fn each_mismatch_is_told() {
    let ours = configuration(RULES_TEXT);
    let seal = sealed(&ours, "a");
    // One blank more, and it is another configuration.
    let reformatted = configuration(&format!("{RULES_TEXT} "));
    let wider = configuration("{}");
    assert_eq!(reformatted.open(&seal, &LEAF, NOW), Err(SealError::OtherPolicy));
    assert_eq!(ours.open(&sealed(&wider, "a"), &LEAF, NOW), Err(SealError::OtherPolicy));
    assert_eq!(ours.open(&seal, &[8; 32], NOW), Err(SealError::OtherLeaf));
    for (now, expected) in [(99, false), (100, true), (200, true), (201, false)] {
        let opened = ours.open(&seal, &LEAF, UnixTime::from_seconds(now));
        assert_eq!(opened.is_ok(), expected, "{now}");
        assert_eq!(opened.err(), (!expected).then_some(SealError::Lapsed), "{now}");
    }
}

#[test]
fn no_byte_may_change() {
    let ours = configuration(RULES_TEXT);
    let seal = sealed(&ours, "a");
    for index in 0..seal.len() {
        for bit in 0..8 {
            let mut forged = seal.clone();
            forged[index] ^= 1 << bit;
            let error = ours.open(&forged, &LEAF, NOW).expect_err("forged");
            let expected = if index < ID { SealError::OtherPolicy } else { SealError::Broken };
            assert_eq!(error, expected, "bit {bit} of byte {index}");
        }
        assert!(ours.open(&seal[..index], &LEAF, NOW).is_err(), "{index} bytes");
    }
    let longer = [&seal[..seal.len() - TAG], &2_u32.to_be_bytes(), &seal[seal.len() - TAG..]].concat();
    assert_eq!(ours.open(&longer, &LEAF, NOW), Err(SealError::Broken));
    assert_eq!(ours.open(&[seal, vec![0]].concat(), &LEAF, NOW), Err(SealError::Broken));
}

#[test]
fn what_needs_the_certificate_is_not_sealed() {
    let with = |key: &str| format!(r#"{{"policy": {{{key}}}}}"#);
    for (key, is_sealed) in [
        ("", true),
        (r#""upstream-headers": {"policy": true, "capabilities": true}"#, true),
        (r#""upstream-headers": {"subject": true}"#, false),
        (r#""upstream-headers": {"xfcc": true}"#, false),
        (r#""authorization-mode": "log_only""#, false),
        (r#""authorization-mode": "disable""#, false),
    ] {
        let configuration = configuration(&with(key));
        let seal = configuration.seal(&grant(&configuration, "a"), &LEAF, VALIDITY);
        assert_eq!(seal.is_some(), is_sealed, "{key}");
    }
}

#[test]
fn a_peer_of_too_many_rules_is_judged_again() {
    let rule = |index: usize| {
        format!(r#"{{"name": "r{index}", "required-credentials": [{{"field": "CN", "must-match": "a"}}]}}"#)
    };
    for (rules, is_sealed) in [(RULES, true), (RULES + 1, false)] {
        let list: Vec<_> = (0..rules).map(rule).collect();
        let configuration = configuration(&format!(r#"{{"authorized-peers": [{}]}}"#, list.join(",")));
        let seal = configuration.seal(&grant(&configuration, "a"), &LEAF, VALIDITY);
        assert_eq!(seal.is_some(), is_sealed, "{rules}");
    }
}

#[test]
fn keys_are_not_printed() {
    let seal = Seal::of(&[1; 32]);
    assert_eq!(format!("{seal:?}"), "Seal(..)");
}
