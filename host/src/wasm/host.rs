//! What a VM's host functions work on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Memory, StoreLimits, StoreLimitsBuilder, TypedFunc};

use super::clock::Clock;
use super::context::Contexts;
use super::deadline::{Deadline, START};
use super::journal::Journal;
use super::metrics::Metrics;
use super::shared::SharedData;

/// Linear memory of one VM in bytes. A filter that wants more is trapped.
pub(super) const MEMORY_LIMIT: usize = 64 << 20;

/// Entries of one VM's table; the Rust SDK's filters use some hundreds.
pub(super) const TABLE_LIMIT: usize = 20_000;

/// The data of a VM's store.
pub(super) struct Host {
    pub(super) limits: StoreLimits,
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
        let limits = StoreLimitsBuilder::new()
            .memory_size(MEMORY_LIMIT)
            .table_elements(TABLE_LIMIT)
            .instances(1)
            .memories(1)
            .tables(1)
            .trap_on_grow_failure(true)
            .build();
        Self {
            limits,
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
