//! `peergate import`.

use std::error::Error;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use peergate_host::import::{self, Options};
use peergate_host::judge;
use peergate_policy::token::FINGERPRINT_CONTEXT;

/// What cannot be carried over is listed on standard error, and refused by the policy.
#[derive(Args, Debug)]
pub(super) struct Import {
    /// The application's services.xml; certificates are read relative to its directory
    #[arg(value_name = "SERVICES.XML")]
    services: PathBuf,
    /// The container whose clients are meant [default: the only one, or any if all have the same clients]
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// A new file for the policy [default: standard output]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Replace the file, and all that is in it
    #[arg(long, requires = "policy")]
    force: bool,
    /// The policy's `token-context`, such as `Vespa Cloud tenant data plane:mytenant`
    #[arg(long, value_name = "CONTEXT", value_parser = context)]
    token_context: Option<String>,
    /// Without `<clients>`: pin the certificates of security/clients.pem instead of trusting whom they signed
    #[arg(long)]
    pin: bool,
}

impl Import {
    pub(super) fn execute(self) -> ExitCode {
        match self.import() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn import(&self) -> Result<(), Box<dyn Error>> {
        let import = import::import(
            &self.services,
            &Options {
                container: self.container.as_deref(),
                policy: self.policy.as_deref(),
                token_context: self.token_context.as_deref(),
                pin: self.pin,
                now: judge::now(),
            },
        )?;
        match &self.policy {
            Some(path) => write(path, &import.policy, self.force)?,
            None => super::print(import.policy),
        }
        let mut report = String::new();
        for (title, lines) in [
            ("carried over", import.carried),
            ("not carried over", import.left_out),
            ("to do", import.remarks),
        ] {
            if !lines.is_empty() {
                report += &format!(
                    "{title}:\n{}",
                    lines.iter().map(|line| format!("  {line}\n")).collect::<String>()
                );
            }
        }
        // All is done: a reader that has gone is no failure.
        let _ = io::stderr().write_all(report.as_bytes());
        Ok(())
    }
}

/// A whole file or none, and never by accident in the place of another.
fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let failed = |error: io::Error| {
        let name = path.display().to_string();
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("`{}` exists; name a new file, or replace it with --force", name.escape_debug())
            }
            _ => format!("cannot write `{}`: {error}", name.escape_debug()),
        }
    };
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        // As any new file: what the process's mask leaves of it.
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(drop).map_err(|error| failed(error.error))
}

fn context(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("expected a context"),
        FINGERPRINT_CONTEXT => Err("this is the context of fingerprints; expected the policy's own"),
        text => Ok(text.to_owned()),
    }
}
