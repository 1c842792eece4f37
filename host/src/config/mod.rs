//! The host's configuration file: listeners, where they forward to, and who may come in.

mod address;
mod boundary;
mod document;
mod error;

pub use address::{Address, AddressError};
pub use boundary::Boundary;
pub use document::{
    Admin, Cluster, Document, Endpoint, Inbound, Outbound, Protocol, Remote, Upstream, UpstreamProtocol,
    schema,
};
pub use error::ConfigError;

#[cfg(test)]
mod tests;
