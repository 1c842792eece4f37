//! `peergate check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::run::{RunError, check, check_configuration};
use peergate_policy::{Endpoint, Policy};

use super::endpoint::endpoint;

/// Whether a policy would be taken.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy document
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    policy: Option<PathBuf>,
    /// The configuration of a host, with the policies it names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
        match self.checked() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn checked(&self) -> Result<(), RunError> {
        if let Some(path) = &self.policy {
            let policy = check(path, self.endpoint, self.target == Target::Host)?;
            for warning in policy.warnings() {
                eprintln!("peergate: warning: {warning}");
            }
            super::print(format!("{}: good, {}\n", path.display(), admitted(&policy)));
        }
        if let Some(path) = &self.config {
            let document = check_configuration(path)?;
            let listeners = count(document.inbound.len(), "listener");
            super::print(format!("{}: good, {listeners}\n", path.display()));
        }
        Ok(())
    }
}

/// Whom the policy admits, in a few words.
fn admitted(policy: &Policy) -> String {
    let clients = policy.data_plane().map(|data_plane| count(data_plane.clients(), "data-plane client"));
    match (policy.admits_any_authenticated(), clients) {
        (true, Some(clients)) => clients,
        (true, None) => "every certificate of the CA is admitted".to_owned(),
        (false, Some(clients)) => format!("{}, {clients}", count(policy.rules().len(), "authorized peer")),
        (false, None) => count(policy.rules().len(), "authorized peer"),
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
