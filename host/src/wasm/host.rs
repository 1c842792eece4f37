//! What a VM's host functions work on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Sender, channel};
use wasmtime::{Memory, TypedFunc};

use super::account::Account;
use super::callout::{Call, CallResponse, Clusters};
use super::clock::Clock;
use super::context::{Contexts, Root};
use super::deadline::{Deadline, START};
use super::filter::Abi;
use super::journal::{Journal, LineRate};
use super::limits::{self, Limits};
use super::metrics::Metrics;
use super::queue::Notice;
use super::shared::Shared;
use super::status::Status;
use super::verdict::HeaderPairs;

/// What all VMs of one worker have in common.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// What filters read as plugin configuration.
    pub(super) configuration: Arc<str>,
    pub(super) clock: Clock,
    pub(super) metrics: Rc<RefCell<Metrics>>,
    pub(super) clusters: Rc<Clusters>,
    /// What its filter makes it keep for connections and requests.
    pub(super) kept: Account,
    /// How many lines its filter wrote.
    pub(super) lines: Rc<LineRate>,
    /// Where this worker hears about its queues.
    pub(super) notices: Sender<Notice>,
}

impl Surroundings {
    /// Nothing to read, nobody to call or to tell.
    pub(super) fn none() -> Self {
        let (notices, _) = channel(1);
        let configuration = Arc::from("");
        Self {
            configuration,
            clock: Clock::System,
            metrics: Rc::default(),
            clusters: Rc::default(),
            kept: Account::new("nothing", 0),
            lines: Rc::default(),
            notices,
        }
    }
}

/// The data of a VM's store.
pub(super) struct Host {
    pub(super) limits: Limits,
    pub(super) deadline: Deadline,
    pub(super) contexts: Contexts,
    pub(super) surroundings: Surroundings,
    pub(super) shared: Arc<Shared>,
    pub(super) abi: Abi,
    /// Whether the roots have names of ours. An ordinary filter's root has none.
    pub(super) named_roots: bool,
    pub(super) journal: Journal,
    /// `proxy_on_configure` or the first root's creation runs: the plugin configuration is there to read.
    pub(super) configuring: bool,
    pub(super) events: Events,
    /// Present once the module is instantiated.
    pub(super) memory: Option<Memory>,
    pub(super) allocate: Option<TypedFunc<u32, u32>>,
}

impl Host {
    pub(super) fn new(
        surroundings: Surroundings,
        shared: Arc<Shared>,
        abi: Abi,
        roots: &[Root],
        named_roots: bool,
    ) -> Self {
        Self {
            limits: Limits,
            deadline: Deadline::new(START),
            contexts: Contexts::new(roots, &surroundings.kept),
            journal: Journal::recording(&surroundings.lines),
            surroundings,
            shared,
            abi,
            named_roots,
            configuring: false,
            events: Events::default(),
            memory: None,
            allocate: None,
        }
    }

    /// Whether the filter is asked about a request that nobody made.
    pub(super) fn is_trial(&self) -> bool {
        self.contexts.current().is_some_and(|context| context.is_trial)
    }

    /// The root context the effective context belongs to.
    pub(super) fn root(&self) -> Result<Root, Status> {
        Ok(self.contexts.current().ok_or(Status::BadArgument)?.root)
    }
}

/// What will call the filter again although nothing of a connection or a request happens.
#[derive(Default)]
pub(super) struct Events {
    /// Calls accepted since the last callback ended.
    pub(super) accepted: Vec<Call>,
    /// Calls not answered yet: the roots that made them, and their bytes.
    outstanding: BTreeMap<u32, (u32, usize)>,
    /// Of all of these.
    bytes: usize,
    last_token: u32,
    /// Of each root that ticks: its period, and when the next one is due.
    ticks: BTreeMap<u32, (Duration, Instant)>,
    queues: BTreeSet<u32>,
    /// Whether any of this changed since it was last looked at.
    pub(super) changed: bool,
    /// The call that is being answered.
    pub(super) response: Option<CallResponse>,
}

impl Events {
    /// Whether anything will call the filter.
    pub(super) fn are_coming(&self) -> bool {
        !(self.outstanding.is_empty() && self.ticks.is_empty() && self.queues.is_empty())
    }

    /// Accepts a call of `root`.
    pub(super) fn call(
        &mut self,
        root: u32,
        address: &str,
        headers: HeaderPairs,
        body: &[u8],
        milliseconds: u32,
    ) -> Result<u32, Status> {
        let bytes = body.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if self.outstanding.len() >= limits::CALLS || self.bytes + bytes > limits::CALLS_BYTES {
            if !SAID.swap(true, Ordering::Relaxed) {
                let (calls, bytes) = (limits::CALLS, limits::CALLS_BYTES >> 20);
                tracing::warn!(
                    "limit reached: calls of the filter under way, {calls} and {bytes} MiB of a VM"
                );
            }
            return Err(Status::InternalFailure);
        }
        let mut token = self.last_token;
        loop {
            token = token.wrapping_add(1);
            if token != 0 && !self.outstanding.contains_key(&token) {
                break;
            }
        }
        self.accepted.push(Call::new(token, address, headers, body, milliseconds)?);
        self.last_token = token;
        self.outstanding.insert(token, (root, bytes));
        self.bytes += bytes;
        self.changed = true;
        Ok(token)
    }

    /// Takes a call off the list; the root that made it.
    pub(super) fn answered(&mut self, token: u32) -> Option<u32> {
        let (root, bytes) = self.outstanding.remove(&token)?;
        self.bytes -= bytes;
        Some(root)
    }

    /// `proxy_set_tick_period_milliseconds`: zero ends the ticks.
    pub(super) fn tick_every(&mut self, root: u32, period: Duration) {
        self.changed = true;
        if period.is_zero() {
            self.ticks.remove(&root);
            return;
        }
        let period = period.max(limits::TICK);
        self.ticks.insert(root, (period, Instant::now() + period));
    }

    /// The next tick, and whose it is.
    pub(super) fn next_tick(&self) -> Option<(Instant, u32)> {
        self.ticks.iter().map(|(root, (_, due))| (*due, *root)).min()
    }

    /// A tick of `root` is made; the next one is due a period from now.
    pub(super) fn ticked(&mut self, root: u32) {
        if let Some((period, due)) = self.ticks.get_mut(&root) {
            *due = Instant::now() + *period;
        }
    }

    pub(super) fn listen(&mut self, queue: u32) {
        self.changed |= self.queues.insert(queue);
    }
}

/// Whether the log has it that there are too many calls.
static SAID: AtomicBool = AtomicBool::new(false);
