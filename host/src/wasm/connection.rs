//! What the properties of a connection are served from.

use std::cell::RefCell;
use std::net::SocketAddr;

use super::certificate::PeerCertificate;
use super::stored::Stored;

/// One accepted connection. Immutable once built, except for what the filter stores on it.
#[derive(Debug)]
pub struct Connection {
    /// Unique within the process (`connection.id`).
    pub id: u64,
    /// The peer's address.
    pub source: SocketAddr,
    /// Our address.
    pub destination: SocketAddr,
    /// `None` on plaintext.
    pub tls: Option<Tls>,
    /// What the network gate stored (Envoy: filter state of the connection), readable by every request on it.
    pub(super) filter_state: RefCell<Stored>,
}

impl Connection {
    /// A connection on which the filter has stored nothing yet.
    pub fn new(id: u64, source: SocketAddr, destination: SocketAddr, tls: Option<Tls>) -> Self {
        Self { id, source, destination, tls, filter_state: RefCell::default() }
    }

    /// The scheme of requests on it.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// What the handshake settled.
#[derive(Debug)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The name the client asked for (SNI).
    pub server_name: Option<String>,
    /// The application protocol agreed on, such as `h2`.
    pub alpn: Option<String>,
    /// The leaf certificate the peer presented.
    pub peer: Option<PeerCertificate>,
    /// Whether the peer's chain was verified in this handshake.
    pub chain_verified: bool,
}
