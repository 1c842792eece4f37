//! `peergate token`.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use peergate_host::clean::Clean;
use peergate_host::files::{Audience, read};
use peergate_host::judge;
use peergate_host::token::{self, Addition, PolicyFile, Secret, TokenError};
use peergate_policy::token::{FINGERPRINT_CONTEXT, Fingerprint};
use peergate_policy::{Permission, UnixTime};

const DAY: i64 = 86_400;

/// `peergate token`.
#[derive(Args, Debug)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, show it once, and put what is derived from it into a policy
    New(New),
    /// Print the public name of a token
    Fingerprint(Source),
    /// Print what a policy checks a token by
    CheckHash(CheckHash),
    /// List the tokens of a policy
    List(List),
    /// Take a token out of a policy
    Revoke(Revoke),
}

/// A second version of a token id does not end the first: both work until one expires or is revoked.
#[derive(Args, Debug)]
struct New {
    /// The policy document; only fingerprint, check hash and expiration are written into it
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The client that may use the token
    #[arg(long, value_name = "ID", value_parser = id)]
    client: String,
    /// The token's id
    #[arg(long, value_name = "ID", value_parser = id)]
    id: String,
    /// How long it is valid, such as 12h, 30d or 8w
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = ttl, conflicts_with = "no_expiry")]
    ttl: i64,
    /// It never expires
    #[arg(long)]
    no_expiry: bool,
    /// What a new client may do, such as read,write
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    permissions: Vec<PermissionWord>,
    /// A new file for the token, mode 0600 [default: the terminal]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The token comes from standard input, because arguments are seen by every user of the machine.
#[derive(Args, Debug)]
struct Source {
    /// Read the token from this file (`-` is standard input)
    #[arg(long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: PathBuf,
    /// Caught here, so that a token given as an argument is not printed by the usage error.
    #[arg(hide = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(Args, Debug)]
struct CheckHash {
    /// The policy's `token-context`
    #[arg(long, value_name = "CONTEXT", required_unless_present = "arguments")]
    context: Option<String>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args, Debug)]
struct List {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
}

#[derive(Args, Debug)]
struct Revoke {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The token's public name, see `peergate token list`
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PermissionWord {
    Read,
    Write,
}

impl Token {
    pub(super) fn execute(self) -> ExitCode {
        let done = match self.command {
            Command::New(command) => command.execute(),
            Command::Fingerprint(source) => source.secret().map(|secret| {
                println!("{}", secret.derive().fingerprint());
            }),
            Command::CheckHash(command) => command.execute(),
            Command::List(command) => command.execute(),
            Command::Revoke(command) => command.execute(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }
}

impl New {
    fn execute(self) -> Result<(), Box<dyn Error>> {
        if self.out.is_none() && !io::stdout().is_terminal() {
            return Err(
                "standard output is no terminal and may be kept; name a file for the token with --out".into(),
            );
        }
        let permissions: Vec<Permission> = self.permissions.iter().map(|word| word.permission()).collect();
        let expires = UnixTime::from_seconds(judge::now().seconds().saturating_add(self.ttl));
        let addition = Addition {
            client: &self.client,
            permissions: &permissions,
            token: &self.id,
            expiration: (!self.no_expiry).then_some(expires),
        };
        let file = PolicyFile::open(&self.policy)?;
        let secret = Secret::generate()?;
        let after = token::add(file.text(), &addition, &secret.derive())
            .map_err(|error| named(&self.policy, &error))?;
        self.hand_over(&secret, file, &after)?;
        let expiration = addition.expiration.map_or_else(|| "never".to_owned(), |time| time.to_string());
        // All is done: a reader that has gone is no failure.
        let _ = writeln!(
            io::stderr(),
            "peergate: token `{}` of client `{}`: fingerprint {}, expires {expiration}",
            Clean(&self.id),
            Clean(&self.client),
            secret.derive().fingerprint()
        );
        Ok(())
    }

    /// First its maker has the token, then the policy: a version whose token nobody has would be a door without a
    /// guard, and a token that no policy knows opens nothing.
    fn hand_over(&self, secret: &Secret, file: PolicyFile, after: &str) -> Result<(), Box<dyn Error>> {
        let Some(out) = &self.out else {
            show(secret)?;
            return file.replace(after).map_err(|error| match error {
                TokenError::NotDurable { .. } => error.into(),
                error => format!("{error}; the token above opens nothing").into(),
            });
        };
        token::write_secret(out, secret)?;
        file.replace(after).map_err(|error| {
            if !matches!(error, TokenError::NotDurable { .. }) {
                let _ = fs::remove_file(out);
            }
            error.into()
        })
    }
}

/// Writes the token to the terminal.
fn show(secret: &Secret) -> Result<(), Box<dyn Error>> {
    let mut terminal = io::stdout().lock();
    let shown = writeln!(terminal, "{}", secret.expose()).and_then(|()| terminal.flush());
    shown.map_err(|error| format!("cannot show the token: {error}; the policy stays as it was").into())
}

impl Source {
    fn secret(&self) -> Result<Secret, Box<dyn Error>> {
        if !self.arguments.is_empty() {
            return Err(
                "a token is never an argument: give it on standard input, or in a file with --file".into()
            );
        }
        if self.file == Path::new("-") {
            return Ok(Secret::read(io::stdin().lock())?);
        }
        let content = zeroize::Zeroizing::new(read(&self.file, Audience::OwnerAndGroup)?);
        Ok(Secret::read(&content[..])?)
    }
}

impl CheckHash {
    fn execute(self) -> Result<(), Box<dyn Error>> {
        let secret = self.source.secret()?;
        let context = self.context.unwrap_or_default();
        if matches!(&*context, "" | FINGERPRINT_CONTEXT) {
            return Err("--context: this would not be a check hash; name the policy's `token-context`".into());
        }
        println!("{}", secret.derive().check_hash(&context).to_hex());
        Ok(())
    }
}

impl List {
    fn execute(self) -> Result<(), Box<dyn Error>> {
        let text = String::from_utf8(read(&self.policy, Audience::Everybody)?)?;
        let now = judge::now();
        let mut rows = vec![["CLIENT", "TOKEN", "FINGERPRINT", "EXPIRATION", "DAYS LEFT"].map(str::to_owned)];
        for version in token::stored(&text).map_err(|error| named(&self.policy, &error))? {
            rows.push([
                Clean(&version.client).to_string(),
                Clean(&version.token).to_string(),
                version.fingerprint.to_string(),
                version.expiration.map_or_else(|| "<none>".to_owned(), |time| time.to_string()),
                days_left(version.expiration, now),
            ]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..4).map(width).collect();
        for [client, token, fingerprint, expiration, days] in &rows {
            println!(
                "{client:0$}  {token:1$}  {fingerprint:2$}  {expiration:3$}  {days}",
                widths[0], widths[1], widths[2], widths[3]
            );
        }
        Ok(())
    }
}

impl Revoke {
    fn execute(self) -> Result<(), Box<dyn Error>> {
        // Not repeated: somebody may have given the token itself.
        let wrong = "--fingerprint: expected 16 bytes in hexadecimal, such as aa:bb:...";
        let fingerprint: Fingerprint = self.fingerprint.parse().map_err(|_| wrong)?;
        let file = PolicyFile::open(&self.policy)?;
        let after = token::revoke(file.text(), fingerprint).map_err(|error| named(&self.policy, &error))?;
        file.replace(&after)?;
        eprintln!("peergate: token {fingerprint} is out of the policy; SIGHUP makes a running host read it");
        Ok(())
    }
}

impl PermissionWord {
    fn permission(self) -> Permission {
        match self {
            Self::Read => Permission::Read,
            Self::Write => Permission::Write,
        }
    }
}

/// The error with its file, and with line and column where it has a place.
fn named(policy: &Path, error: &TokenError) -> String {
    match error {
        TokenError::Policy(error) => error.in_file(policy),
        other => format!("{}: {other}", policy.display().to_string().escape_debug()),
    }
}

/// Whole days; `expired` after the last instant.
fn days_left(expiration: Option<UnixTime>, now: UnixTime) -> String {
    match expiration {
        None => "never expires".to_owned(),
        Some(time) if now > time => "expired".to_owned(),
        Some(time) => (time.seconds().saturating_sub(now.seconds()) / DAY).to_string(),
    }
}

fn id(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("expected an id") } else { Ok(text.to_owned()) }
}

/// Seconds from a number and a unit, at most a century.
fn ttl(text: &str) -> Result<i64, &'static str> {
    const ERROR: &str = "expected a number and one of s, m, h, d, w, such as 30d";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(ERROR)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(ERROR),
    };
    let number: u32 = number.parse().map_err(|_| ERROR)?;
    match i64::from(number) * unit {
        0 => Err("a token that expires at once is no use"),
        seconds if seconds > 36_525 * DAY => Err("more than a century; use --no-expiry"),
        seconds => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit() {
        for (text, seconds) in [
            ("30d", Some(30 * DAY)),
            ("12h", Some(43_200)),
            ("1s", Some(1)),
            ("90m", Some(5400)),
            ("8w", Some(56 * DAY)),
            ("36525d", Some(36_525 * DAY)),
            ("36526d", None),
            ("4294967295w", None),
            ("0d", None),
            ("-1d", None),
            ("30", None),
            ("30 d", None),
            ("d", None),
            ("", None),
            ("3é", None),
        ] {
            assert_eq!(ttl(text).ok(), seconds, "{text}");
        }
    }

    #[test]
    fn days_are_whole() {
        let now = UnixTime::new(DAY * 10, 500);
        for (expiration, left) in [
            (None, "never expires"),
            (Some(UnixTime::new(DAY * 10, 499)), "expired"),
            (Some(UnixTime::new(DAY * 10, 500)), "0"),
            (Some(UnixTime::from_seconds(DAY * 11 - 1)), "0"),
            (Some(UnixTime::from_seconds(DAY * 11)), "1"),
            (Some(UnixTime::from_seconds(DAY * 40)), "30"),
        ] {
            assert_eq!(days_left(expiration, now), left);
        }
    }
}
