//! `peergate render istio` and `wasmplugin`.

use std::path::{Path, PathBuf};

use clap::Args;
use peergate_host::files::{Audience, read};
use peergate_host::render::envoy::{self, Release};
use peergate_host::render::{Mesh, Module, Plugin};
use peergate_policy::{Endpoint, sha256};
use serde_json::Value;

use super::{Protocol, Written};
use crate::cli::endpoint::endpoint;

/// The filter by a patch of Envoy's listeners, from a file in the proxy's container.
#[derive(Args, Debug)]
pub(super) struct Istio {
    #[command(flatten)]
    place: Place,
    /// The compiled filter in the proxy's container
    #[arg(long, value_name = "WASM", default_value = MOUNTED)]
    filter: PathBuf,
}

/// The filter by a plugin, which the proxies fetch.
#[derive(Args, Debug)]
pub(super) struct WasmPlugin {
    #[command(flatten)]
    place: Place,
    /// Where the proxies find the filter: oci://, https:// or file://
    #[arg(long, value_name = "URL", default_value = "file:///var/lib/peergate/filter.wasm")]
    url: String,
    /// SHA-256 of what is at the URL; of an image, that of its manifest [default: that in the URL, `@sha256:`, or of --filter]
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The compiled filter, here
    #[arg(long, value_name = "WASM", default_value = "target/filter.wasm")]
    filter: PathBuf,
}

/// Whom it is for.
#[derive(Args, Debug)]
struct Place {
    /// The policy document
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// How clients are known [default: the one that the policy can be for]
    #[arg(long, value_name = "KIND", value_parser = endpoint())]
    endpoint: Option<Endpoint>,
    /// The resources' name. Two workloads of one namespace with the same port need one each: the same name would replace the other
    /// [default: peergate-PROTOCOL-PORT, such as peergate-http-8080]
    #[arg(long)]
    name: Option<String>,
    /// Their namespace
    #[arg(long)]
    namespace: Option<String>,
    /// A label of the pods; without one, all of the namespace
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The container's port behind the sidecar, or the gateway's
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// What is forwarded
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    protocol: Protocol,
    /// For a gateway, whose Gateway resource must have `tls.mode: MUTUAL` for peers
    #[arg(long)]
    gateway: bool,
    /// The TCP service speaks before its clients do
    #[arg(long)]
    server_speaks_first: bool,
    /// The oldest Envoy in the proxies [default: 1.36 for HTTP, 1.37 for TCP]
    #[arg(long, value_name = "VERSION")]
    envoy_version: Option<Release>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Written::Yaml)]
    format: Written,
}

impl Istio {
    pub(super) fn rendered(self) -> Result<String, String> {
        let (mesh, plugin) = self.place.read()?;
        let resources = mesh.envoy_filter(&plugin, &self.filter).map_err(|error| error.to_string())?;
        Ok(self.place.format.resources(&resources, "peergate render istio"))
    }
}

impl WasmPlugin {
    pub(super) fn rendered(self) -> Result<String, String> {
        let (mesh, plugin) = self.place.read()?;
        let sha256 = self.digest()?;
        let module = Module { url: self.url, sha256 };
        let resources = mesh.wasm_plugin(&plugin, &module).map_err(|error| error.to_string())?;
        Ok(self.place.format.resources(&resources, "peergate render wasmplugin"))
    }
}

impl WasmPlugin {
    /// Istio compares it with the digest of an image's manifest, or of the module that it fetched.
    fn digest(&self) -> Result<String, String> {
        let pinned = self.url.split_once("@sha256:").map(|(_, hex)| hex);
        for (hex, place) in [(self.sha256.as_deref(), "--sha256"), (pinned, "--url")] {
            if hex.is_some_and(|hex| !is_digest(hex)) {
                return Err(format!("`{place}`: expected 64 lower-case hex digits"));
            }
        }
        match (self.sha256.as_deref(), pinned) {
            (Some(given), Some(pinned)) if given != pinned => {
                Err(format!("`--sha256`: the URL says `{pinned}`; leave one of them out"))
            }
            (Some(hex), _) | (None, Some(hex)) => Ok(hex.to_owned()),
            (None, None) if self.url.starts_with("oci://") => Err(format!(
                "`--url`: the image's digest is missing, `make oci` prints it; write `{}@sha256:DIGEST`",
                self.url
            )),
            (None, None) => digest(&self.filter),
        }
    }
}

impl Place {
    fn read(&self) -> Result<(Mesh, Plugin), String> {
        let kind = match self.endpoint {
            Some(kind) => kind,
            None => super::usable_kind(&self.policy).map_err(|error| error.to_string())?,
        };
        let plugin = Plugin::read(&self.policy, kind, &[], &[]).map_err(|error| error.to_string())?;
        crate::cli::warn(plugin.warnings());
        let (protocol, release) = match self.protocol {
            Protocol::Http => (envoy::Protocol::Http, Release::OLDEST),
            Protocol::Tcp => (envoy::Protocol::Tcp, Release::OLDEST_FOR_TCP),
        };
        let mesh = Mesh {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            labels: self.labels.iter().cloned().collect(),
            port: self.port,
            protocol,
            gateway: self.gateway,
            release: self.envoy_version.unwrap_or(release),
            server_speaks_first: self.server_speaks_first,
        };
        Ok((mesh, plugin))
    }
}

impl Written {
    fn resources(self, resources: &[Value], command: &str) -> String {
        let comment = format!("Made by `{command}`. Make it again when the policy changes.");
        match self {
            Self::Json => {
                let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": resources});
                self.format().write(&list, "")
            }
            Self::Yaml => {
                let first = std::iter::once(comment.as_str()).chain(std::iter::repeat(""));
                let texts = resources.iter().zip(first).map(|(it, comment)| self.format().write(it, comment));
                texts.collect::<Vec<_>>().join("---\n")
            }
        }
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE"),
    }
}

fn is_digest(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digest(filter: &Path) -> Result<String, String> {
    let bytes = read(filter, Audience::Everybody)
        .map_err(|error| format!("{error}; name the filter with `--filter`, or give `--sha256`"))?;
    Ok(sha256(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

const MOUNTED: &str = "/var/lib/peergate/filter.wasm";
