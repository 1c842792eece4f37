//! One worker's connections to the local service.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::{Rc, Weak};

use http::HeaderValue;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Either;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::body::Filtered;
use super::dialer::{Reached, Standing, dial};
use super::generation::Direction;
use super::headers::RequestHead;
use super::http::{H2, HTTP1, LocalExecutor};
use super::identity::Unidentified;
use super::limits;
use super::patient::Patient;
use super::port::Port;
use super::roster::Member;
use super::socket::Socket;
use crate::config::{self, UpstreamProtocol};
use crate::tls::{ConnectError, Link};

/// Why the upstream gave no response. For the log; the client is told only "bad gateway".
#[derive(Debug)]
pub(super) enum UpstreamError {
    Connect(io::Error),
    Server(ConnectError),
    Exchange(hyper::Error),
    Authority,
    Changed,
    Gone,
    /// It said that it switches protocols, and not as it was asked to.
    Upgrade(&'static str),
    /// It did not answer an upgrade in time.
    Silent,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "cannot connect: {error}"),
            Self::Exchange(error) => match std::error::Error::source(error) {
                Some(cause) => write!(formatter, "{error}: {cause}"),
                None => error.fmt(formatter),
            },
            Self::Server(error) => error.fmt(formatter),
            Self::Gone => formatter.write_str("the listener leads there no more"),
            Self::Changed => formatter.write_str("the server went over to HTTP/2 in between"),
            Self::Upgrade(what) => {
                write!(formatter, "its answer to the WebSocket handshake is wrong: {what}")
            }
            Self::Silent => formatter.write_str("it does not answer the WebSocket handshake"),
            Self::Authority => formatter.write_str("the authority makes no target"),
        }
    }
}

impl std::error::Error for UpstreamError {}

impl UpstreamError {
    /// Whether the request's own body broke off or was malformed: nothing the upstream could help.
    pub(super) fn is_of_body(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.is_user())
    }

    /// What the client is told.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            error if error.is_of_body() => StatusCode::BAD_REQUEST,
            Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

/// The local service, or the server, and the connections to it that are free.
#[derive(Debug)]
pub(super) struct Upstream {
    service: config::Upstream,
    direction: Direction,
    /// Of an outbound listener: on its terms servers are reached.
    port: RefCell<Weak<Port>>,
    idle: RefCell<VecDeque<Idle>>,
    shared: RefCell<Option<Shared>>,
}

/// The body of a request: of a client, through the filter; or of a local program.
pub(super) type Outgoing = Either<Filtered, Unidentified>;

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Outgoing>,
    server: Option<Rc<Member>>,
    since: Instant,
}

/// The far end of a tunnel.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) link: Link,
    /// What it wrote behind its answer.
    pub(super) early: Bytes,
    /// Of a server: it may be dismissed.
    pub(super) standing: Option<Standing>,
}

#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<Outgoing>,
    server: Option<Rc<Member>>,
}

/// A connection that takes a request.
enum Sender {
    Http1 { sender: http1::SendRequest<Outgoing>, server: Option<Rc<Member>>, reused: bool },
    Http2(http2::SendRequest<Outgoing>),
}

impl Upstream {
    pub(super) fn new(service: config::Upstream, direction: Direction) -> Rc<Self> {
        let (port, idle, shared) = Default::default();
        Rc::new(Self { service, direction, port, idle, shared })
    }

    pub(super) fn is_to(&self, service: &config::Upstream) -> bool {
        self.service == *service
    }

    /// Whether it is told who the peer is.
    pub(super) fn takes_proxy_protocol(&self) -> bool {
        self.service.proxy_protocol
    }

    /// From now on servers are reached on the terms of this port, if it is outbound.
    pub(super) fn belongs_to(&self, port: &Rc<Port>) {
        self.port.replace(Rc::downgrade(port));
    }

    /// Its port leads elsewhere, or by other terms: no server is spoken to on those of before, not on a connection that is
    /// kept open nor on one that is just being made. What is being answered may end.
    pub(super) fn abandon(&self) {
        self.port.take();
        self.idle.take();
        self.shared.take();
    }

    /// A new connection; its sends are not delayed. With `only`, a server is offered that application protocol and no other.
    pub(super) async fn connect(&self, only: Option<&'static [u8]>) -> Result<Reached, UpstreamError> {
        let connected = match timeout(limits::UPSTREAM_CONNECT, Socket::connect(&self.service.address)).await
        {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let socket = connected.map_err(UpstreamError::Connect)?;
        if self.direction == Direction::Inbound {
            return Ok(Reached { link: Link::Plain(socket), standing: None });
        }
        // INVARIANT: a server is spoken to on the terms of a port that leads to it, or not at all.
        let port = self.port()?;
        let site = port.site();
        if site.direction == Direction::Inbound || !site.upstream.is_to(&self.service) {
            return Err(UpstreamError::Gone);
        }
        drop(site);
        dial(&port, socket, only).await.map_err(UpstreamError::Server)
    }

    /// Whose terms servers are reached on.
    fn port(&self) -> Result<Rc<Port>, UpstreamError> {
        self.port.borrow().upgrade().ok_or(UpstreamError::Gone)
    }

    /// Sends a request and returns when the response's head is there.
    pub(super) async fn send(
        self: &Rc<Self>,
        head: RequestHead,
        body: Outgoing,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match self.sender().await? {
            Sender::Http2(mut sender) => {
                sender.ready().await.map_err(UpstreamError::Exchange)?;
                sender.send_request(head.into_h2(body)?).await.map_err(UpstreamError::Exchange)
            }
            sender => self.send_http1(sender, head.into_http1(body)?).await,
        }
    }

    /// Sends a request for an upgrade on a connection of its own, which is the tunnel's where the answer is 101.
    pub(super) async fn upgrade(
        self: &Rc<Self>,
        head: RequestHead,
        body: Outgoing,
    ) -> Result<(Response<Incoming>, Option<Far>), UpstreamError> {
        let Reached { link, standing } = self.connect(Some(HTTP1)).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(Patient::new(link))).await.map_err(UpstreamError::Exchange)?;
        let mut driving = Box::pin(connection.without_shutdown());
        let mut driven = None;
        let response = {
            let mut sending = pin!(sender.send_request(head.into_http1(body)?));
            loop {
                tokio::select! {
                    biased;
                    response = &mut sending => break response.map_err(UpstreamError::Exchange)?,
                    parts = &mut driving, if driven.is_none() => {
                        driven = Some(parts.map_err(UpstreamError::Exchange)?);
                    }
                }
            }
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let server = standing.as_ref().map(|standing| Rc::clone(&standing.member));
            if driven.is_none() {
                spawn_local(until_cut_off(async { driving.await.map(drop) }, standing));
            }
            self.give_back(sender, server);
            return Ok((response, None));
        }
        let http1::Parts { io, read_buf, .. } = match driven {
            Some(parts) => parts,
            None => driving.await.map_err(UpstreamError::Exchange)?,
        };
        Ok((response, Some(Far { link: io.into_inner().into_inner(), early: read_buf, standing })))
    }

    async fn send_http1(
        self: &Rc<Self>,
        mut chosen: Sender,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        loop {
            let Sender::Http1 { mut sender, server, reused } = chosen else {
                return Err(UpstreamError::Changed);
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.give_back(sender, server);
                    return Ok(response);
                }
                // The upstream closed a kept connection under us. A message is handed back only when none of it
                // was written, so sending it again does nothing twice.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(UpstreamError::Exchange(error.into_error())),
                },
            }
            chosen = self.sender().await?;
        }
    }

    /// A free connection, or a new one.
    async fn sender(self: &Rc<Self>) -> Result<Sender, UpstreamError> {
        if self.direction != Direction::Inbound {
            self.port()?;
        }
        let shared = self.shared.borrow().clone();
        if let Some(Shared { sender, server }) = shared
            && !sender.is_closed()
            && !is_ending(&server)
        {
            return Ok(Sender::Http2(sender));
        }
        if let Some(Idle { sender, server, .. }) = self.take_idle() {
            return Ok(Sender::Http1 { sender, server, reused: true });
        }
        let Reached { link, standing } = self.connect(None).await?;
        let h2 = match &link {
            Link::Plain(_) => self.service.protocol == UpstreamProtocol::H2c,
            Link::Tls(_) => link.alpn() == Some(H2),
        };
        if h2 { self.open_http2(link, standing).await } else { open_http1(link, standing).await }
    }

    async fn open_http2(&self, link: Link, standing: Option<Standing>) -> Result<Sender, UpstreamError> {
        // Requests of many peers share this connection. Only its streams have a window, so that a peer that does not
        // read its answers holds up nobody else's.
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(limits::UPSTREAM_STREAM_BYTES)
            .initial_connection_window_size(limits::UPSTREAM_CONNECTION_WINDOW)
            .handshake(TokioIo::new(link))
            .await
            .map_err(UpstreamError::Exchange)?;
        let server = standing.as_ref().map(|standing| Rc::clone(&standing.member));
        spawn_local(until_cut_off(connection, standing));
        self.shared.replace(Some(Shared { sender: sender.clone(), server }));
        Ok(Sender::Http2(sender))
    }

    /// The connection used last, so that those not needed grow old.
    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(Idle::is_over) {
            idle.pop_front();
        }
        while let Some(last) = idle.pop_back() {
            if last.sender.is_ready() && !is_ending(&last.server) {
                return Some(last);
            }
        }
        None
    }

    /// Keeps a connection once its response is read to the end.
    fn give_back(self: &Rc<Self>, mut sender: http1::SendRequest<Outgoing>, server: Option<Rc<Member>>) {
        let upstream = Rc::clone(self);
        spawn_local(async move {
            if sender.ready().await.is_err() || is_ending(&server) {
                return;
            }
            let mut idle = upstream.idle.borrow_mut();
            while idle.len() >= limits::UPSTREAM_IDLE_CONNECTIONS || idle.front().is_some_and(Idle::is_over) {
                idle.pop_front();
            }
            idle.push_back(Idle { sender, server, since: Instant::now() });
        });
    }
}

async fn open_http1(link: Link, standing: Option<Standing>) -> Result<Sender, UpstreamError> {
    let io = TokioIo::new(Patient::new(link));
    let (sender, connection) = http1::handshake(io).await.map_err(UpstreamError::Exchange)?;
    let server = standing.as_ref().map(|standing| Rc::clone(&standing.member));
    spawn_local(until_cut_off(connection, standing));
    Ok(Sender::Http1 { sender, server, reused: false })
}

/// Runs a connection; its errors reach whoever waits for a response or a body.
async fn until_cut_off(connection: impl Future<Output = hyper::Result<()>>, standing: Option<Standing>) {
    match &standing {
        Some(standing) => tokio::select! {
            _ = connection => {}
            () = standing.member.cut_off() => {}
        },
        None => drop(connection.await),
    }
}

/// Whether a server was dismissed: nothing more is sent to it.
fn is_ending(server: &Option<Rc<Member>>) -> bool {
    server.as_ref().is_some_and(|member| member.is_ending())
}

impl Idle {
    fn is_over(&self) -> bool {
        self.sender.is_closed() || is_ending(&self.server) || self.since.elapsed() > limits::UPSTREAM_IDLE
    }
}

impl RequestHead {
    /// Origin form with `Host` first (RFC 9112 section 3.2).
    fn into_http1(self, body: Outgoing) -> Result<Request<Outgoing>, UpstreamError> {
        let host = HeaderValue::from_str(self.authority.as_str()).map_err(|_| UpstreamError::Authority)?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.path);
        request.headers_mut().insert(HOST, host);
        request.headers_mut().extend(self.headers);
        Ok(request)
    }

    fn into_h2(self, body: Outgoing) -> Result<Request<Outgoing>, UpstreamError> {
        let path: PathAndQuery = self.path;
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority).path_and_query(path);
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri.build().map_err(|_| UpstreamError::Authority)?;
        *request.headers_mut() = self.headers;
        *request.version_mut() = http::Version::HTTP_2;
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
