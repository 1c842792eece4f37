//! One worker's connections to the local service.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use http::HeaderValue;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::body::Filtered;
use super::headers::RequestHead;
use super::http::LocalExecutor;
use super::limits;
use super::socket::Socket;
use crate::config::{self, UpstreamProtocol};

/// Why the upstream gave no response. For the log; the client is told only "bad gateway".
#[derive(Debug)]
pub(super) enum UpstreamError {
    Connect(io::Error),
    Exchange(hyper::Error),
    Authority,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "cannot connect: {error}"),
            Self::Exchange(error) => match std::error::Error::source(error) {
                Some(cause) => write!(formatter, "{error}: {cause}"),
                None => error.fmt(formatter),
            },
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
}

/// The local service and the connections to it that are free.
#[derive(Debug)]
pub(super) struct Upstream {
    service: config::Upstream,
    idle: RefCell<VecDeque<Idle>>,
    shared: RefCell<Option<http2::SendRequest<Filtered>>>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Filtered>,
    since: Instant,
}

impl Upstream {
    pub(super) fn new(service: config::Upstream) -> Rc<Self> {
        Rc::new(Self { service, idle: RefCell::default(), shared: RefCell::default() })
    }

    pub(super) fn is_to(&self, service: &config::Upstream) -> bool {
        self.service == *service
    }

    /// A new connection; its sends are not delayed.
    pub(super) async fn connect(&self) -> Result<Socket, UpstreamError> {
        let connected = match timeout(limits::UPSTREAM_CONNECT, Socket::connect(&self.service.address)).await
        {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        connected.map_err(UpstreamError::Connect)
    }

    /// Sends a request and returns when the response's head is there.
    pub(super) async fn send(
        self: &Rc<Self>,
        head: RequestHead,
        body: Filtered,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match self.service.protocol {
            UpstreamProtocol::Http1 => self.send_http1(head.into_http1(body)?).await,
            UpstreamProtocol::H2c => self.send_h2c(head.into_h2c(body)?).await,
        }
    }

    async fn send_http1(
        self: &Rc<Self>,
        mut request: Request<Filtered>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        loop {
            let (mut sender, reused) = match self.take_idle() {
                Some(sender) => (sender, true),
                None => (self.open_http1().await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.give_back(sender);
                    return Ok(response);
                }
                // The upstream closed a kept connection under us. A message is handed back only when none of it
                // was written, so sending it again does nothing twice.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(UpstreamError::Exchange(error.into_error())),
                },
            }
        }
    }

    async fn open_http1(&self) -> Result<http1::SendRequest<Filtered>, UpstreamError> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) = http1::handshake(io).await.map_err(UpstreamError::Exchange)?;
        // Its errors reach whoever waits for a response or a body.
        spawn_local(connection);
        Ok(sender)
    }

    async fn send_h2c(
        self: &Rc<Self>,
        request: Request<Filtered>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let free = self.shared.borrow().clone().filter(|sender| !sender.is_closed());
        let mut sender = match free {
            Some(sender) => sender,
            None => self.open_h2c().await?,
        };
        sender.ready().await.map_err(UpstreamError::Exchange)?;
        sender.send_request(request).await.map_err(UpstreamError::Exchange)
    }

    async fn open_h2c(&self) -> Result<http2::SendRequest<Filtered>, UpstreamError> {
        let io = TokioIo::new(self.connect().await?);
        // Requests of many peers share this connection. Only its streams have a window, so that a peer that does not
        // read its answers holds up nobody else's.
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(limits::UPSTREAM_STREAM_BYTES)
            .initial_connection_window_size(limits::UPSTREAM_CONNECTION_WINDOW)
            .handshake(io)
            .await
            .map_err(UpstreamError::Exchange)?;
        spawn_local(connection);
        self.shared.replace(Some(sender.clone()));
        Ok(sender)
    }

    /// The connection used last, so that those not needed grow old.
    fn take_idle(&self) -> Option<http1::SendRequest<Filtered>> {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(Idle::is_over) {
            idle.pop_front();
        }
        while let Some(last) = idle.pop_back() {
            if last.sender.is_ready() {
                return Some(last.sender);
            }
        }
        None
    }

    /// Keeps a connection once its response is read to the end.
    fn give_back(self: &Rc<Self>, mut sender: http1::SendRequest<Filtered>) {
        let upstream = Rc::clone(self);
        spawn_local(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let mut idle = upstream.idle.borrow_mut();
            while idle.len() >= limits::UPSTREAM_IDLE_CONNECTIONS || idle.front().is_some_and(Idle::is_over) {
                idle.pop_front();
            }
            idle.push_back(Idle { sender, since: Instant::now() });
        });
    }
}

impl Idle {
    fn is_over(&self) -> bool {
        self.sender.is_closed() || self.since.elapsed() > limits::UPSTREAM_IDLE
    }
}

impl RequestHead {
    /// Origin form with `Host` first (RFC 9112 section 3.2).
    fn into_http1(self, body: Filtered) -> Result<Request<Filtered>, UpstreamError> {
        let host = HeaderValue::from_str(self.authority.as_str()).map_err(|_| UpstreamError::Authority)?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.path);
        request.headers_mut().insert(HOST, host);
        request.headers_mut().extend(self.headers);
        Ok(request)
    }

    fn into_h2c(self, body: Filtered) -> Result<Request<Filtered>, UpstreamError> {
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
