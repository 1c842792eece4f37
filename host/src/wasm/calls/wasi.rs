//! The part of WASI preview 1 that filters link: randomness, clocks and output. There are no files, no arguments and no
//! environment.

use std::sync::OnceLock;
use std::time::Instant;

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, slice, slice_mut};
use super::super::host::Host;
use super::super::journal::{LINE, Level, MAX_LINE};
use super::super::status::{Refusal, Status};
use super::ENV;

/// Filters import it under the final name or the one before it.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// Error numbers of WASI preview 1.
const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const IO: u32 = 29;
const NO_SUCH_FILE: u32 = 44;
const NOT_SUPPORTED: u32 = 58;

/// Bytes of randomness between two looks at the filter's time.
const PIECE: usize = 64 << 10;

/// Parts that one `fd_write` writes, as POSIX allows at least (`IOV_MAX`).
const PARTS: u32 = 1024;

/// What a call costs besides its work.
const CALL: usize = 64;

const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for module in MODULES {
        link_system(linker, module)?;
        link_nothing(linker, module)?;
        link_descriptors(linker, module)?;
        link_files(linker, module)?;
    }
    // What C++ filters built with emscripten import besides.
    linker.func_wrap(ENV, "pthread_equal", |_: Caller<'_, Host>, one: u32, other: u32| {
        u32::from(one == other)
    })?;
    linker.func_wrap(ENV, "emscripten_notify_memory_growth", |_: Caller<'_, Host>, _: u32| {})?;
    Ok(())
}

fn link_system(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "random_get", |caller: Caller<'_, Host>, bytes: u32, size: u32| {
        errno(caller, |guest| random(guest, bytes, size))
    })?;
    linker.func_wrap(
        module,
        "clock_time_get",
        |caller: Caller<'_, Host>, clock: u32, _precision: u64, time_at: u32| {
            errno(caller, |guest| time(guest, clock, time_at))
        },
    )?;
    linker.func_wrap(module, "clock_res_get", |caller: Caller<'_, Host>, clock: u32, time_at: u32| {
        errno(caller, |guest| match clock {
            REALTIME | MONOTONIC => Ok(guest.write_u64(time_at, 1)?),
            _ => Err(NOT_SUPPORTED.into()),
        })
    })?;
    linker.func_wrap(module, "proc_exit", |_: Caller<'_, Host>, status: u32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg(format!("the filter exited with status {status}")))
    })?;
    linker.func_wrap(module, "sched_yield", |_: Caller<'_, Host>| SUCCESS)?;
    Ok(())
}

/// Arguments and environment: none.
fn link_nothing(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    for name in ["args_get", "environ_get"] {
        linker.func_wrap(module, name, |_: Caller<'_, Host>, _: u32, _: u32| SUCCESS)?;
    }
    for name in ["args_sizes_get", "environ_sizes_get"] {
        linker.func_wrap(module, name, |caller: Caller<'_, Host>, count_at: u32, size_at: u32| {
            errno(caller, |guest| {
                guest.write_u32(count_at, 0)?;
                Ok(guest.write_u32(size_at, 0)?)
            })
        })?;
    }
    Ok(())
}

/// Standard output and error go to the log; no other descriptor is open.
fn link_descriptors(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "fd_write",
        |caller: Caller<'_, Host>, descriptor: u32, parts: u32, count: u32, written_at: u32| {
            errno(caller, |guest| write(guest, descriptor, parts, count, written_at))
        },
    )?;
    linker
        .func_wrap(module, "fd_read", |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32| BAD_DESCRIPTOR)?;
    linker
        .func_wrap(module, "fd_seek", |_: Caller<'_, Host>, _: u32, _: u64, _: u32, _: u32| BAD_DESCRIPTOR)?;
    linker.func_wrap(module, "fd_prestat_dir_name", |_: Caller<'_, Host>, _: u32, _: u32, _: u32| {
        BAD_DESCRIPTOR
    })?;
    linker.func_wrap(module, "fd_close", |_: Caller<'_, Host>, _: u32| BAD_DESCRIPTOR)?;
    for name in ["fd_fdstat_get", "fd_fdstat_set_flags", "fd_prestat_get"] {
        linker.func_wrap(module, name, |_: Caller<'_, Host>, _: u32, _: u32| BAD_DESCRIPTOR)?;
    }
    Ok(())
}

/// What Go's runtime links: there are no files and nothing to wait for.
fn link_files(linker: &mut Linker<Host>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "path_open",
        |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32, _: u32| {
            NO_SUCH_FILE
        },
    )?;
    linker.func_wrap(
        module,
        "path_filestat_get",
        |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32| NO_SUCH_FILE,
    )?;
    linker.func_wrap(module, "fd_filestat_get", |_: Caller<'_, Host>, _: u32, _: u32| BAD_DESCRIPTOR)?;
    linker.func_wrap(module, "fd_fdstat_set_rights", |_: Caller<'_, Host>, _: u32, _: u64, _: u64| {
        BAD_DESCRIPTOR
    })?;
    linker.func_wrap(
        module,
        "poll_oneoff",
        |caller: Caller<'_, Host>, _: u32, _: u32, _: u32, count_at: u32| {
            // Nothing happened, which Go's scheduler takes for an answer.
            errno(caller, |guest| Ok(guest.write_u32(count_at, 0)?))
        },
    )?;
    Ok(())
}

/// In pieces: the filter's time may be used up before its memory is full.
fn random(guest: &mut Guest<'_>, bytes: u32, size: u32) -> Answer {
    let (memory, _) = guest.parts()?;
    slice(memory, bytes, size)?;
    let end = u64::from(bytes) + u64::from(size);
    for start in (bytes.into()..end).step_by(PIECE) {
        guest.charge(PIECE)?;
        let (memory, _) = guest.parts()?;
        let piece = slice_mut(memory, start, (PIECE as u64).min(end - start))?;
        getrandom::fill(piece).map_err(|_| IO)?;
    }
    Ok(())
}

fn time(guest: &mut Guest<'_>, clock: u32, time_at: u32) -> Answer {
    static START: OnceLock<Instant> = OnceLock::new();
    let time = match clock {
        REALTIME => guest.host().surroundings.clock.unix_nanoseconds().ok_or(IO)?,
        MONOTONIC => u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).map_err(|_| IO)?,
        _ => return Err(NOT_SUPPORTED.into()),
    };
    Ok(guest.write_u64(time_at, time)?)
}

/// Writes as many parts as one call may have, each as a line; as everywhere in POSIX, the caller writes the rest again.
fn write(guest: &mut Guest<'_>, descriptor: u32, parts: u32, count: u32, written_at: u32) -> Answer {
    let level = match descriptor {
        1 => Level::Info,
        2 => Level::Error,
        _ => return Err(BAD_DESCRIPTOR.into()),
    };
    let (memory, _) = guest.parts()?;
    slice(memory, parts, count.checked_mul(8).ok_or(INVALID)?)?;
    let mut written: u32 = 0;
    for index in 0..count.min(PARTS) {
        let (memory, _) = guest.parts()?;
        let part = slice(memory, parts + index * 8, 8)?;
        let (pointer, size) = (word(part, 0), word(part, 4));
        guest.charge(LINE + (size as usize).min(MAX_LINE))?;
        let (memory, host) = guest.parts()?;
        let text = slice(memory, pointer, size)?;
        written = written.checked_add(size).ok_or(INVALID)?;
        if !text.is_empty() {
            host.journal.write(level, text);
        }
    }
    Ok(guest.write_u32(written_at, written)?)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// What a function of WASI did not do.
enum Failure {
    /// The filter is told this number, and runs on.
    Number(u32),
    /// The filter ends here.
    Trap(wasmtime::Error),
}

impl From<u32> for Failure {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<Status> for Failure {
    fn from(_: Status) -> Self {
        Self::Number(FAULT)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status(status) => status.into(),
            Refusal::Trap(error) => Self::Trap(error),
        }
    }
}

type Answer = Result<(), Failure>;

/// As [`code`](super::super::guest::code), in WASI's numbers.
fn errno(caller: Caller<'_, Host>, work: impl FnOnce(&mut Guest<'_>) -> Answer) -> wasmtime::Result<u32> {
    let mut guest = Guest(caller);
    match guest.charge(CALL).map_err(Failure::from).and_then(|()| work(&mut guest)) {
        Ok(()) => Ok(SUCCESS),
        Err(Failure::Number(number)) => Ok(number),
        Err(Failure::Trap(error)) => Err(error),
    }
}
