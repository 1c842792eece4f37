//! How much memory the filter may take. Asking for more is a trap: a filter that goes on without memory it needs could
//! do anything.

use wasmtime::{Error, ResourceLimiter};

/// Linear memory of one VM in bytes; 10,000 rules take about a third.
pub(super) const MEMORY: usize = 64 << 20;

/// Entries of one VM's table; the Rust SDK's filters use some hundreds.
pub(super) const TABLE: usize = 20_000;

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
