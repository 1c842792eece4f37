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
        Address::Tcp(text) => {
            let (host, port) = split(text);
            json!({"socket_address": {"address": host, "port_value": port}})
        }
    }
}

fn is_literal(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Tcp(text) => split(text).0.parse::<IpAddr>().is_ok(),
    }
}

/// Host, without the brackets of IPv6, and port. An [`Address`] has both.
fn split(text: &str) -> (&str, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().unwrap_or_default())
}
