//! The functions a filter imports, by noun. A filter that needs another one does not load.

mod bytes;
mod foreign;
mod grpc;
mod headers;
mod http_call;
mod log;
mod metrics;
mod property;
mod queue;
mod shared;
mod stream;
mod system;
mod wasi;

use wasmtime::Linker;

use super::host::Host;

/// The module name of the proxy-wasm ABI's imports.
const ENV: &str = "env";

/// All host functions.
pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bytes::link(linker)?;
    foreign::link(linker)?;
    grpc::link(linker)?;
    headers::link(linker)?;
    http_call::link(linker)?;
    log::link(linker)?;
    metrics::link(linker)?;
    property::link(linker)?;
    queue::link(linker)?;
    shared::link(linker)?;
    stream::link(linker)?;
    system::link(linker)?;
    wasi::link(linker)
}
