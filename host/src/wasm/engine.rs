//! Settings of the wasm engine. The build script compiles the embedded filter with this very file, because native
//! code loads only into an engine that was set up alike.

use wasmtime::Config;

/// The settings that shape compiled code. What only matters at run time (the memory pool) is added by the loader.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // proxy-wasm passes 32-bit pointers into the one memory there is.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        // A trap is answered by a denial and a fresh VM; nobody reads its frames.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}
