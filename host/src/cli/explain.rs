//! `peergate explain`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::clean::Clean;
use peergate_host::judge::{self, Chain, Engine, Judgement, PeerJson, Question, Subject};
use peergate_host::wasm::HeaderPairs;
use peergate_policy::{Configuration, Endpoint, UnixTime};

use super::endpoint::endpoint;

/// Which rule matches a peer, or why none does.
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    subject: SubjectFlags,
    /// Request method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Request path; without it the connection of a peer is judged, and a data-plane request for `/`
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    path: String,
    /// Kind of endpoint
    #[arg(long, value_name = "KIND", value_parser = endpoint(), default_value = "peer")]
    endpoint: Endpoint,
    /// Request header, `Name: value`; may be repeated
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Bearer token of the request, in a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The time that is now, such as 2026-01-01T00:00:00Z [default: the clock]
    #[arg(long, value_name = "TIME", value_parser = time)]
    now: Option<UnixTime>,
    /// Who answers: filter.wasm, or the engine compiled into this program
    #[arg(long, value_enum, default_value_t = EngineWord::Wasm)]
    engine: EngineWord,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
struct SubjectFlags {
    /// The peer's certificate, then those between it and an authority. They are verified by the policy's authorities, if it has any
    #[arg(long, value_name = "PEM")]
    cert: Option<PathBuf>,
    /// The peer's names, as `{"cn": null, "san_dns": [], "san_uri": [], "san_ip": []}`
    #[arg(long, value_name = "JSON")]
    peer: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum EngineWord {
    Wasm,
    Native,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl EngineWord {
    pub(super) fn engine(self) -> Result<Engine, Box<dyn Error>> {
        Ok(match self {
            Self::Wasm => Engine::embedded_filter()?,
            Self::Native => Engine::Native,
        })
    }
}

impl Explain {
    pub(super) fn execute(self) -> ExitCode {
        match self.judge() {
            Ok(judgement) => {
                super::print(match self.format {
                    Format::Text => judgement.to_string(),
                    Format::Json => format!("{}\n", judgement.to_json()),
                });
                ExitCode::from(u8::from(!judgement.allows()))
            }
            Err(error) => {
                eprintln!("peergate: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn judge(&self) -> Result<Judgement, Box<dyn Error>> {
        let unreadable = |error| format!("cannot read `{}`: {error}", self.policy.display());
        let policy = fs::read_to_string(&self.policy).map_err(unreadable)?;
        let configuration =
            Configuration::of(self.endpoint, &policy).map_err(|error| error.in_file(&self.policy))?;
        super::warn(configuration.policy().warnings().iter().map(|it| it.in_file(&self.policy)));
        let mut headers: HeaderPairs =
            self.headers.iter().map(|text| header(text)).collect::<Result<_, _>>()?;
        if let Some(file) = &self.token_file {
            headers.push(judge::bearer(file).map_err(|error| format!("--token-file: {error}"))?);
        }
        let question = Question {
            policy: &policy,
            endpoint: self.endpoint,
            subject: &self.subject.read(self.endpoint)?,
            method: &self.method,
            path: &self.path,
            headers,
            now: self.now.unwrap_or_else(judge::now),
        };
        let judgement = self.engine.engine()?.judge(&question)?;
        let Some(path) = &self.subject.cert else { return Ok(judgement) };
        let chain = Subject::chain_from_pem_file(path)?;
        Ok(judgement.after(Chain::of(&policy, self.endpoint, &chain, question.now)?))
    }
}

impl SubjectFlags {
    fn read(&self, endpoint: Endpoint) -> Result<Subject, Box<dyn Error>> {
        match (&self.cert, &self.peer) {
            (Some(path), _) => Ok(Subject::from_pem_file(path)?),
            (None, Some(json)) => {
                let peer: Option<PeerJson> = serde_json::from_str(json)
                    .map_err(|error| format!("--peer: {}", Clean(&error.to_string())))?;
                Ok(peer.map_or(Subject::Nobody, Subject::from))
            }
            (None, None) if endpoint == Endpoint::Token => Ok(Subject::Nobody),
            (None, None) => Err("give the peer: `--cert PEM` or `--peer JSON`".into()),
        }
    }
}

/// Arguments are seen by every user of the machine, so no secret may be one; and the error does not repeat it.
fn header(text: &str) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    const SHAPE: &str = "--header: expected `Name: value`";
    let (name, value) = text.split_once(':').ok_or(SHAPE)?;
    let name = name.trim().to_ascii_lowercase();
    match name.as_str() {
        "" => Err(SHAPE),
        "authorization" | "proxy-authorization" | "cookie" => {
            Err("--header: secrets are never arguments; a token goes into a file, for --token-file")
        }
        _ => Ok((name.into_bytes(), value.trim().as_bytes().to_vec())),
    }
}

fn time(text: &str) -> Result<UnixTime, &'static str> {
    judge::time(text).ok_or("expected a time between 1970 and 2554 such as 2026-01-01T00:00:00Z")
}
