//! What was read together and is used together: listeners, policies, credentials.

use std::path::PathBuf;
use std::sync::Arc;

use super::listener::Sockets;
use crate::capacity::Plan;
use crate::config::{Address, Protocol, Upstream};
use crate::tls::Terms;
use crate::wasm::{Clusters, Filter};

/// One generation of all there is to know, shared by all workers.
#[derive(Debug)]
pub struct Generation {
    /// Counts the generations of this process, from 1.
    pub number: u64,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// What is taken at most.
    pub limits: Plan,
}

/// A port, and what is behind it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// As logs and metrics call it.
    pub name: Arc<str>,
    /// Two generations that have the same sockets mean the same listener.
    pub sockets: Arc<Sockets>,
    /// Who begins.
    pub direction: Direction,
    /// What is forwarded.
    pub protocol: Protocol,
    /// The local service, or the server.
    pub upstream: Upstream,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Below it are the admin pages, not the service.
    pub admin_path: Option<Arc<str>>,
    /// Whether connections may become WebSockets.
    pub websocket: bool,
}

/// Who begins a TLS handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The others: clients come in over TLS.
    Inbound,
    /// We do: local programs reach a server over TLS.
    Outbound {
        /// Put the server's name into `Host`.
        rewrites_host: bool,
    },
}

impl Direction {
    /// As the configuration says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound { .. } => "outbound",
        }
    }
}

/// One kind of client on a port.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// How clients are known.
    pub kind: peergate_policy::Endpoint,
    /// Lower case, without trailing dot; empty only where the port has no other endpoint.
    pub names: Vec<String>,
    /// Certificate, and what the other side is asked for.
    pub terms: Terms,
    /// Whether plaintext is as good: from clients besides TLS, to servers in place of it (mixed mode).
    pub plaintext: bool,
    /// The compiled filter.
    pub filter: Filter,
    /// The plugin configuration for its VMs.
    pub configuration: Arc<str>,
    /// Services the filter may call.
    pub clusters: Arc<Clusters>,
    /// The policy's file.
    pub policy: PathBuf,
    /// SHA-256 of the file as it was read, in hex.
    pub policy_sha256: String,
}

impl Listener {
    /// The address that is listened on.
    pub fn address(&self) -> &Address {
        self.sockets.address()
    }
}
