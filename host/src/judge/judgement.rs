//! The answer, for people and for programs.

use std::fmt;

use peergate_policy::{CapabilitySet, Decision, DenyReason, RuleReport};
use serde_json::{Value, json};

use crate::clean::Clean;

/// What an engine answered, with the reasons of every rule.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub(super) allow: bool,
    pub(super) status: u16,
    pub(super) reason: Option<String>,
    pub(super) would_deny: Option<String>,
    pub(super) matched: Vec<String>,
    pub(super) shadow_matched: Vec<String>,
    pub(super) capabilities: CapabilitySet,
    pub(super) rules: Vec<RuleReport>,
    /// Why filter.wasm was not asked, where it could not be.
    pub(super) native_because: Option<&'static str>,
}

impl Judgement {
    pub(super) fn of(decision: &Decision) -> Self {
        let matched = decision.matched();
        let labels = |rules: &[std::sync::Arc<str>]| rules.iter().map(ToString::to_string).collect();
        let judgement = Self {
            allow: false,
            status: 403,
            reason: None,
            would_deny: None,
            matched: labels(&matched.rules),
            shadow_matched: labels(&matched.shadow),
            capabilities: CapabilitySet::EMPTY,
            rules: Vec::new(),
            native_because: None,
        };
        match decision {
            Decision::Allow(grant) => Self {
                allow: true,
                status: 200,
                would_deny: grant.would_deny().map(|reason| reason.to_string()),
                capabilities: grant.capabilities(),
                ..judgement
            },
            Decision::Deny(denial) => Self { reason: Some(denial.reason().to_string()), ..judgement },
        }
    }

    pub(super) fn denied(reason: DenyReason) -> Self {
        Self::of(&Decision::deny(reason))
    }

    /// Whether the peer is admitted.
    pub fn allows(&self) -> bool {
        self.allow
    }

    /// `allow` or `deny`.
    pub fn word(&self) -> &'static str {
        if self.allow { "allow" } else { "deny" }
    }

    /// The object that `peergate explain --format json` prints.
    pub fn to_json(&self) -> Value {
        let rules: Vec<Value> = self.rules.iter().map(rule_json).collect();
        let mut json = json!({
            "decision": self.word(),
            "status": self.status,
            "matched": self.matched,
            "capabilities": self.capabilities.names().collect::<Vec<_>>(),
            "client": null,
            "reason": self.reason,
            "rules": rules,
        });
        if !self.shadow_matched.is_empty() {
            json["shadow_matched"] = json!(self.shadow_matched);
        }
        if let Some(would_deny) = &self.would_deny {
            json["would_deny"] = json!(would_deny);
        }
        json
    }

    /// One line: the rules that matched, or the reason.
    pub fn summary(&self) -> String {
        match (self.reason.as_ref().or(self.would_deny.as_ref()), self.matched.is_empty()) {
            (Some(reason), _) => reason.clone(),
            (None, true) => "every certificate of the CA".to_owned(),
            (None, false) => self.matched.iter().map(|rule| quoted(rule)).collect::<Vec<_>>().join(", "),
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {}", self.word(), self.summary())?;
        if self.allow {
            let capabilities = match self.capabilities {
                CapabilitySet::ALL => "all".to_owned(),
                CapabilitySet::EMPTY => "none".to_owned(),
                some => some.names().collect::<Vec<_>>().join(", "),
            };
            writeln!(formatter, "  capabilities: {capabilities}")?;
        }
        if let Some(would_deny) = &self.would_deny {
            writeln!(formatter, "  in mode enforce: deny, {would_deny}")?;
        }
        for rule in &self.rules {
            let shadow = if rule.shadow { " (log_only: admits nobody)" } else { "" };
            match &rule.failed {
                None => writeln!(formatter, "  {}{shadow}: matched", quoted(&rule.label))?,
                Some(failed) => {
                    let values: Vec<String> = failed.values.iter().map(|value| quoted(value)).collect();
                    let values = if values.is_empty() { "none".to_owned() } else { values.join(", ") };
                    writeln!(
                        formatter,
                        "  {}{shadow}: {} must match {}; the peer has {values}",
                        quoted(&rule.label),
                        failed.field.as_str(),
                        quoted(&failed.must_match),
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn rule_json(rule: &RuleReport) -> Value {
    let mut json = json!({"name": &*rule.label, "matched": rule.failed.is_none()});
    if rule.shadow {
        json["mode"] = json!("log_only");
    }
    if let Some(failed) = &rule.failed {
        json["failed"] =
            json!({"field": failed.field.as_str(), "must-match": failed.must_match, "values": failed.values});
    }
    json
}

fn quoted(text: &str) -> String {
    format!("`{}`", Clean(text))
}
