//! `proxy_get_buffer_bytes`, `proxy_get_buffer_status`, `proxy_set_buffer_bytes`.
//!
//! The filter decides before any body: the buffers of bodies and of connection data are not there.

use std::rc::Rc;

use wasmtime::{Caller, Linker};

use super::super::guest::Guest;
use super::super::host::Host;
use super::super::status::{Refusal, Status, code};
use super::ENV;

/// BufferType of the ABI: the VM's own configuration, of which there is none, and the plugin's.
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_bytes",
        |caller: Caller<'_, Host>, kind: u32, start: u32, size: u32, bytes_at: u32, size_at: u32| {
            code(part_of(&mut Guest(caller), kind, start, size, bytes_at, size_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_status",
        |caller: Caller<'_, Host>, kind: u32, size_at: u32, flags_at: u32| {
            code(size_of(&mut Guest(caller), kind, size_at, flags_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_buffer_bytes",
        |_: Caller<'_, Host>, _kind: u32, _start: u32, _size: u32, _bytes: u32, _length: u32| {
            Status::BadArgument as u32
        },
    )?;
    Ok(())
}

/// A size beyond the end means "to the end"; the SDK asks for 4 GiB.
fn part_of(
    guest: &mut Guest<'_>,
    kind: u32,
    start: u32,
    size: u32,
    bytes_at: u32,
    size_at: u32,
) -> Result<(), Refusal> {
    let buffer = buffer(guest, kind)?;
    let length = buffer.len() as u64;
    let from = u64::from(start).min(length);
    let to = (u64::from(start) + u64::from(size)).min(length);
    // Both are within the buffer, so they fit its index type.
    guest.give(&buffer.as_bytes()[from as usize..to as usize], bytes_at, size_at)
}

fn size_of(guest: &mut Guest<'_>, kind: u32, size_at: u32, flags_at: u32) -> Result<(), Refusal> {
    let size = u32::try_from(buffer(guest, kind)?.len()).map_err(|_| Status::InternalFailure)?;
    guest.write_u32(size_at, size)?;
    guest.write_u32(flags_at, 0)?;
    Ok(())
}

fn buffer(guest: &Guest<'_>, kind: u32) -> Result<Rc<str>, Status> {
    match kind {
        VM_CONFIGURATION => Ok(Rc::from("")),
        PLUGIN_CONFIGURATION => Ok(Rc::clone(&guest.host().configuration)),
        0..=8 => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}
