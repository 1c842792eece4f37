//! `peergate demo`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use peergate_host::demo::{self, Settings};

/// Real clients, admitted and refused.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Where PKI, policy and logs go [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show the same in this Envoy
    #[arg(long, value_name = "ENVOY", requires = "filter")]
    envoy: Option<PathBuf>,
    /// The filter that Envoy loads
    #[arg(long, value_name = "WASM", requires = "envoy")]
    filter: Option<PathBuf>,
    /// Leave everything running, and print commands to try
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn run(self) -> Result<(), Box<dyn Error>> {
        let temporary = tempfile::tempdir()?;
        let directory = self.out.unwrap_or_else(|| temporary.path().to_owned());
        demo::demo(&Settings { directory, envoy: self.envoy.zip(self.filter), keep: self.keep })
    }
}
