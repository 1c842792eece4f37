//! What this host does not do: calls to other services, queues, foreign functions. A filter is told so with a status
//! the Rust SDK understands, and none of them ever answers "ok".

use wasmtime::{Caller, Linker};

use super::super::host::Host;
use super::super::status::Status;
use super::ENV;

/// No cluster of that name.
const NO_CLUSTER: u32 = Status::BadArgument as u32;
/// No call, queue or function of that name or id.
const NOT_FOUND: u32 = Status::NotFound as u32;
/// Not possible here.
const FAILURE: u32 = Status::InternalFailure as u32;
/// Nothing in it.
const EMPTY: u32 = Status::Empty as u32;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    link_calls(linker)?;
    link_queues(linker)?;
    linker.func_wrap(
        ENV,
        "proxy_call_foreign_function",
        |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| NOT_FOUND,
    )?;
    Ok(())
}

fn link_calls(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_http_call",
        |_: Caller<'_, Host>,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32| { NO_CLUSTER },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_call",
        |_: Caller<'_, Host>,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32,
         _: u32| FAILURE,
    )?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_stream",
        |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| FAILURE,
    )?;
    linker
        .func_wrap(ENV, "proxy_grpc_send", |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32| NOT_FOUND)?;
    linker.func_wrap(ENV, "proxy_grpc_cancel", |_: Caller<'_, Host>, _: u32| NOT_FOUND)?;
    linker.func_wrap(ENV, "proxy_grpc_close", |_: Caller<'_, Host>, _: u32| NOT_FOUND)?;
    linker.func_wrap(ENV, "proxy_get_status", |_: Caller<'_, Host>, _: u32, _: u32, _: u32| FAILURE)?;
    Ok(())
}

fn link_queues(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_register_shared_queue", |_: Caller<'_, Host>, _: u32, _: u32, _: u32| {
        FAILURE
    })?;
    linker.func_wrap(
        ENV,
        "proxy_resolve_shared_queue",
        |_: Caller<'_, Host>, _: u32, _: u32, _: u32, _: u32, _: u32| NOT_FOUND,
    )?;
    linker
        .func_wrap(ENV, "proxy_dequeue_shared_queue", |_: Caller<'_, Host>, _: u32, _: u32, _: u32| EMPTY)?;
    linker.func_wrap(ENV, "proxy_enqueue_shared_queue", |_: Caller<'_, Host>, _: u32, _: u32, _: u32| {
        NOT_FOUND
    })?;
    Ok(())
}
