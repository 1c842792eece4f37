//! Clusters, and the addresses that they connect to.

use std::fmt;

use super::file::File;
use super::node::{Node, snake};
use super::resource::Kind;
use super::route::lookup;

/// What a connection ends at.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Endpoint {
    /// Host and port. All names of this machine's loopback are one host.
    Address(String, String),
    /// A socket in the file system.
    Pipe(String),
    /// Another listener of the same Envoy, by name.
    Internal(String),
    /// The address that the client dialed: the port, if the filter chain is for one.
    Original(Option<u64>),
}

/// What a cluster leads to.
#[derive(Default)]
pub(super) struct Members {
    pub(super) endpoints: Vec<Endpoint>,
    /// Clusters of which this one is made.
    pub(super) clusters: Vec<String>,
    /// Why its endpoints are not known.
    pub(super) unknown: Option<String>,
}

/// How all of loopback is written.
const LOOPBACK: &str = "127.0.0.1";

impl Endpoint {
    /// That of `core.v3.Address`.
    pub(super) fn of(address: &Node) -> Option<Self> {
        if let Some(socket) = address.get("socket_address") {
            let port = socket.get("port_value").and_then(Node::number).map(|number| number.to_string());
            let port = port
                .unwrap_or_else(|| socket.text_of("port_value").to_owned() + socket.text_of("named_port"));
            return Some(Self::Address(host(socket.text_of("address")), port));
        }
        if let Some(pipe) = address.get("pipe") {
            return Some(Self::Pipe(pipe.text_of("path").to_owned()));
        }
        let internal = address.get("envoy_internal_address")?;
        Some(Self::Internal(internal.text_of("server_listener_name").to_owned()))
    }

    /// Whether a connection to one can be one to the other. An original destination is on this machine.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Original(Some(number)), Self::Address(host, port))
            | (Self::Address(host, port), Self::Original(Some(number))) => {
                host == LOOPBACK && *port == number.to_string()
            }
            (Self::Original(None), Self::Original(_)) | (Self::Original(_), Self::Original(None)) => true,
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(host, port) => write!(formatter, "{host}:{port}"),
            Self::Pipe(path) => write!(formatter, "unix:{path}"),
            Self::Internal(name) => write!(formatter, "listener {name}"),
            Self::Original(Some(port)) => write!(formatter, "the original destination, port {port}"),
            Self::Original(None) => formatter.write_str("the original destination"),
        }
    }
}

/// An address as it is written.
pub(super) fn written(address: &Node) -> Option<String> {
    match (Endpoint::of(address)?, address.get("socket_address")) {
        (Endpoint::Address(_, port), Some(socket)) => {
            let host = socket.text_of("address");
            let udp = if socket.is_one_of("protocol", &["UDP"], &[1]) { "udp " } else { "" };
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Some(format!("{udp}{host}:{port}"))
        }
        (endpoint, _) => Some(endpoint.to_string()),
    }
}

/// Every address of loopback, and the unspecified one, by one name.
fn host(text: &str) -> String {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    let local = match text.parse::<std::net::IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => text == "localhost" || text.ends_with(".localhost"),
    };
    if local { LOOPBACK.to_owned() } else { text }
}

/// What the cluster leads to, from a filter chain for `port`.
pub(super) fn members(cluster: &Node, proxy: usize, port: Option<u64>, files: &[File]) -> Members {
    let (_, cluster) = cluster.typed();
    let mut members = Members::default();
    let (kind, custom) = cluster.get("cluster_type").map_or(("", cluster), Node::typed_config);
    if cluster.is_one_of("type", &["ORIGINAL_DST"], &[4]) || kind.contains(".original_dst.") {
        members.endpoints.push(Endpoint::Original(port));
        let options = cluster.get("original_dst_lb_config");
        if options.is_some_and(|it| it.is_true("use_http_header") || it.get("metadata_key").is_some()) {
            members.unknown = Some("the client's header names the address".to_owned());
        }
        return members;
    }
    if kind.contains(".dynamic_forward_proxy.") {
        members.unknown = Some("the client names the host that is connected".to_owned());
        return members;
    }
    if kind.contains(".aggregate.") || kind.contains(".composite.") {
        for item in custom.list("clusters") {
            let name = item.text().unwrap_or_else(|| item.text_of("name"));
            members.clusters.push(name.to_owned());
        }
        return members;
    }
    addresses(cluster, &mut members.endpoints);
    if members.endpoints.is_empty() {
        let service = cluster.at(&["eds_cluster_config", "service_name"]).and_then(Node::text);
        let name = service.unwrap_or(cluster.text_of("name"));
        let delivered = lookup(files, proxy, |it| {
            it.kind == Kind::Endpoints && it.node.typed().1.text_of("cluster_name") == name
        });
        match delivered {
            Some((_, endpoints)) => addresses(endpoints.node.typed().1, &mut members.endpoints),
            None if cluster.is_one_of("type", &["EDS"], &[3]) || !kind.is_empty() => {
                members.unknown = Some("its endpoints are not in these files; give them too".to_owned());
            }
            None => {}
        }
    }
    members
}

/// All addresses of endpoints, also further ones of the same.
fn addresses(node: &Node, endpoints: &mut Vec<Endpoint>) {
    for (key, value) in node.members() {
        match snake(key).as_str() {
            "address" => endpoints.extend(Endpoint::of(value)),
            "health_check_config" | "upstream_bind_config" | "transport_socket" => {}
            _ => addresses(value, endpoints),
        }
    }
    for item in node.items() {
        // `hosts`, of older configuration, is a list of addresses.
        endpoints.extend(Endpoint::of(item));
        addresses(item, endpoints);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_service_meet() {
        let address = |text: &str, port: &str| Endpoint::Address(host(text), port.to_owned());
        for (one, other, meet) in [
            (address("127.0.0.1", "80"), address("localhost", "80"), true),
            (address("::1", "80"), address("0.0.0.0", "80"), true),
            (address("::ffff:127.0.0.1", "80"), address("127.0.0.2", "80"), true),
            (address("127.0.0.1", "80"), address("127.0.0.1", "81"), false),
            (address("VESPA.example.", "80"), address("vespa.example", "80"), true),
            (address("10.0.0.1", "80"), address("127.0.0.1", "80"), false),
            (Endpoint::Original(Some(80)), address("127.0.0.1", "80"), true),
            (Endpoint::Original(Some(80)), Endpoint::Original(Some(81)), false),
            (Endpoint::Original(None), Endpoint::Original(Some(81)), true),
            (Endpoint::Pipe("/a".to_owned()), Endpoint::Pipe("/a".to_owned()), true),
        ] {
            assert_eq!(one.meets(&other), meet, "{one}, {other}");
            assert_eq!(other.meets(&one), meet, "{other}, {one}");
        }
    }
}
