//! The header maps of the request and the response.

use wasmtime::{Caller, Linker};

use super::super::context::{Context, MapType};
use super::super::guest::{Guest, slice};
use super::super::headers::{HeaderMap, decode, encode};
use super::super::host::Host;
use super::super::status::{Refusal, Status, code};
use super::ENV;

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
            code(pairs(&mut Guest(caller), kind, bytes_at, size_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_size",
        |caller: Caller<'_, Host>, kind: u32, size_at: u32| code(size(&mut Guest(caller), kind, size_at)),
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, value_at: u32, size_at: u32| {
            code(value(&mut Guest(caller), kind, (name, name_size), value_at, size_at))
        },
    )?;
    Ok(())
}

fn link_writes(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_set_header_map_pairs",
        |caller: Caller<'_, Host>, kind: u32, map: u32, size: u32| {
            code(set(&mut Guest(caller), kind, map, size))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_add_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, value: u32, size: u32| {
            code(write(&mut Guest(caller), kind, (name, name_size), (value, size), HeaderMap::add))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_replace_header_map_value",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, value: u32, size: u32| {
            code(write(&mut Guest(caller), kind, (name, name_size), (value, size), HeaderMap::replace))
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
            code(write(&mut Guest(caller), kind, (name, name_size), (0, 0), remove))
        },
    )?;
    Ok(())
}

fn pairs(guest: &mut Guest<'_>, kind: u32, bytes_at: u32, size_at: u32) -> Answer {
    let bytes = encode(existing(guest.host(), kind)?.map_or(&Vec::new(), HeaderMap::pairs));
    guest.give(&bytes, bytes_at, size_at)
}

/// Bytes of the map in its encoded form.
fn size(guest: &mut Guest<'_>, kind: u32, size_at: u32) -> Answer {
    let size = existing(guest.host(), kind)?.map_or(4, |map| encode(map.pairs()).len());
    let size = u32::try_from(size).map_err(|_| Status::InternalFailure)?;
    Ok(guest.write_u32(size_at, size)?)
}

fn value(guest: &mut Guest<'_>, kind: u32, name: (u32, u32), value_at: u32, size_at: u32) -> Answer {
    let (memory, host) = guest.parts()?;
    let name = slice(memory, name.0, name.1)?;
    let map = existing(host, kind)?.ok_or(Status::NotFound)?;
    let value = map.first(name).ok_or(Status::NotFound)?.to_vec();
    guest.give(&value, value_at, size_at)
}

fn set(guest: &mut Guest<'_>, kind: u32, map: u32, size: u32) -> Answer {
    let (memory, host) = guest.parts()?;
    let pairs = decode(slice(memory, map, size)?)?;
    *writable(host, kind)? = HeaderMap::from_filter(pairs)?;
    Ok(())
}

fn write(
    guest: &mut Guest<'_>,
    kind: u32,
    name: (u32, u32),
    value: (u32, u32),
    change: impl FnOnce(&mut HeaderMap, &[u8], &[u8]) -> Result<(), Status>,
) -> Answer {
    let (memory, host) = guest.parts()?;
    let (name, value) = (slice(memory, name.0, name.1)?, slice(memory, value.0, value.1)?);
    Ok(change(writable(host, kind)?, name, value)?)
}

/// A map to read. As in Envoy, one that is not there is a bad argument, but while the exchange is logged only absent.
fn existing(host: &Host, kind: u32) -> Result<Option<&HeaderMap>, Status> {
    let context = host.contexts.current().ok_or(Status::BadArgument)?;
    let kind = MapType::from_abi(kind).ok_or(Status::BadArgument)?;
    match context.map(kind) {
        None if context.logging && context.is_http() => Ok(None),
        None => Err(Status::BadArgument),
        map => Ok(map),
    }
}

/// A map to change. What is changed after its phase goes nowhere, as in Envoy.
fn writable(host: &mut Host, kind: u32) -> Result<&mut HeaderMap, Status> {
    let context: &mut Context = host.contexts.current_mut().ok_or(Status::BadArgument)?;
    let kind = MapType::from_abi(kind).ok_or(Status::BadArgument)?;
    context.maps[kind as usize].as_mut().ok_or(Status::BadArgument)
}
