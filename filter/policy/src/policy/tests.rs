use proptest::prelude::*;

use super::*;
use crate::names::Names;

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn rules(peers: &str) -> Policy {
    policy(&format!(r#"{{"authorized-peers": [{peers}]}}"#))
}

fn peer(common_name: &str, dns_names: &[&str]) -> PeerIdentity {
    PeerIdentity {
        common_name: Some(common_name.into()).filter(|name: &String| !name.is_empty()),
        dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
        ..PeerIdentity::default()
    }
}

fn matched(decision: &Decision) -> Vec<&str> {
    decision.matched().rules.iter().map(AsRef::as_ref).collect()
}

const SHADOW: &str =
    r#"{"name": "trial", "mode": "log_only", "required-credentials": [{"field": "CN", "must-match": "*"}]}"#;
const ADMIN: &str = r#"{"name": "admin", "required-credentials": [{"field": "CN", "must-match": "admin"}],
                        "capabilities": ["vespa.none"]}"#;

#[test]
fn every_matching_rule_is_named_and_capabilities_are_united() {
    let policy = rules(
        r#"{"required-credentials": [{"field": "SAN_DNS", "must-match": "*.a"}], "capabilities": ["vespa.slobrok.api"]},
           {"name": "no", "required-credentials": [{"field": "CN", "must-match": "y"}]},
           {"name": "cn", "required-credentials": [{"field": "CN", "must-match": "x"}], "capabilities": ["vespa.none"]}"#,
    );
    let Decision::Allow(grant) = policy.authorize(&peer("x", &["b", "x.a"])) else {
        panic!("must be allowed")
    };
    assert_eq!(grant.matched().rules, ["authorized-peers[0]".into(), "cn".into()]);
    assert_eq!(grant.capabilities().names().collect::<Vec<_>>(), ["vespa.none", "vespa.slobrok.api"]);
}

#[test]
fn two_credentials_of_one_field_may_be_met_by_two_names() {
    let policy = rules(
        r#"{"required-credentials": [{"field": "SAN_DNS", "must-match": "a.*"}, {"field": "SAN_DNS", "must-match": "*.b"}]}"#,
    );
    assert_eq!(policy.authorize(&peer("", &["a.x", "x.b"])).as_str(), "allow");
    assert_eq!(policy.authorize(&peer("", &["a.x", "a.y"])).as_str(), "deny");
}

#[test]
fn absent_peers_admit_everybody_with_all_capabilities() {
    let decision = policy("{}").authorize(&PeerIdentity::default());
    assert!(matches!(decision, Decision::Allow(grant) if grant.capabilities() == CapabilitySet::ALL));
    assert!(policy("{}").admits_any_authenticated());
}

#[test]
fn shadow_rules_are_reported_and_admit_nobody() {
    let policy = rules(&format!("{SHADOW}, {ADMIN}"));
    let denied = policy.authorize(&peer("other", &[]));
    assert!(matches!(&denied, Decision::Deny(denial) if denial.reason() == DenyReason::NoRuleMatched));
    assert_eq!(denied.matched().shadow, ["trial".into()]);
    let Decision::Allow(grant) = policy.authorize(&peer("admin", &[])) else { panic!("must be allowed") };
    assert_eq!(grant.capabilities().names().collect::<Vec<_>>(), ["vespa.none"]);
}

#[test]
fn log_only_and_disable_refuse_nothing() {
    let with = |mode: &str, compatibility: &str| {
        policy(&format!(
            r#"{{"authorization-mode": "{mode}", "compatibility": "{compatibility}", "authorized-peers": [{ADMIN}]}}"#
        ))
    };
    for (mode, compatibility, name, capabilities, would_deny) in [
        ("log_only", "strict", "other", CapabilitySet::ALL, Some(DenyReason::NoRuleMatched)),
        ("log_only", "strict", "admin", CapabilitySet::ALL, None),
        ("disable", "strict", "other", CapabilitySet::ALL, None),
        ("log_only", "vespa-cpp", "other", CapabilitySet::EMPTY, Some(DenyReason::NoRuleMatched)),
        ("log_only", "vespa-cpp", "admin", CapabilitySet::named("vespa.none").unwrap(), None),
        ("disable", "vespa-cpp", "admin", CapabilitySet::EMPTY, None),
    ] {
        let decision = with(mode, compatibility).authorize(&peer(name, &[]));
        let Decision::Allow(grant) = decision else { panic!("{mode} {compatibility} refuses {name}") };
        assert_eq!(grant.capabilities(), capabilities, "{mode} {compatibility} {name}");
        assert_eq!(grant.would_deny(), would_deny, "{mode} {compatibility} {name}");
    }
}

#[test]
fn explanations_name_the_first_credential_that_failed() {
    let policy = rules(
        r#"{"name": "both", "required-credentials": [{"field": "CN", "must-match": "x"}, {"field": "SAN_DNS", "must-match": "*.a"}]},
           {"name": "ip", "required-credentials": [{"field": "SAN_IP", "must-match": "10.0.0.0/8"}]}"#,
    );
    let mut identity = peer("x", &["b.example", "c.example"]);
    identity.addresses.push("192.0.2.1".parse().unwrap());
    let reports: Vec<RuleReport> = policy.explain(&identity).collect();
    let failed = reports[0].failed.as_ref().unwrap();
    assert_eq!((failed.field.as_str(), failed.must_match.as_str()), ("SAN_DNS", "*.a"));
    assert_eq!(failed.values, ["b.example", "c.example"]);
    assert_eq!(reports[1].failed.as_ref().unwrap().values, ["192.0.2.1"]);
    identity.dns_names.push("z.a".into());
    assert_eq!(policy.explain(&identity).next().unwrap().failed, None);
}

#[test]
fn spiffe_strict_wants_exactly_one_spiffe_id() {
    let policy = policy(r#"{"spiffe-strict": true}"#);
    for (uris, word) in [
        (vec!["spiffe://td/a"], "allow"),
        (vec![], "deny"),
        (vec!["spiffe://td/a", "spiffe://td/b"], "deny"),
        (vec!["https://td/a"], "deny"),
    ] {
        let identity =
            PeerIdentity { uris: uris.iter().map(|uri| (*uri).into()).collect(), ..Default::default() };
        assert_eq!(policy.authorize(&identity).as_str(), word, "{uris:?}");
    }
}

#[test]
fn ten_thousand_rules_find_the_one() {
    let peers: Vec<String> = (0..10_000)
        .map(|i| match i % 4 {
            0 => format!(r#"{{"name": "{i}", "required-credentials": [{{"field": "SAN_DNS", "must-match": "*.t{i}.example"}}]}}"#),
            1 => format!(r#"{{"name": "{i}", "required-credentials": [{{"field": "SAN_DNS", "must-match": "node-{i}-*.example"}}]}}"#),
            2 => format!(r#"{{"name": "{i}", "required-credentials": [{{"field": "SAN_URI", "must-match": "spiffe://td/{i}/*"}}]}}"#),
            _ => format!(r#"{{"name": "{i}", "required-credentials": [{{"field": "CN", "must-match": "*"}}, {{"field": "SAN_IP", "must-match": "10.{}.{}.0/24"}}]}}"#, i / 256, i % 256),
        })
        .collect();
    let policy = rules(&peers.join(","));
    let mut identity = peer("cn", &["x.t5000.example", "node-7001-z.example", "node-70010-z.example"]);
    identity.uris.push("spiffe://td/9998/w".into());
    identity.addresses.push("10.39.7.200".parse().unwrap());
    assert_eq!(matched(&policy.authorize(&identity)), ["5000", "7001", "9991", "9998"]);
}

/// Rules of one shape in one place, and peers with many names: the index must find, and the bound must hold.
#[test]
fn hostile_shapes_are_found_or_refused_but_never_slow() {
    let infix: Vec<String> = (0..10_000)
        .map(|i| format!(r#"{{"name": "{i}", "required-credentials": [{{"field": "SAN_DNS", "must-match": "*-{i:04}-*.x"}}]}}"#))
        .collect();
    let infix = rules(&infix.join(","));
    let names: Vec<String> = (0..600).map(|i| format!("host-{i:04}-a.x")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(matched(&infix.authorize(&peer("", &names))).len(), 600);

    let nested = r#"{"required-credentials": [{"field": "SAN_DNS", "must-match": "@"}]}"#;
    let nested: Vec<String> = (0..4096_u32)
        .map(|i| {
            nested.replace(
                '@',
                &(0..12).map(|bit| if i >> bit & 1 == 1 { "a*" } else { "*" }).collect::<Vec<_>>().join("."),
            )
        })
        .collect();
    let nested = rules(&nested.join(","));
    let name = ["ab"; 12].join(".");
    assert_eq!(matched(&nested.authorize(&peer("", &[&name]))).len(), 4096);
    let many = vec![name.as_str(); 5_000];
    let refused = nested.authorize(&peer("", &many));
    assert!(matches!(refused, Decision::Deny(denial) if denial.reason() == DenyReason::TooCostly));
}

fn credential() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        ("(CN|SAN_DNS)", "[ab*?.]{0,6}"),
        Just("SAN_URI".to_owned()).prop_flat_map(|field| (Just(field), "[ab*?/]{0,6}")),
        (
            Just("SAN_IP".to_owned()),
            "(10[.]0[.]0[.]0/8|10[.]0[.]0[.]7|0[.]0[.]0[.]0/0|::/0|::1|10[.]0[.]0[.]4/30)"
        ),
    ]
}

fn identity() -> impl Strategy<Value = PeerIdentity> {
    let addresses = prop::collection::vec(
        prop::sample::select(vec!["10.0.0.7", "10.9.9.9", "192.0.2.1", "::1"])
            .prop_map(|a| a.parse().unwrap()),
        0..3,
    );
    (
        prop::option::of("[ab.]{1,6}"),
        prop::collection::vec("[ab.]{1,6}", 0..4),
        prop::collection::vec("[ab?/]{1,6}", 0..3),
        addresses,
    )
        .prop_map(|(common_name, dns_names, uris, addresses)| PeerIdentity {
            common_name,
            dns_names,
            uris,
            addresses,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// The index may only ever be faster than asking every rule, never different.
    #[test]
    fn the_index_agrees_with_asking_every_rule(
        credentials in prop::collection::vec(prop::collection::vec(credential(), 1..4), 1..12),
        identity in identity(),
        compatibility in prop::sample::select(vec!["strict", "vespa-cpp", "vespa-java"]),
    ) {
        let peers: Vec<serde_json::Value> = credentials
            .iter()
            .enumerate()
            .map(|(index, credentials)| {
                let credentials: Vec<serde_json::Value> = credentials
                    .iter()
                    .map(|(field, must_match)| serde_json::json!({"field": field, "must-match": must_match}))
                    .collect();
                serde_json::json!({"name": index.to_string(), "required-credentials": credentials})
            })
            .collect();
        let document = serde_json::json!({"compatibility": compatibility, "authorized-peers": peers}).to_string();
        let policy = policy(&document);
        let names = Names::of(&identity, policy.compatibility());
        let naive: Vec<&str> = policy
            .rules()
            .iter()
            .filter(|rule| rule.credentials().iter().all(|credential| credential.holds(&names)))
            .map(Rule::label)
            .collect();
        let decision = policy.authorize(&identity);
        prop_assert_eq!(matched(&decision), naive);
    }
}
