//! One worker's VM.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::Account;
use super::callout::Clusters;
use super::clock::Clock;
use super::connection::Connection;
use super::driver::Desk;
use super::error::{Fault, StartError};
use super::filter::Filter;
use super::host::Surroundings;
use super::ledger;
use super::limits;
use super::metrics::Metric;
use super::stream::Stream;
use super::verdict::Verdict;
use super::vm::Vm;

/// Pause between attempts to start a VM that does not start: doubled up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One worker's VM with its root contexts, replaced after a trap or a deadline. Not `Send`.
pub struct Worker {
    filter: Filter,
    surroundings: Surroundings,
    slot: RefCell<Slot>,
    restarts: Cell<u64>,
    /// How long a request may be held up.
    pub(super) patience: Cell<Duration>,
    pub(super) driver: Desk,
}

struct Slot {
    /// `None` after a fault, until the next call.
    vm: Option<Box<Vm>>,
    /// Counts the VMs of this worker, so that a request knows whether its own is still there.
    generation: u64,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Worker {
    /// Starts a VM and gives `configuration` to its root contexts.
    ///
    /// # Errors
    /// The filter refuses the configuration, traps, or takes more than 5 s of CPU time.
    pub fn start(filter: &Filter, configuration: &str) -> Result<Self, StartError> {
        Self::start_at(filter, configuration, Clock::System)
    }

    /// As [`Worker::start`], with a clock of its own.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn start_at(filter: &Filter, configuration: &str, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(filter, &configuration.into(), clock, Clusters::new())
    }

    /// As [`Worker::start`], with services that the filter may call. The configuration is kept, for VMs to come.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub fn start_with(
        filter: &Filter,
        configuration: &Arc<str>,
        clock: Clock,
        clusters: Clusters,
    ) -> Result<Self, StartError> {
        let (notices, driver) = Desk::new();
        let surroundings = Surroundings {
            configuration: Arc::clone(configuration),
            clock,
            metrics: Rc::default(),
            clusters: Rc::new(clusters),
            kept: Account::new(
                "what the filter keeps for requests",
                if filter.enforces_policy() { usize::MAX } else { limits::KEPT_BYTES },
            ),
            lines: Rc::default(),
            notices,
        };
        let vm = Box::new(Vm::start(filter, &surroundings)?);
        ledger::enter(&surroundings.metrics);
        Ok(Self {
            filter: filter.clone(),
            surroundings,
            slot: RefCell::new(Slot { vm: Some(vm), generation: 0, pause: FIRST_PAUSE, not_before: None }),
            restarts: Cell::new(0),
            patience: Cell::new(limits::PAUSE),
            driver,
        })
    }

    /// Asks the network gate about a peer. Every fault is a denial.
    pub fn judge_connection(&self, connection: &Rc<Connection>) -> Verdict {
        match self.with_vm(None, |vm| vm.judge(connection)) {
            Ok((_, verdict)) => verdict,
            Err(fault) => {
                // Whatever an earlier judgement left there is no longer true.
                if let Ok(mut state) = connection.filter_state.try_borrow_mut() {
                    *state = Default::default();
                }
                Verdict::failed(fault.reason())
            }
        }
    }

    /// An HTTP context for one request. A fault shows at its first phase.
    pub fn open_stream(self: &Rc<Self>, connection: &Rc<Connection>) -> Stream {
        let opened = self.with_vm(None, |vm| vm.open(connection));
        Stream::new(Rc::clone(self), opened)
    }

    /// As [`Worker::open_stream`], for a request that nobody made: what the filter counts and logs about it is not kept.
    pub fn open_trial(self: &Rc<Self>, connection: &Rc<Connection>) -> Stream {
        let opened = self.with_vm(None, |vm| vm.open_trial(connection));
        Stream::new(Rc::clone(self), opened)
    }

    /// How many VMs were given up since the start.
    pub fn restarts(&self) -> u64 {
        self.restarts.get()
    }

    /// The metrics the filter defined in this worker; they outlive its VMs.
    pub fn metrics(&self) -> Vec<Metric> {
        self.surroundings.metrics.try_borrow().map(|metrics| metrics.snapshot()).unwrap_or_default()
    }

    /// Whether the filter can be called by anything but connections and requests.
    pub(super) fn has_events(&self) -> bool {
        self.filter.has_events()
    }

    /// The VM that is there, and which one it is.
    pub(super) fn with_present_vm<R>(&self, work: impl FnOnce(&mut Vm) -> R) -> Option<(u64, R)> {
        let mut slot = self.slot.try_borrow_mut().ok()?;
        let generation = slot.generation;
        slot.vm.as_mut().map(|vm| (generation, work(vm)))
    }

    /// Runs `work` in the VM, and says in which one. `generation` asks for one VM alone; otherwise a missing one is
    /// started.
    ///
    /// The VM is out of its slot while it runs, so that whatever ends the call badly, a panic included, also drops it.
    pub(super) fn with_vm<R>(
        &self,
        generation: Option<u64>,
        work: impl FnOnce(&mut Vm) -> Result<R, Fault>,
    ) -> Result<(u64, R), Fault> {
        let mut slot = self.slot.try_borrow_mut().map_err(|_| Fault::Busy)?;
        if generation.is_some_and(|generation| generation != slot.generation || slot.vm.is_none()) {
            return Err(Fault::Restarted);
        }
        let mut vm = match slot.vm.take() {
            Some(vm) => vm,
            None => self.restart(&mut slot)?,
        };
        let answer = catch_unwind(AssertUnwindSafe(|| work(&mut vm))).unwrap_or_else(|_| {
            tracing::error!(target: "filter", "a host function panicked");
            Err(Fault::Trap)
        });
        match answer {
            Err(fault) if fault.is_fatal() => {
                self.restarts.set(self.restarts.get() + 1);
                ledger::restarted();
                // Nobody waits for its calls any more.
                self.driver.stir();
            }
            _ => {
                if vm.take_changed() {
                    self.driver.stir();
                }
                slot.vm = Some(vm);
            }
        }
        answer.map(|answer| (slot.generation, answer))
    }

    fn restart(&self, slot: &mut Slot) -> Result<Box<Vm>, Fault> {
        if slot.not_before.is_some_and(|time| Instant::now() < time) {
            return Err(Fault::Unavailable);
        }
        match Vm::start(&self.filter, &self.surroundings) {
            Ok(vm) => {
                slot.generation += 1;
                slot.pause = FIRST_PAUSE;
                slot.not_before = None;
                Ok(Box::new(vm))
            }
            Err(error) => {
                tracing::error!(target: "filter", "no new VM: {error}");
                slot.not_before = Some(Instant::now() + slot.pause);
                slot.pause = (slot.pause * 2).min(LONGEST_PAUSE);
                Err(Fault::Unavailable)
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The driver sees that nobody is left to drive for.
        self.driver.stir();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("restarts", &self.restarts).finish_non_exhaustive()
    }
}
