//! The command line.

mod check;
mod demo;
mod endpoint;
mod endpoint_new;
mod explain;
mod import;
mod pki;
mod precompile;
mod probe;
mod render;
mod run;
mod schema;
mod test;
mod token;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Who may talk to a service, decided from TLS client certificates by one filter.wasm.
#[derive(Debug, Parser)]
#[command(name = "peergate", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: terminate TLS, let the filter decide, forward what it admits
    Run(run::Run),
    /// Ask a running host for one of its admin pages, for probes of containers that hold no other program
    ///
    /// Exits with 0 if the page says 200, 1 if it says anything else, 2 if there is no answer within 4 s.
    Probe(probe::Probe),
    /// Show real clients being admitted and refused
    Demo(demo::Demo),
    /// Check a policy and the files it names
    Check(check::Check),
    /// Tell which rule matches a peer, or why none does
    Explain(explain::Explain),
    /// Run policy test files
    Test(test::Test),
    /// Make, name, list and revoke bearer tokens
    Token(token::Token),
    /// Make a policy of a Vespa Cloud application's clients
    Import(import::Import),
    /// Make anonymous names for endpoints
    Endpoint(endpoint_new::Endpoint),
    /// Print the JSON Schema of the host's configuration
    Schema(schema::Schema),
    /// Write configuration for Envoy, Istio or the host
    Render(render::Render),
    /// Write a development PKI: certificates to admit and certificates to refuse
    Pki(pki::Pki),
    /// Compile a filter to native code (used by `run --filter`)
    #[command(hide = true)]
    Precompile(precompile::Precompile),
}

impl Cli {
    /// Runs the command. Errors are one line on stderr and the exit code: 1 failed, 2 bad configuration or arguments.
    pub(crate) fn execute(self) -> ExitCode {
        match self.command {
            Command::Run(command) => command.execute(),
            Command::Probe(command) => command.execute(),
            Command::Demo(command) => command.execute(),
            Command::Check(command) => command.execute(),
            Command::Explain(command) => command.execute(),
            Command::Test(command) => command.execute(),
            Command::Token(command) => command.execute(),
            Command::Import(command) => command.execute(),
            Command::Endpoint(command) => command.execute(),
            Command::Schema(command) => command.execute(),
            Command::Render(command) => command.execute(),
            Command::Pki(command) => command.execute(),
            Command::Precompile(command) => command.execute(),
        }
    }
}

/// Writes what is legal and probably not meant to stderr, a line each.
fn warn(warnings: impl IntoIterator<Item = impl std::fmt::Display>) {
    for warning in warnings {
        eprintln!("peergate: warning: {warning}");
    }
}

/// Writes to stdout. A reader that has gone (`| head`) is no failure of ours.
fn print(text: String) {
    let _ = io::stdout().write_all(text.as_bytes());
}
