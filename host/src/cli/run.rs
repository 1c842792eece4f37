//! `peergate run`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use peergate_host::audit::Target;
use peergate_host::config::{self, Address, Admin, Boundary, Document, Inbound, Limits, Upstream};
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
    /// Tell the local service who the peer is (PROXY protocol version 2); with `--protocol tcp`
    #[arg(long, requires = "upstream")]
    proxy_protocol: bool,
    /// Let clients go on as WebSockets, where the policy admits the request and the local service agrees
    #[arg(long, requires = "upstream")]
    websocket: bool,
    /// A second port, for the clients of a cluster: its policy is that of $VESPA_TLS_CONFIG_FILE_INGRESS, its kind `mtls`
    /// if that has a `data-plane`, else `peer`
    #[arg(long, value_name = "ADDR", requires = "ingress_upstream")]
    ingress: Option<Address>,
    /// The service behind that port
    #[arg(long, value_name = "ADDR", requires = "ingress")]
    ingress_upstream: Option<Address>,
    /// What the local service speaks; gRPC needs h2c
    #[arg(long, value_enum, default_value_t = UpstreamProtocol::Http1)]
    upstream_protocol: UpstreamProtocol,
    /// Pages for operators on a loopback address: /metrics, /healthz, /readyz, /config, /connections
    #[arg(long, value_name = "ADDR")]
    admin: Option<Address>,
    /// A host name that requests for these pages may be for, besides IP addresses and `localhost`
    #[arg(long, value_name = "NAME", requires = "admin")]
    admin_host: Vec<String>,
    /// How much is taken at most, such as `connections=5000`; see `limits` of `peergate schema host`
    #[arg(long, value_name = "NAME=NUMBER")]
    limit: Vec<String>,
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
const FLAGS: [&str; 15] = [
    "websocket",
    "proxy_protocol",
    "ingress",
    "ingress_upstream",
    "policy",
    "endpoint",
    "admin",
    "admin_host",
    "limit",
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
        let upstream = Upstream {
            address: upstream,
            protocol: match self.upstream_protocol {
                UpstreamProtocol::Http1 => config::UpstreamProtocol::Http1,
                UpstreamProtocol::H2c => config::UpstreamProtocol::H2c,
            },
            proxy_protocol: self.proxy_protocol,
        };
        let protocol = match self.protocol {
            Protocol::Http => config::Protocol::Http,
            Protocol::Tcp => config::Protocol::Tcp,
        };
        let mut inbound =
            vec![listener(address, protocol, upstream, self.endpoint, self.policy, Boundary::Node)];
        inbound[0].websocket = self.websocket;
        if let (Some(address), Some(upstream)) = (self.ingress, self.ingress_upstream) {
            let upstream =
                Upstream { address: upstream, protocol: Default::default(), proxy_protocol: false };
            let (kind, boundary) = (ingress_kind(), Boundary::Ingress);
            inbound.push(listener(address, config::Protocol::Http, upstream, kind, None, boundary));
        }
        let admin = self.admin.map(|address| Admin { address, hosts: self.admin_host });
        let limits = limits(&self.limit)?;
        let (workers, filter) = (self.workers, self.filter);
        let document = Document { inbound, admin, limits, workers, filter, ..Document::default() };
        Ok(Source::Flags(document.checked()?.into()))
    }
}

/// The limits of `--limit`.
fn limits(settings: &[String]) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for setting in settings {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("--limit: `{}` is not NAME=NUMBER", setting.escape_debug()))?;
        limits.set(name, value).map_err(|error| format!("--limit: {error}"))?;
    }
    Ok(limits)
}

fn listener(
    address: Address,
    protocol: config::Protocol,
    upstream: Upstream,
    kind: Endpoint,
    policy: Option<PathBuf>,
    boundary: Boundary,
) -> Inbound {
    let (names, deprecated_names) = (Vec::new(), Vec::new());
    let endpoint = config::Endpoint { kind, policy, boundary, names, deprecated_names };
    Inbound {
        name: None,
        address,
        protocol,
        upstream,
        endpoints: vec![endpoint],
        admin_path: None,
        websocket: false,
    }
}

/// What the policy of the ingress is for. One that cannot be read is refused in a moment, whatever is said of it here.
fn ingress_kind() -> Endpoint {
    let text = Boundary::Ingress.policy().and_then(|path| std::fs::read_to_string(path).ok());
    let policy: serde_json::Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    if policy.get("data-plane").is_some() { Endpoint::Mtls } else { Endpoint::Peer }
}
