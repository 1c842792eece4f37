//! `proxy_get_buffer_bytes`, `proxy_get_buffer_status`, `proxy_set_buffer_bytes`, and `proxy_get_configuration` of ABI 0.1.
//!
//! The buffers are bodies, the body of a call's answer, and configuration. A network filter decides before any data, so
//! its buffers are empty.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::super::context::{Context, Side};
use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::limits;
use super::super::status::{Refusal, Status};
use super::ENV;

/// BufferType of the ABI, after the two bodies.
const DOWNSTREAM_DATA: u32 = 2;
const UPSTREAM_DATA: u32 = 3;
const CALL_RESPONSE_BODY: u32 = 4;
const GRPC_MESSAGE: u32 = 5;
/// The VM's own configuration, of which there is none.
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;
/// Arguments of a foreign function; the host calls none.
const CALL_DATA: u32 = 8;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_bytes",
        |caller: Caller<'_, Host>, kind: u32, start: u32, size: u32, bytes_at: u32, size_at: u32| {
            code(caller, |guest| part_of(guest, kind, (start, size), bytes_at, size_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_status",
        |caller: Caller<'_, Host>, kind: u32, size_at: u32, flags_at: u32| {
            code(caller, |guest| size_of(guest, kind, size_at, flags_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_buffer_bytes",
        |caller: Caller<'_, Host>, kind: u32, start: u32, size: u32, bytes: u32, length: u32| {
            code(caller, |guest| replace(guest, kind, (start, size), (bytes, length)))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_configuration",
        |caller: Caller<'_, Host>, bytes_at: u32, size_at: u32| {
            code(caller, |guest| configuration(guest, bytes_at, size_at))
        },
    )?;
    Ok(())
}

/// A size beyond the end means "to the end"; the SDK asks for 4 GiB.
fn part_of(
    guest: &mut Guest<'_>,
    kind: u32,
    (start, size): (u32, u32),
    bytes_at: u32,
    size_at: u32,
) -> Result<(), Refusal> {
    let buffer = buffer(guest.host(), kind)?;
    // The ABI's numbers have 32 bits here, so a sum beyond is an overflow (proxy_get_buffer_bytes in Envoy's host).
    let length = buffer.len() as u64;
    let from = u64::from(start).min(length);
    let to = (u64::from(start) + u64::from(size)).min(length);
    // Both are within the buffer, so they fit its index type.
    let part = from as usize..to as usize;
    if kind == PLUGIN_CONFIGURATION {
        // Not copied: it may be a policy of 32 MB.
        let configuration = Arc::clone(&guest.host().surroundings.configuration);
        return guest.give(&configuration.as_bytes()[part], bytes_at, size_at);
    }
    let part = buffer[part].to_vec();
    guest.give(&part, bytes_at, size_at)
}

fn size_of(guest: &mut Guest<'_>, kind: u32, size_at: u32, flags_at: u32) -> Result<(), Refusal> {
    let size = u32::try_from(buffer(guest.host(), kind)?.len()).map_err(|_| Status::InternalFailure)?;
    guest.write_u32(size_at, size)?;
    guest.write_u32(flags_at, 0)?;
    Ok(())
}

fn configuration(guest: &mut Guest<'_>, bytes_at: u32, size_at: u32) -> Result<(), Refusal> {
    let bytes = buffer(guest.host(), PLUGIN_CONFIGURATION).unwrap_or_default().to_vec();
    guest.give(&bytes, bytes_at, size_at)
}

/// What a kind of buffer holds now; empty where it holds nothing.
fn buffer(host: &Host, kind: u32) -> Result<&[u8], Status> {
    if let Some(side) = Side::from_abi(kind) {
        let flow = &host.contexts.current().ok_or(Status::BadArgument)?.flows[side as usize];
        return Ok(if flow.body_shown { &flow.body } else { &[] });
    }
    match kind {
        DOWNSTREAM_DATA | UPSTREAM_DATA | GRPC_MESSAGE | VM_CONFIGURATION | CALL_DATA => Ok(&[]),
        CALL_RESPONSE_BODY => {
            let response = host.events.response.as_ref().ok_or(Status::NotFound)?;
            Ok(&response.body)
        }
        PLUGIN_CONFIGURATION if host.configuring => Ok(host.surroundings.configuration.as_bytes()),
        PLUGIN_CONFIGURATION => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}

/// As in Envoy, bytes are put before a body, after it, or in the place of its beginning or all of it.
fn replace(
    guest: &mut Guest<'_>,
    kind: u32,
    (start, size): (u32, u32),
    (bytes, length): (u32, u32),
) -> Result<(), Refusal> {
    let held = buffer(guest.host(), kind)?.len();
    guest.charge(held.saturating_add((length as usize).min(limits::BODY)))?;
    let (memory, host) = guest.parts()?;
    let bytes = slice(memory, bytes, length)?;
    let side = Side::from_abi(kind).ok_or(Status::BadArgument)?;
    let context: &mut Context = host.contexts.current_mut().ok_or(Status::BadArgument)?;
    if bytes.len() > limits::BODY {
        return Err(Status::BadArgument.into());
    }
    context.room_for(bytes.len())?;
    let flow = context.flow(side);
    if !flow.body_shown {
        return Err(Status::BadArgument.into());
    }
    let held = u32::try_from(held).map_err(|_| Status::InternalFailure)?;
    let replaces_all = start == 0 && size >= held;
    // Put before or after what is there again and again, it would grow without end.
    if !replaces_all && flow.body.len() + bytes.len() > 2 * limits::BODY {
        return Err(Status::BadArgument.into());
    }
    match (start, size) {
        (0, 0) => drop(flow.body.splice(..0, bytes.iter().copied())),
        (0, size) if size >= held => {
            flow.body.clear();
            flow.body.extend_from_slice(bytes);
        }
        (0, size) => drop(flow.body.splice(..size as usize, bytes.iter().copied())),
        (start, _) if start > 0 && start >= held => flow.body.extend_from_slice(bytes),
        _ => return Err(Status::BadArgument.into()),
    }
    context.settle();
    Ok(())
}
