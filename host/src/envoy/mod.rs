//! Envoy as the demo and the tests start it: a bootstrap with `filter.wasm` in front, and the process.

mod admin;
mod bootstrap;
mod process;

use std::{error, fmt, io, path::PathBuf};

pub use bootstrap::{Bootstrap, Listener, ServerTls};
pub use process::Envoy;

pub use crate::render::envoy::{Identity, Protocol};

/// Why Envoy could not be started or asked.
#[derive(Debug)]
pub enum EnvoyError {
    /// A file or directory of ours, or Envoy's binary, could not be used.
    File(PathBuf, io::Error),
    /// Envoy ended before it was ready; the text is the end of its log.
    Ended(String),
    /// Envoy was not ready in time; the text is the end of its log.
    NotReady(String),
    /// The admin interface did not answer as expected.
    Admin(String),
}

impl fmt::Display for EnvoyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "`{}`: {error}", path.display()),
            Self::Ended(log) => write!(f, "envoy ended before it was ready:\n{log}"),
            Self::NotReady(log) => write!(f, "envoy was not ready in time:\n{log}"),
            Self::Admin(text) => write!(f, "envoy's admin interface: {text}"),
        }
    }
}

impl error::Error for EnvoyError {}
