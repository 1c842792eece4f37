//! Why a filter did not load, a VM did not start, or a call gave no answer.

use std::fmt;
use std::path::PathBuf;

use wasmtime::Trap;

use crate::files::FileError;

/// The words before the engine's reason, which the server looks for in what its compiling child says.
pub(super) const NOT_COMPILED: &str = "the filter does not compile:";

/// Why a filter could not be loaded.
#[derive(Debug)]
pub enum FilterError {
    /// The file cannot be read, or everybody could change it.
    Read(FileError),
    /// What is wrong with a filter that came from a file.
    File {
        /// The file named by the operator.
        path: PathBuf,
        /// What is wrong.
        error: Box<FilterError>,
    },
    /// The engine cannot run on this machine.
    Engine(String),
    /// The bytes are no module this engine compiles.
    Compile(String),
    /// The process that compiles could not be run, or was stopped.
    Compiler(String),
    /// Compiled code that does not fit this engine.
    Load(String),
    /// No export marks a version of the ABI that this host knows.
    Abi,
    /// A filter without callbacks could decide nothing.
    NoCallbacks,
    /// Functions the filter needs and this host does not have, as `module.name`.
    UnknownImports(Vec<String>),
    /// An import or export is of another type than the ABI's.
    WrongType(String),
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "filter: {error}"),
            Self::File { path, error } => write!(f, "`{}`: {error}", path.display()),
            Self::Engine(reason) => write!(f, "the wasm engine does not start: {reason}"),
            Self::Compile(reason) => write!(f, "{NOT_COMPILED} {reason}"),
            Self::Compiler(reason) => write!(f, "the filter was not compiled: {reason}"),
            Self::Load(reason) => write!(f, "the compiled filter does not load: {reason}"),
            Self::Abi => f.write_str(
                "the filter is no proxy-wasm module of ABI 0.1 or 0.2: it exports none of `proxy_abi_version_0_2_1`, \
                 `proxy_abi_version_0_2_0` and `proxy_abi_version_0_1_0`",
            ),
            Self::NoCallbacks => f.write_str(
                "the filter exports neither `proxy_on_context_create` nor `proxy_on_request_headers`: it could decide \
                 nothing",
            ),
            Self::UnknownImports(names) => {
                write!(f, "the filter needs functions that this host does not have: `{}`", names.join("`, `"))
            }
            Self::WrongType(reason) => write!(f, "the filter does not fit the ABI: {reason}"),
        }
    }
}

impl std::error::Error for FilterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::File { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why a VM did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// No room for one more VM, or an export of the wrong type.
    Instantiate(String),
    /// The filter said no to a callback: `proxy_on_vm_start` or `proxy_on_configure`.
    Refused {
        /// The callback.
        callback: &'static str,
        /// The root context that was asked.
        root: &'static str,
        /// The filter's own last log lines.
        log: Vec<String>,
    },
    /// The filter trapped or used up its time.
    Failed {
        /// What happened.
        reason: String,
        /// The filter's own last log lines.
        log: Vec<String>,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = match self {
            Self::Instantiate(reason) => return write!(f, "no VM for the filter: {reason}"),
            Self::Refused { callback, root, log } => {
                write!(f, "the filter refuses its configuration (`{callback}` of `{root}`)")?;
                log
            }
            Self::Failed { reason, log } => {
                write!(f, "the filter failed to start: {reason}")?;
                log
            }
        };
        match log.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", log.join("; ")),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a call into the filter gave no usable answer. All are denials; the first two cost the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A trap, `proc_exit`, the memory limit, or a panic of a host function.
    Trap,
    /// The CPU budget is used up.
    Timeout,
    /// Called from inside the filter's own call.
    Busy,
    /// There is no VM, and a new one did not start.
    Unavailable,
    /// The VM that knew this request is gone.
    Restarted,
}

impl Fault {
    /// The word for decisions and logs.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Trap => "filter-trap",
            Self::Timeout => "filter-timeout",
            Self::Busy => "filter-busy",
            Self::Unavailable => "filter-unavailable",
            Self::Restarted => "filter-restarted",
        }
    }

    /// Whether the VM must not be used again.
    pub(super) fn is_fatal(self) -> bool {
        matches!(self, Self::Trap | Self::Timeout)
    }
}

impl From<&wasmtime::Error> for Fault {
    fn from(error: &wasmtime::Error) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Self::Timeout,
            _ => Self::Trap,
        }
    }
}
