//! How much a filter may take. Asking for more memory is a trap: a filter that goes on without memory it needs could do
//! anything.

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

/// Calls of one VM under way at once.
pub(super) const CALLS: usize = 1024;

/// Notices about shared queues that wait for one worker.
pub(super) const NOTICES: usize = 1 << 16;

/// Ticks are no closer than this, whatever a filter asks for.
pub(super) const TICK: Duration = Duration::from_millis(1);

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
