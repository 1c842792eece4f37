//! A generation as the admin pages show it: what is in force, and nothing secret.

use serde::Deserialize;
use serde_json::{Value, json};

use super::modes::WrittenModes;
use crate::files::Expiry;
use crate::proxy::{Direction, Endpoint, Generation, Listener};

/// Listeners, endpoints, and the policies behind them by digest.
pub(super) fn configuration(generation: &Generation) -> Value {
    let those = |inbound: bool| {
        let asked = |it: &&Listener| (it.direction == Direction::Inbound) == inbound;
        generation.listeners.iter().filter(asked).map(listener).collect::<Vec<_>>()
    };
    json!({"inbound": those(true), "outbound": those(false), "limits": generation.limits})
}

/// When the files of all endpoints end, each once.
pub(super) fn expiries(generation: &Generation) -> Vec<Expiry> {
    let mut expiries: Vec<_> = endpoints(generation).flat_map(|it| it.terms.expiries()).cloned().collect();
    expiries.sort();
    expiries.dedup();
    expiries
}

/// Modes that refuse less than the rules say, such as `authorization-mode=log_only`.
pub(super) fn insecure_modes(generation: &Generation) -> Vec<String> {
    let mut modes: Vec<_> = endpoints(generation).flat_map(insecure_modes_of).collect();
    modes.sort();
    modes.dedup();
    modes
}

fn endpoints(generation: &Generation) -> impl Iterator<Item = &Endpoint> {
    generation.listeners.iter().flat_map(|listener| &listener.endpoints)
}

fn listener(listener: &Listener) -> Value {
    json!({
        "name": &*listener.name,
        "address": listener.address().to_string(),
        "protocol": listener.protocol.name(),
        "upstream": listener.upstream.address.to_string(),
        "admin-path": listener.admin_path.as_deref(),
        "websocket": listener.websocket,
        "endpoints": listener.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "endpoint": endpoint.kind.as_str(),
        "names": endpoint.names,
        "policy": endpoint.policy.display().to_string(),
        "policy-sha256": endpoint.policy_sha256,
        "insecure-modes": insecure_modes_of(endpoint),
    })
}

/// Of a plugin configuration.
#[derive(Default, Deserialize)]
struct Told {
    policy: WrittenModes,
}

/// As the filter is told: by the policy or by the environment.
fn insecure_modes_of(endpoint: &Endpoint) -> Vec<String> {
    let Told { policy } = serde_json::from_str(&endpoint.configuration).unwrap_or_default();
    let mut modes = Vec::new();
    for key in WrittenModes::KEYS {
        if let Some(mode @ ("log_only" | "disable")) = policy.of(key).and_then(Value::as_str) {
            modes.push(format!("{key}={mode}"));
        }
    }
    if endpoint.plaintext {
        modes.push("insecure-mixed-mode".to_owned());
    }
    modes
}
