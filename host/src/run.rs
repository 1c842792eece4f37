//! `peergate run`: from settings to a host that serves, reloads and drains.

mod check;
mod effective;
mod error;
mod generation;
mod guard;
mod keeper;
mod modes;
mod needs;
mod policy_document;
mod signals;
mod source;
mod upstream_probe;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tracing::{error, info, warn};

pub use check::{Checked, check, check_configuration};
pub use error::RunError;
use generation::Loader;
use keeper::{Cause, Keeper};
pub use modes::ModeError;
use signals::{Asked, Signals};
pub use source::Source;

use crate::admin::{Board, Desk, Server};
use crate::audit::{self, Target};
use crate::capacity::{Capacity, Plan, open_files};
use crate::files::recorded;
use crate::log;
use crate::proxy::{self, Listener, Orders, Setup, WorkerError, limits};
use crate::systemd::{self, Activated, Pulse, Pulses};
use crate::watch::Watch;

/// What only the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where decisions are written as JSON lines.
    pub audit: Option<Target>,
    /// Whether to give up what serving does not need.
    pub sandbox: bool,
}

/// Serves until SIGTERM or SIGINT and the end of the drain.
///
/// # Errors
/// What stopped the start, or the end of a worker that was not asked to end.
pub fn run(source: Source, options: &Options) -> Result<(), RunError> {
    // SAFETY: this is the first thing the command does; it has opened nothing but the pipes of its log, if that.
    let activated = unsafe { Activated::take() };
    activated.map_err(RunError::Activation)?.keep();
    if let Some(target) = &options.audit {
        audit::start(target.clone()).map_err(|error| RunError::Audit { target: target.clone(), error })?;
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    let served = runtime.block_on(serve(Loader::new(source), options));
    audit::flush();
    served
}

async fn serve(mut loader: Loader, options: &Options) -> Result<(), RunError> {
    // Before the first line that says we are ready: whoever reads it may send a signal at once.
    let mut signals = Signals::catch().map_err(RunError::Runtime)?;
    raise_descriptor_limit();
    forbid_core_dumps().map_err(RunError::Runtime)?;
    let (loaded, trail) = recorded(|| loader.load());
    let generation = Arc::new(loaded?);
    let admin = loader.admin().map(Server::bind).transpose().map_err(RunError::Admin)?;
    // Threads are restricted like the one that starts them: from here on, all.
    loader.confine(options, &trail)?;
    let capacity = Capacity::new(&generation.limits);
    warn_if_short(&generation.limits);
    let (board, desks) = Board::new(loader.workers().into(), &capacity);
    let board = Arc::new(board);
    keeper::show(&board, &generation);
    let (orders, _) = watch::channel(Orders { generation: Arc::clone(&generation), draining: false });
    let (mut ended, mut pulses) = start_workers(desks, &board, &orders)?;
    let watch = Watch::start().map_err(RunError::Runtime)?;
    watch.follow(trail.clone());
    if let Some(admin) = admin {
        log::line(&format!("admin pages on http://{}", admin.address()));
        admin.serve(Arc::clone(&board)).map_err(RunError::Runtime)?;
    }
    announce(&generation.listeners, loader.workers());
    drop(generation);
    let mut keeper = Keeper { loader, orders, board, watch, trail };
    systemd::ready(&keeper.status());
    let mut timer = ticks(limits::RELOAD);
    let mut pings = ticks(systemd::watchdog().unwrap_or(limits::RELOAD));
    loop {
        tokio::select! {
            _ = ended.recv() => return Err(RunError::WorkerEnded),
            () = keeper.changed() => {
                keeper.reload(Cause::Change);
                systemd::status(&keeper.status());
            }
            _ = timer.tick() => keeper.reload(Cause::Timer),
            _ = pings.tick() => ping(&mut pulses),
            asked = signals.next() => match asked {
                Asked::Reload => {
                    systemd::reloading();
                    audit::reopen();
                    keeper.reload(Cause::Signal);
                    systemd::ready(&keeper.status());
                }
                Asked::Drain => break,
            },
        }
    }
    systemd::stopping("draining");
    keeper.board.drain();
    drain(&keeper.orders, &mut ended, &mut signals).await;
    Ok(())
}

/// The first tick is a whole period away.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Tells systemd that all is well, if it is: a worker that hangs is a reason to be restarted.
fn ping(pulses: &mut Pulses) {
    let silent = pulses.silent();
    if silent.is_empty() {
        systemd::alive();
    } else {
        error!(workers = ?silent, "workers do not respond, systemd is not told that all is well");
    }
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

/// As many open files as the system lets us have: the limits are made for them.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!(%error, "the limit on open files stays as it is");
    }
}

/// Says that the system allows fewer open files than the default limits need.
fn warn_if_short(limits: &Plan) {
    let Some(needed) = limits.short_of else { return };
    let Plan { connections, requests, upstream_connections, .. } = limits;
    warn!(
        connections,
        requests,
        upstream_connections,
        "limits are below their defaults: {needed} open files would be needed and {} are allowed; raise `LimitNOFILE=` (systemd), \
         `ulimit -Hn` (shell) or `--ulimit nofile` (container)",
        open_files(),
    );
}

/// A core dump would hold the private key and the tokens of requests under way. Not dumpable also means that no other
/// process of the same user may read this one's memory (`prctl(2)`, `PR_SET_DUMPABLE`).
fn forbid_core_dumps() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Starts all workers and waits until each accepts. The receiver gets a message, or ends, when workers end.
fn start_workers(
    desks: Vec<Desk>,
    board: &Arc<Board>,
    orders: &watch::Sender<Orders>,
) -> Result<(UnboundedReceiver<()>, Pulses), RunError> {
    let (ready, started) = mpsc::channel::<Result<(), WorkerError>>();
    let (end, ended) = unbounded_channel();
    let mut pulses = Vec::new();
    for (index, desk) in (0..).zip(desks) {
        let pulse = Pulse::default();
        pulses.push(pulse.clone());
        let setup = Setup {
            index,
            orders: orders.subscribe(),
            capacity: Arc::clone(board.capacity()),
            desk,
            board: Arc::clone(board),
            // Twice as often as it is looked at.
            beat: systemd::watchdog().map(|period| (pulse, period / 2)),
        };
        let (ready, end) = (ready.clone(), End(end.clone()));
        let body = move || {
            let _end = end;
            // The receiver is gone only when another worker failed to start.
            proxy::work(setup, |result| drop(ready.send(result)));
        };
        thread::Builder::new().name(format!("worker-{index}")).spawn(body).map_err(RunError::Runtime)?;
    }
    drop(ready);
    for _ in 0..pulses.len() {
        started.recv().map_err(|_| RunError::WorkerEnded)?.map_err(RunError::Worker)?;
    }
    Ok((ended, Pulses::of(pulses)))
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
