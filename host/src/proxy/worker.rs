//! A worker: a thread with its own runtime, socket, VM and upstream connections.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener as Listener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::connection::{self, Shared};
use super::limits;
use super::upstream::{Upstream, UpstreamProtocol};
use crate::audit::Audit;
use crate::tls::{Arrival, Authentication, Lingering, Terms};
use crate::wasm::{Filter, StartError, Worker};

/// What is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2; the filter judges the connection and each request.
    Http,
    /// Bytes; the filter judges the connection.
    Tcp,
}

impl Protocol {
    /// As the command line says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// Policy and credentials that were read together. A peer keeps the one it was admitted under; where nothing but
/// requests is judged, each is by the newest.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Certificate, and what clients are asked for.
    pub tls: Terms,
    /// The compiled filter.
    pub filter: Filter,
    /// The plugin configuration for its VMs.
    pub configuration: Arc<str>,
}

/// What all workers are told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// New connections are judged by this one.
    pub generation: Generation,
    /// Stop accepting, let what runs finish.
    pub draining: bool,
}

/// What one worker is given.
#[derive(Debug)]
pub struct Setup {
    /// Position among the workers, from 0.
    pub index: u16,
    /// What is forwarded.
    pub protocol: Protocol,
    /// Host and port of the local service.
    pub upstream: String,
    /// What the local service speaks.
    pub upstream_protocol: UpstreamProtocol,
    /// Changes of mind.
    pub orders: watch::Receiver<Orders>,
    /// Open connections of the process, for [`limits::CONNECTIONS`].
    pub connections: Arc<AtomicUsize>,
}

/// Why a worker did not start or ended.
#[derive(Debug)]
pub enum WorkerError {
    /// The filter did not take its configuration.
    Start(StartError),
    /// No runtime, or no use of the socket.
    Io(io::Error),
}

impl fmt::Display for WorkerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(formatter),
            Self::Io(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for WorkerError {}

/// One generation in one worker.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) tls: Terms,
    pub(super) worker: Rc<Worker>,
}

impl Site {
    fn start(generation: &Generation) -> Result<Rc<Self>, StartError> {
        let worker = Rc::new(Worker::start(&generation.filter, &generation.configuration)?);
        Ok(Rc::new(Self { tls: generation.tls.clone(), worker }))
    }
}

/// The site of one worker that is in use now.
#[derive(Debug)]
pub(super) struct Newest(RefCell<Rc<Site>>);

impl Newest {
    pub(super) fn site(&self) -> Rc<Site> {
        Rc::clone(&self.0.borrow())
    }
}

/// Runs one worker on this thread until it is drained. `ready` is called once: when it accepts, or never will.
pub fn work(setup: Setup, listener: TcpListener, ready: impl FnOnce(Result<(), WorkerError>)) {
    let generation = setup.orders.borrow().generation.clone();
    match begin(listener, &generation) {
        Ok((runtime, listener, site)) => {
            ready(Ok(()));
            LocalSet::new().block_on(&runtime, accept_until_drained(setup, listener, site));
        }
        Err(error) => ready(Err(error)),
    }
}

fn begin(
    listener: TcpListener,
    generation: &Generation,
) -> Result<(Runtime, Listener, Rc<Site>), WorkerError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(WorkerError::Io)?;
    let site = Site::start(generation).map_err(WorkerError::Start)?;
    let listener = {
        let _context = runtime.enter();
        Listener::from_std(listener).map_err(WorkerError::Io)?
    };
    Ok((runtime, listener, site))
}

async fn accept_until_drained(mut setup: Setup, listener: Listener, site: Rc<Site>) {
    let mut sites = Sites::new(site);
    let mut overdue = None;
    let shared = Shared {
        protocol: setup.protocol,
        upstream: Upstream::new(setup.upstream.clone(), setup.upstream_protocol),
        audit: Rc::new(Audit::default()),
        lingering: Lingering::default(),
    };
    let ids = Ids::of(setup.index);
    loop {
        tokio::select! {
            changed = setup.orders.changed() => {
                let orders = setup.orders.borrow_and_update().clone();
                if changed.is_err() || orders.draining {
                    break;
                }
                overdue = sites.renew(orders.generation);
            }
            () = sleep(limits::RENEWAL_PAUSE), if overdue.is_some() => {
                overdue = overdue.and_then(|generation| sites.renew(generation));
            }
            accepted = listener.accept() => match accepted.and_then(|(socket, _)| arrival(socket, &ids)) {
                Ok(arrival) => match Permit::take(&setup.connections) {
                    Some(permit) => {
                        let (newest, drain) = (Rc::clone(&sites.newest), sites.drain());
                        let serving = connection::serve(newest, shared.clone(), arrival, drain);
                        spawn_local(async move {
                            serving.await;
                            drop(permit);
                        });
                    }
                    None => shared.audit.handshake(arrival.source, &"too many connections"),
                },
                Err(error) => {
                    warn!(%error, "accept failed");
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // What is still open then is cut off: the caller waits no longer either.
    let _ = timeout(limits::DRAIN, sites.finish()).await;
}

/// The generation that new connections get, and the drains of all that still have connections.
struct Sites {
    newest: Rc<Newest>,
    /// In order; the last one is that of `newest`.
    drains: Vec<watch::Sender<bool>>,
}

impl Sites {
    fn new(site: Rc<Site>) -> Self {
        Self { newest: Rc::new(Newest(site.into())), drains: vec![watch::Sender::new(false)] }
    }

    /// Tells connections of the newest generation when to finish.
    fn drain(&self) -> watch::Receiver<bool> {
        self.drains.last().map_or_else(|| watch::channel(true).1, watch::Sender::subscribe)
    }

    /// Begins a generation, or gives it back to be tried again: until then the old one stays in use. The oldest of more
    /// than [`limits::GENERATIONS`] is drained: every generation with connections has a VM, and there are not VMs without
    /// end.
    fn renew(&mut self, generation: Generation) -> Option<Generation> {
        match Site::start(&generation) {
            Ok(site) => {
                let before = self.newest.0.replace(site);
                // Their certificates were verified against authorities that may be gone, and nothing but requests is judged.
                if before.tls.authentication() == Authentication::Trusted
                    && let Some(drain) = self.drains.last()
                {
                    drain.send_replace(true);
                }
                self.drains.retain(|drain| drain.receiver_count() > 0);
                self.drains.push(watch::Sender::new(false));
                let retired = self.drains.len().saturating_sub(limits::GENERATIONS);
                for drain in &self.drains[..retired] {
                    drain.send_replace(true);
                }
                None
            }
            Err(error) => {
                warn!(%error, "a worker keeps the old policy and tries again");
                Some(generation)
            }
        }
    }

    /// Drains all generations and waits until no connection is left.
    async fn finish(self) {
        for drain in &self.drains {
            drain.send_replace(true);
        }
        for drain in &self.drains {
            drain.closed().await;
        }
    }
}

fn arrival(socket: TcpStream, ids: &Ids) -> io::Result<Arrival> {
    socket.set_nodelay(true)?;
    let (source, destination) = (socket.peer_addr()?, socket.local_addr()?);
    Ok(Arrival { id: ids.next(), socket, source, destination })
}

/// Connection ids: the worker in the upper 16 bits, a counter below.
struct Ids(Cell<u64>);

impl Ids {
    fn of(worker: u16) -> Self {
        Self(Cell::new(u64::from(worker) << 48))
    }

    fn next(&self) -> u64 {
        let id = self.0.get() + 1;
        self.0.set(id);
        id
    }
}

/// One of [`limits::CONNECTIONS`].
struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let permit = Self(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < limits::CONNECTIONS).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use peergate_policy::RequiredFiles;

    use super::*;
    use crate::files::Credentials;
    use crate::pki::{Authority, Leaf};
    use crate::tls;

    #[test]
    fn permits_end_at_the_limit_and_come_back() {
        let open = Arc::new(AtomicUsize::new(limits::CONNECTIONS - 1));
        let last = Permit::take(&open);
        assert!(last.is_some());
        assert!(Permit::take(&open).is_none());
        drop(last);
        assert!(Permit::take(&open).is_some());
    }

    #[test]
    fn the_oldest_of_many_generations_is_drained() {
        let generation = generation();
        let mut sites = Sites::new(Site::start(&generation).expect("a filter that starts"));
        let oldest = sites.drain();
        let mut later = Vec::new();
        for _ in 1..limits::GENERATIONS {
            assert!(sites.renew(generation.clone()).is_none());
            later.push(sites.drain());
        }
        assert!(!*oldest.borrow());
        assert!(sites.renew(generation).is_none());
        assert!(*oldest.borrow());
        assert!(later.iter().all(|drain| !*drain.borrow()));
    }

    #[test]
    fn generations_without_connections_are_forgotten() {
        let generation = generation();
        let mut sites = Sites::new(Site::start(&generation).expect("a filter that starts"));
        let first = sites.drain();
        for _ in 0..100 {
            assert!(sites.renew(generation.clone()).is_none());
        }
        assert!(!*first.borrow());
        assert_eq!(sites.drains.len(), 2);
    }

    fn generation() -> Generation {
        let directory = tempfile::tempdir().expect("a directory");
        let root = Authority::root("root").expect("a root");
        root.issue(&Leaf::new().cn("node"))
            .and_then(|leaf| leaf.write(directory.path(), "node"))
            .expect("written");
        let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
        std::fs::write(path("ca.pem"), root.pem()).expect("written");
        let files = RequiredFiles {
            ca_certificates: Some(path("ca.pem")),
            certificates: path("node.pem"),
            private_key: path("node.key"),
            crls: Vec::new(),
        };
        let credentials = Credentials::load(&files).expect("credentials");
        Generation {
            tls: tls::server_config(credentials, tls::Authentication::Peer, &[], &[], &[])
                .expect("a configuration"),
            filter: Filter::embedded().expect("a filter"),
            configuration: r#"{"endpoint":"peer","policy":{}}"#.into(),
        }
    }

    #[test]
    fn ids_of_two_workers_never_meet() {
        assert_ne!(Ids::of(0).next(), Ids::of(1).next());
        let ids = Ids::of(3);
        assert_ne!(ids.next(), ids.next());
    }
}
