//! TLS in both directions: who may finish a handshake, and how a refused peer learns it.

mod authentication;
mod clients;
mod config;
mod connect;
mod distrust;
mod gate;
mod handshake;
mod linger;
mod link;
mod possession;
mod server_gate;
mod signatures;
mod sniff;
mod terms;
mod validity;

pub use authentication::Authentication;
pub(crate) use config::chains_of;
pub use config::{TlsError, client_config, server_config};
pub use connect::{ConnectError, Connected, Departure, connect};
pub use distrust::Distrust;
pub use handshake::{Admission, Arrival, Refusal, handshake};
pub(crate) use linger::Lingering;
pub use link::Link;
pub use sniff::{First, sniff};
pub use terms::Terms;
pub(crate) use validity::ends;

#[cfg(test)]
mod tests;
