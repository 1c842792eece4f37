//! `proxy_get_property`, `proxy_set_property`.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, slice};
use super::super::host::Host;
use super::super::property::lookup;
use super::super::status::{Refusal, Status, code};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_property",
        |caller: Caller<'_, Host>, path: u32, path_size: u32, value_at: u32, size_at: u32| {
            code(property(&mut Guest(caller), path, path_size, value_at, size_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_property",
        |caller: Caller<'_, Host>, path: u32, path_size: u32, value: u32, size: u32| {
            code(set_property(&mut Guest(caller), path, path_size, value, size))
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
    let value = lookup(host, slice(memory, path, path_size)?).ok_or(Status::NotFound)?;
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
    let (memory, host) = guest.parts()?;
    let (path, value) = (slice(memory, path, path_size)?, slice(memory, value, size)?);
    let context = host.contexts.current_mut().ok_or(Status::BadArgument)?;
    if context.connection.is_none() {
        // A root has nothing that would keep it.
        return Err(Status::NotFound.into());
    }
    context.stored.insert(path, value)?;
    Ok(())
}
