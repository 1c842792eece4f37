//! Who a peer is, according to its leaf certificate.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use crate::escape::from_hex;
use crate::unix_time::UnixTime;

/// The names of a leaf certificate, kept apart by kind.
///
/// Only the verified leaf is ever looked at, never another certificate of the chain (CVE-2023-2422).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerIdentity {
    /// The last CN of the subject that is not empty; `None` without one.
    pub common_name: Option<String>,
    /// SAN dNSName entries, in order of the certificate.
    pub dns_names: Vec<String>,
    /// SAN uniformResourceIdentifier entries.
    pub uris: Vec<String>,
    /// SAN iPAddress entries.
    pub addresses: Vec<IpAddr>,
}

/// The period in which a certificate is valid, both ends included (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// First valid second.
    pub not_before: UnixTime,
    /// Last valid second.
    pub not_after: UnixTime,
}

/// SHA-256 of a certificate's DER.
pub type Digest = [u8; 32];

/// A digest from 64 hexadecimal digits.
pub fn digest_from_hex(digits: &[u8]) -> Option<Digest> {
    from_hex(digits)
}

/// SHA-256 of anything.
pub fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// A parsed leaf certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The names.
    pub identity: PeerIdentity,
    /// The DER of its subject.
    pub subject: Vec<u8>,
    /// When it is valid.
    pub validity: Validity,
    /// What it is called in caches and logs.
    pub digest: Digest,
}
