//! Why a chain that was good once is not any more.

use std::fmt;

use rustls::{CertificateError, Error};

/// A reason for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// A certificate of it has expired.
    Expired,
    /// A certificate of it is on a list.
    Revoked,
    /// A list that covers it has ended: whether it is revoked is not known.
    StaleList,
    /// No list covers a certificate of it, though there are lists.
    NoList,
    /// Anything else, such as an authority that is gone.
    Chain(String),
}

impl From<Error> for Distrust {
    fn from(error: Error) -> Self {
        let Error::InvalidCertificate(error) = error else { return Self::Chain(error.to_string()) };
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::StaleList,
            CertificateError::UnknownRevocationStatus => Self::NoList,
            other => Self::Chain(Error::InvalidCertificate(other).to_string()),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => formatter.write_str("certificate-expired"),
            Self::Revoked => formatter.write_str("certificate-revoked"),
            Self::StaleList => formatter.write_str("revocation-list-stale"),
            Self::NoList => formatter.write_str("revocation-unknown"),
            Self::Chain(error) => write!(formatter, "chain-not-verified: {error}"),
        }
    }
}

impl std::error::Error for Distrust {}
