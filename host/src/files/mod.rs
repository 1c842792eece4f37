//! What the policy's `files` name: read, checked and parsed together, or not at all.

mod credentials;
mod guard;
mod pem;

pub use credentials::{Credentials, CredentialsError, Fault};
pub use guard::{Audience, FileError, read};

#[cfg(test)]
mod tests;
