//! A compiled filter.

use std::path::Path;

use super::error::FilterError;

/// A compiled filter, shared by all workers.
#[derive(Clone, Debug)]
pub struct Filter {}

impl Filter {
    /// The filter built into this binary, compiled ahead by the build script.
    pub fn embedded() -> Result<Self, FilterError> {
        Ok(Self {})
    }

    /// A filter from a file, compiled by a child process so that this one stays small.
    pub fn from_wasm(_path: &Path) -> Result<Self, FilterError> {
        Ok(Self {})
    }

    /// Compiles in this process: for tests and one-shot tools.
    pub fn from_bytes(_wasm: &[u8]) -> Result<Self, FilterError> {
        Ok(Self {})
    }
}
