//! The callbacks a filter exports, looked up once per VM. A callback that is not there is skipped.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::filter::Abi;
use super::host::Host;
use super::vm::Interest;

/// Bytes for the host's answers: the ABI's name, then the one older toolchains export.
const ALLOCATORS: [&str; 2] = ["proxy_on_memory_allocate", "malloc"];

type Callback<P, R> = Option<TypedFunc<P, R>>;

/// A callback with headers, which ABI 0.1 does not tell whether the stream ends.
pub(super) enum HeadersCallback {
    V0_1(Callback<(u32, u32), u32>),
    V0_2(Callback<(u32, u32, u32), u32>),
}

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
    pub(super) request_headers: HeadersCallback,
    pub(super) request_body: Callback<(u32, u32, u32), u32>,
    pub(super) request_trailers: Callback<(u32, u32), u32>,
    pub(super) response_headers: HeadersCallback,
    pub(super) response_body: Callback<(u32, u32, u32), u32>,
    pub(super) response_trailers: Callback<(u32, u32), u32>,
    pub(super) http_call_response: Callback<(u32, u32, u32, u32, u32), ()>,
    pub(super) tick: Callback<u32, ()>,
    pub(super) queue_ready: Callback<(u32, u32), ()>,
    pub(super) done: Callback<u32, u32>,
    pub(super) log: Callback<u32, ()>,
    pub(super) delete: Callback<u32, ()>,
}

impl HeadersCallback {
    fn is_some(&self) -> bool {
        match self {
            Self::V0_1(callback) => callback.is_some(),
            Self::V0_2(callback) => callback.is_some(),
        }
    }
}

impl Exports {
    pub(super) fn interest(&self) -> Interest {
        Interest {
            request_body: self.request_body.is_some(),
            response_head: self.response_headers.is_some(),
            response_body: self.response_body.is_some(),
        }
    }

    /// Fails when an export has one of these names and another type.
    pub(super) fn find(instance: &Instance, store: &mut Store<Host>, abi: Abi) -> wasmtime::Result<Self> {
        let [allocate, malloc] = ALLOCATORS;
        let headers = |store: &mut Store<Host>, name| match abi {
            Abi::V0_1 => find(instance, store, name).map(HeadersCallback::V0_1),
            Abi::V0_2 => find(instance, store, name).map(HeadersCallback::V0_2),
        };
        Ok(Self {
            initialize: find(instance, store, "_initialize")?,
            start: find(instance, store, "_start")?,
            allocate: find(instance, store, allocate)?.or(find(instance, store, malloc)?),
            context_create: find(instance, store, "proxy_on_context_create")?,
            vm_start: find(instance, store, "proxy_on_vm_start")?,
            configure: find(instance, store, "proxy_on_configure")?,
            new_connection: find(instance, store, "proxy_on_new_connection")?,
            downstream_data: find(instance, store, "proxy_on_downstream_data")?,
            request_headers: headers(store, "proxy_on_request_headers")?,
            request_body: find(instance, store, "proxy_on_request_body")?,
            request_trailers: find(instance, store, "proxy_on_request_trailers")?,
            response_headers: headers(store, "proxy_on_response_headers")?,
            response_body: find(instance, store, "proxy_on_response_body")?,
            response_trailers: find(instance, store, "proxy_on_response_trailers")?,
            http_call_response: find(instance, store, "proxy_on_http_call_response")?,
            tick: find(instance, store, "proxy_on_tick")?,
            queue_ready: find(instance, store, "proxy_on_queue_ready")?,
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
