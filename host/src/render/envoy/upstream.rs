//! The local service.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Protocol;
use crate::config::Address;

/// A cluster of one endpoint.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The cluster's name.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Whether it speaks HTTP/2 without TLS.
    pub http2: bool,
}

impl Upstream {
    pub(super) fn cluster(&self, protocol: Protocol) -> Value {
        let options = if self.http2 {
            json!({"http2_protocol_options": {}})
        } else {
            // Trailers of HTTP/1.1 are dropped without this.
            json!({"http_protocol_options": {"enable_trailers": true}})
        };
        let endpoint = json!({"endpoint": {"address": address(&self.address)}});
        let mut cluster = json!({
            "name": self.name,
            "type": if is_literal(&self.address) { "STATIC" } else { "STRICT_DNS" },
            "load_assignment": {"cluster_name": self.name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        });
        if protocol == Protocol::Http {
            const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
            cluster["typed_extension_protocol_options"] = json!({OPTIONS: {
                "@type": format!("type.googleapis.com/{OPTIONS}"),
                "explicit_http_config": options,
            }});
        }
        cluster
    }
}

/// An address as Envoy writes it: a name only where it may be looked up.
pub(super) fn address(address: &Address) -> Value {
    match address {
        Address::Unix(path) => json!({"pipe": {"path": path}}),
        // Envoy takes no sockets from systemd, and refuses an address that is none.
        Address::Systemd(_) => Value::Null,
        Address::Tcp(text) => {
            let (host, port) = split(text);
            json!({"socket_address": {"address": host, "port_value": port}})
        }
    }
}

/// Whether Envoy can listen there: it looks up names of upstreams only.
pub(in crate::render) fn is_literal(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Systemd(_) => false,
        Address::Tcp(text) => split(text).0.parse::<IpAddr>().is_ok(),
    }
}

/// Host, without the brackets of IPv6, and port. An [`Address`] has both.
fn split(text: &str) -> (&str, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_envoys_kinds() {
        let socket = |host: &str, port: u16| json!({"socket_address": {"address": host, "port_value": port}});
        for (text, expected, kind) in [
            ("127.0.0.1:80", socket("127.0.0.1", 80), "STATIC"),
            ("[::1]:8080", socket("::1", 8080), "STATIC"),
            ("vespa.example:19100", socket("vespa.example", 19100), "STRICT_DNS"),
            ("unix:/run/x.sock", json!({"pipe": {"path": "/run/x.sock"}}), "STATIC"),
        ] {
            let upstream = Upstream {
                name: "service".to_owned(),
                address: text.parse().expect("an address"),
                http2: true,
            };
            let cluster = upstream.cluster(Protocol::Http);
            let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
            assert_eq!(cluster.pointer(endpoint), Some(&expected), "{text}");
            assert_eq!(cluster["type"], kind, "{text}");
            assert!(cluster.to_string().contains("http2_protocol_options"), "{text}");
        }
    }
}
