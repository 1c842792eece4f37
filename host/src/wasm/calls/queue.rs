//! The four functions on shared queues.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::limits;
use super::super::property::PLUGIN_NAME;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_register_shared_queue",
        |caller: Caller<'_, Host>, name: u32, size: u32, id_at: u32| {
            code(caller, |guest| register(guest, (name, size), id_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_resolve_shared_queue",
        |caller: Caller<'_, Host>, vm: u32, vm_size: u32, name: u32, size: u32, id_at: u32| {
            code(caller, |guest| resolve(guest, (vm, vm_size), (name, size), id_at))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_enqueue_shared_queue",
        |caller: Caller<'_, Host>, id: u32, item: u32, size: u32| {
            code(caller, |guest| enqueue(guest, id, (item, size)))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_dequeue_shared_queue",
        |caller: Caller<'_, Host>, id: u32, item_at: u32, size_at: u32| {
            code(caller, |guest| dequeue(guest, id, item_at, size_at))
        },
    )?;
    Ok(())
}

/// A request's context registers for its root, which is the one that is told.
fn register(guest: &mut Guest<'_>, name: (u32, u32), id_at: u32) -> Result<(), Refusal> {
    let (memory, host) = guest.parts()?;
    let name = slice(memory, name.0, name.1)?;
    let id = host.shared.queues.register(name, host.root()?.id(), &host.surroundings.notices)?;
    host.events.listen(id);
    Ok(guest.write_u32(id_at, id)?)
}

/// All VMs of a filter have one name, which may be left out.
fn resolve(guest: &mut Guest<'_>, vm: (u32, u32), name: (u32, u32), id_at: u32) -> Result<(), Refusal> {
    let (memory, host) = guest.parts()?;
    let (vm, name) = (slice(memory, vm.0, vm.1)?, slice(memory, name.0, name.1)?);
    if !vm.is_empty() && vm != PLUGIN_NAME.as_bytes() {
        return Err(Status::NotFound.into());
    }
    let id = host.shared.queues.resolve(name)?;
    Ok(guest.write_u32(id_at, id)?)
}

fn enqueue(guest: &mut Guest<'_>, id: u32, item: (u32, u32)) -> Result<(), Refusal> {
    guest.charge((item.1 as usize).min(limits::SHARED_BYTES))?;
    let (memory, host) = guest.parts()?;
    Ok(host.shared.queues.enqueue(id, slice(memory, item.0, item.1)?)?)
}

fn dequeue(guest: &mut Guest<'_>, id: u32, item_at: u32, size_at: u32) -> Result<(), Refusal> {
    // An item is not lost to a pointer that leads nowhere.
    guest.write_u32(item_at, 0)?;
    guest.write_u32(size_at, 0)?;
    let item = guest.host().shared.queues.dequeue(id)?;
    guest.give(&item, item_at, size_at)
}
