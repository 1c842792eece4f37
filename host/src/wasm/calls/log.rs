//! `proxy_log`, `proxy_get_log_level`.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::journal::{LINE, Level, MAX_LINE};
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_log", |caller: Caller<'_, Host>, level: u32, text: u32, size: u32| {
        code(caller, |guest| log(guest, level, text, size))
    })?;
    linker.func_wrap(ENV, "proxy_get_log_level", |caller: Caller<'_, Host>, level_at: u32| {
        code(caller, |guest| Ok(guest.write_u32(level_at, Level::enabled() as u32)?))
    })?;
    Ok(())
}

fn log(guest: &mut Guest<'_>, level: u32, text: u32, size: u32) -> Result<(), Refusal> {
    let level = Level::from_abi(level).ok_or(Status::BadArgument)?;
    guest.charge(LINE + (size as usize).min(MAX_LINE))?;
    let (memory, host) = guest.parts()?;
    let line = slice(memory, text, size)?;
    if !host.is_trial() {
        host.journal.write(level, line);
    }
    Ok(())
}
