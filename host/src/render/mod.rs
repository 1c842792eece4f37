//! Ready configuration for proxies and hosts, made from a policy.
//!
//! One way: what the command line or a host's configuration file says ([`crate::config`]) and the policies that it names
//! ([`Plugin`]) become listeners ([`envoy`]), and those a document ([`Format`]). The demo, the tests and the files under
//! `envoy/` are of the same listeners.

pub mod envoy;
mod error;
mod format;
mod host;
mod inbound;
mod istio;
mod plugin;
mod server_files;

pub use error::RenderError;
pub use format::Format;
pub use host::host_document;
pub use inbound::{Proxy, envoy_bootstrap, usable_kind};
pub use istio::{Mesh, Module};
pub use plugin::{Authentication, Plugin};
pub use server_files::ServerFiles;
