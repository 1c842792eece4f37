//! TLS in both directions: who may finish a handshake, and how a refused peer learns it.

mod authentication;
mod config;
mod connect;
mod gate;
mod handshake;
mod linger;
mod link;
mod possession;
mod server_gate;
mod sniff;
mod terms;

pub use authentication::Authentication;
pub use config::{TlsError, client_config, server_config};
pub use connect::{ConnectError, Connected, Departure, connect};
pub use handshake::{Admission, Arrival, Refusal, handshake};
pub(crate) use linger::Lingering;
pub use link::Link;
pub use sniff::{First, sniff};
pub use terms::Terms;

#[cfg(test)]
mod tests;
