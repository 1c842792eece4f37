//! The life of bearer tokens: made, put into a policy, listed, revoked.
//!
//! A token is seen once, by whoever made it. The policy holds what is derived from it ([`peergate_policy::token`]):
//! fingerprint, check hash, expiration.

mod base62;
mod document;
mod error;
mod layout;
mod policy_file;
mod secret;
#[cfg(test)]
mod tests;

pub use base62::base62;
pub use document::{Addition, StoredVersion, add, revoke, stored};
pub use error::TokenError;
pub use policy_file::{PolicyFile, write_secret};
pub use secret::{PREFIX, Secret, SecretError};
