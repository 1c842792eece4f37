//! `peergate endpoint`.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use peergate_host::endpoint_name::{EndpointNameError, Group, Zone};
use serde_json::json;

/// `peergate endpoint`.
#[derive(Args, Debug)]
pub(super) struct Endpoint {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make names that tell nothing of their owner, and the wildcard that a certificate for them has
    New(New),
}

/// A wildcard covers exactly one label, so only names of one group share a certificate.
#[derive(Args, Debug)]
struct New {
    /// The label after the group, such as z for a zone
    #[arg(long, value_name = "LABEL")]
    scope: String,
    /// The domain the names are under, such as vespa-app.cloud
    #[arg(long, value_name = "DOMAIN")]
    suffix: String,
    /// How many names
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// The second label of names that there are, for more that their certificate covers [default: a new group]
    #[arg(long, value_name = "HEX8")]
    group: Option<Group>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Endpoint {
    pub(super) fn execute(self) -> ExitCode {
        let Command::New(command) = self.command;
        match command.text() {
            Ok(text) => {
                super::print(text);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }
}

impl New {
    fn text(&self) -> Result<String, EndpointNameError> {
        let zone = Zone::new(&self.scope, &self.suffix)?;
        let group = self.group.map_or_else(Group::random, Ok)?;
        let (names, wildcard) = (zone.names(group, self.count)?, zone.wildcard(group));
        Ok(match self.format {
            Format::Text => {
                let width = names.first().map_or(0, String::len);
                let rows = names.iter().map(|name| format!("{name}  {wildcard}\n"));
                format!("{:width$}  WILDCARD\n", "NAME") + &rows.collect::<String>()
            }
            Format::Json => {
                format!("{}\n", json!({"names": names, "wildcard": wildcard, "group": group.to_string()}))
            }
        })
    }
}
