//! `proxy_log`, `proxy_get_log_level`.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, slice};
use super::super::host::Host;
use super::super::journal::Level;
use super::super::status::{Refusal, Status, code};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_log", |caller: Caller<'_, Host>, level: u32, text: u32, size: u32| {
        code(log(&mut Guest(caller), level, text, size))
    })?;
    linker.func_wrap(ENV, "proxy_get_log_level", |caller: Caller<'_, Host>, level_at: u32| {
        code(Guest(caller).write_u32(level_at, Level::enabled() as u32).map_err(Refusal::from))
    })?;
    Ok(())
}

fn log(guest: &mut Guest<'_>, level: u32, text: u32, size: u32) -> Result<(), Refusal> {
    let level = Level::from_abi(level).ok_or(Status::BadArgument)?;
    let (memory, host) = guest.parts()?;
    let line = slice(memory, text, size)?;
    if !host.is_trial() {
        host.journal.write(level, line);
    }
    Ok(())
}
