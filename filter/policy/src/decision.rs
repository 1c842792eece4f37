//! What the engine answers.

use std::fmt;
use std::sync::Arc;

use crate::capability::CapabilitySet;
use crate::data_plane::{ClientGrant, TokenUse};
use crate::rules::RuleIndex;

/// The answer for one peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The peer may talk; what it may do is in the [`Grant`].
    Allow(Grant),
    /// The peer may not talk.
    Deny(Denial),
}

impl Decision {
    /// `allow` or `deny`, the words used everywhere.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Deny(_) => "deny",
        }
    }

    /// A denial without matched rules.
    pub fn deny(reason: DenyReason) -> Self {
        Self::Deny(Denial { reason, matched: Matched::default(), token: None })
    }

    /// A denial of a token that is known.
    pub(crate) fn deny_token(reason: DenyReason, token: Arc<TokenUse>) -> Self {
        Self::Deny(Denial { reason, matched: Matched::default(), token: Some(token) })
    }

    /// The rules that matched.
    pub fn matched(&self) -> &Matched {
        match self {
            Self::Allow(grant) => &grant.matched,
            Self::Deny(denial) => &denial.matched,
        }
    }
}

/// Proof that a peer passed the first gate. Only the engine makes one, from names or from what it sealed itself
/// ([`crate::Configuration::open`]).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    matched: Matched,
    /// Numbers of the rules in `matched`, of both modes, in policy order.
    rules: Vec<RuleIndex>,
    capabilities: CapabilitySet,
    would_deny: Option<DenyReason>,
    client: Option<ClientGrant>,
}

impl Grant {
    pub(crate) fn new(matched: Matched, capabilities: CapabilitySet) -> Self {
        Self { matched, rules: Vec::new(), capabilities, would_deny: None, client: None }
    }

    /// What the rules of these numbers grant.
    pub(crate) fn of_rules(matched: Matched, rules: Vec<RuleIndex>, capabilities: CapabilitySet) -> Self {
        Self { rules, ..Self::new(matched, capabilities) }
    }

    /// A grant that exists only because the policy's `authorization-mode` is `log_only`.
    pub(crate) fn tolerating(denial: Denial, capabilities: CapabilitySet) -> Self {
        Self { would_deny: Some(denial.reason), ..Self::new(denial.matched, capabilities) }
    }

    pub(crate) fn of_client(client: ClientGrant) -> Self {
        Self { client: Some(client), ..Self::new(Matched::default(), CapabilitySet::EMPTY) }
    }

    /// What becomes of this grant when a request is refused for `reason`.
    pub fn refused(&self, reason: DenyReason) -> Decision {
        Decision::Deny(Denial { reason, matched: self.matched.clone(), token: None })
    }

    /// What becomes of it where `reason` is only reported.
    #[must_use]
    pub fn tolerated(&self, reason: DenyReason) -> Self {
        Self { would_deny: Some(reason), ..self.clone() }
    }

    /// The data-plane clients; `None` for a peer.
    pub fn client(&self) -> Option<&ClientGrant> {
        self.client.as_ref()
    }

    /// The rules that matched; none where the policy admits every verified certificate.
    pub fn matched(&self) -> &Matched {
        &self.matched
    }

    pub(crate) fn rules(&self) -> &[RuleIndex] {
        &self.rules
    }

    /// The union of what the matching rules grant.
    pub fn capabilities(&self) -> CapabilitySet {
        self.capabilities
    }

    /// Why this peer would have been refused in mode `enforce`.
    pub fn would_deny(&self) -> Option<DenyReason> {
        self.would_deny
    }
}

/// A refusal and its reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    pub(crate) reason: DenyReason,
    pub(crate) matched: Matched,
    pub(crate) token: Option<Arc<TokenUse>>,
}

impl Denial {
    /// The token that was refused, if it is a known one.
    pub fn token(&self) -> Option<&TokenUse> {
        self.token.as_deref()
    }

    /// The reason.
    pub fn reason(&self) -> DenyReason {
        self.reason
    }

    /// The rules that matched and did not help: shadow rules, or rules that grant nothing.
    pub fn matched(&self) -> &Matched {
        &self.matched
    }
}

/// Rules that matched, by name or `authorized-peers[i]`, in policy order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matched {
    /// Rules in mode `enforce`.
    pub rules: Vec<Arc<str>>,
    /// Rules in mode `log_only`, which admit nobody.
    pub shadow: Vec<Arc<str>>,
}

/// Why a peer is refused. The words are stable: logs, metrics and tests use them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DenyReason {
    /// The peer presented no certificate, or the connection has no TLS.
    NoCertificate,
    /// The proxy did not verify the certificate against a CA on this very connection.
    ChainNotVerified,
    /// Not one complete DER certificate.
    MalformedCertificate,
    /// A name that implementations read differently: NUL, empty, undecodable.
    MalformedName,
    /// Before `notBefore`.
    NotYetValid,
    /// After `notAfter`.
    Expired,
    /// No rule of `authorized-peers` matched.
    NoRuleMatched,
    /// Rules matched, and grant no capability (`vespa-java` only).
    NoCapabilities,
    /// Finding the rules that match would take more than [`crate::limits::MATCHING_WORK`].
    TooCostly,
    /// `spiffe-strict`, and not exactly one SPIFFE-shaped URI name.
    NotSpiffe,
    /// The clock could not be read.
    ClockFailed,
    /// A data-plane endpoint is judged per request, and a network filter sees none.
    NoRequest,
    /// The grant lacks a capability that `http-capabilities` asks for.
    CapabilityMissing,
    /// No client has this certificate.
    CertificateUnknown,
    /// The clients that have this credential may not do this.
    PermissionMissing,
    /// No bearer token.
    TokenMissing,
    /// More than one `Authorization`.
    TokenRepeated,
    /// No token can look like this.
    TokenMalformed,
    /// No client has this token.
    TokenUnknown,
    /// After the token's expiration.
    TokenExpired,
    /// One secret under two token ids or versions.
    TokenAmbiguous,
    /// A method without a meaning here.
    MethodUnknown,
    /// A path with a dot segment, NUL or control character, plain or escaped, or with a broken escape.
    PathUnsafe,
    /// A path that falls under another rule once it is decoded.
    PathAmbiguous,
}

impl DenyReason {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::ChainNotVerified => "chain-not-verified",
            Self::MalformedCertificate => "malformed-certificate",
            Self::MalformedName => "malformed-name",
            Self::NotYetValid => "not-yet-valid",
            Self::Expired => "expired",
            Self::NoRuleMatched => "no-rule-matched",
            Self::NoCapabilities => "no-capabilities",
            Self::TooCostly => "too-costly",
            Self::NotSpiffe => "not-spiffe",
            Self::ClockFailed => "clock-failed",
            Self::NoRequest => "no-request",
            Self::CapabilityMissing => "capability-missing",
            Self::CertificateUnknown => "certificate-unknown",
            Self::PermissionMissing => "permission-missing",
            Self::TokenMissing => "token-missing",
            Self::TokenRepeated => "token-repeated",
            Self::TokenMalformed => "token-malformed",
            Self::TokenUnknown => "token-unknown",
            Self::TokenExpired => "token-expired",
            Self::TokenAmbiguous => "token-ambiguous",
            Self::MethodUnknown => "method-unknown",
            Self::PathUnsafe => "path-unsafe",
            Self::PathAmbiguous => "path-ambiguous",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
