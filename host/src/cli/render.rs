//! `peergate render`.

mod endpoints;
mod mesh;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use peergate_host::config::{self, Address, ConfigError, Document, Endpoint, Inbound, Upstream};
use peergate_host::files::{Audience, read};
use peergate_host::render::envoy::Release;
use peergate_host::render::{self, Format, Plugin, Proxy, RenderError, ServerFiles};
use peergate_policy::Endpoint as Kind;

use endpoints::Endpoints;

/// `peergate render`.
#[derive(Args, Debug)]
pub(super) struct Render {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Envoy's bootstrap: TLS, filter.wasm with the policy, the local service
    Envoy(Envoy),
    /// The configuration of `peergate run --config`
    Host(Host),
    /// Istio's EnvoyFilter and PeerAuthentication
    Istio(mesh::Istio),
    /// Istio's WasmPlugin and PeerAuthentication
    Wasmplugin(mesh::WasmPlugin),
}

/// Each `--name` belongs to the `--endpoint` before it. Certificates that a policy names by file are put in by digest.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("source").required(true).args(["config", "policy"])))]
struct Envoy {
    /// The host's configuration: all its inbound listeners
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoint", "name", "deprecated_name", "protocol", "inbound", "upstream", "upstream_protocol"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    listener: Listener,
    /// Where Envoy's admin interface listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901")]
    admin: Address,
    /// The compiled filter, as Envoy will find it [default: that of the configuration, or target/filter.wasm]
    #[arg(long, value_name = "WASM")]
    filter: Option<PathBuf>,
    /// The server's certificate chain [default: that of the policy's `files`, or /etc/tls/tls.crt]
    #[arg(long, value_name = "PEM")]
    certificate: Option<PathBuf>,
    /// Its key [default: that of the policy's `files`, or /etc/tls/tls.key]
    #[arg(long, value_name = "PEM")]
    private_key: Option<PathBuf>,
    /// What to trust [default: that of the policy's `files`, or /etc/tls/ca.crt]
    #[arg(long, value_name = "PEM")]
    ca_certificates: Option<PathBuf>,
    /// The TCP service speaks before its clients do
    #[arg(long)]
    server_speaks_first: bool,
    /// The oldest Envoy that must be able to use it
    #[arg(long, value_name = "VERSION", default_value_t = Release::CURRENT)]
    envoy_version: Release,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Written::Yaml)]
    format: Written,
}

/// Each `--name` belongs to the `--endpoint` before it.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("source").required(true).args(["policy"])))]
struct Host {
    #[command(flatten)]
    listener: Listener,
    /// Where pages for operators are served
    #[arg(long, value_name = "ADDR")]
    admin: Option<Address>,
    /// A filter in place of the built-in one
    #[arg(long, value_name = "WASM")]
    filter: Option<PathBuf>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// One port.
#[derive(Args, Debug)]
struct Listener {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    endpoints: Endpoints,
    /// What is forwarded
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    protocol: Protocol,
    /// Where to listen, HOST:PORT or unix:/path
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4443")]
    inbound: Address,
    /// The local service, HOST:PORT or unix:/path
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    upstream: Address,
    /// What the local service speaks; gRPC needs h2c
    #[arg(long, value_enum, default_value_t = UpstreamProtocol::Http1)]
    upstream_protocol: UpstreamProtocol,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Protocol {
    Http,
    Tcp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UpstreamProtocol {
    Http1,
    H2c,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Written {
    Yaml,
    Json,
}

impl Render {
    pub(super) fn execute(self) -> ExitCode {
        let rendered = match self.command {
            Command::Envoy(command) => command.rendered(),
            Command::Host(command) => command.rendered(),
            Command::Istio(command) => command.rendered(),
            Command::Wasmplugin(command) => command.rendered(),
        };
        match rendered {
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

impl Envoy {
    fn rendered(self) -> Result<String, String> {
        let document = match &self.config {
            Some(path) => read_config(path).map_err(|error| error.to_string())?,
            None => self.listener.document(None, None, None)?,
        };
        let document = with_default_policy(document);
        warn(&document).map_err(|error| error.to_string())?;
        let proxy = Proxy {
            release: self.envoy_version,
            admin: self.admin,
            filter: self.filter.or(document.filter.clone()).unwrap_or_else(|| FILTER.into()),
            files: ServerFiles {
                certificate: self.certificate,
                private_key: self.private_key,
                ca_certificates: self.ca_certificates,
            },
            server_speaks_first: self.server_speaks_first,
        };
        let bootstrap = render::envoy_bootstrap(&document, &proxy).map_err(|error| error.to_string())?;
        let comment = format!(
            "Envoy {} or later with filter.wasm, made by `peergate render envoy`.\n\
             Make it again when the policy changes. The policy is under `configuration`, as the filter reads it.",
            proxy.release
        );
        Ok(self.format.format().write(&bootstrap.to_json(), &comment))
    }
}

impl Host {
    fn rendered(self) -> Result<String, String> {
        let document = self.listener.document(self.admin, self.workers, self.filter)?;
        for endpoint in document.inbound.iter().flat_map(|inbound| &inbound.endpoints) {
            plugin(endpoint).map_err(|error| error.to_string())?;
        }
        Ok(Format::Json.write(&render::host_document(&document), ""))
    }
}

impl Listener {
    /// The configuration that says the same.
    fn document(
        self,
        admin: Option<Address>,
        workers: Option<u16>,
        filter: Option<PathBuf>,
    ) -> Result<Document, String> {
        let policy = self.policy.ok_or_else(|| RenderError::NoPolicy.to_string())?;
        // A rendered configuration is not read where this one was written.
        let policy = std::path::absolute(&policy).map_err(|error| error.to_string())?;
        let inbound = Inbound {
            name: None,
            address: self.inbound,
            protocol: match self.protocol {
                Protocol::Http => config::Protocol::Http,
                Protocol::Tcp => config::Protocol::Tcp,
            },
            upstream: Upstream {
                address: self.upstream,
                protocol: match self.upstream_protocol {
                    UpstreamProtocol::Http1 => config::UpstreamProtocol::Http1,
                    UpstreamProtocol::H2c => config::UpstreamProtocol::H2c,
                },
                proxy_protocol: false,
            },
            endpoints: self.endpoints.with_policy(&policy).map_err(|error| error.to_string())?,
            admin_path: None,
            websocket: false,
        };
        let (inbound, admin) =
            (vec![inbound], admin.map(|address| config::Admin { address, hosts: Vec::new() }));
        Document { inbound, admin, workers, filter, ..Document::default() }.checked()
    }
}

/// Where `make wasm` puts it.
const FILTER: &str = "target/filter.wasm";

impl Written {
    fn format(self) -> Format {
        match self {
            Self::Yaml => Format::Yaml,
            Self::Json => Format::Json,
        }
    }
}

fn read_config(path: &std::path::Path) -> Result<Document, ConfigError> {
    let bytes = read(path, Audience::Everybody).map_err(ConfigError::File)?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::Encoding(path.to_owned()))?;
    Document::parse(&text, path)
}

/// An endpoint without a policy has Vespa's.
fn with_default_policy(mut document: Document) -> Document {
    for endpoint in document.inbound.iter_mut().flat_map(|inbound| &mut inbound.endpoints) {
        endpoint.policy = endpoint.policy.take().or_else(|| endpoint.boundary.policy());
    }
    document
}

fn warn(document: &Document) -> Result<(), RenderError> {
    for endpoint in document.inbound.iter().flat_map(|inbound| &inbound.endpoints) {
        super::warn(plugin(endpoint)?.warnings());
    }
    Ok(())
}

fn plugin(endpoint: &Endpoint) -> Result<Plugin, RenderError> {
    let policy = endpoint.policy.as_deref().ok_or(RenderError::NoPolicy)?;
    Plugin::read(policy, endpoint.kind, &endpoint.names, &endpoint.deprecated_names)
}

/// The kind that is meant where none is said.
fn usable_kind(policy: &std::path::Path) -> Result<Kind, RenderError> {
    render::usable_kind(policy)
}
