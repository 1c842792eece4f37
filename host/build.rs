//! Compiles filter.wasm ahead of time into native code for the baseline CPU of the target, so that the server starts
//! within a millisecond and the same binary runs on every machine of its architecture.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "src/wasm/engine.rs"]
mod engine;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/wasm/engine.rs");
    println!("cargo::rerun-if-env-changed=PEERGATE_FILTER_WASM");
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let wasm = filter_path()?;
    println!("cargo::rerun-if-changed={}", wasm.display());
    let bytes =
        fs::read(&wasm).map_err(|error| format!("`{}`: {error}; run `make wasm` first", wasm.display()))?;

    let mut config = engine::config();
    let target = variable("TARGET")?;
    // Naming the target, even our own, leaves out every CPU feature beyond its baseline.
    config.target(&target).map_err(|error| format!("wasmtime cannot compile for `{target}`: {error:#}"))?;
    let code = wasmtime::Engine::new(&config)
        .and_then(|engine| engine.precompile_module(&bytes))
        .map_err(|error| format!("`{}` cannot be compiled: {error:#}", wasm.display()))?;

    let output = Path::new(&variable("OUT_DIR")?).join("filter.cwasm");
    fs::write(&output, code).map_err(|error| format!("`{}`: {error}", output.display()))
}

fn filter_path() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("PEERGATE_FILTER_WASM") {
        return Ok(path.into());
    }
    Ok(Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../target/filter.wasm"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("`{name}`: {error}"))
}
