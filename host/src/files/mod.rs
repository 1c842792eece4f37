//! What the policy's `files` name: read, checked and parsed together, or not at all.

mod credentials;
mod expiry;
mod guard;
mod inlined;
mod links;
mod pem;
mod revocation_list;
mod trail;

pub use credentials::{Credentials, CredentialsError, Fault};
pub use expiry::Expiry;
pub use guard::{Audience, FileError, read};
pub use inlined::{InlineError, Inlined, inline};
pub use trail::{Trail, recorded};

#[cfg(test)]
mod tests;
