//! The host of Peergate: rustls in, `filter.wasm` decides, the local service out.
//!
//! One way: a socket is accepted by a worker ([`proxy`]), the handshake asks the filter ([`tls`], [`wasm`]), and what
//! the filter admitted is forwarded ([`proxy`]). [`run`] holds one generation of policy and credentials ([`files`]).

pub mod admin;
pub mod audit;
pub mod capacity;
mod certificate_version;
pub mod chain;
pub mod clean;
mod clock;
pub mod config;
pub mod demo;
pub mod endpoint_name;
pub mod envoy;
pub mod files;
pub mod import;
pub mod judge;
pub mod lint;
pub mod log;
pub mod pki;
pub mod precompile;
pub mod proxy;
pub mod render;
mod revocation;
pub mod run;
pub mod sandbox;
pub mod systemd;
pub mod tls;
pub mod token;
pub mod wasm;
pub mod watch;
