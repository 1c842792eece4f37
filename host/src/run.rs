//! `peergate run`: from settings to a host that serves, reloads and drains.

mod error;
mod generation;
mod modes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread;

use peergate_policy::Endpoint;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

pub use error::RunError;
pub use generation::check;
pub use modes::ModeError;

use crate::log;
use crate::proxy::{self, Orders, Protocol, Setup, UpstreamProtocol, WorkerError, limits};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The policy document.
    pub policy: PathBuf,
    /// How clients are known.
    pub endpoint: Endpoint,
    /// What is forwarded.
    pub protocol: Protocol,
    /// Where to listen; port 0 chooses one.
    pub inbound: SocketAddr,
    /// Host and port of the local service.
    pub upstream: String,
    /// What the local service speaks.
    pub upstream_protocol: UpstreamProtocol,
    /// A filter in place of the embedded one.
    pub filter: Option<PathBuf>,
    /// Threads, at least one.
    pub workers: u16,
}

/// Serves until SIGTERM or SIGINT and the end of the drain.
///
/// # Errors
/// What stopped the start, or the end of a worker that was not asked to end.
pub fn run(settings: &Settings) -> Result<(), RunError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: &Settings) -> Result<(), RunError> {
    // Before the first line that says we are ready: whoever reads it may send a signal at once.
    let mut signals = Signals::catch().map_err(RunError::Runtime)?;
    raise_descriptor_limit();
    forbid_core_dumps().map_err(RunError::Runtime)?;
    let generation = generation::load(settings)?;
    let (orders, _) = watch::channel(Orders { generation, draining: false });
    let (address, mut ended) = start_workers(settings, &orders)?;
    log::line(&format!(
        "listening on {address} ({}, endpoint {}), policy {}, {} workers",
        settings.protocol.name(),
        settings.endpoint.as_str(),
        settings.policy.display().to_string().escape_debug(),
        settings.workers,
    ));
    loop {
        tokio::select! {
            _ = ended.recv() => return Err(RunError::WorkerEnded),
            asked = signals.next() => match asked {
                Asked::Reload => reload(settings, &orders),
                Asked::Drain => break,
            },
        }
    }
    drain(&orders, &mut ended, &mut signals).await;
    Ok(())
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
fn start_workers(
    settings: &Settings,
    orders: &watch::Sender<Orders>,
) -> Result<(SocketAddr, UnboundedReceiver<()>), RunError> {
    let bind = |error| RunError::Bind { address: settings.inbound, error };
    let (address, listeners) = proxy::listeners(settings.inbound, settings.workers.into()).map_err(bind)?;
    let connections = Arc::new(AtomicUsize::new(0));
    let (ready, started) = mpsc::channel::<Result<(), WorkerError>>();
    let (end, ended) = unbounded_channel();
    for (index, listener) in (0..).zip(listeners) {
        let setup = Setup {
            index,
            protocol: settings.protocol,
            upstream: settings.upstream.clone(),
            upstream_protocol: settings.upstream_protocol,
            orders: orders.subscribe(),
            connections: Arc::clone(&connections),
        };
        let (ready, end) = (ready.clone(), End(end.clone()));
        let body = move || {
            let _end = end;
            // The receiver is gone only when another worker failed to start.
            proxy::work(setup, listener, |result| drop(ready.send(result)));
        };
        thread::Builder::new().name(format!("worker-{index}")).spawn(body).map_err(RunError::Runtime)?;
    }
    drop(ready);
    for _ in 0..settings.workers {
        started.recv().map_err(|_| RunError::WorkerEnded)?.map_err(RunError::Worker)?;
    }
    Ok((address, ended))
}

/// New connections use the new generation, or none of it.
fn reload(settings: &Settings, orders: &watch::Sender<Orders>) {
    match generation::load(settings) {
        Ok(generation) => {
            orders.send_replace(Orders { generation, draining: false });
            info!("policy and files reloaded; {}", reach(settings.endpoint));
        }
        Err(error) => warn!("reload failed, the old policy and files stay in use: {error}"),
    }
}

/// What a reload applies to.
fn reach(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Peer => "new connections are judged by them",
        Endpoint::Mtls | Endpoint::Token => "new connections and all further requests are judged by them",
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
