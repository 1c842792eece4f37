//! What a configuration needs of the system.

use std::net::IpAddr;

use crate::capacity::{Needs, Plan, PlanError, open_files};
use crate::config::{Address, Document};
use crate::sandbox::Grants;

/// All that a document needs besides the files it is read with.
pub(super) fn of(document: &Document) -> Grants {
    let mut grants = Grants::default();
    for inbound in &document.inbound {
        listening(&mut grants, &inbound.address);
        connecting(&mut grants, &inbound.upstream.address);
    }
    for cluster in document.clusters.values() {
        connecting(&mut grants, &cluster.address);
    }
    for outbound in &document.outbound {
        listening(&mut grants, &outbound.address);
        connecting(&mut grants, &outbound.upstream.address);
    }
    if document.filter.is_some() {
        grants.compile();
    }
    grants
}

fn listening(grants: &mut Grants, address: &Address) {
    match address {
        Address::Tcp(text) => {
            let (host, port) = parts(text);
            grants.bind(port);
            if !is_ip(host) {
                grants.resolve_names();
            }
        }
        // Made at the start and removed at the end.
        Address::Unix(path) => grants.write_beside(path),
        Address::Systemd(_) => {}
    }
}

fn connecting(grants: &mut Grants, address: &Address) {
    if let Address::Tcp(text) = address {
        let (host, port) = parts(text);
        grants.connect(port);
        if !is_ip(host) {
            grants.resolve_names();
        }
    }
}

/// Of `HOST:PORT`, which an address has been checked to be.
fn parts(text: &str) -> (&str, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    (host, port.parse().unwrap_or_default())
}

fn is_ip(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// Limits that fit into the open files that the system allows.
///
/// # Errors
/// Those that are configured do not.
pub(super) fn limits(document: &Document, workers: u16) -> Result<Plan, PlanError> {
    let listeners = document.inbound.len() + document.outbound.len();
    let needs = Needs { workers, listeners, calls: !document.clusters.is_empty() };
    Plan::new(&document.limits, needs, open_files())
}
