//! What one worker tells when it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use crate::wasm::Metric;

/// One worker, from its start to now.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its listeners, in the order of the configuration.
    pub listeners: Vec<ListenerReport>,
    /// What its filters counted.
    pub metrics: Vec<Metric>,
    /// VMs given up after a trap or a deadline.
    pub vm_restarts: u64,
}

/// One listener in one worker.
#[derive(Clone, Debug, Default)]
pub struct ListenerReport {
    /// As logs call it.
    pub name: Arc<str>,
    /// Connections accepted.
    pub accepted: u64,
    /// Of them those closed at once, because there were too many.
    pub over_limit: u64,
    /// Open ones, those in the handshake included.
    pub open: u64,
    /// Handshakes that came to nothing, by [`failure`](super::failure()).
    pub failures: BTreeMap<&'static str, u64>,
    /// Requests refused before a filter saw them, by a word of a fixed list.
    pub refusals: BTreeMap<&'static str, u64>,
    /// The open ones that are through their handshake; not all where there are many.
    pub connections: Vec<ConnectionReport>,
}

/// An open connection.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionReport {
    /// As in the audit log.
    pub id: u64,
    /// The listener's name.
    pub listener: String,
    /// The peer's address.
    pub source: String,
    /// When it was accepted.
    #[serde(serialize_with = "seconds")]
    pub since: SystemTime,
    /// The peer's certificate, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// Its subject (RFC 2253).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The rules that admitted it; empty where only requests are judged.
    pub matched: Vec<String>,
}

/// Connections that one worker tells of, at most; the numbers in the metrics are of all.
pub const CONNECTIONS_TOLD: usize = 1000;

fn seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(unix(*time))
}

/// Whole seconds since 1970.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
