//! The filter's memory, seen from a host function. Every pointer comes from the filter, so every one is checked.

use wasmtime::{Caller, Trap};

use super::deadline::thread_cpu_time;
use super::host::Host;
use super::status::{Refusal, Status};

/// What a call costs besides its work, in bytes of [`Guest::charge`].
const CALL: usize = 64;

/// Runs a host function for the filter that called it; the ABI's form of its answer.
pub(super) fn code(
    caller: Caller<'_, Host>,
    work: impl FnOnce(&mut Guest<'_>) -> Result<(), Refusal>,
) -> wasmtime::Result<u32> {
    let mut guest = Guest(caller);
    match guest.charge(CALL).and_then(|()| work(&mut guest)) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Refusal::Status(status)) => Ok(status as u32),
        Err(Refusal::Trap(error)) => Err(error),
    }
}

/// The filter that called, with its memory.
pub(super) struct Guest<'a>(pub(super) Caller<'a, Host>);

impl Guest<'_> {
    pub(super) fn host(&self) -> &Host {
        self.0.data()
    }

    pub(super) fn host_mut(&mut self) -> &mut Host {
        self.0.data_mut()
    }

    /// Charges the filter for work that the host does in its place, on about this many bytes. What this host function does counts
    /// towards the filter's deadline like what the filter does itself, however long the filter does not run in between.
    ///
    /// # Errors
    /// A trap: the filter's time is used up.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        match self.host_mut().deadline.charge(bytes, thread_cpu_time) {
            true => Ok(()),
            false => Err(Refusal::Trap(Trap::Interrupt.into())),
        }
    }

    /// Memory and host data at once.
    pub(super) fn parts(&mut self) -> Result<(&mut [u8], &mut Host), Status> {
        let memory = self.0.data().memory.ok_or(Status::InvalidMemoryAccess)?;
        Ok(memory.data_and_store_mut(&mut self.0))
    }

    pub(super) fn write_u32(&mut self, pointer: u32, value: u32) -> Result<(), Status> {
        self.write(pointer, &value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, pointer: u32, value: u64) -> Result<(), Status> {
        self.write(pointer, &value.to_le_bytes())
    }

    fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Status> {
        let (memory, _) = self.parts()?;
        slice_mut(memory, pointer, bytes.len() as u64)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Hands bytes over in memory the filter allocates, and tells it where they are. Nothing is allocated for no bytes:
    /// the pointer is then null, which the Rust SDK reads as "none".
    pub(super) fn give(&mut self, bytes: &[u8], pointer_at: u32, size_at: u32) -> Result<(), Refusal> {
        self.charge(bytes.len())?;
        let (memory, host) = self.parts()?;
        slice(memory, pointer_at, 4)?;
        slice(memory, size_at, 4)?;
        let size = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
        let mut pointer = 0;
        if size > 0 {
            let allocate = host.allocate.clone().ok_or(Status::InternalFailure)?;
            pointer = allocate.call(&mut self.0, size)?;
            if pointer == 0 {
                return Err(Status::InternalFailure.into());
            }
            self.write(pointer, bytes)?;
        }
        self.write_u32(pointer_at, pointer)?;
        self.write_u32(size_at, size)?;
        Ok(())
    }
}

/// A part of the filter's memory. The sum is taken in 64 bits, so that it cannot wrap round to a valid address.
pub(super) fn slice(memory: &[u8], pointer: u32, size: u32) -> Result<&[u8], Status> {
    let start = u64::from(pointer);
    let end = start + u64::from(size);
    let (start, end) = (usize::try_from(start), usize::try_from(end));
    match (start, end) {
        (Ok(start), Ok(end)) => memory.get(start..end).ok_or(Status::InvalidMemoryAccess),
        _ => Err(Status::InvalidMemoryAccess),
    }
}

/// As [`slice`], to write to.
pub(super) fn slice_mut(memory: &mut [u8], pointer: impl Into<u64>, size: u64) -> Result<&mut [u8], Status> {
    let start = pointer.into();
    let end = start.checked_add(size).ok_or(Status::InvalidMemoryAccess)?;
    let (start, end) = (usize::try_from(start), usize::try_from(end));
    match (start, end) {
        (Ok(start), Ok(end)) => memory.get_mut(start..end).ok_or(Status::InvalidMemoryAccess),
        _ => Err(Status::InvalidMemoryAccess),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_inside_memory_or_refused() {
        let mut memory = vec![0; 65_536];
        assert_eq!(slice(&memory, 0, 65_536).map(<[u8]>::len), Ok(65_536));
        assert_eq!(slice(&memory, 65_536, 0).map(<[u8]>::len), Ok(0));
        for (pointer, size) in
            [(65_536, 1), (65_537, 0), (1, 65_536), (u32::MAX, u32::MAX), (u32::MAX, 2), (2, u32::MAX)]
        {
            assert_eq!(slice(&memory, pointer, size), Err(Status::InvalidMemoryAccess), "{pointer}+{size}");
            assert!(slice_mut(&mut memory, pointer, size.into()).is_err(), "{pointer}+{size}");
        }
    }
}
