//! `peergate check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::run::check;

/// Whether a policy would be taken.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Where it will be used: a host also reads the files it names
    #[arg(long, value_enum, default_value_t = Target::Host)]
    target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Target {
    Host,
    Filter,
}

impl Check {
    pub(super) fn execute(self) -> ExitCode {
        match check(&self.policy, self.target == Target::Host) {
            Ok(policy) => {
                for warning in policy.warnings() {
                    eprintln!("peergate: warning: {warning}");
                }
                let peers = match policy.rules().len() {
                    0 => "every certificate of the CA is admitted".to_owned(),
                    1 => "1 authorized peer".to_owned(),
                    count => format!("{count} authorized peers"),
                };
                super::print(format!("{}: good, {peers}\n", self.policy.display()));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }
}
