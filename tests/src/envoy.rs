//! Real Envoy releases with `filter.wasm`.

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
    ops::Deref,
    path::PathBuf,
};

use peergate_host::envoy::{Bootstrap, Envoy, EnvoyError, Identity, Listener, Protocol};
use serde_json::Value;
use tempfile::TempDir;

use crate::{filter, pki::Pki, root};

/// The release with `connection.peer_certificate`.
pub const CURRENT: &str = "1.40.0";
/// A release without it: the certificate comes through filter state.
pub const OLD: &str = "1.36.4";

/// Whether `SKIP_ENVOY=1` asks to leave out what needs Envoy. Says so, even when the output of tests is captured.
pub fn skipped(what: &str) -> bool {
    let skipped = env::var_os("SKIP_ENVOY").is_some_and(|value| value == "1");
    if skipped {
        writeln!(io::stderr(), "skipped because of SKIP_ENVOY=1: {what}").expect("standard error");
    }
    skipped
}

/// The binary of a release.
///
/// # Panics
/// It is not installed.
pub fn binary(version: &str) -> PathBuf {
    let path = root().join("target/envoy").join(version).join("envoy");
    assert!(path.is_file(), "Envoy {version} is missing; install it: tests/install-envoy.sh {version}");
    path
}

/// An Envoy and the directory it was started in.
pub struct Running {
    envoy: Envoy,
    _directory: TempDir,
}

impl Running {
    /// Where a listener accepts connections.
    ///
    /// # Panics
    /// There is no such listener.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.envoy.listener(listener).expect("the listener's address")
    }
}

impl Deref for Running {
    type Target = Envoy;

    fn deref(&self) -> &Envoy {
        &self.envoy
    }
}

/// Starts a release with these listeners.
///
/// # Errors
/// Envoy refuses them.
pub fn try_start(version: &str, listeners: Vec<Listener>) -> Result<Running, EnvoyError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bootstrap = Bootstrap { filter: filter(), listeners };
    let envoy = Envoy::start(&binary(version), &bootstrap, directory.path())?;
    Ok(Running { envoy, _directory: directory })
}

/// Starts a release with these listeners.
///
/// # Panics
/// Envoy refuses them.
pub fn start(version: &str, listeners: Vec<Listener>) -> Running {
    try_start(version, listeners).unwrap_or_else(|error| panic!("{error}"))
}

/// A listener for `release` with its own VM.
pub fn listener(release: &str, name: &str, pki: &Pki, protocol: Protocol, configuration: Value) -> Listener {
    Listener {
        name: name.to_owned(),
        protocol,
        tls: pki.server_tls(),
        configuration,
        identity: if release == OLD { Identity::FilterState } else { Identity::Property },
        upstream: None,
        websocket: false,
        vm_id: None,
    }
}
