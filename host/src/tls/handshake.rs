//! One handshake, from the accepted socket to a judged connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ProtocolVersion;
use rustls::server::{Acceptor, ClientHello};
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::authentication::Authentication;
use super::gate::{Handshake, polled};
use super::link::Link;
use super::terms::Terms;
use crate::certificate_version::Holder;
use crate::proxy::Socket;
use crate::wasm::{Connection, PeerCertificate, Tls, Verdict, Worker};

/// A socket as it was accepted.
#[derive(Debug)]
pub struct Arrival {
    /// Unique within the process.
    pub id: u64,
    /// The socket.
    pub socket: Socket,
    /// The peer's address.
    pub source: SocketAddr,
    /// Our address.
    pub destination: SocketAddr,
}

/// A client that may speak: a peer the filter admitted, or one whose requests it will judge.
#[derive(Debug)]
pub struct Admission {
    /// The encrypted stream.
    pub link: Link,
    /// Requests on this stream are judged with it.
    pub connection: Rc<Connection>,
    /// The filter's answer about a peer.
    pub verdict: Option<Verdict>,
    /// What the client presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// A handshake that came to nothing. Where the client may still be writing, its socket wants to linger.
#[derive(Debug)]
pub enum Refusal {
    /// The filter said no; the alert `access_denied` is written.
    Denied(Verdict, Socket),
    /// rustls said no; its alert is written.
    Failed(io::Error, Option<Socket>),
    /// Not finished within [`limits::HANDSHAKE`](crate::proxy::limits::HANDSHAKE).
    TimedOut,
    /// Closed before a ClientHello: a port probe, not a client.
    Silent,
}

/// Shakes hands on the terms that `choose` has for the name the client asks for (SNI), and the filter of that worker
/// judging. How long it may take is the caller's business.
///
/// # Errors
/// Everything but a finished handshake of a client that showed what it was asked for, and of a peer the filter admitted.
pub async fn handshake(
    arrival: Arrival,
    choose: impl FnOnce(Option<&str>) -> Option<(Terms, Rc<Worker>)>,
) -> Result<Admission, Refusal> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), arrival.socket);
    let mut start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Refusal::Silent),
        Err(error) => return Err(Refusal::Failed(error, acceptor.take_io())),
    };
    let hello = start.client_hello();
    let Some((terms, worker)) = choose(hello.server_name()) else {
        let error = match hello.server_name() {
            Some(name) => format!("no endpoint is called `{name}`"),
            None => "the client asked for no name (SNI), and there are several endpoints".to_owned(),
        };
        // A client that does not take the alert any more needs none.
        let _ = start.io.write_all(&UNRECOGNIZED_NAME).await;
        return Err(Refusal::Failed(io::Error::new(io::ErrorKind::NotFound, error), Some(start.io)));
    };
    let alpn = terms.server_config().and_then(|config| negotiated(&config.alpn_protocols, &hello));
    let config = match alpn {
        Some(_) => terms.server_config(),
        None => terms.server_config_without_alpn(),
    };
    let Some(config) = config else {
        return Err(Refusal::Failed(io::Error::other("these terms are for servers"), Some(start.io)));
    };
    let handshake = Rc::new(Handshake {
        id: arrival.id,
        source: arrival.source,
        destination: arrival.destination,
        server_name: hello.server_name().map(str::to_owned),
        alpn,
        worker,
        verified: None.into(),
        proven: None.into(),
        judged: None.into(),
        fault: None.into(),
    });
    match polled(&handshake, start.into_stream(Arc::clone(config)).into_fallible()).await {
        Ok(stream) => admit(terms.authentication(), &handshake, stream),
        Err((error, socket)) => Err(match handshake.judged.take() {
            Some((_, verdict)) if !verdict.allow => Refusal::Denied(verdict, socket),
            _ => Refusal::Failed(handshake.cause(error, Holder::Client), Some(socket)),
        }),
    }
}

/// INVARIANT: a handshake in which the filter was not asked about a peer, or a client did not prove what it had to,
/// admits nobody.
fn admit(
    authentication: Authentication,
    handshake: &Handshake,
    stream: TlsStream<Socket>,
) -> Result<Admission, Refusal> {
    let fail = |stream: TlsStream<Socket>, why| {
        Err(Refusal::Failed(io::Error::other(why), Some(stream.into_inner().0)))
    };
    match (authentication, handshake.judged.take(), handshake.proven.take()) {
        (Authentication::Peer, Some((connection, verdict)), _) if verdict.allow => {
            let chain = presented(&stream);
            Ok(Admission { link: link(stream), connection, verdict: Some(verdict), chain })
        }
        (Authentication::Peer, Some((_, verdict)), _) => Err(Refusal::Denied(verdict, stream.into_inner().0)),
        (Authentication::Peer, None, _) => fail(stream, "the filter was not asked"),
        (Authentication::Trusted | Authentication::Pinned, _, None) => {
            fail(stream, "no certificate was proven")
        }
        (Authentication::Trusted, _, peer @ Some(_)) => Ok(unjudged(handshake, stream, peer, true)),
        (Authentication::Pinned, _, peer @ Some(_)) => Ok(unjudged(handshake, stream, peer, false)),
        (Authentication::Nothing, ..) => Ok(unjudged(handshake, stream, None, false)),
    }
}

/// A client whose requests are judged, and nothing before them.
fn unjudged(
    handshake: &Handshake,
    stream: TlsStream<Socket>,
    peer: Option<PeerCertificate>,
    chain_verified: bool,
) -> Admission {
    let session = stream.get_ref().1;
    let tls = Tls {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        server_name: handshake.server_name.clone(),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        peer,
        chain_verified,
    };
    let connection = Connection::new(handshake.id, handshake.source, handshake.destination, Some(tls));
    let chain = presented(&stream);
    Admission { link: link(stream), connection: Rc::new(connection), verdict: None, chain }
}

fn link(stream: TlsStream<Socket>) -> Link {
    Link::Tls(Box::new(stream.into()))
}

fn presented(stream: &TlsStream<Socket>) -> Vec<CertificateDer<'static>> {
    stream.get_ref().1.peer_certificates().map_or_else(Vec::new, <[_]>::to_vec)
}

/// What rustls is going to choose: our first protocol that the client offers (RFC 7301 section 3.2). It is needed
/// before the choice is made, because the filter is asked in the middle of the handshake. `None` if the client offers
/// none of ours: then none is agreed on, and HTTP/1.1 is spoken.
fn negotiated(ours: &[Vec<u8>], hello: &ClientHello<'_>) -> Option<String> {
    let theirs: Vec<&[u8]> = hello.alpn()?.collect();
    let chosen = ours.iter().find(|protocol| theirs.contains(&protocol.as_slice()))?;
    Some(String::from_utf8_lossy(chosen).into_owned())
}

/// A record with the fatal alert `unrecognized_name` (RFC 6066 section 3, RFC 8446 section 6): nothing is encrypted yet.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
