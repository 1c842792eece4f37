//! What a VM's host functions work on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Memory, TypedFunc};

use super::clock::Clock;
use super::context::Contexts;
use super::deadline::{Deadline, START};
use super::journal::Journal;
use super::limits::Limits;
use super::metrics::Metrics;
use super::shared::SharedData;

/// The data of a VM's store.
pub(super) struct Host {
    pub(super) limits: Limits,
    pub(super) deadline: Deadline,
    pub(super) contexts: Contexts,
    /// What filters read as plugin configuration.
    pub(super) configuration: Rc<str>,
    pub(super) clock: Clock,
    pub(super) journal: Journal,
    pub(super) metrics: Rc<RefCell<Metrics>>,
    pub(super) shared: Arc<SharedData>,
    /// What the filter asked for; this host has no ticks.
    pub(super) tick_period: Duration,
    /// Present once the module is instantiated.
    pub(super) memory: Option<Memory>,
    pub(super) allocate: Option<TypedFunc<u32, u32>>,
}

impl Host {
    pub(super) fn new(
        configuration: Rc<str>,
        clock: Clock,
        metrics: Rc<RefCell<Metrics>>,
        shared: Arc<SharedData>,
    ) -> Self {
        Self {
            limits: Limits,
            deadline: Deadline::new(START),
            contexts: Contexts::new(),
            configuration,
            clock,
            journal: Journal::recording(),
            metrics,
            shared,
            tick_period: Duration::ZERO,
            memory: None,
            allocate: None,
        }
    }
}
