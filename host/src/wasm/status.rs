//! What host functions answer.

/// The statuses of the proxy-wasm ABI that this host uses. The Rust SDK holds a status in a closed enum without 5, 6, 9,
/// 11 and 12, so no function answers those to a sound filter: [`Status::InvalidMemoryAccess`] is seen only by one
/// whose own pointers are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
}

/// Why a host function did not do what it was asked.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The filter is told and runs on.
    Status(Status),
    /// The filter ends here.
    Trap(wasmtime::Error),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<wasmtime::Error> for Refusal {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}
