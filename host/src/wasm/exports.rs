//! The callbacks a filter exports, looked up once per VM. A callback that is not there is skipped.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::host::Host;

/// Bytes for the host's answers: the ABI's name, then the one older toolchains export.
const ALLOCATORS: [&str; 2] = ["proxy_on_memory_allocate", "malloc"];

type Callback<P, R> = Option<TypedFunc<P, R>>;

/// Parameters are the ABI's: a context id first, then sizes or counts, and whether the stream ends.
pub(super) struct Exports {
    pub(super) initialize: Callback<(), ()>,
    pub(super) start: Callback<(), ()>,
    pub(super) allocate: Callback<u32, u32>,
    pub(super) context_create: Callback<(u32, u32), ()>,
    pub(super) vm_start: Callback<(u32, u32), u32>,
    pub(super) configure: Callback<(u32, u32), u32>,
    pub(super) new_connection: Callback<u32, u32>,
    pub(super) downstream_data: Callback<(u32, u32, u32), u32>,
    pub(super) request_headers: Callback<(u32, u32, u32), u32>,
    pub(super) request_trailers: Callback<(u32, u32), u32>,
    pub(super) response_headers: Callback<(u32, u32, u32), u32>,
    pub(super) response_trailers: Callback<(u32, u32), u32>,
    pub(super) done: Callback<u32, u32>,
    pub(super) log: Callback<u32, ()>,
    pub(super) delete: Callback<u32, ()>,
}

impl Exports {
    /// Fails when an export has one of these names and another type.
    pub(super) fn find(instance: &Instance, store: &mut Store<Host>) -> wasmtime::Result<Self> {
        let [allocate, malloc] = ALLOCATORS;
        Ok(Self {
            initialize: find(instance, store, "_initialize")?,
            start: find(instance, store, "_start")?,
            allocate: find(instance, store, allocate)?.or(find(instance, store, malloc)?),
            context_create: find(instance, store, "proxy_on_context_create")?,
            vm_start: find(instance, store, "proxy_on_vm_start")?,
            configure: find(instance, store, "proxy_on_configure")?,
            new_connection: find(instance, store, "proxy_on_new_connection")?,
            downstream_data: find(instance, store, "proxy_on_downstream_data")?,
            request_headers: find(instance, store, "proxy_on_request_headers")?,
            request_trailers: find(instance, store, "proxy_on_request_trailers")?,
            response_headers: find(instance, store, "proxy_on_response_headers")?,
            response_trailers: find(instance, store, "proxy_on_response_trailers")?,
            done: find(instance, store, "proxy_on_done")?,
            log: find(instance, store, "proxy_on_log")?,
            delete: find(instance, store, "proxy_on_delete")?,
        })
    }
}

fn find<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<Host>,
    name: &str,
) -> wasmtime::Result<Callback<P, R>> {
    let Some(function) = instance.get_func(&mut *store, name) else { return Ok(None) };
    let function = function.typed(&*store).map_err(|error| error.context(format!("export `{name}`")))?;
    Ok(Some(function))
}
