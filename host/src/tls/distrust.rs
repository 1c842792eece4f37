//! Why a chain that was good once is not any more.

use std::fmt;

use crate::chain::Fault;

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
    Chain(Fault),
}

impl From<Fault> for Distrust {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Expired { .. } => Self::Expired,
            Fault::Revoked => Self::Revoked,
            Fault::ListExpired { .. } => Self::StaleList,
            Fault::RevocationUnknown(_) => Self::NoList,
            other => Self::Chain(other),
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
            Self::Chain(fault) => write!(formatter, "chain-not-verified: {fault}"),
        }
    }
}

impl std::error::Error for Distrust {}
