//! `peergate run`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use peergate_host::log;
use peergate_host::proxy::{Protocol, UpstreamProtocol};
use peergate_host::run::{Settings, run};
use peergate_policy::Endpoint;

use super::endpoint::endpoint;

/// One listener by flags.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// The policy document; without it $VESPA_TLS_CONFIG_FILE names it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How clients are known
    #[arg(long, value_name = "KIND", value_parser = endpoint(), default_value = "peer")]
    endpoint: Endpoint,
    /// What is forwarded
    #[arg(long, value_enum, default_value_t = Forwarded::Http)]
    protocol: Forwarded,
    /// Where to listen; port 0 chooses a free one
    #[arg(long, value_name = "ADDR", value_parser = NonEmptyStringValueParser::new().try_map(resolve))]
    inbound: SocketAddr,
    /// The local service, HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = NonEmptyStringValueParser::new().try_map(host_and_port))]
    upstream: String,
    /// What the local service speaks; gRPC needs h2c
    #[arg(long, value_enum, default_value_t = Spoken::Http1)]
    upstream_protocol: Spoken,
    /// A filter in place of the built-in one
    #[arg(long, value_name = "WASM")]
    filter: Option<PathBuf>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Forwarded {
    Http,
    Tcp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spoken {
    Http1,
    H2c,
}

impl Run {
    pub(super) fn execute(self) -> ExitCode {
        let Some(policy) = self.policy.clone().or_else(policy_from_environment) else {
            eprintln!("peergate: no policy: give `--policy FILE` or set {ENVIRONMENT}");
            return ExitCode::from(2);
        };
        if let Err(error) = log::start() {
            eprintln!("peergate: {error}");
            return ExitCode::FAILURE;
        }
        let result = run(&self.settings(policy));
        let code = match &result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log::line(&format!("peergate: {error}"));
                ExitCode::from(error.exit_code())
            }
        };
        log::flush();
        code
    }

    fn settings(self, policy: PathBuf) -> Settings {
        Settings {
            policy,
            endpoint: self.endpoint,
            protocol: match self.protocol {
                Forwarded::Http => Protocol::Http,
                Forwarded::Tcp => Protocol::Tcp,
            },
            inbound: self.inbound,
            upstream: self.upstream,
            upstream_protocol: match self.upstream_protocol {
                Spoken::Http1 => UpstreamProtocol::Http1,
                Spoken::H2c => UpstreamProtocol::H2c,
            },
            filter: self.filter,
            workers: self.workers.unwrap_or_else(cores),
        }
    }
}

/// Vespa's variable; an empty value is no value, as in Vespa.
fn policy_from_environment() -> Option<PathBuf> {
    std::env::var_os(ENVIRONMENT).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn cores() -> u16 {
    available_parallelism().ok().and_then(|cores| cores.get().try_into().ok()).unwrap_or(1)
}

fn resolve(text: String) -> io::Result<SocketAddr> {
    text.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("has no address"))
}

/// The name is looked up for each connection, so a restarted service may move.
fn host_and_port(text: String) -> Result<String, &'static str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) => Ok(text),
        _ => Err("expected HOST:PORT"),
    }
}

const ENVIRONMENT: &str = "VESPA_TLS_CONFIG_FILE";
