//! `filter.wasm` in a chain of filters, and what hands it the certificate in older releases.

use std::path::Path;

use serde_json::{Value, json};

use super::Protocol;

/// The filter with its configuration.
pub(in crate::render) fn wasm(protocol: Protocol, vm_id: &str, filter: &Path, configuration: &str) -> Value {
    let (kind, root_id) = match protocol {
        Protocol::Http => ("envoy.extensions.filters.http.wasm.v3.Wasm", "peergate_http"),
        Protocol::Tcp => ("envoy.extensions.filters.network.wasm.v3.Wasm", "peergate_l4"),
    };
    let config = json!({
        "name": vm_id,
        "root_id": root_id,
        // A filter that fails refuses, and a new one takes over.
        "failure_policy": "FAIL_RELOAD",
        "reload_config": {"backoff": {"base_interval": "0.1s", "max_interval": "5s"}},
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": filter}},
        },
        // A Struct would reach the filter as protobuf bytes; a StringValue arrives as the JSON it is.
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration},
    });
    super::typed("peergate", kind, json!({"config": config}))
}

/// Writes the peer's certificate where the filter looks for it.
pub(in crate::render) fn certificate_in_filter_state(protocol: Protocol) -> Value {
    let (kind, hook) = match protocol {
        Protocol::Http => ("envoy.extensions.filters.http.set_filter_state.v3.Config", "on_request_headers"),
        Protocol::Tcp => {
            ("envoy.extensions.filters.network.set_filter_state.v3.Config", "on_downstream_tls_handshake")
        }
    };
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
    super::typed("peer_certificate", kind, json!({hook: [value]}))
}
