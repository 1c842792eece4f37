//! `peergate check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::run::check;
use peergate_policy::{Endpoint, Policy};

use super::endpoint::endpoint;

/// Whether a policy would be taken.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Kind of endpoint [default: the one that the policy can be for]
    #[arg(long, value_name = "KIND", value_parser = endpoint())]
    endpoint: Option<Endpoint>,
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
        match check(&self.policy, self.endpoint, self.target == Target::Host) {
            Ok(policy) => {
                for warning in policy.warnings() {
                    eprintln!("peergate: warning: {warning}");
                }
                super::print(format!("{}: good, {}\n", self.policy.display(), admitted(&policy)));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }
}

/// Whom the policy admits, in a few words.
fn admitted(policy: &Policy) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let clients = policy.data_plane().map(|data_plane| count(data_plane.clients(), "data-plane client"));
    match (policy.admits_any_authenticated(), clients) {
        (true, Some(clients)) => clients,
        (true, None) => "every certificate of the CA is admitted".to_owned(),
        (false, Some(clients)) => format!("{}, {clients}", count(policy.rules().len(), "authorized peer")),
        (false, None) => count(policy.rules().len(), "authorized peer"),
    }
}
