//! What a proxy hands to the filter: a policy and the kind of endpoint it protects.

use std::fmt;
use std::str::FromStr;

use crate::capability::CapabilitySet;
use crate::decision::{Decision, DenyReason, Grant, Matched};
use crate::document;
use crate::error::{Fault, PolicyError, PolicyErrorKind};
use crate::identity::{Digest, Validity, sha256};
use crate::json::Node;
use crate::mode::Mode;
use crate::policy::Policy;
use crate::schema::{self, CONFIGURATION, Members};
use crate::seal::{Opened, Seal, SealError};
use crate::unix_time::UnixTime;

/// The plugin configuration: `{"endpoint": "peer", "names": ["host.name"], "deprecated-names": ["old.name"], "policy":
/// {...}}`, or a bare policy, which means `peer`.
#[derive(Clone, Debug)]
pub struct Configuration {
    endpoint: Endpoint,
    names: Vec<HostName>,
    insecure_mixed_mode: bool,
    policy: Policy,
    seal: Seal,
}

/// An entry of `names` or `deprecated-names`.
#[derive(Clone, Debug)]
struct HostName {
    text: String,
    deprecated: bool,
}

/// Whether a request's authority is one of an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service<'a> {
    /// One of `names`, or there are no names at all.
    Named,
    /// One of `deprecated-names`, as the configuration writes it.
    Deprecated(&'a str),
    /// Another host's.
    Misdirected,
}

/// How an endpoint knows its clients. No kind falls back to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `authorized-peers` and capabilities, by certificate.
    Peer,
    /// Data-plane clients, by certificate.
    Mtls,
    /// Data-plane clients, by bearer token.
    Token,
}

impl Endpoint {
    /// All words, in the order of the kinds.
    pub const WORDS: &'static [&'static str] = &["peer", "mtls", "token"];
    const VALUES: &'static [Self] = &[Self::Peer, Self::Mtls, Self::Token];

    /// The word of the configuration and the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Mtls => "mtls",
            Self::Token => "token",
        }
    }
}

/// No kind of endpoint has this word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndpointError;

impl fmt::Display for EndpointError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "expected one of `{}`", Endpoint::WORDS.join("`, `"))
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(word: &str) -> Result<Self, EndpointError> {
        Self::VALUES.iter().copied().find(|endpoint| endpoint.as_str() == word).ok_or(EndpointError)
    }
}

impl Configuration {
    /// Reads a plugin configuration.
    ///
    /// # Errors
    /// As [`Policy::parse`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        document::check_size(text)
            .and_then(|()| Node::document(text))
            .and_then(|node| configuration(node, text))
            .map_err(|fault| PolicyError::new(text, fault))
    }

    /// Reads the policy document of an endpoint.
    ///
    /// # Errors
    /// As [`Policy::parse`], and for a policy that this kind of endpoint cannot be judged by.
    pub fn of(endpoint: Endpoint, policy: &str) -> Result<Self, PolicyError> {
        document::check_size(policy)
            .and_then(|()| Node::document(policy))
            .and_then(|node| Self::new(endpoint, node, policy))
            .map_err(|fault| PolicyError::new(policy, fault))
    }

    /// A data-plane policy judged as `peer` would admit everyone, and a policy without data plane knows no clients.
    fn new(endpoint: Endpoint, node: Node<'_>, text: &str) -> Result<Self, Fault> {
        let policy = document::policy(node, text)?;
        let missing = match endpoint {
            Endpoint::Peer if policy.data_plane().is_some() && policy.admits_any_authenticated() => {
                Some("authorized-peers")
            }
            Endpoint::Mtls | Endpoint::Token if policy.data_plane().is_none() => Some("data-plane"),
            Endpoint::Peer | Endpoint::Mtls | Endpoint::Token => None,
        };
        match missing {
            Some(key) => Err(node.fault(PolicyErrorKind::EndpointNeeds { endpoint: endpoint.as_str(), key })),
            None => {
                let seal = Seal::of(&sha256(text.as_bytes()));
                Ok(Self { endpoint, names: Vec::new(), insecure_mixed_mode: false, policy, seal })
            }
        }
    }

    /// The kind of endpoint.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// `names`, without trailing dots.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|name| !name.deprecated).map(|name| &*name.text)
    }

    /// `deprecated-names`, without trailing dots: served as `names` are, until nobody uses them any more.
    pub fn deprecated_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|name| name.deprecated).map(|name| &*name.text)
    }

    /// Whether requests for every authority are for this endpoint, because it has no name of either kind.
    pub fn serves_any(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a request for this authority is for this endpoint (RFC 9110, 7.4): the host is compared without case,
    /// port and trailing dot. Without names every authority is.
    pub fn service(&self, authority: &str) -> Service<'_> {
        if self.serves_any() {
            return Service::Named;
        }
        let host = host_of(authority);
        match self.names.iter().find(|name| name.text.eq_ignore_ascii_case(host)) {
            None => Service::Misdirected,
            Some(name) if name.deprecated => Service::Deprecated(&name.text),
            Some(_) => Service::Named,
        }
    }

    /// `insecure-mixed-mode`: whether connections without TLS are admitted.
    pub fn insecure_mixed_mode(&self) -> bool {
        self.insecure_mixed_mode
    }

    /// Decides about a connection that certainly has no TLS, so there is nobody to know. In mixed mode it may do all
    /// (Vespa's `VESPA_TLS_INSECURE_MIXED_MODE`).
    pub fn judge_plaintext(&self) -> Decision {
        if !self.insecure_mixed_mode {
            return Decision::deny(DenyReason::NoCertificate);
        }
        let matched = Matched { rules: vec![INSECURE_PLAINTEXT.into()], shadow: Vec::new() };
        Decision::Allow(Grant::new(matched, CapabilitySet::ALL))
    }
}

impl Configuration {
    /// A grant for a filter with the same configuration in another VM. `None` where that one must see the certificate itself:
    /// modes that refuse nobody explain each decision, and some upstream headers name the peer.
    pub fn seal(&self, grant: &Grant, leaf: &Digest, validity: Validity) -> Option<Vec<u8>> {
        let needs_certificate = self.policy.authorization_mode() != Mode::Enforce
            || self.policy.upstream_headers().name_the_peer()
            || grant.client().is_some();
        if needs_certificate { None } else { self.seal.close(leaf, validity, grant.rules()) }
    }

    /// The grant that [`Configuration::seal`] sealed for the holder of `leaf`, and the validity of that certificate.
    ///
    /// # Errors
    /// It is another configuration's, another certificate's, not valid at `now`, or not from the engine at all: then the
    /// certificate decides.
    pub fn open(&self, sealed: &[u8], leaf: &Digest, now: UnixTime) -> Result<(Grant, Validity), SealError> {
        let Opened { validity, rules } = self.seal.open(sealed, leaf)?;
        validity.check(now).map_err(|_| SealError::Lapsed)?;
        match self.policy.granted_by(rules) {
            Decision::Allow(grant) => Ok((grant, validity)),
            Decision::Deny(_) => Err(SealError::Broken),
        }
    }
}

/// Stands for the rule that admits plaintext.
const INSECURE_PLAINTEXT: &str = "insecure-plaintext";

fn configuration(node: Node<'_>, text: &str) -> Result<Configuration, Fault> {
    let wrapped = node.object()?.iter().any(|member| CONFIGURATION.has(&member.key));
    if !wrapped {
        return Configuration::new(Endpoint::Peer, node, text);
    }
    let members = CONFIGURATION.members(node)?;
    let endpoint = match members.find("endpoint") {
        Some(kind) => schema::choice(kind, Endpoint::WORDS, Endpoint::VALUES)?,
        None => Endpoint::Peer,
    };
    let mut names = Vec::new();
    host_names(&members, "names", false, &mut names)?;
    host_names(&members, "deprecated-names", true, &mut names)?;
    let insecure_mixed_mode = match members.find("insecure-mixed-mode") {
        Some(flag) if flag.boolean()? && endpoint != Endpoint::Peer => {
            return Err(flag.fault(PolicyErrorKind::EndpointForbids { endpoint: endpoint.as_str() }));
        }
        Some(flag) => flag.boolean()?,
        None => false,
    };
    let configuration = Configuration::new(endpoint, members.require("policy")?, text)?;
    Ok(Configuration { names, insecure_mixed_mode, ..configuration })
}

fn host_names(
    members: &Members<'_>,
    key: &'static str,
    deprecated: bool,
    names: &mut Vec<HostName>,
) -> Result<(), Fault> {
    let Some(node) = members.find(key) else { return Ok(()) };
    for entry in node.filled_array("leave all names out to serve every authority")? {
        let value = entry.string()?;
        let text = value.trim_end_matches('.');
        if text.is_empty() || host_of(text) != text {
            return Err(entry.fault(PolicyErrorKind::NotAHostName { value: text.to_owned() }));
        }
        if names.iter().any(|name| name.text.eq_ignore_ascii_case(text)) {
            return Err(entry.fault(PolicyErrorKind::DuplicateName { name: text.to_owned() }));
        }
        names.push(HostName { text: text.to_owned(), deprecated });
    }
    Ok(())
}

/// The host of an authority `host[:port]`, IPv6 in brackets.
fn host_of(authority: &str) -> &str {
    let host = match (authority.rfind(':'), authority.rfind(']')) {
        (Some(colon), Some(bracket)) if colon < bracket => authority,
        (Some(colon), _) => &authority[..colon],
        (None, _) => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_compared_by_host() {
        let configuration =
            Configuration::parse(r#"{"names": ["A.example.", "[::1]"], "policy": {}}"#).expect("valid");
        for (authority, served) in [
            ("a.example", true),
            ("A.EXAMPLE:8443", true),
            ("a.example.:1", true),
            ("[::1]:4443", true),
            ("[::1]", true),
            ("b.example", false),
            ("a.example.evil", false),
            ("a.example@evil", false),
            ("", false),
        ] {
            let expected = if served { Service::Named } else { Service::Misdirected };
            assert_eq!(configuration.service(authority), expected, "{authority}");
        }
        let bare = Configuration::parse("{}").expect("a bare policy");
        assert_eq!(bare.service("anything"), Service::Named);
    }

    #[test]
    fn deprecated_names_are_served_and_told_apart() {
        let text = r#"{"names": ["new.example"], "deprecated-names": ["Old.example.", "older.example"], "policy": {}}"#;
        let both = Configuration::parse(text).expect("valid");
        assert_eq!(both.names().collect::<Vec<_>>(), ["new.example"]);
        assert_eq!(both.deprecated_names().collect::<Vec<_>>(), ["Old.example", "older.example"]);
        let text = r#"{"deprecated-names": ["old.example"], "policy": {}}"#;
        let alone = Configuration::parse(text).expect("valid");
        assert_eq!(alone.names().count(), 0);
        assert!(!alone.serves_any());
        for (configuration, authority, service) in [
            (&both, "new.example:8443", Service::Named),
            (&both, "OLD.EXAMPLE.:8443", Service::Deprecated("Old.example")),
            (&both, "older.example", Service::Deprecated("older.example")),
            (&both, "oldest.example", Service::Misdirected),
            (&alone, "old.example", Service::Deprecated("old.example")),
            (&alone, "new.example", Service::Misdirected),
        ] {
            assert_eq!(configuration.service(authority), service, "{authority}");
        }
    }

    #[test]
    fn plaintext_is_admitted_only_where_the_configuration_says_so() {
        let judged = |text: &str| Configuration::parse(text).expect(text).judge_plaintext();
        for denied in [
            "{}",
            r#"{"policy": {}}"#,
            r#"{"insecure-mixed-mode": false, "policy": {}}"#,
            r#"{"policy": {"authorization-mode": "disable"}}"#,
            r#"{"endpoint": "token", "insecure-mixed-mode": false, "policy": {"data-plane": {"clients": []}}}"#,
        ] {
            assert_eq!(judged(denied), Decision::deny(DenyReason::NoCertificate), "{denied}");
        }
        let Decision::Allow(grant) = judged(r#"{"insecure-mixed-mode": true, "policy": {}}"#) else {
            panic!("mixed mode admits");
        };
        assert_eq!(&*grant.matched().rules[0], "insecure-plaintext");
        assert_eq!(grant.capabilities(), CapabilitySet::ALL);
        assert_eq!((grant.client(), grant.would_deny()), (None, None));
    }

    #[test]
    fn errors_have_their_place_in_the_configuration() {
        for (text, message) in [
            (r#"{"endpoint": "peer"}"#, "at line 1 column 1: `policy` is missing"),
            (
                r#"{"policy": {"authorized-peers": []}}"#,
                "`policy.authorized-peers` at line 1 column 33: empty array",
            ),
            (
                r#"{"endpoint": "mtls", "policy": {}}"#,
                "`policy` at line 1 column 32: an endpoint of kind `mtls` needs `data-plane`",
            ),
            (r#"{"data-plane": {"clients": []}}"#, "an endpoint of kind `peer` needs `authorized-peers`"),
            (r#"{"endpoint": "per", "policy": {}}"#, "did you mean `peer`?"),
            (r#"{"polcy": {}}"#, "unknown key `polcy`"),
            (r#"{"policy": {}, "name": []}"#, "unknown key `name`"),
            (
                r#"{"names": ["."], "policy": {}}"#,
                "`names[0]` at line 1 column 12: `` is no host name; write it without a port",
            ),
            (r#"{"names": ["a:8443"], "policy": {}}"#, "`a:8443` is no host name; write it without a port"),
            (r#"{"deprecated-names": [], "policy": {}}"#, "empty array: leave all names out"),
            (r#"{"names": ["a", "A."], "policy": {}}"#, "`names[1]` at line 1 column 17: `A` is here twice"),
            (
                r#"{"names": ["a"], "deprecated-names": ["b", "A"], "policy": {}}"#,
                "`deprecated-names[1]` at line 1 column 44: `A` is here twice; names must be unique",
            ),
            (r#"{"policy": {}, "deprecated_names": ["a"]}"#, "did you mean `deprecated-names`?"),
            (r#"{"policy": {}, "insecure-mixed-mode": "true"}"#, "expected true or false, found a string"),
            (
                r#"{"endpoint": "mtls", "insecure-mixed-mode": true, "policy": {"data-plane": {"clients": []}}}"#,
                "`insecure-mixed-mode` at line 1 column 45: only an endpoint of kind `peer` takes plaintext, this is `mtls`",
            ),
            ("[]", "expected an object, found an array"),
            ("", "not JSON"),
        ] {
            let error = Configuration::parse(text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn errors_of_a_bare_policy_have_their_place_in_it() {
        let error = |endpoint, text| Configuration::of(endpoint, text).expect_err(text).to_string();
        assert_eq!(
            error(Endpoint::Token, "\n {}"),
            "at line 2 column 2: an endpoint of kind `token` needs `data-plane` in its policy"
        );
        assert_eq!(
            error(Endpoint::Peer, r#"{"data-plane": {"clients": []}}"#),
            "at line 1 column 1: an endpoint of kind `peer` needs `authorized-peers` in its policy"
        );
        // A wrapped policy is none: the kind would stand in two places.
        let wrapped = r#"{"endpoint": "mtls", "policy": {}}"#;
        assert!(error(Endpoint::Peer, wrapped).contains("unknown key `endpoint`"));
        let token = Configuration::of(Endpoint::Token, r#"{"data-plane": {"clients": []}}"#);
        assert_eq!(token.expect("valid").endpoint(), Endpoint::Token);
    }
}
