//! `proxy_get_shared_data`, `proxy_set_shared_data`.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::limits;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_shared_data",
        |caller: Caller<'_, Host>, key: u32, key_size: u32, value_at: u32, size_at: u32, cas_at: u32| {
            code(caller, |guest| read(guest, (key, key_size), value_at, size_at, cas_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_shared_data",
        |caller: Caller<'_, Host>, key: u32, key_size: u32, value: u32, size: u32, cas: u32| {
            code(caller, |guest| write(guest, (key, key_size), (value, size), cas))
        },
    )?;
    Ok(())
}

fn read(
    guest: &mut Guest<'_>,
    key: (u32, u32),
    value_at: u32,
    size_at: u32,
    cas_at: u32,
) -> Result<(), Refusal> {
    let (memory, host) = guest.parts()?;
    let (value, cas) = host.shared.data.value(slice(memory, key.0, key.1)?)?;
    guest.give(&value, value_at, size_at)?;
    Ok(guest.write_u32(cas_at, cas)?)
}

fn write(guest: &mut Guest<'_>, key: (u32, u32), value: (u32, u32), cas: u32) -> Result<(), Refusal> {
    guest.charge((key.1 as usize).saturating_add(value.1 as usize).min(limits::SHARED_BYTES))?;
    let (memory, host) = guest.parts()?;
    let shared = Arc::clone(&host.shared);
    let answer: Result<(), Status> =
        shared.data.insert(slice(memory, key.0, key.1)?, slice(memory, value.0, value.1)?, cas);
    Ok(answer?)
}
