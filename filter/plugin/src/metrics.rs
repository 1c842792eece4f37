//! Counters. Of decisions, by outcome, reason and the first rule that matched:
//! `peergate_decisions.outcome.deny.reason.no_rule_matched`, `peergate_decisions.outcome.allow.rule.monitoring`. Of rules in mode
//! `log_only` that matched: `peergate_shadow_matched.rule.monitoring`. Of requests for deprecated names:
//! `peergate_deprecated_names.name.old_example`.
//!
//! Envoy shows them as `wasmcustom.<name>` in `/stats`. Outcomes are `allow`, `deny` and `would_deny`; reasons are a fixed list,
//! rules and names are the policy's: a client cannot make new series.

use std::sync::Arc;

use peergate_policy::{Decision, Policy};

use crate::envoy;

/// Rules with a series of their own, the first ones of the policy; all others count as `other`.
const RULES: usize = 100;

/// Longest rule or host name in a series, in bytes.
const LABEL_BYTES: usize = 64;

/// The counters of a decision, defined in the proxy; none where it has no metrics.
pub(crate) fn of_decision(policy: &Policy, decision: &Decision) -> Vec<u32> {
    let matched = decision.matched();
    let mut names = vec![decision_name(policy, decision)];
    for rule in &matched.shadow {
        let name = format!("peergate_shadow_matched.rule.{}", rule_label(policy, rule));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.iter().filter_map(|name| envoy::define_counter(name).ok()).collect()
}

/// The counter of a deprecated host name.
pub(crate) fn of_deprecated(name: &str) -> Option<u32> {
    let label = label(&name.to_ascii_lowercase());
    envoy::define_counter(&format!("peergate_deprecated_names.name.{label}")).ok()
}

/// Counts one. A proxy without metrics changes no decision.
pub(crate) fn count(ids: &[u32]) {
    ids.iter().for_each(|id| envoy::increment(*id));
}

fn decision_name(policy: &Policy, decision: &Decision) -> String {
    let (outcome, reason) = match decision {
        Decision::Deny(denial) => ("deny", Some(denial.reason())),
        Decision::Allow(grant) => match grant.would_deny() {
            Some(reason) => ("would_deny", Some(reason)),
            None => ("allow", None),
        },
    };
    let mut name = format!("peergate_decisions.outcome.{outcome}");
    if let Some(reason) = reason {
        name += ".reason.";
        name += &reason.as_str().replace('-', "_");
    }
    if let Some(rule) = decision.matched().rules.first() {
        name += ".rule.";
        name += &rule_label(policy, rule);
    }
    name
}

fn rule_label(policy: &Policy, rule: &Arc<str>) -> String {
    let named = policy.rules().iter().take(RULES).any(|known| known.label() == &**rule);
    // What no rule has matched is there by configuration, such as `insecure-plaintext`.
    if named || policy.rules().len() <= RULES { label(rule) } else { "other".to_owned() }
}

/// Dots and colons divide the names of statistics; only letters, digits, `-` and `_` are left.
fn label(text: &str) -> String {
    let kept = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
    let label: String =
        text.bytes().take(LABEL_BYTES).map(|byte| if kept(byte) { byte.into() } else { '_' }).collect();
    if label.is_empty() { "_".to_owned() } else { label }
}
