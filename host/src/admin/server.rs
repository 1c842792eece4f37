//! The pages on a port of their own, for whoever is on this machine.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use tracing::warn;

use super::board::Board;
use super::hosts::Hosts;
use super::pages::page;
use super::seats::Seats;
use crate::config::{Address, Admin};

/// A port that is bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Hosts,
}

/// Why the pages have no port.
#[derive(Debug)]
pub enum ServerError {
    /// Everybody on the network could read who connects here.
    NotLoopback(SocketAddr),
    /// No port, or a name that is unknown.
    Resolve {
        /// As configured.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// The system said no.
    Bind {
        /// As configured.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoopback(address) => write!(
                formatter,
                "admin: {address} can be reached from other machines, and these pages ask for no certificate; use \
                 127.0.0.1 or [::1], or `\"admin-path\"` on a peer listener"
            ),
            Self::Resolve { address, error } => {
                write!(formatter, "admin: {address}: {error}; expected a loopback address, HOST:PORT")
            }
            Self::Bind { address, error } => {
                write!(formatter, "admin: cannot listen on {address}: {error}; choose another address")
            }
        }
    }
}

impl std::error::Error for ServerError {}

impl Server {
    /// Binds a loopback address.
    ///
    /// # Errors
    /// It is not loopback, or in use.
    pub fn bind(admin: &Admin) -> Result<Self, ServerError> {
        let (address, hosts) = (&admin.address, Hosts::of(admin));
        let address =
            address.resolve().map_err(|error| ServerError::Resolve { address: address.clone(), error })?;
        if !address.ip().to_canonical().is_loopback() {
            return Err(ServerError::NotLoopback(address));
        }
        let failed = |error| ServerError::Bind { address, error };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, hosts })
    }

    /// The address, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for the rest of the process, on a thread of its own: a reload or a busy worker must not hide what goes on.
    ///
    /// # Errors
    /// There is no thread or no runtime to be had.
    pub fn serve(self, board: Arc<Board>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let body = move || LocalSet::new().block_on(&runtime, accept(self.listener, board, self.hosts));
        thread::Builder::new().name("admin".into()).spawn(body).map(drop)
    }
}

async fn accept(listener: TcpListener, board: Arc<Board>, hosts: Hosts) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "no admin pages"),
    };
    let (seats, hosts) = (Rc::new(Seats::default()), Rc::new(hosts));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let seat = seats.enter(CONNECTIONS);
        let (board, hosts, seats) = (Arc::clone(&board), Rc::clone(&hosts), Rc::clone(&seats));
        spawn_local(async move {
            let answering = Rc::clone(&seat);
            let service = service_fn(move |request| {
                let (board, hosts, seat) = (Arc::clone(&board), Rc::clone(&hosts), Rc::clone(&answering));
                async move {
                    seat.answers(true);
                    let answered = answer(&board, &hosts, request).await;
                    seat.answers(false);
                    answered
                }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD);
            tokio::select! {
                // A client that leaves or talks nonsense is no news.
                _ = server.serve_connection(TokioIo::new(socket), service) => {}
                () = seat.given_away() => {}
            }
            seats.leave(&seat);
        });
    }
}

async fn answer(
    board: &Board,
    hosts: &Hosts,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let page = match hosts.refusal(&request) {
        Some(refusal) => refusal,
        None => page(board, request.method(), request.uri().path()).await,
    };
    let whole = |body: Vec<u8>| Full::new(Bytes::from(body));
    let is_head = request.method() == Method::HEAD;
    Ok(page.map(|body| whole(if is_head { Vec::new() } else { body })))
}

/// A scraper, a health check and a person need far fewer. Where there are more, an idle one is closed ([`Seats`]).
const CONNECTIONS: usize = 64;
/// A request's head, and the next request on a connection, must come within this time.
const HEAD: Duration = Duration::from_secs(5);
/// After a failed `accept`.
const PAUSE: Duration = Duration::from_millis(50);
