//! The bootstrap document of the demo and the tests: rendered as everybody's is, with free ports.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};

use crate::config::Address;
use crate::render::Authentication;
use crate::render::envoy::{
    self as render, Chain, Clients, Identity, Protocol, Tls, TlsParameters, Upstream,
};

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
    /// Whether connections may become WebSockets.
    pub websocket: bool,
    /// Listeners with the same VM share the filter's memory, and one trap stops all of them. Its own for each
    /// by default; tests with a hundred listeners share one.
    pub vm_id: Option<String>,
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
    /// The bootstrap document.
    pub fn to_json(&self) -> Value {
        let listeners = self.listeners.iter().map(Listener::rendered).collect();
        let bootstrap = render::Bootstrap { admin: any_port(), filter: self.filter.clone(), listeners };
        let mut json = bootstrap.to_json();
        for (index, _) in
            self.listeners.iter().enumerate().filter(|(_, listener)| listener.tls.accept_untrusted)
        {
            let context = format!(
                "/static_resources/listeners/{index}/filter_chains/0/transport_socket/typed_config/common_tls_context"
            );
            if let Some(context) = json.pointer_mut(&context) {
                context["validation_context"]["trust_chain_verification"] = json!("ACCEPT_UNTRUSTED");
            }
        }
        json
    }
}

impl Listener {
    fn rendered(&self) -> render::Listener {
        let root_id = if self.protocol == Protocol::Http { "peergate_http" } else { "peergate_l4" };
        let chain = Chain {
            name: self.name.clone(),
            server_names: Vec::new(),
            tls: self.tls.rendered(&self.configuration),
            configuration: self.configuration.to_string(),
            vm_id: self.vm_id.clone().unwrap_or_else(|| format!("{root_id}_{}", self.name)),
        };
        // One line for each request or connection, with what the filter says about its decision.
        let format = "access %DOWNSTREAM_REMOTE_ADDRESS% %FILTER_STATE(wasm.peergate.decision:PLAIN)%\n";
        let upstream = |address: SocketAddr| Upstream {
            name: self.name.clone(),
            address: Address::Tcp(address.to_string()),
            http2: false,
        };
        render::Listener {
            name: self.name.clone(),
            address: any_port(),
            protocol: self.protocol,
            identity: self.identity,
            chains: vec![chain],
            upstream: self.upstream.map(upstream),
            websocket: self.websocket,
            server_speaks_first: false,
            access_log: json!({"text_format_source": {"inline_string": format}}),
        }
    }
}

impl ServerTls {
    fn rendered(&self, configuration: &Value) -> Tls {
        let clients = match Authentication::of_configuration(configuration) {
            Authentication::Verified => {
                Clients::Verified { ca_certificates: self.ca.clone(), revocation_list: None }
            }
            Authentication::Pinned => Clients::Pinned,
            Authentication::Nothing => Clients::Nothing,
        };
        Tls {
            certificate: self.certificate.clone(),
            private_key: self.key.clone(),
            clients,
            parameters: TlsParameters::default(),
        }
    }
}

fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
            upstream: Some((Ipv4Addr::LOCALHOST, 8080).into()),
            websocket: false,
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
