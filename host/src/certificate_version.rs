//! Certificates of another X.509 version than 3, which webpki does not verify.

use std::fmt;

use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;

/// A certificate that is not of version 3, where version 3 is needed. `openssl x509 -req` makes version 1 unless it is
/// given extensions (RFC 5280, 4.1.2.1: the version says whether there are any).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedVersion {
    version: u32,
    holder: Holder,
}

/// Whose certificate it is: each needs other extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Who connected.
    Client,
    /// Whom we connected to.
    Server,
    /// Who signed another certificate.
    Authority,
    /// This node.
    Own,
}

impl UnsupportedVersion {
    /// `None` of a certificate of version 3, and of bytes that are none.
    pub(crate) fn of(der: &[u8], holder: Holder) -> Option<Self> {
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (_, certificate) = parser.parse(der).ok()?;
        // Version 1 is written as 0.
        let version = certificate.version().0.saturating_add(1);
        (version != 3).then_some(Self { version, holder })
    }

    /// The first one of a chain, leaf first.
    pub(crate) fn in_chain<'a>(
        leaf: &[u8],
        holder: Holder,
        intermediates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let of_authority = |der| Self::of(der, Holder::Authority);
        Self::of(leaf, holder).or_else(|| intermediates.into_iter().find_map(of_authority))
    }

    /// What is wrong, without whose it is.
    pub(crate) fn fault(self) -> impl fmt::Display {
        Fault(self)
    }
}

impl fmt::Display for UnsupportedVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}", self.holder, self.fault())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Client => "the client's certificate",
            Self::Server => "the server's certificate",
            Self::Authority => "an authority's certificate in the chain",
            Self::Own => "the certificate",
        })
    }
}

impl std::error::Error for UnsupportedVersion {}

struct Fault(UnsupportedVersion);

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = match self.0.holder {
            Holder::Client => "extendedKeyUsage=clientAuth",
            Holder::Server | Holder::Own => "subjectAltName=DNS:NAME",
            Holder::Authority => "basicConstraints=critical,CA:true",
        };
        write!(
            formatter,
            "X.509 version {}, and only version 3 can be verified; sign it again with extensions: \
             openssl x509 -req ... -extfile <(echo {extension})",
            self.0.version
        )
    }
}
