//! gRPC calls. No cluster of this host speaks gRPC, so every call answers what Envoy answers for a service it does not
//! know, and there is never a call to go on with.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    link_calls(linker)?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_send",
        |caller: Caller<'_, Host>, token: u32, message: u32, size: u32, _end: u32| {
            // Odd tokens would be those of calls, which have one message only.
            let answer = if token % 2 == 1 { Status::BadArgument } else { Status::NotFound };
            code(caller, |guest| refuse(guest, &[(message, size)], answer))
        },
    )?;
    for name in ["proxy_grpc_cancel", "proxy_grpc_close"] {
        linker.func_wrap(ENV, name, |_: Caller<'_, Host>, _token: u32| Status::NotFound as u32)?;
    }
    linker.func_wrap(
        ENV,
        "proxy_get_status",
        |caller: Caller<'_, Host>, code_at: u32, text_at: u32, size_at: u32| {
            code(caller, |guest| status(guest, code_at, text_at, size_at))
        },
    )?;
    Ok(())
}

fn link_calls(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_grpc_call",
        |caller: Caller<'_, Host>,
         cluster: u32,
         cluster_size: u32,
         service: u32,
         service_size: u32,
         method: u32,
         method_size: u32,
         metadata: u32,
         metadata_size: u32,
         message: u32,
         message_size: u32,
         _milliseconds: u32,
         _token_at: u32| {
            let parts = [
                (cluster, cluster_size),
                (service, service_size),
                (method, method_size),
                (metadata, metadata_size),
                (message, message_size),
            ];
            code(caller, |guest| refuse(guest, &parts, Status::ParseFailure))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_stream",
        |caller: Caller<'_, Host>,
         cluster: u32,
         cluster_size: u32,
         service: u32,
         service_size: u32,
         method: u32,
         method_size: u32,
         metadata: u32,
         metadata_size: u32,
         _token_at: u32| {
            let parts = [
                (cluster, cluster_size),
                (service, service_size),
                (method, method_size),
                (metadata, metadata_size),
            ];
            code(caller, |guest| refuse(guest, &parts, Status::ParseFailure))
        },
    )?;
    Ok(())
}

/// Arguments outside of memory are told apart even where nothing is done with them.
fn refuse(guest: &mut Guest<'_>, parts: &[(u32, u32)], answer: Status) -> Result<(), Refusal> {
    let (memory, _) = guest.parts()?;
    for (pointer, size) in parts {
        slice(memory, *pointer, *size)?;
    }
    Err(answer.into())
}

/// The status of the last gRPC call: there was none.
fn status(guest: &mut Guest<'_>, code_at: u32, text_at: u32, size_at: u32) -> Result<(), Refusal> {
    guest.write_u32(code_at, 0)?;
    guest.give(&[], text_at, size_at)
}
