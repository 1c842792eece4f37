//! What the policy's `files` name: read, checked and parsed together, or not at all.

mod credentials;
mod guard;
mod inlined;
mod pem;

pub use credentials::{Credentials, CredentialsError, Fault};
pub use guard::{Audience, FileError, read};
pub use inlined::{InlineError, Inlined, inline};

#[cfg(test)]
mod tests;
