//! Istio's resources: patches of Envoy's listeners, plugins, and who must present a certificate.

use std::collections::BTreeMap;
use std::path::Path;

use peergate_policy::Endpoint;
use serde_json::{Value, json};

use super::envoy::{Identity, Protocol, Release, certificate_in_filter_state, tcp_connect_options, wasm};
use super::{Authentication, Plugin, RenderError};

/// Where the filter goes in a mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// The resources' name; without one, `peergate-http-8080` of protocol and port.
    pub name: Option<String>,
    /// Their namespace; without one, that of whoever applies them.
    pub namespace: Option<String>,
    /// Labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// The container's port behind a sidecar, or the port of a gateway.
    pub port: u16,
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// A gateway, where clients of the outside come in; else sidecars.
    pub gateway: bool,
    /// The release of Envoy in the proxies.
    pub release: Release,
    /// TCP services speak before their clients do.
    pub server_speaks_first: bool,
}

/// The module that a `WasmPlugin` names.
#[derive(Clone, Debug)]
pub struct Module {
    /// `oci://`, `https://` or `file://`.
    pub url: String,
    /// SHA-256 of what is there: the module, or the image's manifest.
    pub sha256: String,
}

impl Mesh {
    /// An `EnvoyFilter` with the filter at `filter` in the proxies, and for sidecars a `PeerAuthentication`.
    ///
    /// # Errors
    /// The endpoint's kind needs TLS that Istio does not offer, or the release shows no certificate to network filters.
    pub fn envoy_filter(&self, plugin: &Plugin, filter: &Path) -> Result<Vec<Value>, RenderError> {
        self.check(plugin)?;
        let name = self.name(plugin.endpoint());
        let mut patches = vec![self.insert_first(&wasm(self.protocol, &vm_id(&name), filter, plugin.text()))];
        patches.extend(self.preparations(plugin.authentication()));
        Ok(self.with_authentication(&name, self.patch_resource(&name, patches)))
    }

    /// A `WasmPlugin`, with an `EnvoyFilter` for what plugins cannot change, and for sidecars a `PeerAuthentication`.
    ///
    /// # Errors
    /// As [`Mesh::envoy_filter`].
    pub fn wasm_plugin(&self, plugin: &Plugin, module: &Module) -> Result<Vec<Value>, RenderError> {
        self.check(plugin)?;
        // A plugin that was read is JSON.
        let configuration: Value = serde_json::from_str(plugin.text()).unwrap_or_default();
        let (kind, root_id) = match self.protocol {
            Protocol::Http => ("HTTP", "peergate_http"),
            Protocol::Tcp => ("NETWORK", "peergate_l4"),
        };
        let mut spec = json!({
            "selector": {"matchLabels": self.labels},
            "url": module.url,
            "sha256": module.sha256,
            "type": kind,
            "phase": "AUTHZ",
            "failStrategy": "FAIL_RELOAD",
            "pluginName": root_id,
            "pluginConfig": configuration,
            "match": [{"mode": "SERVER", "ports": [{"number": self.port}]}],
        });
        if self.labels.is_empty() {
            spec.as_object_mut().map(|spec| spec.remove("selector"));
        }
        let name = self.name(plugin.endpoint());
        let resource = self.resource("extensions.istio.io/v1alpha1", "WasmPlugin", &name, spec);
        let mut resources = self.with_authentication(&name, resource);
        resources
            .push(self.patch_resource(&format!("{name}-proxy"), self.preparations(plugin.authentication())));
        Ok(resources)
    }

    /// The resources' name. `kubectl apply` replaces what has the same name, so what can stand in one workload must differ in it:
    /// protocol and port, and the endpoint's kind where it is not the usual one.
    fn name(&self, endpoint: Endpoint) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let kind = match endpoint {
            Endpoint::Peer => "",
            Endpoint::Mtls => "mtls-",
            Endpoint::Token => "token-",
        };
        let protocol = match self.protocol {
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
        };
        format!("peergate-{kind}{protocol}-{}", self.port)
    }

    /// Sidecars verify certificates of the mesh, gateways those of their Gateway: neither takes a certificate unseen.
    fn check(&self, plugin: &Plugin) -> Result<(), RenderError> {
        let possible = match plugin.authentication() {
            Authentication::Verified => true,
            Authentication::Pinned => false,
            Authentication::Nothing => self.gateway,
        };
        let requests = self.protocol == Protocol::Http || plugin.endpoint() == Endpoint::Peer;
        if !possible || !requests {
            return Err(RenderError::NotInMesh(plugin.endpoint()));
        }
        if self.protocol == Protocol::Tcp && !self.release.shows_certificate_to_network_filters() {
            return Err(RenderError::NoNetworkCertificate(self.release));
        }
        Ok(())
    }

    /// What the filter needs of the proxy: the certificate, no resumed sessions, and a service that hears nothing of clients
    /// that are refused.
    fn preparations(&self, authentication: Authentication) -> Vec<Value> {
        let mut patches = Vec::new();
        if self.release.identity() == Identity::FilterState {
            // Inserted after the filter, so that it stands before it.
            patches.push(self.insert_first(&certificate_in_filter_state(self.protocol)));
        }
        patches.push(self.tls(authentication));
        if self.protocol == Protocol::Tcp {
            let mut options = tcp_connect_options(self.server_speaks_first);
            options["@type"] =
                json!("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
            patches.push(json!({
                "applyTo": "NETWORK_FILTER",
                "match": {"context": self.context(), "listener": self.listener(Some(TCP_PROXY))},
                "patch": {"operation": "MERGE", "value": {"name": TCP_PROXY, "typed_config": options}},
            }));
        }
        patches
    }

    fn tls(&self, authentication: Authentication) -> Value {
        let mut context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
        });
        if authentication == Authentication::Verified {
            context["require_client_certificate"] = json!(true);
        }
        let socket = json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
        json!({
            "applyTo": "FILTER_CHAIN",
            "match": {"context": self.context(), "listener": self.listener(None)},
            "patch": {"operation": "MERGE", "value": {"transport_socket": socket}},
        })
    }

    fn insert_first(&self, filter: &Value) -> Value {
        let (place, network_filter) = match self.protocol {
            Protocol::Http => ("HTTP_FILTER", Some(CONNECTION_MANAGER)),
            Protocol::Tcp => ("NETWORK_FILTER", Some(TCP_PROXY)),
        };
        json!({
            "applyTo": place,
            "match": {"context": self.context(), "listener": self.listener(network_filter)},
            "patch": {"operation": "INSERT_FIRST", "value": filter},
        })
    }

    fn context(&self) -> &'static str {
        if self.gateway { "GATEWAY" } else { "SIDECAR_INBOUND" }
    }

    /// Sidecars have one inbound listener for all ports, gateways one for each.
    fn listener(&self, network_filter: Option<&str>) -> Value {
        let mut chain = json!({});
        if let Some(name) = network_filter {
            chain["filter"] = json!({ "name": name });
        }
        if self.gateway {
            return json!({"portNumber": self.port, "filterChain": chain});
        }
        chain["destinationPort"] = self.port.into();
        json!({ "filterChain": chain })
    }

    fn patch_resource(&self, name: &str, patches: Vec<Value>) -> Value {
        let mut spec = json!({ "configPatches": patches });
        if !self.labels.is_empty() {
            spec["workloadSelector"] = json!({"labels": self.labels});
        }
        self.resource("networking.istio.io/v1alpha3", "EnvoyFilter", name, spec)
    }

    /// Only mutual TLS: nothing that comes in without a certificate reaches the filter. STRICT is for the whole workload, not for a port:
    /// of several with a selector Istio takes the oldest and none of the others' ports (`ComposePeerAuthentication`,
    /// istio/istio pilot/pkg/security/authn/policy_applier.go), so each file must be enough for all.
    fn with_authentication(&self, name: &str, resource: Value) -> Vec<Value> {
        if self.gateway {
            return vec![resource];
        }
        let mut spec = json!({"mtls": {"mode": "STRICT"}});
        if !self.labels.is_empty() {
            spec["selector"] = json!({"matchLabels": self.labels});
        }
        vec![self.resource("security.istio.io/v1", "PeerAuthentication", name, spec), resource]
    }

    fn resource(&self, version: &str, kind: &str, name: &str, spec: Value) -> Value {
        let mut metadata = json!({ "name": name });
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    }
}

/// A VM of its own for each resource. A dot would end its name in statistics.
fn vm_id(name: &str) -> String {
    let id = name.replace(['-', '.'], "_");
    if id.starts_with("peergate") { id } else { format!("peergate_{id}") }
}

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
