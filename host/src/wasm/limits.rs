//! How much a filter may take. Asking for more memory is a trap: a filter that goes on without memory it needs could do
//! anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{Error, ResourceLimiter};

/// Linear memory of one VM in bytes; 10,000 rules take less than half, 100,000 clients with a token each most of it.
pub(super) const MEMORY: usize = 64 << 20;

/// Entries of one VM's table; the Rust SDK's filters use some hundreds.
pub(super) const TABLE: usize = 20_000;

/// A request or response that a filter holds up fails after this long.
pub(super) const PAUSE: Duration = Duration::from_secs(15);

/// Bytes of a body that a filter holds back, as Envoy's `per_connection_buffer_limit_bytes`.
pub(super) const BODY: usize = 1 << 20;

/// A filter's call to a cluster gets no more time than this, and as much when it names none.
pub(super) const CALL: Duration = Duration::from_secs(60);

/// A cluster gets this long to accept a connection.
pub(super) const CALL_CONNECT: Duration = Duration::from_secs(5);

/// Bytes of a call's body, in either direction.
pub(super) const CALL_BODY: usize = 1 << 20;

/// Calls of one VM under way at once, and bytes of their heads and bodies.
pub(super) const CALLS: usize = 256;
pub(super) const CALLS_BYTES: usize = 16 << 20;

/// Bytes of answers to calls that one worker reads, or that wait for its filter.
pub(super) const ANSWERS_BYTES: usize = 16 << 20;

/// Bytes that the filter of one worker makes the host keep for connections and requests: header fields it adds, bodies it holds
/// back or writes, replies, and properties.
pub(super) const KEPT_BYTES: usize = 64 << 20;

/// Bytes of one context's properties, and how many there are.
pub(super) const PROPERTIES_BYTES: usize = 256 << 10;
pub(super) const PROPERTIES: usize = 256;

/// Fields of a header map that a filter adds to. More of them than `http::HeaderMap` holds would be a panic.
pub(super) const FIELDS: usize = 8192;

/// Bytes of a header map that a filter writes, with 32 for each field. More than any request the host accepts (64 KiB), so a
/// filter may add, but not without end.
pub(super) const FIELDS_BYTES: usize = 1 << 20;

/// Bytes of a name: of a metric, a queue, a cluster, and of a property with its path.
pub(super) const NAME: usize = 4 << 10;

/// Bytes of a key of shared data.
pub(super) const KEY: usize = 64 << 10;

/// Bytes of shared data, and of queues, that all VMs of a filter have together.
pub(super) const SHARED_BYTES: usize = 16 << 20;

/// Queues of one filter.
pub(super) const QUEUES: usize = 1024;

/// Metrics of one worker, and bytes of their names.
pub(super) const METRICS: usize = 4096;
pub(super) const METRICS_BYTES: usize = 1 << 20;

/// Lines that the filter of one worker writes in a second.
pub(super) const LINES: u32 = 1000;

/// Notices about shared queues that wait for one worker.
pub(super) const NOTICES: usize = 1 << 16;

/// Ticks are no closer than this, whatever a filter asks for.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Says once, in the life of the process, that the VMs of a filter want more than they may have together.
pub(super) fn reached(said: &AtomicBool, what: &str, limit: usize) {
    if !said.swap(true, Ordering::Relaxed) {
        tracing::warn!("limit reached: {what}, {} MiB of all VMs of a filter", limit >> 20);
    }
}

/// The limits of one VM.
pub(super) struct Limits;

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MEMORY {
            return Err(Error::msg(format!("the filter wants more than {} MiB of memory", MEMORY >> 20)));
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE {
            return Err(Error::msg(format!("the filter wants more than {TABLE} table entries")));
        }
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: Error) -> wasmtime::Result<()> {
        Err(error)
    }
}
