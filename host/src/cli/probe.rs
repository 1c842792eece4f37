//! `peergate probe`.

use std::process::ExitCode;

use clap::Args;
use http::StatusCode;
use http::uri::PathAndQuery;
use peergate_host::admin::probe;
use peergate_host::config::Address;

/// A page of a running host, printed, and as an exit code.
#[derive(Args, Debug)]
pub(super) struct Probe {
    /// Where the admin pages are, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    admin: Address,
    /// Which page
    #[arg(long, value_name = "PATH", default_value = "/readyz", value_parser = page)]
    path: PathAndQuery,
}

impl Probe {
    pub(super) fn execute(self) -> ExitCode {
        let answer = self.admin.resolve().map_err(|error| error.to_string());
        match answer.and_then(|address| probe(address, &self.path).map_err(|error| error.to_string())) {
            Ok(answer) => {
                super::print(answer.text);
                if answer.status == StatusCode::OK {
                    return ExitCode::SUCCESS;
                }
                eprintln!("peergate: {}{}: {}", self.admin, self.path, answer.status);
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("peergate: {}{}: {error}", self.admin, self.path);
                ExitCode::from(2)
            }
        }
    }
}

fn page(text: &str) -> Result<PathAndQuery, String> {
    let path = text.strip_prefix('/').and_then(|_| text.parse().ok());
    path.ok_or_else(|| "expected a path such as `/readyz`".to_owned())
}
