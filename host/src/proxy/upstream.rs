//! One worker's connections to the local service.

mod error;
mod send;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

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
use super::lane::Lane;
use super::limits;
use super::patient::Patient;
use super::port::Port;
use super::roster::Member;
use super::socket::Socket;
use crate::capacity::Capacity;
use crate::config::{self, UpstreamProtocol};
use crate::tls::Link;

pub(super) use error::UpstreamError;

/// The local service, or the server, and the connections to it that are free.
#[derive(Debug)]
pub(super) struct Upstream {
    service: config::Upstream,
    direction: Direction,
    capacity: Arc<Capacity>,
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

/// A connection that takes many requests at once.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    sender: http2::SendRequest<Outgoing>,
    server: Option<Rc<Member>>,
}

/// A new connection.
enum Opened {
    Http1(Sender),
    Http2(Shared),
}

/// A connection that takes a request.
enum Sender {
    Http1 { sender: http1::SendRequest<Outgoing>, server: Option<Rc<Member>>, reused: bool },
    Http2(http2::SendRequest<Outgoing>),
}

impl Upstream {
    pub(super) fn new(service: config::Upstream, direction: Direction, capacity: &Arc<Capacity>) -> Rc<Self> {
        let ((port, idle, shared), capacity) = (Default::default(), Arc::clone(capacity));
        Rc::new(Self { service, direction, capacity, port, idle, shared })
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
        let permit = self.capacity.upstream_connection().map_err(UpstreamError::Limit)?;
        let connecting = Socket::connect(&self.service.address, permit);
        let connected = match timeout(limits::UPSTREAM_CONNECT, connecting).await {
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

    /// A free connection, or a new one.
    async fn sender(self: &Rc<Self>, lane: &Lane) -> Result<Sender, UpstreamError> {
        if self.direction != Direction::Inbound {
            self.port()?;
        }
        if lane.is_apart() && self.may_speak_http2() {
            match self.own_sender(lane).await {
                // Then it shares, as long as it does no harm.
                Err(UpstreamError::Limit(_)) if !lane.is_kept_apart() => {}
                sender => return sender,
            }
        }
        let shared = self.shared.borrow().clone();
        if let Some(shared) = shared.filter(Shared::is_open) {
            return Ok(Sender::Http2(shared.sender));
        }
        if let Some(Idle { sender, server, .. }) = self.take_idle() {
            return Ok(Sender::Http1 { sender, server, reused: true });
        }
        match self.open().await? {
            Opened::Http1(sender) => Ok(sender),
            Opened::Http2(shared) => {
                self.shared.replace(Some(shared.clone()));
                Ok(Sender::Http2(shared.sender))
            }
        }
    }

    /// The connection of a client that does not share.
    async fn own_sender(self: &Rc<Self>, lane: &Lane) -> Result<Sender, UpstreamError> {
        if let Some(own) = lane.own(self) {
            return Ok(Sender::Http2(own.sender));
        }
        let failed =
            || UpstreamError::Connect(io::Error::other("it failed for another request of the client"));
        let _turn = lane.turn().await.ok_or_else(failed)?;
        if let Some(own) = lane.own(self) {
            return Ok(Sender::Http2(own.sender));
        }
        match self.open().await {
            Ok(Opened::Http1(sender)) => Ok(sender),
            Ok(Opened::Http2(own)) => {
                lane.owns(self, own.clone());
                Ok(Sender::Http2(own.sender))
            }
            Err(error) => {
                lane.failed();
                Err(error)
            }
        }
    }

    /// Whether the service speaks HTTP/2, as far as that is known.
    fn may_speak_http2(&self) -> bool {
        self.service.protocol == UpstreamProtocol::H2c || self.shared.borrow().is_some()
    }

    async fn open(&self) -> Result<Opened, UpstreamError> {
        let Reached { link, standing } = self.connect(None).await?;
        let h2 = match &link {
            Link::Plain(_) => self.service.protocol == UpstreamProtocol::H2c,
            Link::Tls(_) => link.alpn() == Some(H2),
        };
        match h2 {
            true => open_http2(link, standing).await.map(Opened::Http2),
            false => open_http1(link, standing).await.map(Opened::Http1),
        }
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
            let kept = upstream.capacity.idle_upstream_connections();
            while idle.len() >= kept || idle.front().is_some_and(Idle::is_over) {
                idle.pop_front();
            }
            idle.push_back(Idle { sender, server, since: Instant::now() });
        });
    }
}

async fn open_http2(link: Link, standing: Option<Standing>) -> Result<Shared, UpstreamError> {
    // Requests of many peers share this connection. Only its streams have a window, so that a peer that does not read its
    // answers holds up nobody else's.
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(limits::UPSTREAM_STREAM_BYTES)
        .initial_connection_window_size(limits::UPSTREAM_CONNECTION_WINDOW)
        .handshake(TokioIo::new(link))
        .await
        .map_err(UpstreamError::Exchange)?;
    let server = standing.as_ref().map(|standing| Rc::clone(&standing.member));
    spawn_local(until_cut_off(connection, standing));
    Ok(Shared { sender, server })
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

impl Shared {
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !is_ending(&self.server)
    }
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
