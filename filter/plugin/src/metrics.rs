//! Counters of decisions, by outcome and reason: `peergate_decisions.outcome.deny.reason.no_rule_matched`.
//!
//! Envoy shows them as `wasmcustom.<name>` in `/stats`. Outcomes are `allow`, `deny` and `would_deny`; the reasons are a fixed
//! list, so a client cannot make new series.

use peergate_policy::{Decision, DenyReason};

use crate::envoy;

/// The counters that were needed so far, by what they count.
#[derive(Default)]
pub(crate) struct Counters {
    defined: Vec<(Outcome, u32)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Allow,
    Deny(DenyReason),
    WouldDeny(DenyReason),
}

impl Counters {
    /// Counts a decision. A proxy without metrics changes no decision.
    pub(crate) fn count(&mut self, decision: &Decision) {
        let outcome = match decision {
            Decision::Allow(grant) => grant.would_deny().map_or(Outcome::Allow, Outcome::WouldDeny),
            Decision::Deny(denial) => Outcome::Deny(denial.reason()),
        };
        let known = self.defined.iter().find(|(defined, _)| *defined == outcome).map(|(_, id)| *id);
        let id = known.or_else(|| {
            let id = envoy::define_counter(&outcome.name()).ok()?;
            self.defined.push((outcome, id));
            Some(id)
        });
        if let Some(id) = id {
            envoy::increment(id);
        }
    }
}

impl Outcome {
    fn name(self) -> String {
        let (outcome, reason) = match self {
            Self::Allow => return "peergate_decisions.outcome.allow".to_owned(),
            Self::Deny(reason) => ("deny", reason),
            Self::WouldDeny(reason) => ("would_deny", reason),
        };
        format!("peergate_decisions.outcome.{outcome}.reason.{}", reason.as_str().replace('-', "_"))
    }
}
