//! `peergate precompile`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use peergate_host::precompile::precompile;

/// Input and output of the compiler.
#[derive(Args, Debug)]
pub(super) struct Precompile {
    /// The filter
    input: PathBuf,
    /// Where the native code goes
    output: PathBuf,
}

impl Precompile {
    pub(super) fn execute(self) -> ExitCode {
        match precompile(&self.input, &self.output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }
}
