//! A policy that has been read: immutable, complete, ready to decide.

use crate::capability::CapabilitySet;
use crate::compatibility::Compatibility;
use crate::data_plane::DataPlane;
use crate::decision::{Decision, Denial, DenyReason, Grant, Matched};
use crate::error::PolicyError;
use crate::explanation::RuleReport;
use crate::files::Files;
use crate::http_capabilities::HttpCapabilities;
use crate::identity::{PeerIdentity, Validity};
use crate::mode::Mode;
use crate::names::Names;
use crate::path::RequestPath;
use crate::request::Request;
use crate::rule::Rule;
use crate::rules::{RuleIndex, Rules};
use crate::spiffe;
use crate::unix_time::UnixTime;
use crate::upstream_headers::UpstreamHeaders;
use crate::warning::PolicyWarning;
use crate::work::TooCostly;

/// A policy document, read and compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) files: Files,
    pub(crate) peers: AuthorizedPeers,
    pub(crate) accepted_ciphers: Vec<String>,
    pub(crate) accepted_protocols: Vec<String>,
    pub(crate) disable_hostname_validation: bool,
    pub(crate) compatibility: Compatibility,
    pub(crate) authorization_mode: Mode,
    pub(crate) capability_mode: Mode,
    pub(crate) spiffe_strict: bool,
    pub(crate) upstream_headers: UpstreamHeaders,
    pub(crate) http_capabilities: HttpCapabilities,
    pub(crate) data_plane: Option<DataPlane>,
    pub(crate) warnings: Vec<PolicyWarning>,
}

/// Whom the policy admits.
#[derive(Clone, Debug)]
pub(crate) enum AuthorizedPeers {
    /// No `authorized-peers`: every certificate of a trusted CA, with all capabilities. Never an empty list.
    AnyAuthenticated,
    /// Those that match a rule.
    Listed(Box<Rules>),
}

impl Policy {
    /// Reads a policy document: JSON (RFC 8259), one object. A Vespa TLS config file is one.
    ///
    /// # Errors
    /// [`PolicyError`] for the first thing that is not right, with its place in the text. Nothing is ever skipped: a
    /// rule that cannot be read would otherwise silently not apply.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        crate::document::parse(text)
    }

    /// Decides from the names of a peer whose certificate the proxy has verified. Pure: same policy and names, same
    /// answer. Whether the certificate is valid *now* is [`Validity::check`], which must be asked each time.
    pub fn authorize(&self, identity: &PeerIdentity) -> Decision {
        if self.authorization_mode == Mode::Disable {
            return Decision::Allow(Grant::new(Matched::default(), self.tolerated_capabilities()));
        }
        match (self.enforced(identity), self.authorization_mode) {
            (Decision::Deny(denial), Mode::LogOnly) => {
                Decision::Allow(Grant::tolerating(denial, self.tolerated_capabilities()))
            }
            (Decision::Allow(grant), Mode::LogOnly) if !self.compatibility.tolerated_peers_get_nothing() => {
                Decision::Allow(Grant::new(grant.matched().clone(), CapabilitySet::ALL))
            }
            (decision, _) => decision,
        }
    }

    /// The second gate of a peer: whether its capabilities suffice for `request`, by `http-capabilities`. Without that key,
    /// peers whose rules carry `capabilities` need those that Vespa's own handlers ask for.
    ///
    /// # Errors
    /// Why not. In `capability-mode: log_only` that is the reason to report, and the request goes on.
    pub fn authorize_request(&self, grant: &Grant, request: Request<'_>) -> Result<(), DenyReason> {
        if self.capability_mode == Mode::Disable {
            return Ok(());
        }
        if !self.http_capabilities.concern(grant) {
            return if RequestPath::is_printable(request.path) {
                Ok(())
            } else {
                Err(DenyReason::PathUnsafe)
            };
        }
        let required = self.http_capabilities.required(request)?;
        if required.is_met_by(grant.capabilities()) { Ok(()) } else { Err(DenyReason::CapabilityMissing) }
    }

    /// What `request` requires and what the peer has, in the words of Vespa (`ConnectionAuthContext.java`).
    pub fn explain_capabilities(&self, grant: &Grant, request: Request<'_>) -> String {
        let required = self.http_capabilities.required(request).map(|required| required.to_string());
        let has = grant.capabilities().names().collect::<Vec<_>>().join(", ");
        format!("Requires capabilities {} but peer has [{has}].", required.unwrap_or_default())
    }

    fn enforced(&self, identity: &PeerIdentity) -> Decision {
        if self.spiffe_strict && !matches!(&identity.uris[..], [uri] if spiffe::is_workload_id(uri)) {
            return Decision::deny(DenyReason::NotSpiffe);
        }
        let matching = match &self.peers {
            AuthorizedPeers::AnyAuthenticated => Ok(Vec::new()),
            AuthorizedPeers::Listed(rules) => rules.matching(&Names::of(identity, self.compatibility)),
        };
        match matching {
            Ok(numbers) => self.granted_by(numbers),
            Err(TooCostly) => Decision::deny(DenyReason::TooCostly),
        }
    }

    /// The decision about a peer that all rules of these numbers match, and no other. One that does not exist matches nobody.
    pub(crate) fn granted_by(&self, numbers: Vec<RuleIndex>) -> Decision {
        let AuthorizedPeers::Listed(rules) = &self.peers else {
            return Decision::Allow(Grant::new(Matched::default(), CapabilitySet::ALL));
        };
        let matching = numbers.iter().filter_map(|number| rules.all().get(*number as usize));
        let (shadow, admitting): (Vec<&Rule>, Vec<&Rule>) = matching.partition(|rule| rule.is_shadow());
        let labels = |rules: &[&Rule]| rules.iter().map(|rule| rule.label.clone()).collect();
        let matched = Matched { rules: labels(&admitting), shadow: labels(&shadow) };
        let Some(capabilities) =
            admitting.iter().map(|rule| rule.capabilities()).reduce(CapabilitySet::union)
        else {
            return Decision::Deny(Denial { reason: DenyReason::NoRuleMatched, matched, token: None });
        };
        if capabilities.is_empty() && !self.compatibility.admits_without_capabilities() {
            return Decision::Deny(Denial { reason: DenyReason::NoCapabilities, matched, token: None });
        }
        Decision::Allow(Grant::of_rules(matched, numbers, capabilities))
    }

    /// What a peer gets that global `log_only` or `disable` lets through.
    fn tolerated_capabilities(&self) -> CapabilitySet {
        if self.compatibility.tolerated_peers_get_nothing() {
            CapabilitySet::EMPTY
        } else {
            CapabilitySet::ALL
        }
    }

    /// Why each rule did or did not match, in policy order. Lazy, because ten thousand rules have as many reasons.
    pub fn explain<'a>(&'a self, identity: &'a PeerIdentity) -> impl Iterator<Item = RuleReport> + 'a {
        let names = Names::of(identity, self.compatibility);
        self.rules().iter().map(move |rule| RuleReport::new(rule, &names))
    }

    /// The entries of `authorized-peers`; none where the policy admits every verified certificate.
    pub fn rules(&self) -> &[Rule] {
        match &self.peers {
            AuthorizedPeers::AnyAuthenticated => &[],
            AuthorizedPeers::Listed(rules) => rules.all(),
        }
    }

    /// Whether there is no `authorized-peers`: every certificate of a trusted CA is admitted.
    pub fn admits_any_authenticated(&self) -> bool {
        matches!(self.peers, AuthorizedPeers::AnyAuthenticated)
    }

    /// The credentials of the node. `run` and `check` need all three and call [`Files::require`].
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// `accepted-ciphers`, IANA names; empty means the defaults.
    pub fn accepted_ciphers(&self) -> &[String] {
        &self.accepted_ciphers
    }

    /// `accepted-protocols`, of `TLSv1.2` and `TLSv1.3`; empty means both.
    pub fn accepted_protocols(&self) -> &[String] {
        &self.accepted_protocols
    }

    /// `disable-hostname-validation`, for connections this node opens.
    pub fn disable_hostname_validation(&self) -> bool {
        self.disable_hostname_validation
    }

    /// Which implementation is imitated.
    pub fn compatibility(&self) -> Compatibility {
        self.compatibility
    }

    /// `authorization-mode`.
    pub fn authorization_mode(&self) -> Mode {
        self.authorization_mode
    }

    /// `capability-mode`.
    pub fn capability_mode(&self) -> Mode {
        self.capability_mode
    }

    /// `data-plane`.
    pub fn data_plane(&self) -> Option<&DataPlane> {
        self.data_plane.as_ref()
    }

    /// `upstream-headers`.
    pub fn upstream_headers(&self) -> &UpstreamHeaders {
        &self.upstream_headers
    }

    /// The keys of this policy that only the filter enforces; none where it admits every verified certificate and asks for nothing
    /// else.
    pub fn enforced_keys(&self) -> Vec<&'static str> {
        let keys = [
            ("authorized-peers", !self.admits_any_authenticated()),
            ("authorization-mode", self.authorization_mode != Mode::Enforce),
            ("capability-mode", self.capability_mode != Mode::Enforce),
            ("data-plane", self.data_plane.is_some()),
            ("http-capabilities", !self.http_capabilities.is_default()),
            ("spiffe-strict", self.spiffe_strict),
            ("upstream-headers", self.upstream_headers != UpstreamHeaders::default()),
        ];
        keys.into_iter().filter(|(_, present)| *present).map(|(key, _)| key).collect()
    }

    /// What is legal and probably not meant: one sentence each. Places are those in the text that was parsed.
    pub fn warnings(&self) -> &[PolicyWarning] {
        &self.warnings
    }
}

impl Validity {
    /// Whether the certificate is valid at `now`.
    ///
    /// # Errors
    /// [`DenyReason::NotYetValid`] or [`DenyReason::Expired`].
    pub fn check(&self, now: UnixTime) -> Result<(), DenyReason> {
        // Certificates count in seconds (RFC 5280, 4.1.2.5): the last one is valid to its end.
        let now = UnixTime::from_seconds(now.seconds());
        if now < self.not_before {
            return Err(DenyReason::NotYetValid);
        }
        if now > self.not_after {
            return Err(DenyReason::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
