//! The host's own configuration file.

use serde_json::{Value, json};

use crate::config::{Document, Endpoint, Inbound, Upstream, UpstreamProtocol};

/// The document as `peergate run --config` reads it.
pub fn host_document(document: &Document) -> Value {
    let inbound: Vec<_> = document.inbound.iter().map(inbound).collect();
    let mut json = json!({ "inbound": inbound });
    if let Some(admin) = &document.admin {
        json["admin"] = json!({"address": admin.address.to_string()});
    }
    if let Some(workers) = document.workers {
        json["workers"] = workers.into();
    }
    if let Some(filter) = &document.filter {
        json["filter"] = json!(filter);
    }
    json
}

fn inbound(inbound: &Inbound) -> Value {
    let endpoints: Vec<_> = inbound.endpoints.iter().map(endpoint).collect();
    let mut json = json!({
        "address": inbound.address.to_string(),
        "protocol": inbound.protocol.name(),
        "upstream": upstream(&inbound.upstream),
        "endpoints": endpoints,
    });
    if let Some(name) = &inbound.name {
        json["name"] = json!(name);
    }
    json
}

fn upstream(upstream: &Upstream) -> Value {
    let mut json = json!({"address": upstream.address.to_string()});
    if upstream.protocol == UpstreamProtocol::H2c {
        json["protocol"] = json!("h2c");
    }
    json
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let mut json = json!({"endpoint": endpoint.kind.as_str()});
    if let Some(policy) = &endpoint.policy {
        json["policy"] = json!(policy);
    }
    for (key, names) in [("names", &endpoint.names), ("deprecated-names", &endpoint.deprecated_names)] {
        if !names.is_empty() {
            json[key] = json!(names);
        }
    }
    json
}
