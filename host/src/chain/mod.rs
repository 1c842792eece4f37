//! Certificate chains: who is believed, and why not.
//!
//! The host and Envoy give one answer; where they cannot, `host/certificates.md` says so.

mod authority;
mod certificate;
mod constraints;
mod der;
mod fault;
mod name;
mod plain;
mod sentence;
mod translation;
mod verify;

pub(crate) use authority::Authorities;
pub use fault::Fault;
pub(crate) use name::Canonical;
pub(crate) use verify::{Chains, Purpose};
