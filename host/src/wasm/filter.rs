//! A compiled filter.

use std::fmt;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;

use wasmtime::{
    Engine, ExternType, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig,
    Store,
};

use super::calls;
use super::clock::Clock;
use super::compiler;
use super::deadline::TICK;
use super::engine;
use super::error::FilterError;
use super::host::Host;
use super::limits;
use super::shared::SharedData;
use crate::files::{self, Audience};

/// Page-aligned, so that loading copies whole pages.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/filter.cwasm")));

const ABI_VERSIONS: [&str; 2] = ["proxy_abi_version_0_2_1", "proxy_abi_version_0_2_0"];

/// Without any of these a filter would let everything pass.
const DECIDING: [&str; 2] = ["proxy_on_context_create", "proxy_on_request_headers"];

/// A compiled filter, shared by all workers.
#[derive(Clone)]
pub struct Filter {
    instance: InstancePre<Host>,
    shared: Arc<SharedData>,
}

impl Filter {
    /// The filter built into this binary, compiled ahead by the build script.
    pub fn embedded() -> Result<Self, FilterError> {
        // SAFETY: the build script of this crate wrote these bytes with `Engine::precompile_module`, with the same
        // wasmtime and the same settings, and nothing has changed them since they were linked in.
        unsafe { Self::from_native(&EMBEDDED.0) }
    }

    /// A filter from a file, compiled by a child process so that this one stays small.
    pub fn from_wasm(path: &Path) -> Result<Self, FilterError> {
        let wasm = files::read(path, Audience::Everybody).map_err(FilterError::Read)?;
        Self::compiled_in_child(&wasm)
            .map_err(|error| FilterError::File { path: path.to_owned(), error: Box::new(error) })
    }

    fn compiled_in_child(wasm: &[u8]) -> Result<Self, FilterError> {
        let native = compiler::in_child(wasm)?;
        // SAFETY: our own program made these bytes a moment ago, in a directory only this user can enter.
        unsafe { Self::from_native(&native) }
    }

    /// Compiles in this process: for tests and one-shot tools.
    pub fn from_bytes(wasm: &[u8]) -> Result<Self, FilterError> {
        let engine = shared_engine()?;
        let module =
            Module::from_binary(engine, wasm).map_err(|error| FilterError::Compile(format!("{error:#}")))?;
        Self::new(&module)
    }

    /// # Safety
    ///
    /// `native` must be the unchanged output of `Engine::precompile_module`: it is run as machine code.
    pub(super) unsafe fn from_native(native: &[u8]) -> Result<Self, FilterError> {
        let engine = shared_engine()?;
        // SAFETY: the caller's promise.
        let module = unsafe { Module::deserialize(engine, native) };
        Self::new(&module.map_err(|error| FilterError::Load(format!("{error:#}")))?)
    }

    fn new(module: &Module) -> Result<Self, FilterError> {
        if !ABI_VERSIONS.iter().any(|name| exports_function(module, name)) {
            return Err(FilterError::Abi);
        }
        if !DECIDING.iter().any(|name| exports_function(module, name)) {
            return Err(FilterError::NoCallbacks);
        }
        let wrong_type = |error: wasmtime::Error| FilterError::WrongType(format!("{error:#}"));
        let mut linker = Linker::new(module.engine());
        calls::link(&mut linker).map_err(wrong_type)?;
        let unknown = unknown_imports(&linker, module);
        if !unknown.is_empty() {
            return Err(FilterError::UnknownImports(unknown));
        }
        let instance = linker.instantiate_pre(module).map_err(wrong_type)?;
        Ok(Self { instance, shared: Arc::default() })
    }

    /// Whether the filter has a callback that can refuse a connection. Without one every peer passes the network gate,
    /// so such a filter must not guard a listener that is not HTTP.
    pub fn judges_connections(&self) -> bool {
        let module = self.instance.module();
        ["proxy_on_new_connection", "proxy_on_downstream_data"]
            .iter()
            .any(|name| exports_function(module, name))
    }

    /// Whether the filter has a callback that can refuse a request.
    pub fn judges_requests(&self) -> bool {
        exports_function(self.instance.module(), "proxy_on_request_headers")
    }

    /// Whether both are one filter, loaded once.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(super) fn engine(&self) -> &Engine {
        self.instance.module().engine()
    }

    pub(super) fn instance(&self) -> &InstancePre<Host> {
        &self.instance
    }

    pub(super) fn shared(&self) -> Arc<SharedData> {
        Arc::clone(&self.shared)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// Compiles a module into native code of this machine, for [`Filter`] to load in another process.
pub fn compile(wasm: &[u8]) -> Result<Vec<u8>, FilterError> {
    Engine::new(&engine::config())
        .and_then(|engine| engine.precompile_module(wasm))
        .map_err(|error| FilterError::Compile(format!("{error:#}")))
}

fn exports_function(module: &Module, name: &str) -> bool {
    matches!(module.get_export(name), Some(ExternType::Func(_)))
}

fn unknown_imports(linker: &Linker<Host>, module: &Module) -> Vec<String> {
    let mut store =
        Store::new(module.engine(), Host::new("".into(), Clock::System, Default::default(), Arc::default()));
    module
        .imports()
        .filter(|import| linker.get_by_import(&mut store, import).is_none())
        .map(|import| format!("{}.{}", import.module(), import.name()))
        .collect()
}

/// The one engine of this process. Its epoch is advanced by one thread, which lives as long as the process.
fn shared_engine() -> Result<&'static Engine, FilterError> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let engine =
            pooled().or_else(|_| Engine::new(&engine::config())).map_err(|error| format!("{error:#}"))?;
        let ticking = engine.clone();
        let ticker = thread::Builder::new().name("filter-epoch".to_owned());
        ticker.spawn(move || tick(&ticking)).map_err(|error| format!("no thread for its clock: {error}"))?;
        Ok(engine)
    });
    engine.as_ref().map_err(|error| FilterError::Engine(error.clone()))
}

/// Memory for VMs is set aside once, so that a new VM costs microseconds. Where the address space is too small for
/// that (4 GiB per VM, reserved but not used), the caller goes without the pool.
fn pooled() -> wasmtime::Result<Engine> {
    // Each worker has a VM for each policy that still has connections, and another during a reload.
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let vms = u32::try_from(workers.saturating_mul(16)).unwrap_or(u32::MAX).clamp(256, 4096);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(vms)
        .total_memories(vms)
        .total_tables(vms)
        .max_unused_warm_slots(4)
        .max_memory_size(limits::MEMORY)
        .table_elements(limits::TABLE);
    let mut config = engine::config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

fn tick(engine: &Engine) {
    loop {
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}
