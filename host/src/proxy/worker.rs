//! A worker: a thread with its own runtime, sockets, VMs and upstream connections.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::generation::Generation;
use super::port::{Ids, Port, Shared};
use super::site::{Endpoint, Site};
use super::socket::Acceptor;
use super::{limits, review};
use crate::admin::{Board, Desk, Report};
use crate::audit::Audit;
use crate::capacity::Capacity;
use crate::systemd::Pulse;
use crate::tls::Lingering;
use crate::wasm::{self, StartError};

/// What all workers are told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// New connections are judged by this one, open ones are judged by it again.
    pub generation: Arc<Generation>,
    /// Stop accepting, let what runs finish.
    pub draining: bool,
}

/// What one worker is given.
#[derive(Debug)]
pub struct Setup {
    /// Position among the workers, from 0.
    pub index: u16,
    /// Changes of mind.
    pub orders: watch::Receiver<Orders>,
    /// What the process takes at most.
    pub capacity: Arc<Capacity>,
    /// Where it is asked what it knows.
    pub desk: Desk,
    /// What the admin pages show.
    pub board: Arc<Board>,
    /// How often it shows that it responds, if anybody looks.
    pub beat: Option<(Pulse, Duration)>,
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

/// Runs one worker on this thread until it is drained. `ready` is called once: when it accepts, or never will.
pub fn work(setup: Setup, ready: impl FnOnce(Result<(), WorkerError>)) {
    match runtime() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, serve(setup, ready)),
        Err(error) => ready(Err(WorkerError::Io(error))),
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn serve(mut setup: Setup, ready: impl FnOnce(Result<(), WorkerError>)) {
    let shared = Shared {
        audit: Rc::new(Audit::default()),
        lingering: Lingering::default(),
        ids: Rc::new(Ids::of(setup.index)),
        capacity: Arc::clone(&setup.capacity),
        board: Arc::clone(&setup.board),
    };
    spawn_local(tend(Rc::clone(&shared.audit), setup.beat.take()));
    let mut ports = Ports { index: setup.index, shared, open: Vec::new() };
    let first = Arc::clone(&setup.orders.borrow_and_update().generation);
    if let Err(error) = ports.renew(&first) {
        return ready(Err(error));
    }
    drop(first);
    ready(Ok(()));
    let mut overdue: Option<Arc<Generation>> = None;
    loop {
        tokio::select! {
            changed = setup.orders.changed() => {
                let orders = setup.orders.borrow_and_update().clone();
                if changed.is_err() || orders.draining {
                    break;
                }
                overdue = Some(orders.generation);
            }
            () = sleep(limits::RENEWAL_PAUSE), if overdue.is_some() => {}
            question = setup.desk.asked() => answer(question, ports.report()),
        }
        if let Some(generation) = overdue.take()
            && let Err(error) = ports.renew(&generation)
        {
            warn!(%error, "a worker keeps the old policy and tries again");
            overdue = Some(generation);
        }
    }
    ports.drain(setup.desk).await;
}

/// Whoever asked may have stopped waiting.
fn answer(question: oneshot::Sender<Report>, report: Report) {
    let _ = question.send(report);
}

/// What is done again and again as long as the worker responds.
async fn tend(audit: Rc<Audit>, beat: Option<(Pulse, Duration)>) {
    let beating = async {
        let Some((pulse, period)) = beat else { return };
        loop {
            pulse.beat();
            sleep(period).await;
        }
    };
    let telling = async {
        loop {
            sleep(limits::REFUSAL_WINDOW).await;
            audit.tell_left_out();
        }
    };
    tokio::join!(beating, telling);
}

/// The listeners of one worker.
struct Ports {
    index: u16,
    shared: Shared,
    open: Vec<Rc<Port>>,
}

impl Ports {
    /// Begins a generation, all of it or nothing.
    fn renew(&mut self, generation: &Generation) -> Result<(), WorkerError> {
        let before: Vec<_> = self.open.iter().map(|port| port.site()).collect();
        let mut known: Vec<Rc<Endpoint>> = before.iter().flat_map(|site| site.endpoints()).cloned().collect();
        let (mut renewed, mut opened) = (Vec::new(), Vec::new());
        let capacity = &self.shared.capacity;
        for listener in &generation.listeners {
            let site;
            match self.open.iter().find(|port| port.is_of(listener)) {
                Some(port) => {
                    site = Site::succeed(listener, &port.site(), &known, capacity)
                        .map_err(WorkerError::Start)?;
                    renewed.push((Rc::clone(port), Rc::clone(&site)));
                }
                None => {
                    site = Site::start(listener, &known, capacity).map_err(WorkerError::Start)?;
                    let listening = listener.sockets.of_worker(self.index).map_err(WorkerError::Io)?;
                    let acceptor = Acceptor::new(listening).map_err(WorkerError::Io)?;
                    opened.push((Arc::clone(&listener.sockets), acceptor, Rc::clone(&site)));
                }
            }
            known.extend(site.endpoints().iter().cloned());
        }
        let is_kept = |port: &Rc<Port>| renewed.iter().any(|(kept, _)| Rc::ptr_eq(kept, port));
        // What a listener was is cut soon where the same one is something else now.
        let is_replaced = |port: &Rc<Port>| opened.iter().any(|(sockets, _, _)| port.has(sockets));
        for port in self.open.iter().filter(|port| !is_kept(port)) {
            let reason = match is_replaced(port) {
                true => {
                    port.give_way();
                    "endpoint-changed"
                }
                false => {
                    port.close();
                    "endpoint-removed"
                }
            };
            retire(Rc::clone(port), reason);
        }
        self.open = renewed.iter().map(|(port, _)| Rc::clone(port)).collect();
        for (port, site) in renewed {
            port.renew(site);
        }
        for (sockets, acceptor, site) in opened {
            self.open.push(Port::open(sockets, acceptor, site, self.shared.clone()));
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let (metrics, vm_restarts) = wasm::counted();
        Report { listeners: self.open.iter().map(|port| port.report()).collect(), metrics, vm_restarts }
    }

    async fn drain(self, mut desk: Desk) {
        for port in &self.open {
            port.drain(self.index);
        }
        let answering = async {
            loop {
                answer(desk.asked().await, self.report());
            }
        };
        let all_closed = async {
            for port in &self.open {
                port.closed().await;
            }
        };
        // What is still open then is cut off: the caller waits no longer either.
        tokio::select! {
            _ = timeout(limits::DRAIN, all_closed) => {}
            () = answering => {}
        }
    }
}

/// Ends what is still open on a closed port: no policy judges it from now on, so it ends like what no policy admits.
fn retire(port: Rc<Port>, reason: &str) {
    review::retire(&port, reason);
    spawn_local(async move {
        if timeout(limits::ENDING, port.closed()).await.is_err() {
            port.cut();
        }
    });
}
