//! Why a filter did not load or a VM did not start.

use std::fmt;

/// Why a filter could not be loaded.
#[derive(Debug)]
pub enum FilterError {
    /// Not ready.
    Unfinished,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the filter cannot be loaded")
    }
}

impl std::error::Error for FilterError {}

/// Why a VM did not start; carries the filter's own last log lines.
#[derive(Debug)]
pub enum StartError {
    /// Not ready.
    Unfinished,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the filter did not start")
    }
}

impl std::error::Error for StartError {}
