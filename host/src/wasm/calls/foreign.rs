//! `proxy_call_foreign_function`: this host has no functions of its own to offer.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_call_foreign_function",
        |caller: Caller<'_, Host>,
         name: u32,
         name_size: u32,
         arguments: u32,
         arguments_size: u32,
         _result_at: u32,
         _size_at: u32| {
            code(caller, |guest| call(guest, (name, name_size), (arguments, arguments_size)))
        },
    )?;
    Ok(())
}

fn call(guest: &mut Guest<'_>, name: (u32, u32), arguments: (u32, u32)) -> Result<(), Refusal> {
    let (memory, _) = guest.parts()?;
    slice(memory, name.0, name.1)?;
    slice(memory, arguments.0, arguments.1)?;
    Err(Status::NotFound.into())
}
