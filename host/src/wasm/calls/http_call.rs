//! `proxy_http_call`.

use std::rc::Rc;

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::headers::decode;
use super::super::host::Host;
use super::super::limits;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_http_call",
        |caller: Caller<'_, Host>,
         cluster: u32,
         cluster_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         trailers: u32,
         trailers_size: u32,
         milliseconds: u32,
         token_at: u32| {
            let parts = [
                (cluster, cluster_size),
                (headers, headers_size),
                (body, body_size),
                (trailers, trailers_size),
            ];
            code(caller, |guest| call(guest, parts, milliseconds, token_at))
        },
    )?;
    Ok(())
}

/// The call is made when the callback has ended. Trailers are read and left out, as by Envoy on HTTP/1.1.
fn call(
    guest: &mut Guest<'_>,
    [cluster, headers, body, trailers]: [(u32, u32); 4],
    milliseconds: u32,
    token_at: u32,
) -> Result<(), Refusal> {
    let bytes: usize = [headers.1, body.1].iter().map(|size| *size as usize).sum();
    guest.charge(bytes.min(limits::CALL_BODY))?;
    // So that a call is not made whose token cannot be told.
    guest.write_u32(token_at, 0)?;
    let (memory, host) = guest.parts()?;
    let [cluster, headers, body, trailers] =
        [cluster, headers, body, trailers].map(|(pointer, size)| slice(memory, pointer, size));
    let (cluster, headers, body, _) = (cluster?, headers?, body?, trailers?);
    let root = host.root()?.id();
    // Negative means nothing in Envoy either.
    i32::try_from(milliseconds).map_err(|_| Status::BadArgument)?;
    let clusters = Rc::clone(&host.surroundings.clusters);
    if cluster.len() > limits::NAME {
        return Err(Status::BadArgument.into());
    }
    let address = std::str::from_utf8(cluster).ok().and_then(|name| clusters.get(name));
    let address = address.ok_or(Status::BadArgument)?;
    let token = host.events.call(root, address, decode(headers)?, body, milliseconds)?;
    Ok(guest.write_u32(token_at, token)?)
}
