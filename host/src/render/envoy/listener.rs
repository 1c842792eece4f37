//! A port with the filter behind TLS.

use std::path::Path;

use serde_json::{Value, json};

use super::{Clients, Identity, Protocol, Tls, Upstream, plugin, typed, upstream};
use crate::config::Address;

/// A port.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in statistics and in the admin interface.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Where the filter finds the peer's certificate.
    pub identity: Identity,
    /// One for each endpoint.
    pub chains: Vec<Chain>,
    /// Where admitted traffic goes. An HTTP listener without one answers 200 itself.
    pub upstream: Option<Upstream>,
    /// Whether connections may become WebSockets.
    pub websocket: bool,
    /// A TCP service that speaks before its clients do. It is connected after the handshake, and a client that is refused hears
    /// nothing of it.
    pub server_speaks_first: bool,
    /// `log_format` of the access log on standard output.
    pub access_log: Value,
}

/// One endpoint: its own TLS, its own filter in its own VM.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its name, also in statistics.
    pub name: String,
    /// Names in the handshake (SNI) that are for it; without any, every connection is.
    pub server_names: Vec<String>,
    /// TLS.
    pub tls: Tls,
    /// The filter's configuration, JSON.
    pub configuration: String,
    /// Filters with the same VM share its memory, and one trap stops all of them.
    pub vm_id: String,
}

impl Listener {
    pub(super) fn to_json(&self, filter: &Path) -> Value {
        let chains: Vec<_> = self.chains.iter().map(|chain| self.filter_chain(chain, filter)).collect();
        let mut listener =
            json!({"name": self.name, "address": upstream::address(&self.address), "filter_chains": chains});
        if self.chains.iter().any(|chain| !chain.server_names.is_empty()) {
            // Reads the name before a chain is chosen. There is no default chain: other names are closed.
            let inspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
            listener["listener_filters"] = json!([typed("tls_inspector", inspector, json!({}))]);
        }
        listener
    }

    pub(super) fn cluster(&self) -> Option<Value> {
        self.upstream.as_ref().map(|upstream| upstream.cluster(self.protocol))
    }

    fn filter_chain(&self, chain: &Chain, filter: &Path) -> Value {
        let mut filters = match self.protocol {
            Protocol::Http => vec![self.connection_manager(chain, filter)],
            Protocol::Tcp => vec![self.wasm(chain, filter), self.tcp_proxy(chain)],
        };
        if self.protocol == Protocol::Tcp {
            self.prepend_certificate(chain, &mut filters);
        }
        let mut json = json!({
            "transport_socket": chain.tls.transport_socket(self.protocol),
            "filters": filters,
        });
        if !chain.server_names.is_empty() {
            json["name"] = json!(chain.name);
            json["filter_chain_match"] = json!({"server_names": chain.server_names});
        }
        json
    }

    fn connection_manager(&self, chain: &Chain, filter: &Path) -> Value {
        let router = "envoy.extensions.filters.http.router.v3.Router";
        let mut filters = vec![self.wasm(chain, filter), typed("router", router, json!({}))];
        self.prepend_certificate(chain, &mut filters);
        let mut route = json!({"match": {"prefix": "/"}});
        match &self.upstream {
            Some(upstream) => route["route"] = json!({"cluster": upstream.name}),
            None => route["direct_response"] = json!({"status": 200, "body": {"inline_string": "ok\n"}}),
        }
        let hosts = json!([{"name": "service", "domains": ["*"], "routes": [route]}]);
        let mut config = json!({
            "stat_prefix": chain.name,
            // The client's own x-forwarded-client-cert is dropped.
            "forward_client_cert_details": "SANITIZE",
            "access_log": [self.stdout_log()],
            "route_config": {"name": "service", "virtual_hosts": hosts},
            "http_filters": filters,
            // Trailers of HTTP/1.1 are dropped without this.
            "http_protocol_options": {"enable_trailers": true},
        });
        if self.websocket {
            // Without it Envoy answers every upgrade with 403.
            config["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
            config["http2_protocol_options"] = json!({"allow_connect": true});
        }
        let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        typed("http", manager, config)
    }

    fn tcp_proxy(&self, chain: &Chain) -> Value {
        let mut config = tcp_connect_options(self.server_speaks_first);
        config["stat_prefix"] = json!(chain.name);
        config["cluster"] = json!(self.upstream.as_ref().map_or(&self.name, |upstream| &upstream.name));
        config["access_log"] = json!([self.stdout_log()]);
        typed("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", config)
    }

    fn wasm(&self, chain: &Chain, filter: &Path) -> Value {
        plugin::wasm(self.protocol, &chain.vm_id, filter, &chain.configuration)
    }

    fn prepend_certificate(&self, chain: &Chain, filters: &mut Vec<Value>) {
        let asked = !matches!(chain.tls.clients, Clients::Nothing);
        if asked && self.identity == Identity::FilterState {
            filters.insert(0, plugin::certificate_in_filter_state(self.protocol));
        }
    }

    fn stdout_log(&self) -> Value {
        let stdout = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
        typed("stdout", stdout, json!({"log_format": self.access_log}))
    }
}

/// When a TCP proxy connects to its service.
pub(in crate::render) fn tcp_connect_options(server_speaks_first: bool) -> Value {
    let mode = if server_speaks_first {
        "ON_DOWNSTREAM_TLS_HANDSHAKE"
    } else {
        // The service hears nothing of a client that the filter refuses on its first bytes.
        "ON_DOWNSTREAM_DATA"
    };
    json!({"upstream_connect_mode": mode, "max_early_data_bytes": 8192})
}

/// What was decided about each request, as JSON.
pub fn http_log_format() -> Value {
    json!({"json_format": {
        "time": "%START_TIME%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "method": "%REQ(:METHOD)%",
        "authority": "%REQ(:AUTHORITY)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "decision": DECISION,
    }})
}

/// What was decided about each connection, as JSON.
pub fn tcp_log_format() -> Value {
    json!({"json_format": {
        "time": "%START_TIME%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "received": "%BYTES_RECEIVED%",
        "sent": "%BYTES_SENT%",
        "decision": DECISION,
    }})
}

/// Filter state that the filter writes: JSON.
const DECISION: &str = "%FILTER_STATE(wasm.peergate.decision:PLAIN)%";
