//! `peergate run`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::audit::Target;
use peergate_host::config::{self, Address, Admin, Document, Inbound, Upstream};
use peergate_host::log;
use peergate_host::run::{Options, Source, run};
use peergate_policy::Endpoint;

use super::endpoint::endpoint;

/// Serve by a configuration file, or one listener by flags.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// The configuration: listeners, endpoints, upstreams (see `peergate schema host`)
    #[arg(long, value_name = "FILE", conflicts_with_all = FLAGS, required_unless_present = "inbound")]
    config: Option<PathBuf>,
    /// The policy document; without it $VESPA_TLS_CONFIG_FILE names it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How clients are known
    #[arg(long, value_name = "KIND", value_parser = endpoint(), default_value = "peer")]
    endpoint: Endpoint,
    /// What is forwarded
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    protocol: Protocol,
    /// Where to listen, HOST:PORT, unix:/path or systemd:NAME; port 0 chooses a free one
    #[arg(long, value_name = "ADDR", requires = "upstream")]
    inbound: Option<Address>,
    /// The local service, HOST:PORT or unix:/path
    #[arg(long, value_name = "ADDR", requires = "inbound")]
    upstream: Option<Address>,
    /// What the local service speaks; gRPC needs h2c
    #[arg(long, value_enum, default_value_t = UpstreamProtocol::Http1)]
    upstream_protocol: UpstreamProtocol,
    /// Pages for operators on a loopback address: /metrics, /healthz, /readyz, /config, /connections
    #[arg(long, value_name = "ADDR")]
    admin: Option<Address>,
    /// Write decisions as JSON lines to a file, or to standard output (`-`)
    #[arg(long, value_name = "FILE")]
    audit: Option<String>,
    /// Do not give up what serving does not need (Landlock, no_new_privs)
    #[arg(long)]
    no_sandbox: bool,
    /// A filter in place of the built-in one
    #[arg(long, value_name = "WASM")]
    filter: Option<PathBuf>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// What a configuration file says itself.
const FLAGS: [&str; 9] = [
    "policy",
    "endpoint",
    "admin",
    "protocol",
    "inbound",
    "upstream",
    "upstream_protocol",
    "filter",
    "workers",
];

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Http,
    Tcp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UpstreamProtocol {
    Http1,
    H2c,
}

impl Run {
    pub(super) fn execute(self) -> ExitCode {
        let options = Options { audit: self.audit.as_deref().map(Target::of), sandbox: !self.no_sandbox };
        let source = match self.source() {
            Ok(source) => source,
            Err(error) => {
                eprintln!("peergate: {error}");
                return ExitCode::from(2);
            }
        };
        if let Err(error) = log::start() {
            eprintln!("peergate: {error}");
            return ExitCode::FAILURE;
        }
        let result = run(source, &options);
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

    fn source(self) -> Result<Source, String> {
        if let Some(path) = self.config {
            return Ok(Source::File(path));
        }
        let (Some(address), Some(upstream)) = (self.inbound, self.upstream) else {
            return Err("give `--config FILE`, or `--inbound ADDR --upstream ADDR`".to_owned());
        };
        let inbound = Inbound {
            name: None,
            address,
            protocol: match self.protocol {
                Protocol::Http => config::Protocol::Http,
                Protocol::Tcp => config::Protocol::Tcp,
            },
            upstream: Upstream {
                address: upstream,
                protocol: match self.upstream_protocol {
                    UpstreamProtocol::Http1 => config::UpstreamProtocol::Http1,
                    UpstreamProtocol::H2c => config::UpstreamProtocol::H2c,
                },
            },
            endpoints: vec![config::Endpoint {
                kind: self.endpoint,
                policy: self.policy,
                names: Vec::new(),
                deprecated_names: Vec::new(),
            }],
            admin_path: None,
        };
        let mut document = Document::of(inbound, self.workers, self.filter)?;
        document.admin = self.admin.map(|address| Admin { address });
        Ok(Source::Flags(document.into()))
    }
}
