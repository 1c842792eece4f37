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

/// One TLS listener with the filter in front of an upstream. What it asks of its clients in the handshake follows from the
/// kind of endpoint in [`Listener::configuration`], so that the two cannot disagree.
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

/// What a listener asks of its clients in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientCertificate {
    /// One that the authorities vouch for.
    Verified,
    /// Any whose key the client has: the filter knows the certificate itself, and refuses others with 403.
    Pinned,
    /// None: the filter looks at bearer tokens.
    None,
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
            "filter_chains": [{"transport_socket": self.tls.to_json(self.protocol, self.client_certificate()), "filters": filters}],
        })
    }

    fn client_certificate(&self) -> ClientCertificate {
        let any = self.configuration["policy"]["data-plane"]["trusted-certificates"] == "any";
        match self.configuration["endpoint"].as_str() {
            Some("token") => ClientCertificate::None,
            Some("mtls") if !any => ClientCertificate::Pinned,
            _ => ClientCertificate::Verified,
        }
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
    fn to_json(&self, protocol: Protocol, clients: ClientCertificate) -> Value {
        let certificate = json!({
            "certificate_chain": {"filename": self.certificate},
            "private_key": {"filename": self.key},
        });
        let mut common = json!({"tls_certificates": [certificate]});
        if let Some(validation) = self.validation(clients) {
            common["validation_context"] = validation;
        }
        if protocol == Protocol::Http {
            common["alpn_protocols"] = json!(["h2", "http/1.1"]);
        }
        typed_socket(json!({
            "require_client_certificate": clients != ClientCertificate::None,
            // A resumed session skips the verification of the certificate.
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": common,
        }))
    }

    fn validation(&self, clients: ClientCertificate) -> Option<Value> {
        let mut validation = match clients {
            ClientCertificate::Verified => json!({"trusted_ca": {"filename": self.ca}}),
            // Without authorities: Envoy would name them to its clients, and Go's then hold back every certificate that
            // is not of one of them. With no certificate at all the handshake succeeds, and the filter refuses.
            ClientCertificate::Pinned => json!({}),
            ClientCertificate::None => return None,
        };
        if self.accept_untrusted || clients == ClientCertificate::Pinned {
            validation["trust_chain_verification"] = json!("ACCEPT_UNTRUSTED");
        }
        Some(validation)
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
        endpoint(protocol, identity, json!({"endpoint": "peer"}))
    }

    fn endpoint(protocol: Protocol, identity: Identity, configuration: Value) -> Value {
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
            configuration,
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

    #[test]
    fn what_clients_are_asked_follows_from_the_endpoint() {
        let untrusted = json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"});
        let trusted = json!({"trusted_ca": {"filename": "ca.pem"}});
        let any = json!({"data-plane": {"trusted-certificates": "any"}});
        for (configuration, required, validation) in [
            (json!({"endpoint": "peer"}), true, &trusted),
            (json!({"authorized-peers": []}), true, &trusted),
            (json!({"endpoint": "mtls", "policy": any}), true, &trusted),
            (json!({"endpoint": "mtls", "policy": {"data-plane": {}}}), true, &untrusted),
            (json!({"endpoint": "token", "policy": any}), false, &Value::Null),
        ] {
            let bootstrap = endpoint(Protocol::Http, Identity::Property, configuration.clone());
            let socket = "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config";
            let tls = bootstrap.pointer(socket).expect("the TLS context");
            assert_eq!(tls["require_client_certificate"], required, "{configuration}");
            assert_eq!(&tls["common_tls_context"]["validation_context"], validation, "{configuration}");
            assert_eq!(tls["disable_stateless_session_resumption"], true);
        }
    }
}
