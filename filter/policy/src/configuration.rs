//! What a proxy hands to the filter: a policy and the kind of endpoint it protects.

use std::fmt;
use std::str::FromStr;

use crate::document;
use crate::error::{Fault, PolicyError, PolicyErrorKind};
use crate::json::Node;
use crate::policy::Policy;
use crate::schema::{self, CONFIGURATION};

/// The plugin configuration: `{"endpoint": "peer", "names": ["host.name"], "policy": {...}}`, or a bare policy, which
/// means `peer`.
#[derive(Clone, Debug)]
pub struct Configuration {
    endpoint: Endpoint,
    names: Vec<String>,
    policy: Policy,
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
            .and_then(configuration)
            .map_err(|fault| PolicyError::new(text, fault))
    }

    /// Reads the policy document of an endpoint.
    ///
    /// # Errors
    /// As [`Policy::parse`], and for a policy that this kind of endpoint cannot be judged by.
    pub fn of(endpoint: Endpoint, policy: &str) -> Result<Self, PolicyError> {
        document::check_size(policy)
            .and_then(|()| Node::document(policy))
            .and_then(|node| Self::new(endpoint, Vec::new(), node))
            .map_err(|fault| PolicyError::new(policy, fault))
    }

    /// A data-plane policy judged as `peer` would admit everyone, and a policy without data plane knows no clients.
    fn new(endpoint: Endpoint, names: Vec<String>, node: Node<'_>) -> Result<Self, Fault> {
        let policy = document::policy(node)?;
        let missing = match endpoint {
            Endpoint::Peer if policy.data_plane().is_some() && policy.admits_any_authenticated() => {
                Some("authorized-peers")
            }
            Endpoint::Mtls | Endpoint::Token if policy.data_plane().is_none() => Some("data-plane"),
            Endpoint::Peer | Endpoint::Mtls | Endpoint::Token => None,
        };
        match missing {
            Some(key) => Err(node.fault(PolicyErrorKind::EndpointNeeds { endpoint: endpoint.as_str(), key })),
            None => Ok(Self { endpoint, names, policy }),
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

    /// Whether requests for every authority are for this endpoint, because it has no `names`.
    pub fn serves_any(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether requests for this authority are for this endpoint (RFC 9110, 7.4): the host is compared without case,
    /// port and trailing dot. Without `names` every authority is.
    pub fn serves(&self, authority: &str) -> bool {
        self.serves_any() || self.names.iter().any(|name| name.eq_ignore_ascii_case(host_of(authority)))
    }
}

fn configuration(node: Node<'_>) -> Result<Configuration, Fault> {
    let wrapped = node.object()?.iter().any(|member| matches!(&*member.key, "policy" | "endpoint" | "names"));
    if !wrapped {
        return Configuration::new(Endpoint::Peer, Vec::new(), node);
    }
    let members = CONFIGURATION.members(node, false)?;
    let endpoint = match members.find("endpoint") {
        Some(kind) => schema::choice(kind, Endpoint::WORDS, Endpoint::VALUES)?,
        None => Endpoint::Peer,
    };
    let names = members.strings("names", "leave `names` out to serve every authority")?;
    let names: Vec<String> = names.into_iter().map(|name| name.trim_end_matches('.').to_owned()).collect();
    if let Some(wrong) = names.iter().find(|name| name.is_empty() || host_of(name) != **name) {
        let value = wrong.clone();
        return Err(node.fault(PolicyErrorKind::NotAHostName { value }));
    }
    Configuration::new(endpoint, names, members.require("policy")?)
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
            assert_eq!(configuration.serves(authority), served, "{authority}");
        }
        assert!(Configuration::parse("{}").expect("a bare policy").serves("anything"));
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
            (r#"{"names": ["."], "policy": {}}"#, "`` is no host name; write it without a port"),
            (r#"{"names": ["a:8443"], "policy": {}}"#, "`a:8443` is no host name; write it without a port"),
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
