//! Policy and files, read as one.

use std::path::Path;
use std::sync::Arc;

use peergate_policy::Policy;
use tracing::warn;

use super::{RunError, Settings};
use crate::files::{self, Audience, Credentials};
use crate::proxy::{ALPN, Generation, Protocol};
use crate::tls;
use crate::wasm::{Filter, Worker};

/// Reads the policy and everything it names, and tries the filter with it.
///
/// # Errors
/// The first thing that is wrong; nothing of what was read is kept then.
pub(super) fn load(settings: &Settings) -> Result<Generation, RunError> {
    let text = read_policy(&settings.policy)?;
    let refused = |error| RunError::Policy { path: settings.policy.clone(), error };
    let policy = Policy::parse(&text).map_err(refused)?;
    let files = policy.files().require(&text).map_err(refused)?;
    let credentials = Credentials::load(&files).map_err(RunError::Credentials)?;
    let alpn = match settings.protocol {
        Protocol::Http => ALPN,
        Protocol::Tcp => &[],
    };
    let tls = tls::server_config(credentials, policy.accepted_ciphers(), policy.accepted_protocols(), alpn)
        .map_err(RunError::Tls)?;
    let filter = match &settings.filter {
        Some(path) => Filter::from_wasm(path),
        None => Filter::embedded(),
    }
    .map_err(RunError::Filter)?;
    if !guards(&filter, settings.protocol) {
        return Err(RunError::Unguarded(settings.protocol));
    }
    let configuration = configuration(&text);
    Worker::start(&filter, &configuration).map_err(RunError::Start)?;
    for warning in policy.warnings() {
        warn!("policy: {warning}");
    }
    Ok(Generation { tls, filter, configuration })
}

/// Whether the filter is asked about everything that is forwarded.
fn guards(filter: &Filter, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http => filter.judges_requests() || filter.judges_connections(),
        Protocol::Tcp => filter.judges_connections(),
    }
}

/// Whether [`run`](super::run) would take a policy, with all that it names, or a proxy with filter.wasm would.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(path: &Path, for_host: bool) -> Result<Policy, RunError> {
    let text = read_policy(path)?;
    let refused = |error| RunError::Policy { path: path.to_owned(), error };
    let policy = Policy::parse(&text).map_err(refused)?;
    if for_host {
        let credentials = Credentials::load(&policy.files().require(&text).map_err(refused)?)
            .map_err(RunError::Credentials)?;
        tls::server_config(credentials, policy.accepted_ciphers(), policy.accepted_protocols(), ALPN)
            .map_err(RunError::Tls)?;
    }
    Worker::start(&Filter::embedded().map_err(RunError::Filter)?, &configuration(&text))
        .map_err(RunError::Start)?;
    Ok(policy)
}

/// The document goes to the filter as it was read, not as we understood it.
fn configuration(policy: &str) -> Arc<str> {
    format!(r#"{{"endpoint":"peer","policy":{policy}}}"#).into()
}

fn read_policy(path: &Path) -> Result<String, RunError> {
    let bytes = files::read(path, Audience::Everybody).map_err(RunError::PolicyFile)?;
    String::from_utf8(bytes).map_err(|_| RunError::PolicyEncoding(path.to_owned()))
}
