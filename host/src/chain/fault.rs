//! Why a chain is not believed: one word and one sentence, the same in log, audit, metrics and commands.

use std::fmt;
use std::sync::Arc;

use peergate_policy::UnixTime;
use rustls::{CertificateError, Error, InvalidMessage};

use super::constraints::Violation;
use super::sentence::Sentence;
use crate::certificate_version::{Holder, UnsupportedVersion};
use crate::revocation::{Gap, Refusal};

/// Why a chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The other side presented nothing.
    NoCertificate,
    /// A certificate has ended.
    Expired {
        /// Whose.
        holder: Holder,
        /// When.
        not_after: UnixTime,
    },
    /// A certificate has not begun.
    NotYetValid {
        /// Whose.
        holder: Holder,
        /// When it begins.
        not_before: UnixTime,
    },
    /// Of an authority in `ca-certificates`; see [`Fault::Expired`].
    AuthorityExpired {
        /// Which one.
        authority: Arc<str>,
        /// When.
        not_after: UnixTime,
    },
    /// Of an authority in `ca-certificates`; see [`Fault::NotYetValid`].
    AuthorityNotYetValid {
        /// Which one.
        authority: Arc<str>,
        /// When it begins.
        not_before: UnixTime,
    },
    /// An authority in `ca-certificates` that may not sign certificates.
    AuthorityCannotSign {
        /// Which one.
        authority: Arc<str>,
        /// What says so.
        why: &'static str,
    },
    /// A certificate in the chain that signed another one and may not.
    IssuerCannotSign {
        /// What says so.
        why: &'static str,
    },
    /// No authority in `ca-certificates` issued it.
    UnknownAuthority,
    /// An authority of that name is there, and another key is meant.
    OtherKey,
    /// A signature in the chain is not of the key that it should be of.
    BadSignature,
    /// The holder did not show that it has the certificate's key.
    NotProven(Holder),
    /// The certificates are more than a handshake takes.
    TooLarge,
    /// A signature by an algorithm that is not verified.
    UnsupportedSignature(String),
    /// A key that is too short or of a kind that is not verified.
    UnsupportedKey {
        /// Whose.
        holder: Holder,
        /// Its kind.
        key: String,
    },
    /// The leaf's keyUsage is without digitalSignature.
    KeyUsage(Holder),
    /// extKeyUsage is without what the holder does here.
    ExtendedKeyUsage {
        /// Whose.
        holder: Holder,
        /// `clientAuth` or `serverAuth`.
        purpose: &'static str,
    },
    /// A name that an authority may not give.
    NameConstraint(String),
    /// A critical extension that is not known.
    CriticalExtension {
        /// Whose.
        holder: Holder,
        /// Its object identifier.
        extension: String,
    },
    /// More intermediates than an authority allows.
    PathLength,
    /// More intermediates than are verified.
    TooLong,
    /// More paths, signatures or names than anybody needs.
    TooCostly,
    /// A version of X.509 that is not verified.
    Version(UnsupportedVersion),
    /// No DER, trailing bytes, an extension twice.
    Malformed(Holder),
    /// It is on a list.
    Revoked,
    /// There are lists, and none says whether it is revoked.
    RevocationUnknown(Gap),
    /// The list that covers it has ended.
    ListExpired {
        /// When a newer one was due.
        next_update: UnixTime,
    },
    /// The server has other names.
    OtherName {
        /// What was asked for.
        expected: String,
        /// What it is for.
        presented: Vec<String>,
    },
}

impl Fault {
    /// The word for it in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Expired { .. } => "certificate-expired",
            Self::NotYetValid { .. } => "certificate-not-yet-valid",
            Self::AuthorityExpired { .. } => "authority-expired",
            Self::AuthorityNotYetValid { .. } => "authority-not-yet-valid",
            Self::AuthorityCannotSign { .. } => "authority-cannot-sign",
            Self::IssuerCannotSign { .. } => "issuer-cannot-sign",
            Self::UnknownAuthority | Self::OtherKey => "unknown-authority",
            Self::BadSignature | Self::NotProven(_) => "bad-signature",
            Self::TooLarge => "certificates-too-large",
            Self::UnsupportedSignature(_) => "unsupported-signature",
            Self::UnsupportedKey { .. } => "unsupported-key",
            Self::KeyUsage(_) => "wrong-key-usage",
            Self::ExtendedKeyUsage { .. } => "wrong-extended-key-usage",
            Self::NameConstraint(_) => "name-constraint",
            Self::CriticalExtension { .. } => "unsupported-extension",
            Self::PathLength => "path-length",
            Self::TooLong => "chain-too-long",
            Self::TooCostly => "chain-too-costly",
            Self::Version(_) => "unsupported-certificate-version",
            Self::Malformed(_) => "malformed-certificate",
            Self::Revoked => "certificate-revoked",
            Self::RevocationUnknown(Gap::OtherKey | Gap::NoCrlSign) => "unusable-crl",
            Self::RevocationUnknown(_) | Self::ListExpired { .. } => "revocation-unknown",
            Self::OtherName { .. } => "wrong-name",
        }
    }

    /// What an error of a handshake says about certificates, if it does; `holder` presented them.
    pub(crate) fn of_handshake(error: &Error, holder: Holder) -> Option<Self> {
        Some(match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => Self::TooLarge,
            Error::InvalidCertificate(CertificateError::BadSignature) => Self::NotProven(holder),
            Error::InvalidCertificate(CertificateError::BadEncoding) => Self::Malformed(holder),
            _ => return None,
        })
    }

    /// An error for rustls, which chooses the alert by it as other implementations do (RFC 8446, 6.2).
    pub(crate) fn alert(&self) -> Error {
        let error = match self {
            Self::NoCertificate => return Error::NoCertificatesPresented,
            Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::AuthorityExpired { .. }
            | Self::AuthorityNotYetValid { .. } => CertificateError::Expired,
            Self::UnknownAuthority
            | Self::OtherKey
            | Self::AuthorityCannotSign { .. }
            | Self::IssuerCannotSign { .. }
            | Self::PathLength
            | Self::TooLong => CertificateError::UnknownIssuer,
            Self::BadSignature | Self::NotProven(_) | Self::UnsupportedSignature(_) => {
                CertificateError::BadSignature
            }
            Self::KeyUsage(_)
            | Self::ExtendedKeyUsage { .. }
            | Self::UnsupportedKey { .. }
            | Self::Version(_) => CertificateError::InvalidPurpose,
            Self::CriticalExtension { .. } => CertificateError::UnhandledCriticalExtension,
            Self::Malformed(_) | Self::NameConstraint(_) | Self::TooCostly | Self::TooLarge => {
                CertificateError::BadEncoding
            }
            Self::Revoked => CertificateError::Revoked,
            Self::RevocationUnknown(_) | Self::ListExpired { .. } => {
                CertificateError::UnknownRevocationStatus
            }
            Self::OtherName { .. } => CertificateError::NotValidForName,
        };
        Error::InvalidCertificate(error)
    }

    /// A name that is not allowed.
    pub(super) fn of_names(violation: &Violation) -> Self {
        Self::NameConstraint(match violation {
            Violation::NotPermitted(name) => {
                format!("{name} is outside of what an authority above may name; ask for a certificate without it")
            }
            Violation::Excluded(name) => {
                format!("{name} is excluded by an authority above; ask for a certificate without it")
            }
            Violation::Unreadable(name) => {
                format!("{name} cannot be compared with the constraints of an authority above; ask for a certificate without it")
            }
            Violation::Unsupported(form) => format!(
                "an authority above constrains every {form}, in a way that neither Envoy nor this host reads; ask for a certificate without one"
            ),
            Violation::CommonName(name) => format!(
                "there is no subjectAltName, and the common name `{name}` looks like a host, which the constraints of an authority above do not bind; put the name into a subjectAltName"
            ),
            Violation::TooMany => "there are too many names to compare with the constraints of an authority above; ask for a certificate with fewer".to_owned(),
        })
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Revoked => Self::Revoked,
            Refusal::Stale(next_update) => Self::ListExpired { next_update },
            Refusal::Unknown(gap) => Self::RevocationUnknown(gap),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.word(), Sentence(self))
    }
}

impl std::error::Error for Fault {}
