//! `peergate check`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::lint::{Finding, Findings, LintError, lint};
use peergate_host::run::{Checked, RunError, check, check_configuration};
use peergate_policy::{Endpoint, Policy};
use serde_json::json;

use super::endpoint::endpoint;

/// Whether a policy would be taken, and whether the configuration of an Envoy with the filter is safe.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy document
    #[arg(long, value_name = "FILE", required_unless_present_any = ["config", "envoy"])]
    policy: Option<PathBuf>,
    /// The configuration of a host, with the policies it names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Configuration of Envoy or Istio with the filter, YAML or JSON: bootstrap, files of LDS, RDS, CDS, EDS, SDS or ECDS, `/config_dump`,
    /// EnvoyFilter, WasmPlugin. Give files that belong together at once. Exit code 2 and file:line:column for what is unsafe
    #[arg(long, value_name = "FILE", num_args = 1..)]
    envoy: Vec<PathBuf>,
    /// How findings of `--envoy` are printed
    #[arg(long, value_enum, default_value_t = Format::Human, requires = "envoy")]
    format: Format,
    /// The filter of others that the host would run with the policy
    #[arg(long, value_name = "WASM", requires = "policy")]
    filter: Option<PathBuf>,
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

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    Human,
    Json,
}

impl Check {
    pub(super) fn execute(self) -> ExitCode {
        if let Err(error) = self.checked() {
            return refused(&error);
        }
        match self.linted() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(2),
            Err(error) => refused(&error),
        }
    }

    /// Whether Envoy's configuration is safe.
    fn linted(&self) -> Result<bool, LintError> {
        if self.envoy.is_empty() {
            return Ok(true);
        }
        let findings = lint(&self.envoy)?;
        match self.format {
            Format::Human => super::print(human(&findings)),
            Format::Json => super::print(machine(&findings)),
        }
        Ok(findings.is_safe())
    }

    fn checked(&self) -> Result<(), RunError> {
        if let Some(path) = &self.policy {
            let for_host = self.target == Target::Host;
            let Checked { policy, warnings } = check(path, self.endpoint, for_host, self.filter.as_deref())?;
            super::warn(&warnings);
            super::print(format!("{}: good, {}\n", path.display(), admitted(&policy)));
        }
        if let Some(path) = &self.config {
            let (document, warnings) = check_configuration(path)?;
            super::warn(&warnings);
            let listeners = count(document.inbound.len(), "listener");
            super::print(format!("{}: good, {listeners}\n", path.display()));
        }
        Ok(())
    }
}

fn refused(error: &dyn Error) -> ExitCode {
    eprintln!("peergate: {error}");
    ExitCode::from(2)
}

fn human(findings: &Findings) -> String {
    let lines: String = findings.list.iter().map(|finding| format!("{finding}\n")).collect();
    let word = if findings.is_safe() { "safe" } else { "unsafe" };
    format!("{lines}{word}, {}\n", count(findings.filters, "filter"))
}

fn machine(findings: &Findings) -> String {
    let list: Vec<_> = findings.list.iter().map(Finding::to_json).collect();
    format!("{:#}\n", json!({"safe": findings.is_safe(), "filters": findings.filters, "findings": list}))
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
