//! Vespa's own tests and documents, answered by the engine natively.

use std::collections::BTreeSet;

use peergate_policy::{CapabilitySet, Decision, PeerIdentity, Policy};
use peergate_tests::{
    commands::{peergate, run},
    vectors::{
        AuthorizeCase, Comparison, ConfigCase, GlobCase, cases, compatibilities, load, single_credential,
        with_compatibility,
    },
};
use serde_json::{Value, json};

#[test]
fn globs_match_as_in_vespa() {
    let mut comparison = Comparison::new("glob.json");
    for (index, case) in cases("glob.json", GlobCase::read).iter().enumerate() {
        comparison.answer(index, "strict", glob_fault(case));
    }
    comparison.finish();
}

fn glob_fault(case: &GlobCase) -> Option<String> {
    let Some((policy, peer)) = single_credential(case) else {
        return Some(format!("there is no field {}", case.field));
    };
    let policy = Policy::parse(&policy.to_string()).expect("every text is a pattern");
    let admitted = matches!(policy.authorize(&peer), Decision::Allow(_));
    (admitted != case.matches).then(|| format!("answered {admitted}"))
}

#[test]
fn peers_are_authorized_as_in_vespa() {
    let mut comparison = Comparison::new("authorize.json");
    for (index, case) in cases("authorize.json", AuthorizeCase::read).iter().enumerate() {
        for compatibility in compatibilities(&case.implementations) {
            comparison.answer(index, compatibility, authorize_fault(case, compatibility));
        }
    }
    comparison.finish();
}

fn authorize_fault(case: &AuthorizeCase, compatibility: &str) -> Option<String> {
    let document = with_compatibility(&case.config, compatibility).to_string();
    let policy = match Policy::parse(&document) {
        Ok(policy) => policy,
        Err(error) => return Some(format!("the policy is refused: {error}")),
    };
    let decision = policy.authorize(&case.peer);
    let matched: Vec<&str> = decision.matched().rules.iter().map(AsRef::as_ref).collect();
    let Decision::Allow(grant) = &decision else {
        let right = !case.allowed && matched == case.matched;
        return (!right).then(|| format!("denied, matched {matched:?}"));
    };
    let granted = grant.capabilities();
    let right = case.allowed
        && matched == case.matched
        && case.granted_capabilities.as_ref().is_none_or(|expected| granted == capabilities(expected));
    (!right).then(|| format!("allowed, matched {matched:?}, granted {granted:?}"))
}

fn capabilities(names: &Value) -> CapabilitySet {
    if names == "ALL" {
        return CapabilitySet::ALL;
    }
    let names = names.as_array().expect("a list of capabilities").iter();
    names.fold(CapabilitySet::EMPTY, |set, name| {
        set.union(CapabilitySet::named(name.as_str().expect("a name")).expect("a capability of Vespa"))
    })
}

#[test]
fn configurations_are_accepted_and_refused_as_in_vespa() {
    let mut comparison = Comparison::new("config_errors.json");
    for (index, case) in cases("config_errors.json", ConfigCase::read).iter().enumerate() {
        for compatibility in compatibilities(&case.implementations) {
            comparison.answer(index, compatibility, config_fault(case, compatibility));
        }
    }
    comparison.finish();
}

fn config_fault(case: &ConfigCase, compatibility: &str) -> Option<String> {
    if let Some(missing) = case.config_json.strip_prefix("$MISSING_FILE:") {
        let checked = run(peergate().args(["check", "--policy", missing]), b"");
        let refused = checked.code == Some(2) && checked.stderr.contains(missing);
        return (refused == case.valid).then(|| format!("answered {checked:?}"));
    }
    let text = ["$KEY", "$CERT", "$CA"].iter().fold(case.config_json.clone(), |text, file| {
        text.replace(file, &format!("/etc/peergate/{}", &file[1..]))
    });
    let document: Value = serde_json::from_str(&text).expect("the vector's document");
    let text = with_compatibility(&document, compatibility).to_string();
    let policy = Policy::parse(&text).and_then(|policy| policy.files().require(&text).map(|_| policy));
    match (policy, case.valid) {
        (Err(_), false) => None,
        (Err(error), true) => Some(format!("refused: {error}")),
        (Ok(_), false) => Some("accepted".to_owned()),
        (Ok(policy), true) => case.expect.as_ref().and_then(|expect| meaning_fault(&policy, expect)),
    }
}

fn meaning_fault(policy: &Policy, expect: &Value) -> Option<String> {
    let granted = || policy.rules().iter().map(|rule| rule.capabilities()).reduce(CapabilitySet::union);
    let expect = expect.as_object().expect("an object");
    for (key, value) in expect {
        let right = match key.as_str() {
            "capabilities" | "capabilities_of" => granted() == Some(capabilities(value)),
            "disable_hostname_validation" => Some(policy.disable_hostname_validation()) == value.as_bool(),
            other => panic!("unknown expectation `{other}`"),
        };
        if !right {
            return Some(format!("`{key}` is not {value}"));
        }
    }
    None
}

#[test]
fn capabilities_and_their_sets_are_those_of_vespa() {
    let vectors = load("capabilities.json");
    let all: BTreeSet<&str> = strings(&vectors["capabilities"]);
    assert_eq!(CapabilitySet::ALL.names().collect::<BTreeSet<_>>(), all);
    for name in &all {
        let single = CapabilitySet::named(name).expect("a capability");
        assert_eq!(single.names().collect::<Vec<_>>(), [*name]);
    }
    for (set, members) in vectors["sets"].as_object().expect("the sets") {
        let ours = CapabilitySet::named(set).expect("a set");
        assert_eq!(ours.names().collect::<BTreeSet<_>>(), strings(members), "{set}");
        assert_eq!(json!(ours.len()), vectors["set_sizes"][set], "{set}");
    }
    for unknown in vectors["unknown"].as_array().expect("unknown names") {
        assert_eq!(CapabilitySet::named(unknown["name"].as_str().expect("a name")), None, "{unknown}");
    }
}

fn strings(list: &Value) -> BTreeSet<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("text")).collect()
}

#[test]
fn only_the_last_common_name_counts() {
    let case = cases("authorize.json", AuthorizeCase::read)
        .into_iter()
        .find(|case| case.all_cns.is_some())
        .expect("a case with several common names");
    let last = case.all_cns.and_then(|mut names| names.pop());
    assert_eq!(case.peer, PeerIdentity { common_name: last, ..PeerIdentity::default() });
}
