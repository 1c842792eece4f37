//! The `files` object: where the node's own credentials are. The engine never opens them.

use crate::error::{Fault, PolicyError, PolicyErrorKind};
use crate::json::Node;
use crate::schema::{FILES, Members, Vespa};
use crate::warning::Warnings;

/// Paths as written; which of them must be there depends on who asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files {
    ca_certificates: Option<Path>,
    certificates: Option<Path>,
    private_key: Option<Path>,
    crls: Vec<Path>,
    /// Byte of the object in the document, for errors about what is missing.
    offset: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Path {
    text: String,
    offset: usize,
}

/// All paths a host needs: absolute, none missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequiredFiles {
    /// PEM bundle of trusted CAs; `None` only where [`Files::require_identity`] was asked.
    pub ca_certificates: Option<String>,
    /// PEM chain, leaf first.
    pub certificates: String,
    /// PEM private key.
    pub private_key: String,
    /// PEM certificate revocation lists.
    pub crls: Vec<String>,
}

impl Files {
    pub(crate) fn parse(node: Node<'_>, vespa: Vespa, warnings: &mut Warnings) -> Result<Self, Fault> {
        let members = FILES.members_as_vespa(node, vespa, warnings)?;
        let crls = match members.find("crls") {
            Some(list) => list.filled_array("leave `crls` out where there are none")?,
            None => Vec::new(),
        };
        Ok(Self {
            ca_certificates: Path::find(&members, "ca-certificates")?,
            certificates: Path::find(&members, "certificates")?,
            private_key: Path::find(&members, "private-key")?,
            crls: crls.into_iter().map(Path::parse).collect::<Result<_, _>>()?,
            offset: node.offset(),
        })
    }

    /// The paths, all three present and all absolute, as Vespa's documentation demands.
    ///
    /// # Errors
    /// What is missing or relative, at its place in `text`, the document this policy was parsed from.
    pub fn require(&self, text: &str) -> Result<RequiredFiles, PolicyError> {
        self.one(&self.ca_certificates, "files.ca-certificates")
            .and_then(|_| self.identity())
            .map_err(|fault| PolicyError::new(text, fault))
    }

    /// As [`Files::require`], for endpoints that know their clients without a CA: `ca-certificates` may be missing.
    ///
    /// # Errors
    /// As [`Files::require`].
    pub fn require_identity(&self, text: &str) -> Result<RequiredFiles, PolicyError> {
        self.identity().map_err(|fault| PolicyError::new(text, fault))
    }

    /// Whether there are revocation lists.
    pub fn names_crls(&self) -> bool {
        !self.crls.is_empty()
    }

    fn identity(&self) -> Result<RequiredFiles, Fault> {
        Ok(RequiredFiles {
            ca_certificates: self.ca_certificates.as_ref().map(Path::absolute).transpose()?,
            certificates: self.one(&self.certificates, "files.certificates")?,
            private_key: self.one(&self.private_key, "files.private-key")?,
            crls: self.crls.iter().map(Path::absolute).collect::<Result<_, _>>()?,
        })
    }

    fn one(&self, path: &Option<Path>, key: &'static str) -> Result<String, Fault> {
        match path {
            Some(path) => path.absolute(),
            None => Err(Fault { offset: self.offset, kind: PolicyErrorKind::MissingKey { key } }),
        }
    }
}

impl Path {
    fn find(members: &Members<'_>, key: &'static str) -> Result<Option<Self>, Fault> {
        members.find(key).map(Self::parse).transpose()
    }

    fn parse(node: Node<'_>) -> Result<Self, Fault> {
        let text = node.string()?.into_owned();
        if text.is_empty() {
            return Err(node.fault(PolicyErrorKind::EmptyString));
        }
        Ok(Self { text, offset: node.offset() })
    }

    fn absolute(&self) -> Result<String, Fault> {
        if self.text.starts_with('/') {
            return Ok(self.text.clone());
        }
        Err(Fault { offset: self.offset, kind: PolicyErrorKind::RelativePath { path: self.text.clone() } })
    }
}
