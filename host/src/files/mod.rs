//! What the policy's `files` name: read, checked and parsed together, or not at all.

mod credentials;
mod expiry;
mod guard;
mod inlined;
mod links;
mod pem;
mod trail;
mod volume;

pub(crate) use credentials::Trust;
pub use credentials::{Credentials, CredentialsError, Fault};
pub use expiry::Expiry;
pub use guard::{Audience, FileError, Way, read};
pub use inlined::{InlineError, Inlined, inline};
pub(crate) use pem::{Found, certificates, private_key};
pub use trail::{Trail, recorded};
pub use volume::Volume;

#[cfg(test)]
mod tests;
