//! TLS termination: who may finish a handshake, and how a refused peer learns it.

mod authentication;
mod config;
mod gate;
mod handshake;
mod linger;
mod possession;

pub use authentication::{Authentication, Terms};
pub use config::{TlsError, server_config};
pub use handshake::{Admission, Arrival, Refusal, handshake};
pub(crate) use linger::Lingering;

#[cfg(test)]
mod tests;
