//! `peergate run`: from settings to a host that serves, reloads and drains.

mod error;
mod generation;
mod modes;
mod policy_document;
mod source;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

pub use error::RunError;
use generation::Loader;
pub use generation::{check, check_configuration};
pub use modes::ModeError;
pub use source::{ENVIRONMENT, Source};

use crate::log;
use crate::proxy::{self, Listener, Orders, Setup, WorkerError, limits};

/// Serves until SIGTERM or SIGINT and the end of the drain.
///
/// # Errors
/// What stopped the start, or the end of a worker that was not asked to end.
pub fn run(source: Source) -> Result<(), RunError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    runtime.block_on(serve(Loader::new(source)))
}

async fn serve(mut loader: Loader) -> Result<(), RunError> {
    // Before the first line that says we are ready: whoever reads it may send a signal at once.
    let mut signals = Signals::catch().map_err(RunError::Runtime)?;
    raise_descriptor_limit();
    forbid_core_dumps().map_err(RunError::Runtime)?;
    let generation = Arc::new(loader.load()?);
    let (orders, _) = watch::channel(Orders { generation: Arc::clone(&generation), draining: false });
    let mut ended = start_workers(loader.workers(), &orders)?;
    announce(&generation.listeners, loader.workers());
    drop(generation);
    loop {
        tokio::select! {
            _ = ended.recv() => return Err(RunError::WorkerEnded),
            asked = signals.next() => match asked {
                Asked::Reload => reload(&mut loader, &orders),
                Asked::Drain => break,
            },
        }
    }
    drain(&orders, &mut ended, &mut signals).await;
    Ok(())
}

/// One line for each listener.
fn announce<'a>(listeners: impl IntoIterator<Item = &'a Listener>, workers: u16) {
    for listener in listeners {
        let endpoints: Vec<_> = listener.endpoints.iter().map(|endpoint| endpoint.kind.as_str()).collect();
        let address = listener.address().to_string();
        let name = if *listener.name == address { String::new() } else { format!(", `{}`", listener.name) };
        log::line(&format!(
            "listening on {address} ({}, endpoint {}{}), {workers} workers",
            listener.protocol.name(),
            endpoints.join(", "),
            name.escape_debug(),
        ));
    }
}

/// As many sockets as the system lets us have: each connection needs two. With fewer, `accept` fails and is tried again.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!(%error, "the limit on open files stays as it is");
    }
}

/// A core dump would hold the private key and the tokens of requests under way. Not dumpable also means that no other
/// process of the same user may read this one's memory (`prctl(2)`, `PR_SET_DUMPABLE`).
fn forbid_core_dumps() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Starts all workers and waits until each accepts. The receiver gets a message, or ends, when workers end.
fn start_workers(workers: u16, orders: &watch::Sender<Orders>) -> Result<UnboundedReceiver<()>, RunError> {
    let connections = Arc::new(AtomicUsize::new(0));
    let (ready, started) = mpsc::channel::<Result<(), WorkerError>>();
    let (end, ended) = unbounded_channel();
    for index in 0..workers {
        let setup = Setup { index, orders: orders.subscribe(), connections: Arc::clone(&connections) };
        let (ready, end) = (ready.clone(), End(end.clone()));
        let body = move || {
            let _end = end;
            // The receiver is gone only when another worker failed to start.
            proxy::work(setup, |result| drop(ready.send(result)));
        };
        thread::Builder::new().name(format!("worker-{index}")).spawn(body).map_err(RunError::Runtime)?;
    }
    drop(ready);
    for _ in 0..workers {
        started.recv().map_err(|_| RunError::WorkerEnded)?.map_err(RunError::Worker)?;
    }
    Ok(ended)
}

/// New connections use the new generation, open ones are judged by it again; or nobody does.
fn reload(loader: &mut Loader, orders: &watch::Sender<Orders>) {
    match loader.load() {
        Ok(generation) => {
            let (number, generation) = (generation.number, Arc::new(generation));
            let before = orders
                .send_replace(Orders { generation: Arc::clone(&generation), draining: false })
                .generation;
            let is_new =
                |it: &&Listener| before.listeners.iter().all(|old| !Arc::ptr_eq(&old.sockets, &it.sockets));
            announce(generation.listeners.iter().filter(is_new), loader.workers());
            info!(
                generation = number,
                "policy and files reloaded; open connections are judged by them again"
            );
        }
        Err(error) => warn!("reload failed, the old policy and files stay in use: {error}"),
    }
}

/// Waits for the workers; a second signal ends it at once.
async fn drain(orders: &watch::Sender<Orders>, ended: &mut UnboundedReceiver<()>, signals: &mut Signals) {
    info!("draining");
    orders.send_modify(|orders| orders.draining = true);
    let all_ended = async { while ended.recv().await.is_some() {} };
    tokio::select! {
        finished = timeout(limits::DRAIN, all_ended) => {
            if finished.is_err() {
                warn!("drain timed out, open connections are cut off");
            }
        }
        () = signals.drain_again() => warn!("second signal, open connections are cut off"),
    }
}

/// Tells that a worker's thread ended, by a panic too.
struct End(UnboundedSender<()>);

impl Drop for End {
    fn drop(&mut self) {
        // Nobody listens any more after a failed start.
        let _ = self.0.send(());
    }
}

enum Asked {
    Reload,
    Drain,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Drain,
            _ = self.terminate.recv() => Asked::Drain,
        }
    }

    async fn drain_again(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}
