//! Why a rule did not match: the first credential that failed, and what it was compared to.

use std::sync::Arc;

use crate::names::Names;
use crate::rule::{Field, Rule};

/// What one rule said to one peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleReport {
    /// The rule's `name`, or `authorized-peers[i]`.
    pub label: Arc<str>,
    /// Mode `log_only`.
    pub shadow: bool,
    /// `None` if the rule matched.
    pub failed: Option<FailedCredential>,
}

/// A credential that does not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailedCredential {
    /// What it looks at.
    pub field: Field,
    /// The pattern as written.
    pub must_match: String,
    /// The peer's values of that field, none of which matched; empty where it has none.
    pub values: Vec<String>,
}

impl RuleReport {
    pub(crate) fn new(rule: &Rule, names: &Names<'_>) -> Self {
        let failed = rule.first_failure(names).map(|credential| FailedCredential {
            field: credential.field(),
            must_match: credential.must_match().to_owned(),
            values: names.printed(credential.field()),
        });
        Self { label: rule.label.clone(), shadow: rule.is_shadow(), failed }
    }
}
