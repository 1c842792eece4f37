//! Envoy's bootstrap document. Envoy reads JSON as well as YAML.

mod listener;
mod plugin;
mod release;
mod tls;
mod upstream;

use std::path::PathBuf;

use serde_json::{Value, json};

pub(super) use listener::tcp_connect_options;
pub(super) use plugin::{certificate_in_filter_state, wasm};

pub use listener::{Chain, Listener, http_log_format, tcp_log_format};
pub use release::{Identity, Release, ReleaseError};
pub use tls::{Clients, Tls, TlsParameters};
pub use upstream::Upstream;
pub(super) use upstream::is_literal;

use crate::config::Address;

/// Everything that one Envoy process is started with.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The admin interface, which is for operators only.
    pub admin: Address,
    /// The compiled filter.
    pub filter: PathBuf,
    /// What it listens on.
    pub listeners: Vec<Listener>,
}

/// What a listener carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2, decided for each request.
    Http,
    /// Bytes, decided for each connection before the upstream is connected.
    Tcp,
}

impl Bootstrap {
    /// The bootstrap document.
    pub fn to_json(&self) -> Value {
        let listeners: Vec<_> =
            self.listeners.iter().map(|listener| listener.to_json(&self.filter)).collect();
        let clusters: Vec<_> = self.listeners.iter().filter_map(Listener::cluster).collect();
        json!({
            "admin": {"address": upstream::address(&self.admin)},
            "stats_config": {"stats_tags": [
                {"tag_name": "outcome", "regex": r"^wasmcustom\.peergate_\w+(\.outcome\.([^.]+))"},
                {"tag_name": "reason", "regex": r"^wasmcustom\.peergate_\w+.*?(\.reason\.([^.]+))"},
                {"tag_name": "rule", "regex": r"^wasmcustom\.peergate_\w+.*?(\.rule\.([^.]+))"},
                {"tag_name": "name", "regex": r"^wasmcustom\.peergate_\w+.*?(\.name\.([^.]+))"},
                {"tag_name": "plugin", "regex": r"^wasm\.(([^.]+)\.)vm_reload"},
            ]},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        })
    }
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({"name": name, "typed_config": config})
}
