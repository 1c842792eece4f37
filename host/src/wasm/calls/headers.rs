//! The header maps of the request and the response.

use wasmtime::{Caller, Linker};

use super::super::context::{Context, MapType};
use super::super::filter::Abi;
use super::super::guest::{Guest, code, slice};
use super::super::headers::{HeaderMap, decode, encode};
use super::super::host::Host;
use super::super::status::{Refusal, Status};
use super::ENV;

/// How many values MapType of the ABI has.
const KINDS: u32 = 8;

/// What looking at a field costs, in bytes of [`Guest::charge`].
const FIELD: usize = 32;

type Answer = Result<(), Refusal>;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    link_reads(linker)?;
    link_writes(linker)
}

fn link_reads(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_pairs",
        |caller: Caller<'_, Host>, kind: u32, bytes_at: u32, size_at: u32| {
            code(caller, |guest| pairs(guest, kind, bytes_at, size_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_size",
        |caller: Caller<'_, Host>, kind: u32, size_at: u32| code(caller, |guest| size(guest, kind, size_at)),
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, value_at: u32, size_at: u32| {
            code(caller, |guest| value(guest, kind, (name, name_size), value_at, size_at))
        },
    )?;
    Ok(())
}

fn link_writes(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_set_header_map_pairs",
        |caller: Caller<'_, Host>, kind: u32, map: u32, size: u32| {
            code(caller, |guest| set(guest, kind, map, size))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_add_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, value: u32, size: u32| {
            code(caller, |guest| write(guest, kind, (name, name_size), (value, size), HeaderMap::add))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_replace_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, value: u32, size: u32| {
            code(caller, |guest| write(guest, kind, (name, name_size), (value, size), HeaderMap::replace))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_remove_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32| {
            let remove = |map: &mut HeaderMap, name: &[u8], _: &[u8]| {
                map.remove(name);
                Ok(())
            };
            code(caller, |guest| write(guest, kind, (name, name_size), (0, 0), remove))
        },
    )?;
    Ok(())
}

fn pairs(guest: &mut Guest<'_>, kind: u32, bytes_at: u32, size_at: u32) -> Answer {
    let map = match existing(guest.host(), kind) {
        // Envoy gives nothing, and says that all is well, for a map that is not there.
        Err(_) if kind < KINDS => None,
        map => map?,
    };
    let bytes = map.map(HeaderMap::pairs).filter(|pairs| !pairs.is_empty()).map_or_else(Vec::new, encode);
    guest.give(&bytes, bytes_at, size_at)
}

/// Bytes of all names and values, as Envoy counts them.
fn size(guest: &mut Guest<'_>, kind: u32, size_at: u32) -> Answer {
    let size = existing(guest.host(), kind)?.map_or(0, HeaderMap::bytes);
    let size = u32::try_from(size).map_err(|_| Status::InternalFailure)?;
    Ok(guest.write_u32(size_at, size)?)
}

fn value(guest: &mut Guest<'_>, kind: u32, name: (u32, u32), value_at: u32, size_at: u32) -> Answer {
    let scanned = existing(guest.host(), kind).ok().flatten().map_or(0, |map| map.pairs().len() * FIELD);
    guest.charge(scanned)?;
    let (memory, host) = guest.parts()?;
    let name = slice(memory, name.0, name.1)?;
    let found = existing(host, kind)?.and_then(|map| map.first(name));
    let value = match (found, host.abi) {
        (Some(value), _) => value.to_vec(),
        (None, Abi::V0_1) => Vec::new(),
        (None, Abi::V0_2) => return Err(Status::NotFound.into()),
    };
    guest.give(&value, value_at, size_at)
}

fn set(guest: &mut Guest<'_>, kind: u32, map: u32, size: u32) -> Answer {
    guest.charge(size as usize)?;
    let (memory, host) = guest.parts()?;
    let pairs = decode(slice(memory, map, size)?)?;
    let context = writable(host, kind)?;
    context.room_for(size as usize)?;
    let written = HeaderMap::from_filter(pairs)?;
    map_of(context, kind)?.assign(written);
    context.settle();
    Ok(())
}

fn write(
    guest: &mut Guest<'_>,
    kind: u32,
    name: (u32, u32),
    value: (u32, u32),
    change: impl FnOnce(&mut HeaderMap, &[u8], &[u8]) -> Result<(), Status>,
) -> Answer {
    guest.charge((name.1 as usize).saturating_add(value.1 as usize))?;
    let scanned = existing(guest.host(), kind).ok().flatten().map_or(0, |map| map.pairs().len() * FIELD);
    guest.charge(scanned)?;
    let (memory, host) = guest.parts()?;
    let (name, value) = (slice(memory, name.0, name.1)?, slice(memory, value.0, value.1)?);
    let context = writable(host, kind)?;
    context.room_for(name.len() + value.len())?;
    let changed = change(map_of(context, kind)?, name, value);
    context.settle();
    Ok(changed?)
}

/// A map to read. As in Envoy, one that is not there is a bad argument, but while the exchange is logged only absent.
fn existing(host: &Host, kind: u32) -> Result<Option<&HeaderMap>, Status> {
    let context = host.contexts.current().ok_or(Status::BadArgument)?;
    let Some(kind) = MapType::from_abi(kind) else { return of_call(host, kind) };
    match context.shown_map(kind) {
        None if context.logging && context.is_http() => Ok(None),
        None => Err(Status::BadArgument),
        map => Ok(map),
    }
}

/// MapType of the ABI: what a call's answer brought. Those of gRPC, 4 and 5, are never there.
fn of_call(host: &Host, kind: u32) -> Result<Option<&HeaderMap>, Status> {
    let response = host.events.response.as_ref().ok_or(Status::BadArgument)?;
    let map = match kind {
        6 => Some(&response.headers),
        7 => response.trailers.as_ref(),
        _ => None,
    };
    map.map(Some).ok_or(Status::BadArgument)
}

/// The context of a map to change, which is only that of the callback that runs, or is paused in.
fn writable(host: &mut Host, kind: u32) -> Result<&mut Context, Status> {
    let context: &mut Context = host.contexts.current_mut().ok_or(Status::BadArgument)?;
    let kind = MapType::from_abi(kind).ok_or(Status::BadArgument)?;
    // As in Envoy, a filter may end a body with trailers that nobody sent.
    if kind == kind.side().trailers() && context.flow(kind.side()).ends {
        context.shown[kind as usize] = true;
        context.maps[kind as usize].get_or_insert_default();
    }
    if context.shown[kind as usize] { Ok(context) } else { Err(Status::BadArgument) }
}

fn map_of(context: &mut Context, kind: u32) -> Result<&mut HeaderMap, Status> {
    let kind = MapType::from_abi(kind).ok_or(Status::BadArgument)?;
    context.maps[kind as usize].as_mut().ok_or(Status::BadArgument)
}
