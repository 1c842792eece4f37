//! What a filter of others must not be asked to guard, because it would not.

use std::path::Path;

use peergate_policy::{Endpoint as Kind, Policy};

use super::RunError;
use crate::config::{Inbound, Protocol};
use crate::wasm::Filter;

/// What a start says, and a check, where the filter is not ours.
pub(super) fn warning(filter: &Filter) -> Option<String> {
    (!filter.enforces_policy()).then(|| {
        "the filter is not Peergate's: it alone decides who of those with a certificate of the CA may do what".to_owned()
    })
}

/// Whether the filter is asked about everything that is forwarded.
pub(super) fn traffic(filter: &Filter, kind: Kind, protocol: Protocol) -> Result<(), RunError> {
    let connections = filter.judges_connections();
    let guards = match (kind, protocol) {
        (Kind::Peer, Protocol::Tcp) => connections,
        (Kind::Peer, Protocol::Http) => connections || filter.judges_requests(),
        (Kind::Mtls | Kind::Token, _) => filter.judges_requests(),
    };
    if guards { Ok(()) } else { Err(RunError::Unguarded { endpoint: kind, protocol }) }
}

/// Refuses a filter of others where the policy has rules that it would not enforce.
pub(super) fn rules(filter: &Filter, path: &Path, policy: &Policy) -> Result<(), RunError> {
    let keys = policy.enforced_keys();
    if filter.enforces_policy() || keys.is_empty() {
        return Ok(());
    }
    Err(RunError::NotEnforced { policy: path.to_owned(), keys })
}

/// Refuses a filter of others on an address with several endpoints: only ours answers 421 to a request for another one's name.
pub(super) fn names(filter: &Filter, inbound: &Inbound) -> Result<(), RunError> {
    if filter.enforces_policy() || inbound.endpoints.len() < 2 {
        return Ok(());
    }
    Err(RunError::NamesNotEnforced(inbound.address.clone()))
}
