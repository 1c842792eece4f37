//! The harness of the suites: certificates, an upstream that remembers, the host, Envoy, and independent clients.
//!
//! Everything listens on 127.0.0.1 and on a free port, and ends with the value that started it. A missing tool fails
//! the test with the command that installs it.

pub mod admin;
pub mod client;
pub mod commands;
pub mod data_plane;
pub mod der;
pub mod envoy;
pub mod forge;
pub mod host;
pub mod hostile;
pub mod http1;
pub mod http2;
pub mod kustomize;
pub mod pki;
pub mod pod;
pub mod policies;
pub mod prometheus;
pub mod roles;
pub mod upstream;
pub mod vectors;
pub mod vespa;
pub mod vespa_cli;
pub mod wait;
pub mod websocket;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package has a parent").to_owned()
}

/// `target/filter.wasm`.
///
/// # Panics
/// It has not been built.
pub fn filter() -> PathBuf {
    let path = root().join("target/filter.wasm");
    assert!(path.is_file(), "target/filter.wasm is missing; build it: make wasm");
    path
}
