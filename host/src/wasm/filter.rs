//! A compiled filter.

use std::fmt;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;

use sha2::{Digest as _, Sha256};
use wasmtime::{
    Engine, ExternType, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig,
    Store,
};

use super::calls;
use super::compiler;
use super::context::Root;
use super::deadline::TICK;
use super::engine;
use super::error::FilterError;
use super::host::{Host, Surroundings};
use super::limits;
use super::shared::Shared;
use crate::files::{self, Audience};

/// Page-aligned, so that loading copies whole pages.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/filter.cwasm")));

/// The versions of the ABI, newest first, by the exports that mark them.
const ABI_VERSIONS: [(&str, Abi); 3] = [
    ("proxy_abi_version_0_2_1", Abi::V0_2),
    ("proxy_abi_version_0_2_0", Abi::V0_2),
    ("proxy_abi_version_0_1_0", Abi::V0_1),
];

/// The export by which a filter tells this host that it is both a network filter and an HTTP filter. Most SDKs export every
/// callback, so callbacks do not tell what a filter is; in other proxies their configuration does.
const BOTH: &str = "peergate_filters_connections_and_requests";

/// The export by which a filter tells this host that it enforces the policy it is given. A filter that says so and does not is
/// taken at its word: whoever names the file answers for it.
const ENFORCES: &str = "peergate_enforces_policy";

/// What differs between the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    /// A header that is not there is empty, and callbacks with headers are not told about the end of the stream.
    V0_1,
    /// 0.2.0 and 0.2.1.
    V0_2,
}

/// Without any of these a filter would let everything pass.
const DECIDING: [&str; 2] = ["proxy_on_context_create", "proxy_on_request_headers"];

/// A compiled filter, shared by all workers.
#[derive(Clone)]
pub struct Filter {
    instance: InstancePre<Host>,
    shared: Arc<Shared>,
    abi: Abi,
    roots: &'static [Root],
    /// The same for all copies, and for no other filter.
    identity: Arc<()>,
}

impl Filter {
    /// The filter built into this binary, compiled ahead by the build script.
    pub fn embedded() -> Result<Self, FilterError> {
        // SAFETY: the build script of this crate wrote these bytes with `Engine::precompile_module`, with the same
        // wasmtime and the same settings, and nothing has changed them since they were linked in.
        unsafe { Self::from_native(&EMBEDDED.0) }.map(|filter| filter.sharing(Shared::of([0; 32])))
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
        let filter = unsafe { Self::from_native(&native) }?;
        Ok(filter.sharing(Shared::of(Sha256::digest(wasm).into())))
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
        let abi = ABI_VERSIONS.iter().find(|(name, _)| exports_function(module, name));
        let (_, abi) = *abi.ok_or(FilterError::Abi)?;
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
        Ok(Self { instance, shared: Arc::default(), abi, roots: roots(module), identity: Arc::default() })
    }

    fn sharing(self, shared: Arc<Shared>) -> Self {
        Self { shared, ..self }
    }

    /// The same filter where only connections are judged. One that does not say that it is both is asked as a network
    /// filter then; elsewhere it is an HTTP filter if it can be.
    #[must_use]
    pub fn for_connections(self) -> Self {
        if self.is_both() { self } else { Self { roots: &[Root::Network], ..self } }
    }

    /// Whether the filter has a callback that can refuse a connection. Without one every peer passes the network gate,
    /// so such a filter must not guard a listener that is not HTTP.
    pub fn judges_connections(&self) -> bool {
        judges_connections(self.instance.module())
    }

    /// Whether the filter has a callback that can refuse a request.
    pub fn judges_requests(&self) -> bool {
        exports_function(self.instance.module(), "proxy_on_request_headers")
    }

    /// Whether the filter enforces the rules of its policy, as ours does.
    pub fn enforces_policy(&self) -> bool {
        exports_function(self.instance.module(), ENFORCES)
    }

    /// Whether both are one filter, loaded once.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity) && self.roots == other.roots
    }

    /// Whether the filter can be called by anything but connections and requests: timers, queues, answers to its calls.
    pub(super) fn has_events(&self) -> bool {
        let module = self.instance.module();
        ["proxy_on_tick", "proxy_on_queue_ready", "proxy_on_http_call_response"]
            .iter()
            .any(|name| exports_function(module, name))
    }

    pub(super) fn abi(&self) -> Abi {
        self.abi
    }

    /// The root contexts it has in this host.
    pub(super) fn roots(&self) -> &'static [Root] {
        self.roots
    }

    /// Whether it is both a network filter and an HTTP filter, and has a root for each.
    pub(super) fn is_both(&self) -> bool {
        exports_function(self.instance.module(), BOTH)
    }

    pub(super) fn engine(&self) -> &Engine {
        self.instance.module().engine()
    }

    pub(super) fn instance(&self) -> &InstancePre<Host> {
        &self.instance
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
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

fn judges_connections(module: &Module) -> bool {
    ["proxy_on_new_connection", "proxy_on_downstream_data"].iter().any(|name| exports_function(module, name))
}

fn roots(module: &Module) -> &'static [Root] {
    if exports_function(module, BOTH) {
        &[Root::Network, Root::Http]
    } else if judges_connections(module) && !exports_function(module, "proxy_on_request_headers") {
        &[Root::Network]
    } else {
        &[Root::Http]
    }
}

fn unknown_imports(linker: &Linker<Host>, module: &Module) -> Vec<String> {
    // Looking a function up needs a store, though none of its data.
    let host = Host::new(Surroundings::none(), Arc::default(), Abi::V0_2, &[], false);
    let mut store = Store::new(module.engine(), host);
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
