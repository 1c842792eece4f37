//! The four functions on metrics.

use wasmtime::{Caller, Linker};

use super::super::guest::{Guest, code, slice};
use super::super::host::Host;
use super::super::limits;
use super::super::metrics::Metrics;
use super::super::status::{Refusal, Status};
use super::ENV;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_define_metric",
        |caller: Caller<'_, Host>, kind: u32, name: u32, name_size: u32, id_at: u32| {
            code(caller, |guest| define(guest, kind, (name, name_size), id_at))
        },
    )?;
    linker.func_wrap(ENV, "proxy_increment_metric", |caller: Caller<'_, Host>, id: u32, offset: i64| {
        code(caller, |guest| on_lasting(guest, |metrics| metrics.increment(id, offset)))
    })?;
    linker.func_wrap(ENV, "proxy_record_metric", |caller: Caller<'_, Host>, id: u32, value: u64| {
        code(caller, |guest| on_lasting(guest, |metrics| metrics.record(id, value)))
    })?;
    linker.func_wrap(ENV, "proxy_get_metric", |caller: Caller<'_, Host>, id: u32, value_at: u32| {
        code(caller, |guest| value(guest, id, value_at))
    })?;
    Ok(())
}

fn define(guest: &mut Guest<'_>, kind: u32, name: (u32, u32), id_at: u32) -> Result<(), Refusal> {
    // All names are looked through.
    guest.charge(limits::METRICS)?;
    let (memory, _) = guest.parts()?;
    let name = slice(memory, name.0, name.1)?;
    if name.len() > limits::NAME {
        return Err(Status::BadArgument.into());
    }
    let name = std::str::from_utf8(name).map_err(|_| Status::BadArgument)?.to_owned();
    let id = on_metrics(guest, |metrics| metrics.define(kind, &name))?;
    Ok(guest.write_u32(id_at, id)?)
}

fn value(guest: &mut Guest<'_>, id: u32, value_at: u32) -> Result<(), Refusal> {
    let value = on_metrics(guest, |metrics| metrics.value(id))?;
    Ok(guest.write_u64(value_at, value)?)
}

/// Counts what happened; a request that nobody made did not.
fn on_lasting(
    guest: &Guest<'_>,
    work: impl FnOnce(&mut Metrics) -> Result<(), Status>,
) -> Result<(), Refusal> {
    if guest.host().is_trial() { Ok(()) } else { on_metrics(guest, work) }
}

fn on_metrics<R>(
    guest: &Guest<'_>,
    work: impl FnOnce(&mut Metrics) -> Result<R, Status>,
) -> Result<R, Refusal> {
    let mut metrics =
        guest.host().surroundings.metrics.try_borrow_mut().map_err(|_| Status::InternalFailure)?;
    Ok(work(&mut metrics)?)
}
