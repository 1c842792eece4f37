//! `peergate schema`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use peergate_host::config;

/// Print the JSON Schema of a file, for editors and checkers.
#[derive(Args, Debug)]
pub(super) struct Schema {
    #[command(subcommand)]
    of: Of,
}

#[derive(Debug, Subcommand)]
enum Of {
    /// Of the configuration of `run --config`
    Host,
}

impl Schema {
    pub(super) fn execute(self) -> ExitCode {
        let Of::Host = self.of;
        super::print(format!("{:#}\n", config::schema()));
        ExitCode::SUCCESS
    }
}
