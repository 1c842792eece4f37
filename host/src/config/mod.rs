//! The host's configuration file: listeners, where they forward to, and who may come in.

mod address;
mod document;
mod error;

pub use address::{Address, AddressError};
pub use document::{
    Admin, Boundary, Cluster, Document, Endpoint, Inbound, Outbound, Protocol, Remote, Upstream,
    UpstreamProtocol, schema,
};
pub use error::ConfigError;

#[cfg(test)]
mod tests;
