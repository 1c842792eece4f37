//! The grant of a connection on its way to the filter of its requests, which may run in another VM.
//!
//! A proxy keeps it meanwhile where its other plugins read and write, so none of it is believed as it stands:
//!
//! ```text
//! key   = HKDF-Extract(salt, SHA-256 of the configuration's text)         HKDF-SHA256 (RFC 5869)
//! id    = HKDF-Expand(key, "policy", 16)
//! bytes = id | SHA-256 of the leaf | notBefore | notAfter | number of each rule that matched | tag
//! tag   = HKDF-Expand(key, all before it, 32)
//! ```
//!
//! A plugin is told its own configuration only, so to make a tag one must know this one to the last byte. What rules grant is
//! not among the bytes: who opens them looks it up in the same policy.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::identity::{Digest, Validity};
use crate::unix_time::UnixTime;

/// Another version of the engine may number or judge otherwise.
const SALT: &str = concat!("peergate connection grant ", env!("CARGO_PKG_VERSION"));

const ID: usize = 16;
const LEAF: usize = 32;
const TIME: usize = 8;
const NUMBER: usize = 4;
const TAG: usize = 32;

/// The most rules a grant may come from to be sealed; longer ones are judged again.
const RULES: usize = 64;

/// The key of one configuration. Not printed by `Debug`.
#[derive(Clone)]
pub(crate) struct Seal {
    key: Hkdf<Sha256>,
    id: [u8; ID],
}

/// What was under a seal.
pub(crate) struct Opened {
    pub(crate) validity: Validity,
    /// Numbers of the rules that matched, in policy order.
    pub(crate) rules: Vec<u32>,
}

/// Why a grant is not taken over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SealError {
    /// Made under another configuration, or by another version.
    OtherPolicy,
    /// About another certificate.
    OtherLeaf,
    /// The certificate is no longer valid, or not yet.
    Lapsed,
    /// Not what the engine made.
    Broken,
}

impl fmt::Debug for Seal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Seal(..)")
    }
}

impl SealError {
    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherPolicy => "other-policy",
            Self::OtherLeaf => "other-certificate",
            Self::Lapsed => "lapsed",
            Self::Broken => "broken",
        }
    }
}

impl Seal {
    pub(crate) fn of(text: &Digest) -> Self {
        let key = Hkdf::new(Some(SALT.as_bytes()), text);
        let id = expanded(&key, b"policy");
        Self { key, id }
    }

    /// `None` for more rules than are worth it.
    pub(crate) fn close(&self, leaf: &Digest, validity: Validity, rules: &[u32]) -> Option<Vec<u8>> {
        if rules.len() > RULES {
            return None;
        }
        let mut bytes = Vec::with_capacity(ID + LEAF + 2 * TIME + rules.len() * NUMBER + TAG);
        bytes.extend(self.id);
        bytes.extend(leaf);
        bytes.extend(validity.not_before.seconds().to_be_bytes());
        bytes.extend(validity.not_after.seconds().to_be_bytes());
        rules.iter().for_each(|rule| bytes.extend(rule.to_be_bytes()));
        let tag: [u8; TAG] = expanded(&self.key, &bytes);
        bytes.extend(tag);
        Some(bytes)
    }

    pub(crate) fn open(&self, sealed: &[u8], leaf: &Digest) -> Result<Opened, SealError> {
        let (content, tag) = sealed.split_last_chunk::<TAG>().ok_or(SealError::Broken)?;
        let (id, rest) = content.split_first_chunk::<ID>().ok_or(SealError::Broken)?;
        if *id != self.id {
            return Err(SealError::OtherPolicy);
        }
        let expected: [u8; TAG] = expanded(&self.key, content);
        if !bool::from(expected.ct_eq(tag)) {
            return Err(SealError::Broken);
        }
        let (stated, rest) = rest.split_first_chunk::<LEAF>().ok_or(SealError::Broken)?;
        if stated != leaf {
            return Err(SealError::OtherLeaf);
        }
        let (not_before, rest) = time(rest).ok_or(SealError::Broken)?;
        let (not_after, rest) = time(rest).ok_or(SealError::Broken)?;
        let rules = rest
            .chunks_exact(NUMBER)
            .map(|number| number.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
        Ok(Opened { validity: Validity { not_before, not_after }, rules: rules.collect() })
    }
}

fn time(bytes: &[u8]) -> Option<(UnixTime, &[u8])> {
    let (seconds, rest) = bytes.split_first_chunk::<TIME>()?;
    Some((UnixTime::from_seconds(i64::from_be_bytes(*seconds)), rest))
}

/// HMAC-SHA256 of `info` and a counter: as good a tag as it is a key.
fn expanded<const N: usize>(key: &Hkdf<Sha256>, info: &[u8]) -> [u8; N] {
    let mut output = [0; N];
    key.expand(info, &mut output).expect("16 and 32 bytes are below HKDF's limit of 255 blocks");
    output
}

#[cfg(test)]
mod tests;
