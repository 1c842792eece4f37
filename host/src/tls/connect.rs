//! A handshake with a server, judged like a peer that comes in.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::gate::{Handshake, polled};
use super::link::Link;
use super::terms::Terms;
use crate::certificate_version::Holder;
use crate::proxy::{Socket, limits};
use crate::wasm::{Connection, Verdict, Worker};

/// A socket that was connected.
#[derive(Debug)]
pub struct Departure {
    /// Unique within the process.
    pub id: u64,
    /// The socket.
    pub socket: Socket,
    /// The server's address.
    pub destination: SocketAddr,
    /// The one application protocol to offer (RFC 7301), in place of those of the terms.
    pub only: Option<&'static [u8]>,
}

/// A server that the filter admitted.
#[derive(Debug)]
pub struct Connected {
    /// The encrypted stream.
    pub link: Link,
    /// As the filter was told of it: the server is the peer.
    pub connection: Rc<Connection>,
    /// The filter's answer.
    pub verdict: Verdict,
    /// What the server presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Why no server is to be spoken to.
#[derive(Debug)]
pub enum ConnectError {
    /// The filter said no.
    Denied(Verdict),
    /// rustls said no: chain, name, or nonsense.
    Handshake(io::Error),
    /// Not finished within [`limits::HANDSHAKE`].
    TimedOut,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(verdict) => write!(formatter, "the server is not admitted: {}", verdict.decision),
            Self::Handshake(error) => write!(formatter, "TLS handshake with the server: {error}"),
            Self::TimedOut => formatter.write_str("TLS handshake with the server: timed out"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Shakes hands within [`limits::HANDSHAKE`], the filter of `worker` judging the server.
///
/// # Errors
/// Everything but a finished handshake with a server that the filter admitted.
pub async fn connect(
    departure: Departure,
    terms: &Terms,
    worker: Rc<Worker>,
) -> Result<Connected, ConnectError> {
    let Departure { id, socket, destination, only } = departure;
    let wrong = |what| ConnectError::Handshake(io::Error::other(what));
    let (config, name) = terms.client_config().ok_or_else(|| wrong("these terms are for clients"))?;
    let server_name = match name {
        ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
        _ => None,
    };
    let handshake = Rc::new(Handshake {
        id,
        source: destination,
        destination,
        server_name,
        alpn: None,
        worker,
        verified: None.into(),
        proven: None.into(),
        judged: None.into(),
        fault: None.into(),
    });
    let connector = TlsConnector::from(config.clone());
    let connecting = match only {
        Some(protocol) => connector.with_alpn(vec![protocol.to_vec()]).connect(name.clone(), socket),
        None => connector.connect(name.clone(), socket),
    };
    let connected = match timeout(limits::HANDSHAKE, polled(&handshake, connecting)).await {
        Ok(connected) => connected,
        Err(_) => return Err(ConnectError::TimedOut),
    };
    // INVARIANT: a handshake in which the filter was not asked reaches nobody.
    match (connected, handshake.judged.take()) {
        (Ok(stream), Some((connection, verdict))) if verdict.allow => {
            let chain = stream.get_ref().1.peer_certificates().map_or_else(Vec::new, <[_]>::to_vec);
            Ok(Connected { link: Link::Tls(Box::new(stream.into())), connection, verdict, chain })
        }
        (_, Some((_, verdict))) if !verdict.allow => Err(ConnectError::Denied(verdict)),
        (Ok(_), _) => Err(wrong("the filter was not asked")),
        (Err(error), _) => Err(ConnectError::Handshake(handshake.cause(error, Holder::Server))),
    }
}
