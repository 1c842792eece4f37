//! The clock and the tick.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code};
use super::super::host::Host;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_current_time_nanoseconds",
        |caller: Caller<'_, Host>, time_at: u32| code(caller, |guest| time(guest, time_at)),
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_tick_period_milliseconds",
        |caller: Caller<'_, Host>, milliseconds: u32| code(caller, |guest| tick_every(guest, milliseconds)),
    )?;
    Ok(())
}

/// Ticks are the root's, whoever asks for them.
fn tick_every(guest: &mut Guest<'_>, milliseconds: u32) -> Result<(), Refusal> {
    let host = guest.host_mut();
    let root = host.root()?.id();
    host.events.tick_every(root, Duration::from_millis(milliseconds.into()));
    Ok(())
}

fn time(guest: &mut Guest<'_>, time_at: u32) -> Result<(), Refusal> {
    let now = guest.host().surroundings.clock.unix_nanoseconds().ok_or(Status::InternalFailure)?;
    Ok(guest.write_u64(time_at, now)?)
}
