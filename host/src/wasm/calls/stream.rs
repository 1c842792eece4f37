//! What the filter does to the connection or the request: close, go on, answer in the upstream's place.

use wasmtime::{Caller, Linker};

use super::super::context::{Context, Side};
use super::super::guest::{Guest, code, slice};
use super::super::headers::{HeaderMap, decode};
use super::super::host::Host;
use super::super::status::{Refusal, Status};
use super::super::verdict::LocalReply;
use super::ENV;

/// A denial's body is a line of JSON; more than this is a fault.
const MAX_BODY: usize = 1 << 20;

/// StreamType of the ABI: request, response, downstream, upstream.
const STREAM_TYPES: std::ops::Range<u32> = 0..4;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_close_stream", |caller: Caller<'_, Host>, kind: u32| {
        code(caller, |guest| close(guest, kind))
    })?;
    linker.func_wrap(ENV, "proxy_continue_stream", |caller: Caller<'_, Host>, kind: u32| {
        code(caller, |guest| resume(guest, kind))
    })?;
    // ABI 0.1 has a function for each direction.
    for (name, side) in
        [("proxy_continue_request", Side::Request), ("proxy_continue_response", Side::Response)]
    {
        linker.func_wrap(ENV, name, move |caller: Caller<'_, Host>| {
            code(caller, |guest| resume(guest, side as u32))
        })?;
    }
    // This host has one route.
    linker.func_wrap(ENV, "proxy_clear_route_cache", |_: Caller<'_, Host>| Status::Ok as u32)?;
    linker.func_wrap(
        ENV,
        "proxy_send_local_response",
        |caller: Caller<'_, Host>,
         status: u32,
         details: u32,
         details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         grpc_status: i32| {
            let parts = [(details, details_size), (body, body_size), (headers, headers_size)];
            code(caller, |guest| reply(guest, status, parts, grpc_status))
        },
    )?;
    linker.func_wrap(ENV, "proxy_set_effective_context", |mut caller: Caller<'_, Host>, id: u32| {
        let contexts = &mut caller.data_mut().contexts;
        if !contexts.contains(id) {
            return Status::BadArgument as u32;
        }
        contexts.enter(id);
        Status::Ok as u32
    })?;
    // Nothing waits for a filter that is not done, so there is nothing to be done with.
    linker.func_wrap(ENV, "proxy_done", |_: Caller<'_, Host>| Status::NotFound as u32)?;
    Ok(())
}

fn resume(guest: &mut Guest<'_>, kind: u32) -> Result<(), Refusal> {
    // A connection is not resumed: the network gate answers at once or not at all.
    on_stream(guest, kind, |context| {
        if let Some(side) = Side::from_abi(kind) {
            context.resume(side);
        }
    })
}

/// A filter that closes what does not exist wants the request, or the connection, to end all the same.
fn close(guest: &mut Guest<'_>, kind: u32) -> Result<(), Refusal> {
    let closed = on_stream(guest, kind, Context::close);
    if closed.is_err()
        && let Some(context) = guest.host_mut().contexts.current_mut()
    {
        context.fail_refusal();
    }
    closed
}

fn on_stream(guest: &mut Guest<'_>, kind: u32, change: impl FnOnce(&mut Context)) -> Result<(), Refusal> {
    let context = guest.host_mut().contexts.current_mut().ok_or(Status::BadArgument)?;
    if !STREAM_TYPES.contains(&kind) {
        return Err(Status::BadArgument.into());
    }
    // A root has no stream; Envoy says "ok" to it and does nothing.
    if context.connection.is_some() {
        change(context);
    }
    Ok(())
}

/// The first reply counts, as in Envoy. One that cannot be sent is a fault of the filter: it meant to refuse.
fn reply(
    guest: &mut Guest<'_>,
    status: u32,
    parts: [(u32, u32); 3],
    grpc_status: i32,
) -> Result<(), Refusal> {
    let bytes = parts.iter().map(|(_, size)| *size as usize).sum::<usize>();
    guest.charge(bytes.min(MAX_BODY))?;
    let (memory, host) = guest.parts()?;
    let reply = message(memory, status, parts, grpc_status);
    let context = host.contexts.current_mut().ok_or(Status::BadArgument)?;
    let reply = reply.and_then(|reply| context.room_for(reply.bytes()).map(|()| reply));
    match reply {
        // Envoy says "ok" to a second reply and to one that nobody can get, and sends neither.
        Ok(_) if context.is_http() && context.reply.is_some() => {}
        Ok(reply) if context.is_http() => {
            context.reply = Some(reply);
            context.settle();
            context.ring();
        }
        Ok(_) => context.fail_refusal(),
        Err(status) => {
            context.fail_refusal();
            return Err(status.into());
        }
    }
    Ok(())
}

/// What the filter wants to be sent.
fn message(
    memory: &[u8],
    status: u32,
    [details, body, headers]: [(u32, u32); 3],
    grpc_status: i32,
) -> Result<LocalReply, Status> {
    slice(memory, details.0, details.1)?;
    let body = slice(memory, body.0, body.1)?;
    let headers = HeaderMap::from_filter(decode(slice(memory, headers.0, headers.1)?)?)?;
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
    let status = status.ok_or(Status::BadArgument)?;
    if body.len() > MAX_BODY {
        return Err(Status::BadArgument);
    }
    // Negative means that the filter names none.
    let grpc_status = u32::try_from(grpc_status).ok();
    Ok(LocalReply { status, headers: headers.into_pairs(), body: body.to_vec(), grpc_status })
}
