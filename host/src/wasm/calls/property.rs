//! `proxy_get_property`, `proxy_set_property`.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::limits;
use super::super::property::lookup;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_property",
        |caller: Caller<'_, Host>, path: u32, path_size: u32, value_at: u32, size_at: u32| {
            code(caller, |guest| property(guest, path, path_size, value_at, size_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_property",
        |caller: Caller<'_, Host>, path: u32, path_size: u32, value: u32, size: u32| {
            code(caller, |guest| set_property(guest, path, path_size, value, size))
        },
    )?;
    Ok(())
}

fn property(
    guest: &mut Guest<'_>,
    path: u32,
    path_size: u32,
    value_at: u32,
    size_at: u32,
) -> Result<(), Refusal> {
    let (memory, host) = guest.parts()?;
    let path = slice(memory, path, path_size)?;
    if path.len() > limits::NAME {
        return Err(Status::NotFound.into());
    }
    let value = lookup(host, path).ok_or(Status::NotFound)?;
    guest.give(value.bytes(), value_at, size_at)
}

/// Envoy stores the value as filter state under `wasm.` and the path.
fn set_property(
    guest: &mut Guest<'_>,
    path: u32,
    path_size: u32,
    value: u32,
    size: u32,
) -> Result<(), Refusal> {
    guest.charge(size as usize)?;
    let (memory, host) = guest.parts()?;
    let (path, value) = (slice(memory, path, path_size)?, slice(memory, value, size)?);
    if path.len() > limits::NAME {
        return Err(Status::BadArgument.into());
    }
    let context = host.contexts.current_mut().ok_or(Status::BadArgument)?;
    if context.connection.is_none() {
        // A root has nothing that would keep it.
        return Err(Status::NotFound.into());
    }
    context.store(path, value)?;
    Ok(())
}
