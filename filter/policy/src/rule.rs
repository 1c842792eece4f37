//! One entry of `authorized-peers`: all of its credentials must hold (AND); a credential holds if any value matches.

use std::sync::Arc;

use crate::address::AddressBlock;
use crate::capability::CapabilitySet;
use crate::names::Names;
use crate::pattern::{Pattern, Separator};

/// What a credential looks at.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Field {
    /// `CN`.
    CommonName,
    /// `SAN_DNS`.
    DnsName,
    /// `SAN_URI`.
    Uri,
    /// `SAN_IP`; ours, not Vespa's.
    Address,
}

impl Field {
    pub(crate) const WORDS: &'static [&'static str] = &["CN", "SAN_DNS", "SAN_URI", "SAN_IP"];
    pub(crate) const VALUES: &'static [Self] = &[Self::CommonName, Self::DnsName, Self::Uri, Self::Address];

    pub(crate) fn separator(self) -> Separator {
        if self == Self::Uri { Separator::Slash } else { Separator::Dot }
    }

    /// The word of the policy document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommonName => "CN",
            Self::DnsName => "SAN_DNS",
            Self::Uri => "SAN_URI",
            Self::Address => "SAN_IP",
        }
    }
}

/// A `required-credentials` entry.
#[derive(Clone, Debug)]
pub struct Credential {
    field: Field,
    must_match: Box<str>,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Text(Pattern),
    Address(AddressBlock),
}

impl Credential {
    pub(crate) fn text(field: Field, must_match: &str) -> Self {
        let pattern = Pattern::new(must_match, field.separator());
        Self { field, must_match: must_match.into(), matcher: Matcher::Text(pattern) }
    }

    /// See [`Pattern::is_excessive`].
    pub(crate) fn is_excessive(&self) -> bool {
        matches!(&self.matcher, Matcher::Text(pattern) if pattern.is_excessive())
    }

    pub(crate) fn address(block: AddressBlock, must_match: &str) -> Self {
        Self { field: Field::Address, must_match: must_match.into(), matcher: Matcher::Address(block) }
    }

    /// What it looks at.
    pub fn field(&self) -> Field {
        self.field
    }

    /// The pattern, address or block as written.
    pub fn must_match(&self) -> &str {
        &self.must_match
    }

    pub(crate) fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    pub(crate) fn holds(&self, names: &Names<'_>) -> bool {
        match &self.matcher {
            Matcher::Text(pattern) => names.texts(self.field).iter().any(|value| pattern.matches(value)),
            Matcher::Address(block) => names.addresses().iter().any(|address| block.contains(*address)),
        }
    }
}

/// An entry of `authorized-peers`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) label: Arc<str>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) capabilities: CapabilitySet,
    pub(crate) shadow: bool,
}

impl Rule {
    /// The rule's `name`, or `authorized-peers[i]` where it has none.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// All of these must hold. Empty only in `vespa-java`, where such a rule matches everybody.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    /// What a match grants.
    pub fn capabilities(&self) -> CapabilitySet {
        self.capabilities
    }

    /// Mode `log_only`: a match is reported, and admits nobody.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The first credential that does not hold; `None` means the rule matches.
    pub(crate) fn first_failure(&self, names: &Names<'_>) -> Option<&Credential> {
        self.credentials.iter().find(|credential| !credential.holds(names))
    }
}
