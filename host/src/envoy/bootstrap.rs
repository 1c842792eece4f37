//! The bootstrap document.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Everything one Envoy process is started with. All ports are 0: Envoy picks free ones.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The compiled filter.
    pub filter: PathBuf,
    /// What it listens on.
    pub listeners: Vec<Listener>,
}

/// One mTLS listener with the filter in front of an upstream.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name, also that of its upstream cluster.
    pub name: String,
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Certificate, key and trusted authorities.
    pub tls: ServerTls,
    /// The filter's configuration, as JSON.
    pub configuration: Value,
    /// Where the filter finds the peer's certificate.
    pub identity: Identity,
    /// Where admitted traffic goes. An HTTP listener without one answers 200 itself.
    pub upstream: Option<SocketAddr>,
    /// Listeners with the same VM share the filter's memory, and one trap stops all of them. Its own for each
    /// by default; tests with a hundred listeners share one.
    pub vm_id: Option<String>,
}

/// What a listener carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2, decided for each request.
    Http,
    /// Bytes, decided for each connection before the upstream is connected.
    Tcp,
}

/// Where the filter finds the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The property `connection.peer_certificate`, in Envoy 1.39 and later.
    Property,
    /// Filter state `peergate.pem`, which set_filter_state writes: HTTP in any Envoy, TCP from 1.37 on.
    FilterState,
}

/// The server side of TLS.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// PEM bundle of trusted authorities.
    pub ca: PathBuf,
    /// Danger: lets unverified certificates through the handshake, to prove that the filter refuses them.
    pub accept_untrusted: bool,
}

impl Bootstrap {
    /// The bootstrap document. Envoy reads JSON as well as YAML.
    pub fn to_json(&self) -> Value {
        let listeners: Vec<_> =
            self.listeners.iter().map(|listener| listener.to_json(&self.filter)).collect();
        let clusters: Vec<_> = self.listeners.iter().filter_map(Listener::cluster).collect();
        json!({
            "admin": {"address": address(LOCALHOST)},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        })
    }
}

impl Listener {
    fn to_json(&self, filter: &Path) -> Value {
        let mut filters = match self.protocol {
            Protocol::Http => vec![self.connection_manager(filter)],
            Protocol::Tcp => vec![
                self.wasm("envoy.extensions.filters.network.wasm.v3.Wasm", "peergate_l4", filter),
                self.tcp_proxy(),
            ],
        };
        if self.protocol == Protocol::Tcp && self.identity == Identity::FilterState {
            filters.insert(
                0,
                set_filter_state(
                    "envoy.extensions.filters.network.set_filter_state.v3.Config",
                    "on_downstream_tls_handshake",
                ),
            );
        }
        json!({
            "name": self.name,
            "address": address(LOCALHOST),
            "filter_chains": [{"transport_socket": self.tls.to_json(self.protocol), "filters": filters}],
        })
    }

    fn connection_manager(&self, filter: &Path) -> Value {
        let mut filters = vec![
            self.wasm("envoy.extensions.filters.http.wasm.v3.Wasm", "peergate_http", filter),
            typed("router", "envoy.extensions.filters.http.router.v3.Router", json!({})),
        ];
        if self.identity == Identity::FilterState {
            filters.insert(
                0,
                set_filter_state(
                    "envoy.extensions.filters.http.set_filter_state.v3.Config",
                    "on_request_headers",
                ),
            );
        }
        let mut route = json!({"match": {"prefix": "/"}});
        match self.upstream {
            Some(_) => route["route"] = json!({"cluster": self.name}),
            None => route["direct_response"] = json!({"status": 200, "body": {"inline_string": "ok\n"}}),
        }
        let hosts = json!([{"name": "all", "domains": ["*"], "routes": [route]}]);
        typed(
            "http",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": self.name,
                "forward_client_cert_details": "SANITIZE",
                "access_log": [access_log()],
                "route_config": {"name": self.name, "virtual_hosts": hosts},
                "http_filters": filters,
                // Trailers of HTTP/1.1 are dropped without this.
                "http_protocol_options": {"enable_trailers": true},
            }),
        )
    }

    fn wasm(&self, kind: &str, root_id: &str, filter: &Path) -> Value {
        let vm_id = self.vm_id.clone().unwrap_or_else(|| format!("{root_id}_{}", self.name));
        let config = json!({
            "name": format!("peergate_{}", self.name),
            "root_id": root_id,
            "failure_policy": "FAIL_RELOAD",
            "reload_config": {"backoff": {"base_interval": "0.1s", "max_interval": "5s"}},
            "vm_config": {
                "vm_id": vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": filter}},
            },
            // A Struct would reach the filter as protobuf bytes; a StringValue arrives as the JSON it is.
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": self.configuration.to_string(),
            },
        });
        typed("peergate", kind, json!({"config": config}))
    }

    fn tcp_proxy(&self) -> Value {
        typed(
            "tcp",
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            json!({
                "stat_prefix": self.name,
                "cluster": self.name,
                // The upstream hears nothing of a client that the filter refuses on its first bytes.
                "upstream_connect_mode": "ON_DOWNSTREAM_DATA",
                "max_early_data_bytes": 8192,
            }),
        )
    }

    fn cluster(&self) -> Option<Value> {
        let endpoint = json!({"endpoint": {"address": address(self.upstream?)}});
        Some(json!({
            "name": self.name,
            "type": "STATIC",
            "load_assignment": {"cluster_name": self.name, "endpoints": [{"lb_endpoints": [endpoint]}]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
                },
            },
        }))
    }
}

impl ServerTls {
    fn to_json(&self, protocol: Protocol) -> Value {
        let mut validation = json!({"trusted_ca": {"filename": self.ca}});
        if self.accept_untrusted {
            validation["trust_chain_verification"] = json!("ACCEPT_UNTRUSTED");
        }
        let certificate = json!({
            "certificate_chain": {"filename": self.certificate},
            "private_key": {"filename": self.key},
        });
        let mut common = json!({"tls_certificates": [certificate], "validation_context": validation});
        if protocol == Protocol::Http {
            common["alpn_protocols"] = json!(["h2", "http/1.1"]);
        }
        typed_socket(json!({
            "require_client_certificate": true,
            // A resumed session skips the verification of the certificate.
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": common,
        }))
    }
}

/// One line per request on stdout, with what the filter says about its decision.
fn access_log() -> Value {
    let format = "access %DOWNSTREAM_REMOTE_ADDRESS% %FILTER_STATE(wasm.peergate.decision:PLAIN)%\n";
    typed(
        "stdout",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        json!({"log_format": {"text_format_source": {"inline_string": format}}}),
    )
}

fn set_filter_state(kind: &str, hook: &str) -> Value {
    let value = json!({
        "object_key": "peergate.pem",
        "factory_key": "envoy.string",
        "read_only": true,
        "skip_if_empty": true,
        "format_string": {
            "omit_empty_values": true,
            "text_format_source": {"inline_string": "%DOWNSTREAM_PEER_CERT%"},
        },
    });
    typed("peer_certificate", kind, json!({hook: [value]}))
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({"name": name, "typed_config": config})
}

fn typed_socket(config: Value) -> Value {
    typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        config,
    )
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(protocol: Protocol, identity: Identity) -> Value {
        let tls = ServerTls {
            certificate: "server.pem".into(),
            key: "server.key".into(),
            ca: "ca.pem".into(),
            accept_untrusted: false,
        };
        let listener = Listener {
            name: "one".to_owned(),
            protocol,
            tls,
            configuration: json!({"endpoint": "peer"}),
            identity,
            upstream: Some(LOCALHOST),
            vm_id: None,
        };
        Bootstrap { filter: "filter.wasm".into(), listeners: vec![listener] }.to_json()
    }

    fn filters(bootstrap: &Value) -> &Value {
        &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    }

    #[test]
    fn a_tcp_upstream_is_connected_only_after_the_decision() {
        let bootstrap = listener(Protocol::Tcp, Identity::Property);
        assert_eq!(filters(&bootstrap)[0]["name"], "peergate");
        assert_eq!(filters(&bootstrap)[1]["typed_config"]["upstream_connect_mode"], "ON_DOWNSTREAM_DATA");
    }

    #[test]
    fn the_filter_comes_after_the_certificate_and_before_the_router() {
        let bootstrap = listener(Protocol::Http, Identity::FilterState);
        let names: Vec<_> = filters(&bootstrap)[0]["typed_config"]["http_filters"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|filter| filter["name"].clone())
            .collect();
        assert_eq!(names, ["peer_certificate", "peergate", "router"]);
    }
}
