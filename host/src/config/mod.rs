//! The host's configuration file: listeners, where they forward to, and who may come in.

mod address;
mod admin;
mod boundary;
mod document;
mod error;
mod limits;

pub use address::{Address, AddressError};
pub use admin::Admin;
pub use boundary::Boundary;
pub use document::{
    Cluster, Document, Endpoint, Inbound, Outbound, Protocol, Remote, Upstream, UpstreamProtocol, schema,
};
pub use error::ConfigError;
pub use limits::Limits;

#[cfg(test)]
mod tests;
