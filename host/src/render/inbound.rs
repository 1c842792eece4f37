//! From the listeners of a configuration to those of Envoy.

use std::path::PathBuf;

use peergate_policy::Endpoint as Kind;

use super::envoy::{
    Bootstrap, Chain, Clients, Listener, Protocol, Release, Tls, TlsParameters, Upstream, http_log_format,
    is_literal, tcp_log_format,
};
use super::{Authentication, Plugin, RenderError, ServerFiles};
use crate::config::{self, Address, Document, Endpoint, Inbound, UpstreamProtocol};

/// What a configuration does not say, because only Envoy needs it.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its release.
    pub release: Release,
    /// Where its admin interface listens.
    pub admin: Address,
    /// The compiled filter.
    pub filter: PathBuf,
    /// Files that are named instead of those of the policies.
    pub files: ServerFiles,
    /// TCP services speak before their clients do.
    pub server_speaks_first: bool,
}

/// Envoy with the inbound listeners of a configuration.
///
/// # Errors
/// A policy cannot be used, or asks for what Envoy cannot do.
pub fn envoy_bootstrap(document: &Document, proxy: &Proxy) -> Result<Bootstrap, RenderError> {
    let mut addresses = document.inbound.iter().map(|inbound| &inbound.address).chain([&proxy.admin]);
    if let Some(name) = addresses.find(|address| !is_literal(address)) {
        return Err(RenderError::ListenerName(name.clone()));
    }
    let listeners = document.inbound.iter().enumerate();
    let listeners =
        listeners.map(|(index, inbound)| listener(index, inbound, proxy)).collect::<Result<_, _>>()?;
    Ok(Bootstrap { admin: proxy.admin.clone(), filter: proxy.filter.clone(), listeners })
}

fn listener(index: usize, inbound: &Inbound, proxy: &Proxy) -> Result<Listener, RenderError> {
    let (protocol, access_log) = match inbound.protocol {
        config::Protocol::Http => (Protocol::Http, http_log_format()),
        config::Protocol::Tcp => (Protocol::Tcp, tcp_log_format()),
    };
    if protocol == Protocol::Tcp && !proxy.release.shows_certificate_to_network_filters() {
        return Err(RenderError::NoNetworkCertificate(proxy.release));
    }
    let name = inbound.name.clone().unwrap_or_else(|| format!("inbound_{index}"));
    let several = inbound.endpoints.len() > 1;
    let chains = inbound.endpoints.iter().enumerate();
    let chains = chains
        .map(|(index, endpoint)| chain(&name, index, several, endpoint, proxy))
        .collect::<Result<_, _>>()?;
    if inbound.upstream.proxy_protocol {
        return Err(RenderError::ProxyProtocol);
    }
    let upstream = Upstream {
        name: format!("{name}_service"),
        address: inbound.upstream.address.clone(),
        http2: inbound.upstream.protocol == UpstreamProtocol::H2c,
    };
    Ok(Listener {
        address: inbound.address.clone(),
        protocol,
        identity: proxy.release.identity(),
        chains,
        upstream: Some(upstream),
        websocket: inbound.websocket,
        server_speaks_first: proxy.server_speaks_first,
        access_log,
        name,
    })
}

/// With one endpoint, any name in the handshake is for it.
fn chain(
    listener: &str,
    index: usize,
    several: bool,
    endpoint: &Endpoint,
    proxy: &Proxy,
) -> Result<Chain, RenderError> {
    let names = || endpoint.all_names().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    if several && names().next().is_none() {
        return Err(RenderError::NameMissing(endpoint.kind));
    }
    let plugin = plugin(endpoint)?;
    let name =
        if several { format!("{listener}_{index}_{}", endpoint.kind.as_str()) } else { listener.to_owned() };
    Ok(Chain {
        server_names: if several { names().collect() } else { Vec::new() },
        tls: tls(&plugin, &proxy.files)?,
        configuration: plugin.text().to_owned(),
        vm_id: format!("peergate_{name}"),
        name,
    })
}

fn plugin(endpoint: &Endpoint) -> Result<Plugin, RenderError> {
    let policy = endpoint.policy.as_deref().ok_or(RenderError::NoPolicy)?;
    Plugin::read(policy, endpoint.kind, &endpoint.names, &endpoint.deprecated_names)
}

fn tls(plugin: &Plugin, files: &ServerFiles) -> Result<Tls, RenderError> {
    let files = files.chosen(plugin)?;
    let clients = match plugin.authentication() {
        Authentication::Verified => Clients::Verified {
            ca_certificates: files.ca_certificates,
            revocation_list: files.revocation_list,
        },
        Authentication::Pinned => Clients::Pinned,
        Authentication::Nothing => Clients::Nothing,
    };
    let parameters = TlsParameters::of(plugin.policy())
        .ok_or_else(|| RenderError::CipherSuites(plugin.path().to_owned()))?;
    Ok(Tls { certificate: files.certificate, private_key: files.private_key, clients, parameters })
}

/// The kind of endpoint that `policy` can be for.
///
/// # Errors
/// The policy cannot be used.
pub fn usable_kind(policy: &std::path::Path) -> Result<Kind, RenderError> {
    super::plugin::usable_endpoint(policy)
}
