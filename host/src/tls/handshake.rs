//! One handshake, from the accepted socket to a judged connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::gate::{Handshake, polled};
use crate::proxy::limits;
use crate::wasm::{Connection, Verdict, Worker};

/// A socket as it was accepted.
#[derive(Debug)]
pub struct Arrival {
    /// Unique within the process.
    pub id: u64,
    /// The socket.
    pub socket: TcpStream,
    /// The peer's address.
    pub source: SocketAddr,
    /// Our address.
    pub destination: SocketAddr,
}

/// A peer the filter admitted.
#[derive(Debug)]
pub struct Admission {
    /// The encrypted stream.
    pub stream: TlsStream<TcpStream>,
    /// What was judged; requests on this stream are judged with the same.
    pub connection: Rc<Connection>,
    /// The filter's answer.
    pub verdict: Verdict,
}

/// A handshake that came to nothing. Where the client may still be writing, its socket wants to linger.
#[derive(Debug)]
pub enum Refusal {
    /// The filter said no; the alert `access_denied` is written.
    Denied(Verdict, TcpStream),
    /// rustls said no; its alert is written.
    Failed(io::Error, Option<TcpStream>),
    /// Not finished within [`limits::HANDSHAKE`].
    TimedOut,
    /// Closed before a ClientHello: a port probe, not a client.
    Silent,
}

/// Shakes hands within [`limits::HANDSHAKE`], the filter of `worker` judging.
///
/// # Errors
/// Everything but a finished handshake whose peer the filter admitted.
pub async fn handshake(
    arrival: Arrival,
    config: Arc<ServerConfig>,
    worker: Rc<Worker>,
) -> Result<Admission, Refusal> {
    match timeout(limits::HANDSHAKE, unlimited(arrival, config, worker)).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::TimedOut),
    }
}

async fn unlimited(
    arrival: Arrival,
    config: Arc<ServerConfig>,
    worker: Rc<Worker>,
) -> Result<Admission, Refusal> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), arrival.socket);
    let start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Refusal::Silent),
        Err(error) => return Err(Refusal::Failed(error, acceptor.take_io())),
    };
    let hello = start.client_hello();
    let handshake = Rc::new(Handshake {
        id: arrival.id,
        source: arrival.source,
        destination: arrival.destination,
        server_name: hello.server_name().map(str::to_owned),
        alpn: negotiated(&config.alpn_protocols, &hello),
        worker,
        verified: None.into(),
        judged: None.into(),
    });
    let result = polled(&handshake, start.into_stream(config).into_fallible()).await;
    let judged = handshake.judged.take();
    match (result, judged) {
        (Ok(stream), Some((connection, verdict))) if verdict.allow => {
            Ok(Admission { stream, connection, verdict })
        }
        (Ok(stream), Some((_, verdict))) => Err(Refusal::Denied(verdict, stream.into_inner().0)),
        // INVARIANT: a handshake in which the filter was never asked admits nobody.
        (Ok(stream), None) => {
            let error = io::Error::other("the filter was not asked");
            Err(Refusal::Failed(error, Some(stream.into_inner().0)))
        }
        (Err((_, socket)), Some((_, verdict))) if !verdict.allow => Err(Refusal::Denied(verdict, socket)),
        (Err((error, socket)), _) => Err(Refusal::Failed(error, Some(socket))),
    }
}

/// What rustls is going to choose: our first protocol that the client offers (RFC 7301 section 3.2). It is needed
/// before the choice is made, because the filter is asked in the middle of the handshake.
fn negotiated(ours: &[Vec<u8>], hello: &ClientHello<'_>) -> Option<String> {
    let theirs: Vec<&[u8]> = hello.alpn()?.collect();
    let chosen = ours.iter().find(|protocol| theirs.contains(&protocol.as_slice()))?;
    Some(String::from_utf8_lossy(chosen).into_owned())
}
