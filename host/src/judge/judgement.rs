//! The answer, for people and for programs.

use std::fmt;

use peergate_policy::{CapabilitySet, ClientGrant, Decision, DenyReason, RuleReport, TokenUse};
use serde_json::{Value, json};

use super::chain::Chain;
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
    /// Data-plane clients: ids, permissions and token.
    pub(super) client: Option<Value>,
    /// A known token that was refused.
    pub(super) token: Option<Value>,
    pub(super) rules: Vec<RuleReport>,
    /// What the authorities of the policy say, where they were asked.
    pub(super) chain: Option<Chain>,
    /// What the policy does not decide, and the places to which it comes.
    pub(super) note: Option<String>,
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
            client: None,
            token: None,
            rules: Vec::new(),
            chain: None,
            note: None,
            native_because: None,
        };
        match decision {
            Decision::Allow(grant) => Self {
                allow: true,
                status: 200,
                would_deny: grant.would_deny().map(|reason| reason.to_string()),
                capabilities: grant.capabilities(),
                client: grant.client().map(client_json),
                ..judgement
            },
            Decision::Deny(denial) => Self {
                status: status(denial.reason()),
                reason: Some(denial.reason().to_string()),
                token: denial.token().map(token_json),
                ..judgement
            },
        }
    }

    /// The same after the handshake: who is not believed there reaches no rule. A reason of the rules' stays.
    #[must_use]
    pub fn after(self, chain: Chain) -> Self {
        let mut judgement = self;
        if let (true, Chain::Refused(_)) = (judgement.allow, &chain) {
            judgement.allow = false;
            judgement.status = status(DenyReason::ChainNotVerified);
            judgement.reason = Some(DenyReason::ChainNotVerified.to_string());
            judgement.would_deny = None;
            judgement.matched.clear();
            judgement.capabilities = CapabilitySet::EMPTY;
            judgement.client = None;
        }
        Self { chain: Some(chain), ..judgement }
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
            "client": self.client,
            "reason": self.reason,
            "rules": rules,
        });
        if !self.shadow_matched.is_empty() {
            json["shadow_matched"] = json!(self.shadow_matched);
        }
        if let Some(token) = &self.token {
            json["token"] = token.clone();
        }
        if let Some(would_deny) = &self.would_deny {
            json["would_deny"] = json!(would_deny);
        }
        if let Some(chain) = &self.chain {
            json["chain"] = chain.to_json();
        }
        if let Some(note) = &self.note {
            json["note"] = json!(note);
        }
        json
    }

    /// One line: the rules that matched, or the reason.
    pub fn summary(&self) -> String {
        match (self.reason.as_ref().or(self.would_deny.as_ref()), self.matched.is_empty()) {
            (Some(reason), _) => reason.clone(),
            (None, true) => match &self.client {
                Some(client) => format!("client {}", Clean(&client.to_string())),
                None => "every certificate of the CA".to_owned(),
            },
            (None, false) => self.matched.iter().map(|rule| quoted(rule)).collect::<Vec<_>>().join(", "),
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {}", self.word(), self.summary())?;
        if let Some(chain) = &self.chain {
            writeln!(formatter, "  chain: {chain}")?;
        }
        if let Some(token) = &self.token {
            writeln!(formatter, "  token: {}", Clean(&token.to_string()))?;
        }
        if self.allow && self.client.is_none() {
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
        if let Some(note) = &self.note {
            writeln!(formatter, "  note: {note}")?;
        }
        Ok(())
    }
}

/// The status of a refusal, as `filter.wasm` answers it (RFC 9110, 15.5.2 and 15.5.4): 401 is for tokens that are missing
/// or malformed, so that another may be tried.
fn status(reason: DenyReason) -> u16 {
    match reason {
        DenyReason::TokenMissing | DenyReason::TokenRepeated | DenyReason::TokenMalformed => 401,
        DenyReason::NoCertificate
        | DenyReason::ChainNotVerified
        | DenyReason::MalformedCertificate
        | DenyReason::MalformedName
        | DenyReason::NotYetValid
        | DenyReason::Expired
        | DenyReason::NoRuleMatched
        | DenyReason::NoCapabilities
        | DenyReason::TooCostly
        | DenyReason::NotSpiffe
        | DenyReason::ClockFailed
        | DenyReason::NoRequest
        | DenyReason::CapabilityMissing
        | DenyReason::CertificateUnknown
        | DenyReason::PermissionMissing
        | DenyReason::TokenUnknown
        | DenyReason::TokenExpired
        | DenyReason::TokenAmbiguous
        | DenyReason::MethodUnknown
        | DenyReason::PathUnsafe
        | DenyReason::PathAmbiguous => 403,
    }
}

fn client_json(client: &ClientGrant) -> Value {
    let ids: Vec<&str> = client.ids.iter().map(AsRef::as_ref).collect();
    let mut json = json!({"ids": ids, "permissions": client.permissions.words().collect::<Vec<_>>()});
    if let Some(token) = &client.token {
        json["token"] = token_json(token);
    }
    json
}

/// What may be known of a token: never the token.
fn token_json(token: &TokenUse) -> Value {
    let expiration = token.expiration.map_or_else(|| "<none>".to_owned(), |time| time.to_string());
    json!({"id": &*token.id, "fingerprint": token.fingerprint.to_string(), "expiration": expiration})
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
