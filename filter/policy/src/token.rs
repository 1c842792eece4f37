//! Bearer tokens, as Vespa Cloud derives and checks them (Vespa `security-utils/.../token/`).
//!
//! Neither the policy nor this engine ever holds a token, only what HKDF-SHA256 (RFC 5869) derives from one:
//!
//! ```text
//! prk         = HMAC-SHA256(key = 32 zero bytes, the whole token, prefix included)
//! fingerprint = HKDF-Expand(prk, "Vespa token fingerprint", 16)     public, names the token in logs
//! check hash  = HKDF-Expand(prk, the token context, 32)             what access is decided by
//! ```
//!
//! There is no slow hash in this, so only tokens with the entropy of a key are safe: 16 random bytes at least.

use std::fmt;
use std::str::FromStr;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::escape::{from_hex, to_hex};
use crate::identity::Digest;

/// `info` of the fingerprint; no token context may be this.
pub const FINGERPRINT_CONTEXT: &str = "Vespa token fingerprint";

/// A token's public name: 16 bytes, printed as `aa:bb:...`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 16]);

/// What access is decided by. Compared in constant time, and not printed by `Debug`.
#[derive(Clone, Copy)]
pub struct CheckHash([u8; 32]);

/// What a token yields, and the token itself does not survive.
pub struct Derivation {
    prk: Hkdf<Sha256>,
}

impl Derivation {
    /// Extracts from the whole token string.
    pub fn of(token: &str) -> Self {
        Self { prk: Hkdf::new(None, token.as_bytes()) }
    }

    /// The token's public name; the same in every context.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.expand(FINGERPRINT_CONTEXT))
    }

    /// The check hash under a token context.
    pub fn check_hash(&self, context: &str) -> CheckHash {
        CheckHash(self.expand(context))
    }

    fn expand<const N: usize>(&self, info: &str) -> [u8; N] {
        let mut output = [0; N];
        self.prk
            .expand(info.as_bytes(), &mut output)
            .expect("16 and 32 bytes are below HKDF's limit of 255 blocks");
        output
    }
}

impl CheckHash {
    pub(crate) fn bytes(&self) -> &Digest {
        &self.0
    }

    /// Lower-case hex, as it stands in a policy.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl PartialEq for CheckHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for CheckHash {}

impl fmt::Debug for CheckHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CheckHash(..)")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(formatter, "{}{byte:02x}", if index > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

/// Not the hexadecimal text of so many bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HexError;

impl FromStr for Fingerprint {
    type Err = HexError;

    /// 32 hex digits, with colons between all bytes or with none.
    fn from_str(text: &str) -> Result<Self, HexError> {
        if !text.contains(':') {
            return from_hex(text.as_bytes()).map(Self).ok_or(HexError);
        }
        let well_placed = text.len() == 47 && text.bytes().skip(2).step_by(3).all(|byte| byte == b':');
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if well_placed { from_hex(digits.as_bytes()).map(Self).ok_or(HexError) } else { Err(HexError) }
    }
}

impl FromStr for CheckHash {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        from_hex(text.as_bytes()).map(Self).ok_or(HexError)
    }
}

#[cfg(test)]
mod tests;
