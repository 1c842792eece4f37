//! The policy document: from JSON nodes to a [`Policy`].

mod data_plane;
mod rules;

use std::sync::Arc;

use crate::address::AddressBlock;
use crate::capability::{self, CapabilitySet};
use crate::compatibility::Compatibility;
use crate::error::{Fault, PolicyError, PolicyErrorKind};
use crate::files::Files;
use crate::http_capabilities::{HttpCapabilities, HttpCapability, Requirement};
use crate::index::Texts;
use crate::json::Node;
use crate::limits;
use crate::mode::Mode;
use crate::policy::{AuthorizedPeers, Policy};
use crate::rule::{Credential, Field, Rule};
use crate::rules::Rules;
use crate::schema::{self, CREDENTIAL, HTTP_CAPABILITY, Members, PEER, ROOT, UPSTREAM_HEADERS, Vespa};
use crate::tls;
use crate::upstream_headers::UpstreamHeaders;
use crate::warning::Warnings;

const EMPTY_PEERS: &str = "leave `authorized-peers` out to admit every certificate of the CA, or list peers";
const EMPTY_CREDENTIALS: &str =
    "a peer without required credentials would match everybody; list at least one";
const EMPTY_CAPABILITIES: &str =
    "leave `capabilities` out to grant all, or list at least one (`vespa.none` for none)";
const EMPTY_TLS_LIST: &str = "leave the key out for the defaults";

pub(crate) fn parse(text: &str) -> Result<Policy, PolicyError> {
    check_size(text)
        .and_then(|()| Node::document(text))
        .and_then(|node| policy(node, text))
        .map_err(|fault| PolicyError::new(text, fault))
}

pub(crate) fn check_size(text: &str) -> Result<(), Fault> {
    if text.len() > limits::DOCUMENT_BYTES {
        return Err(Fault { offset: 0, kind: PolicyErrorKind::TooLarge });
    }
    Ok(())
}

/// `node` is of the document `text`, which may have more around it.
pub(crate) fn policy(node: Node<'_>, text: &str) -> Result<Policy, Fault> {
    let vespa = vespa(node)?;
    let compatibility = vespa.compatibility;
    let mut warnings = Warnings::default();
    let root = ROOT.members_as_vespa(node, vespa, &mut warnings)?;
    let mut reader = Reader { vespa, compatibility, warnings };
    let authorization_mode = mode(&root, "authorization-mode", Mode::Enforce)?;
    if authorization_mode != Mode::Enforce {
        let word = authorization_mode.as_str();
        reader
            .warnings
            .push(format!("authorization-mode is {word}: every certificate of the CA is admitted"));
    }
    Ok(Policy {
        files: match root.find("files") {
            Some(files) => Files::parse(files, vespa, &mut reader.warnings)?,
            None => Files::default(),
        },
        peers: reader.peers(&root)?,
        accepted_ciphers: reader.ciphers(&root)?,
        accepted_protocols: reader.protocols(&root)?,
        disable_hostname_validation: vespa.disables_hostname_validation,
        compatibility,
        authorization_mode,
        capability_mode: mode(&root, "capability-mode", compatibility.default_capability_mode())?,
        spiffe_strict: root.flag("spiffe-strict")?.unwrap_or_default(),
        upstream_headers: upstream_headers(&root)?,
        http_capabilities: http_capabilities(&root)?,
        data_plane: root
            .find("data-plane")
            .map(|node| data_plane::parse(node, &mut reader.warnings))
            .transpose()?,
        warnings: reader.warnings.located(text),
    })
}

/// Read first, because it decides how the rest is read.
fn vespa(node: Node<'_>) -> Result<Vespa, Fault> {
    let members = ROOT.members_known(node)?;
    let compatibility = members.find("compatibility").map_or(Ok(Compatibility::Strict), |value| {
        schema::choice(value, Compatibility::WORDS, Compatibility::VALUES)
    })?;
    let disables = members.flag("disable-hostname-validation")?;
    let disables_hostname_validation = disables.unwrap_or(compatibility.disables_hostname_validation());
    Ok(Vespa { compatibility, disables_hostname_validation })
}

fn mode(root: &Members<'_>, key: &'static str, default: Mode) -> Result<Mode, Fault> {
    root.find(key).map_or(Ok(default), |node| schema::choice(node, Mode::WORDS, Mode::VALUES))
}

fn upstream_headers(root: &Members<'_>) -> Result<UpstreamHeaders, Fault> {
    let Some(node) = root.find("upstream-headers") else { return Ok(UpstreamHeaders::default()) };
    let members = UPSTREAM_HEADERS.members(node)?;
    let asked = |key| members.flag(key).map(Option::unwrap_or_default);
    Ok(UpstreamHeaders {
        policy: asked("policy")?,
        capabilities: asked("capabilities")?,
        subject: asked("subject")?,
        xfcc: asked("xfcc")?,
        keep_authorization: members
            .find("authorization")
            .map(|node| schema::choice(node, UpstreamHeaders::AUTHORIZATION_WORDS, &[false, true]))
            .transpose()?,
    })
}

fn http_capabilities(root: &Members<'_>) -> Result<HttpCapabilities, Fault> {
    let Some(node) = root.find("http-capabilities") else { return Ok(HttpCapabilities::default()) };
    let entries = node.filled_array("leave `http-capabilities` out where there are none")?;
    let entry = |node: Node<'_>| {
        let members = HTTP_CAPABILITY.members(node)?;
        Ok(HttpCapability {
            methods: rules::methods(&members)?,
            paths: rules::paths(&members)?,
            requires: Requirement::All(required_capabilities(members.require("requires")?)?),
        })
    };
    Ok(HttpCapabilities::new(entries.into_iter().map(entry).collect::<Result<_, _>>()?))
}

/// Here `[]` has a meaning: nothing beyond a match.
fn required_capabilities(node: Node<'_>) -> Result<CapabilitySet, Fault> {
    let mut union = CapabilitySet::EMPTY;
    for entry in node.array()? {
        let name = entry.string()?;
        union = union.union(CapabilitySet::named(&name).ok_or_else(|| unknown_capability(entry, &name))?);
    }
    Ok(union)
}

struct Reader {
    vespa: Vespa,
    compatibility: Compatibility,
    warnings: Warnings,
}

impl Reader {
    fn peers(&mut self, root: &Members<'_>) -> Result<AuthorizedPeers, Fault> {
        let Some(node) = root.find("authorized-peers") else { return Ok(AuthorizedPeers::AnyAuthenticated) };
        if node.is_null() && self.compatibility.null_peers_means_absent() {
            self.warnings.push("`authorized-peers` is null: every certificate of the CA is admitted");
            return Ok(AuthorizedPeers::AnyAuthenticated);
        }
        let entries = node.filled_array(EMPTY_PEERS)?;
        if entries.len() > limits::RULES {
            return Err(node.fault(PolicyErrorKind::TooManyRules));
        }
        let mut names = Texts::new();
        let mut rules = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            rules.push(self.rule(index, entry, &mut names)?);
        }
        Ok(AuthorizedPeers::Listed(Box::new(Rules::new(rules))))
    }

    fn rule(&mut self, index: usize, node: Node<'_>, names: &mut Texts) -> Result<Rule, Fault> {
        let members = PEER.members_as_vespa(node, self.vespa, &mut self.warnings)?;
        if let Some(description) = members.find("description").filter(|_| !self.compatibility.ignores_texts())
        {
            description.string()?;
        }
        let name = if self.compatibility.requires_names() {
            Some(members.require("name")?)
        } else {
            members.find("name").filter(|name| name.is_string() || !self.compatibility.ignores_texts())
        };
        let label = match name {
            Some(name) => self.name(name, names)?,
            None => format!("authorized-peers[{index}]").into(),
        };
        let shadow = members
            .find("mode")
            .map_or(Ok(false), |node| schema::choice(node, Mode::RULE_WORDS, &[false, true]))?;
        Ok(Rule {
            credentials: self.credentials(&label, &members)?,
            capabilities: self.capabilities(&members)?,
            label,
            shadow,
        })
    }

    fn name(&self, node: Node<'_>, names: &mut Texts) -> Result<Arc<str>, Fault> {
        let name: Arc<str> = node.string()?.into();
        if names.insert(name.as_ref().into(), 0).is_some() && !self.compatibility.allows_duplicate_names() {
            return Err(node.fault(PolicyErrorKind::DuplicateName { name: name.to_string() }));
        }
        Ok(name)
    }

    fn credentials(&mut self, label: &str, members: &Members<'_>) -> Result<Vec<Credential>, Fault> {
        let node = members.require("required-credentials")?;
        if !self.compatibility.empty_credentials_match_all() {
            node.filled_array(EMPTY_CREDENTIALS)?;
        }
        let entries = node.array()?;
        if entries.is_empty() {
            self.warnings.push(format!(
                "`{}` has no required credentials: it matches everybody",
                label.escape_debug()
            ));
        }
        entries.into_iter().map(|entry| self.credential(entry)).collect()
    }

    fn credential(&mut self, node: Node<'_>) -> Result<Credential, Fault> {
        let members = CREDENTIAL.members_as_vespa(node, self.vespa, &mut self.warnings)?;
        let field = schema::choice(members.require("field")?, Field::WORDS, Field::VALUES)?;
        let pattern = match members.find("must-match") {
            None if self.compatibility.missing_pattern_is_empty() && field != Field::Address => {
                return Ok(Credential::text(field, ""));
            }
            _ => members.require("must-match")?,
        };
        let text = pattern.string()?;
        if text.len() > limits::PATTERN_BYTES {
            return Err(pattern.fault(PolicyErrorKind::PatternTooLong));
        }
        if field != Field::Address {
            let credential = Credential::text(field, &text);
            let excessive = credential.is_excessive();
            return if excessive {
                Err(pattern.fault(PolicyErrorKind::PatternExcessive))
            } else {
                Ok(credential)
            };
        }
        match text.parse::<AddressBlock>() {
            Ok(block) => Ok(Credential::address(block, &text)),
            Err(error) => Err(pattern.fault(PolicyErrorKind::NotAnAddress {
                value: text.into_owned(),
                canonical: error.canonical,
            })),
        }
    }

    /// Absent means all, as in Vespa.
    fn capabilities(&mut self, members: &Members<'_>) -> Result<CapabilitySet, Fault> {
        let Some(node) = members.find("capabilities") else { return Ok(CapabilitySet::ALL) };
        let mut union = CapabilitySet::EMPTY;
        for entry in node.filled_array(EMPTY_CAPABILITIES)? {
            let name = entry.string()?;
            match CapabilitySet::named(&name) {
                Some(capabilities) => union = union.union(capabilities),
                None if self.compatibility.ignores_unknown_capabilities() => {
                    self.warnings
                        .push(format!("unknown capability `{}` grants nothing", name.escape_debug()));
                }
                None => return Err(unknown_capability(entry, &name)),
            }
        }
        Ok(union)
    }

    fn ciphers(&mut self, root: &Members<'_>) -> Result<Vec<String>, Fault> {
        let key = "accepted-ciphers";
        let Some(node) = root.find(key) else { return Ok(Vec::new()) };
        if self.compatibility.empty_ciphers_mean_defaults() && node.array()?.is_empty() {
            return Ok(Vec::new());
        }
        self.supported(node, root.strings(key, EMPTY_TLS_LIST)?, tls::CIPHER_SUITES)
    }

    fn protocols(&mut self, root: &Members<'_>) -> Result<Vec<String>, Fault> {
        let key = "accepted-protocols";
        let Some(node) = root.find(key) else { return Ok(Vec::new()) };
        if self.compatibility.ignores_accepted_protocols() {
            return Ok(Vec::new());
        }
        self.supported(node, root.strings(key, EMPTY_TLS_LIST)?, tls::PROTOCOLS)
    }

    /// What is left of a list that restricts. Unknown names only narrow it, so they are warnings, as in Vespa.
    fn supported(
        &mut self,
        node: Node<'_>,
        accepted: Vec<String>,
        supported: &'static [&'static str],
    ) -> Result<Vec<String>, Fault> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            accepted.into_iter().partition(|name| supported.contains(&name.as_str()));
        if known.is_empty() {
            return Err(node.fault(PolicyErrorKind::NoneSupported { supported }));
        }
        for name in unknown {
            self.warnings.push(format!("`{}` is not supported", name.escape_debug()));
        }
        Ok(known)
    }
}

fn unknown_capability(node: Node<'_>, name: &str) -> Fault {
    node.fault(PolicyErrorKind::UnknownValue {
        value: name.to_owned(),
        expected: &["vespa.all", "vespa.content_node", "vespa.container_node", "vespa.telemetry", "…"],
        nearest: schema::nearest(name, &capability::known_names()),
    })
}

#[cfg(test)]
mod tests;
