//! The clock and the tick.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::super::guest::Guest;
use super::super::host::Host;
use super::super::status::{Refusal, Status, code};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_current_time_nanoseconds",
        |caller: Caller<'_, Host>, time_at: u32| code(time(&mut Guest(caller), time_at)),
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_tick_period_milliseconds",
        |mut caller: Caller<'_, Host>, milliseconds: u32| {
            caller.data_mut().tick_period = Duration::from_millis(milliseconds.into());
            Status::Ok as u32
        },
    )?;
    Ok(())
}

fn time(guest: &mut Guest<'_>, time_at: u32) -> Result<(), Refusal> {
    let now = guest.host().clock.unix_nanoseconds().ok_or(Status::InternalFailure)?;
    Ok(guest.write_u64(time_at, now)?)
}
