//! Counters. Of decisions, by outcome, reason and the first rule that matched:
//! `peergate_decisions.outcome.deny.reason.no_rule_matched`, `peergate_decisions.outcome.allow.rule.monitoring`. Of rules in mode
//! `log_only` that matched: `peergate_shadow_matched.rule.monitoring`. Of requests for deprecated names:
//! `peergate_deprecated_names.name.old_example`. Of grants of connections that requests met:
//! `peergate_connection_grants.outcome.taken_over`, `peergate_connection_grants.outcome.judged_again.reason.other_policy`. Of what was
//! forwarded without a decision: `peergate_bypassed`.
//!
//! Envoy shows them as `wasmcustom.<name>` in `/stats`. Outcomes are `allow`, `deny` and `would_deny`; reasons are a fixed list,
//! rules and names are the configuration's: a client cannot make new series.

use peergate_policy::{Decision, DenyReason, Policy, SealError};

use crate::envoy;

/// Rules with a series of their own, the first ones of the policy; all others count as `other`.
const RULES: usize = 100;

/// Longest rule or host name in a series, in bytes.
const LABEL_BYTES: usize = 64;

/// The counters that were needed so far. A proxy without metrics changes no decision.
#[derive(Default)]
pub(crate) struct Counters {
    defined: Vec<(Series, u32)>,
}

/// What a counter counts.
#[derive(Clone, Copy, PartialEq)]
struct Series {
    kind: Kind,
    rule: Option<RuleLabel>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Allow,
    Deny(DenyReason),
    WouldDeny(DenyReason),
    Shadow,
    /// The grant of a connection, met by a request.
    TakenOver,
    JudgedAgain(SealError),
    Bypassed,
}

#[derive(Clone, Copy, PartialEq)]
enum RuleLabel {
    /// A rule of the policy, by its position.
    Listed(usize),
    Other,
    /// No rule of the policy: it stands for a key of the configuration.
    Unlisted,
}

impl Counters {
    /// The counters of a decision.
    pub(crate) fn of_decision(&mut self, policy: &Policy, decision: &Decision) -> Vec<u32> {
        let matched = decision.matched();
        let kind = match decision {
            Decision::Allow(grant) => grant.would_deny().map_or(Kind::Allow, Kind::WouldDeny),
            Decision::Deny(denial) => Kind::Deny(denial.reason()),
        };
        let mut ids = Vec::new();
        self.add(policy, kind, matched.rules.first().map(|rule| &**rule), &mut ids);
        for rule in &matched.shadow {
            self.add(policy, Kind::Shadow, Some(rule), &mut ids);
        }
        ids
    }

    /// Counts the grant of a connection that a request met.
    pub(crate) fn count_handover(&mut self, taken_over: Result<(), SealError>) {
        let kind = taken_over.map_or_else(Kind::JudgedAgain, |()| Kind::TakenOver);
        count(self.id(Series { kind, rule: None }, None).as_slice());
    }

    /// Counts what was forwarded without a decision.
    pub(crate) fn bypassed(&mut self) {
        count(self.id(Series { kind: Kind::Bypassed, rule: None }, None).as_slice());
    }

    fn add(&mut self, policy: &Policy, kind: Kind, rule: Option<&str>, ids: &mut Vec<u32>) {
        let series = Series { kind, rule: rule.map(|rule| RuleLabel::of(policy, rule)) };
        // Several rules may count as `other`, and still are one decision.
        if let Some(id) = self.id(series, rule).filter(|id| !ids.contains(id)) {
            ids.push(id);
        }
    }

    fn id(&mut self, series: Series, rule: Option<&str>) -> Option<u32> {
        if let Some((_, id)) = self.defined.iter().find(|(defined, _)| *defined == series) {
            return Some(*id);
        }
        let id = envoy::define_counter(&series.name(rule)).ok()?;
        self.defined.push((series, id));
        Some(id)
    }
}

/// The counter of a deprecated host name.
pub(crate) fn of_deprecated(name: &str) -> Option<u32> {
    let label = label(&name.to_ascii_lowercase());
    envoy::define_counter(&format!("peergate_deprecated_names.name.{label}")).ok()
}

/// Counts one.
pub(crate) fn count(ids: &[u32]) {
    ids.iter().for_each(|id| envoy::increment(*id));
}

impl RuleLabel {
    fn of(policy: &Policy, rule: &str) -> Self {
        let rules = policy.rules();
        // The very text: a decision's labels are those of the policy.
        match rules.iter().take(RULES).position(|known| std::ptr::eq(known.label(), rule)) {
            Some(position) => Self::Listed(position),
            None if rules.len() > RULES => Self::Other,
            None => Self::Unlisted,
        }
    }
}

impl Series {
    fn name(self, rule: Option<&str>) -> String {
        let (family, reason) = match self.kind {
            Kind::Allow => ("peergate_decisions.outcome.allow", None),
            Kind::Deny(reason) => ("peergate_decisions.outcome.deny", Some(reason.as_str())),
            Kind::WouldDeny(reason) => ("peergate_decisions.outcome.would_deny", Some(reason.as_str())),
            Kind::Shadow => ("peergate_shadow_matched", None),
            Kind::Bypassed => ("peergate_bypassed", None),
            Kind::TakenOver => ("peergate_connection_grants.outcome.taken_over", None),
            Kind::JudgedAgain(error) => {
                ("peergate_connection_grants.outcome.judged_again", Some(error.as_str()))
            }
        };
        let mut name = family.to_owned();
        if let Some(reason) = reason {
            name += ".reason.";
            name += &reason.replace('-', "_");
        }
        if let Some(rule) = rule {
            name += ".rule.";
            name += &if self.rule == Some(RuleLabel::Other) { "other".to_owned() } else { label(rule) };
        }
        name
    }
}

/// Dots and colons divide the names of statistics; only letters, digits, `-` and `_` are left.
fn label(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label: String =
        text.bytes().take(LABEL_BYTES).map(|byte| if kept(byte) { byte.into() } else { '_' }).collect();
    if label.is_empty() { "_".to_owned() } else { label }
}
