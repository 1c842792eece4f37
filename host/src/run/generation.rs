//! Policy and files, read as one.

use std::path::Path;
use std::sync::Arc;

use peergate_policy::{Configuration, Endpoint, Policy, PolicyError, RequiredFiles};
use tracing::warn;

use super::modes::Modes;
use super::{RunError, Settings};
use crate::files::{self, Audience, Credentials, Inlined};
use crate::proxy::{ALPN, Generation, Protocol};
use crate::tls::{self, Authentication};
use crate::wasm::{Filter, Worker};

/// Reads the policy and everything it names, and tries the filter with it.
///
/// # Errors
/// The first thing that is wrong; nothing of what was read is kept then.
pub(super) fn load(settings: &Settings) -> Result<Generation, RunError> {
    let Settings { endpoint, protocol, .. } = *settings;
    if protocol == Protocol::Tcp && endpoint != Endpoint::Peer {
        return Err(RunError::NoRequests(endpoint));
    }
    let text = read_policy(&settings.policy)?;
    let inlined = inlined(&settings.policy, &text)?;
    let document = Document::read(&settings.policy, inlined, endpoint)?;
    let authentication = Authentication::of(&document.configuration);
    let policy = document.configuration.policy();
    let files = document.files(authentication)?;
    let credentials = Credentials::load(&files).map_err(RunError::Credentials)?;
    let alpn = match protocol {
        Protocol::Http => ALPN,
        Protocol::Tcp => &[],
    };
    let (ciphers, protocols) = (policy.accepted_ciphers(), policy.accepted_protocols());
    let tls =
        tls::server_config(credentials, authentication, ciphers, protocols, alpn).map_err(RunError::Tls)?;
    let filter = match &settings.filter {
        Some(path) => Filter::from_wasm(path),
        None => Filter::embedded(),
    }
    .map_err(RunError::Filter)?;
    check_guards(&filter, endpoint, protocol)?;
    let configuration = document.for_filter(&Modes::from_environment().map_err(RunError::Mode)?)?;
    Worker::start(&filter, &configuration).map_err(RunError::Start)?;
    for warning in policy.warnings() {
        warn!("policy: {warning}");
    }
    if !authentication.verifies_chains() && !files.crls.is_empty() {
        warn!(
            "policy: `files.crls` are not asked: no CA is, on this endpoint; remove revoked clients from the policy"
        );
    }
    Ok(Generation { tls, filter, configuration })
}

/// Whether the filter is asked about everything that is forwarded.
fn check_guards(filter: &Filter, endpoint: Endpoint, protocol: Protocol) -> Result<(), RunError> {
    let connections = filter.judges_connections();
    let guards = match (endpoint, protocol) {
        (Endpoint::Peer, Protocol::Tcp) => connections,
        (Endpoint::Peer, Protocol::Http) => connections || filter.judges_requests(),
        (Endpoint::Mtls | Endpoint::Token, _) => filter.judges_requests(),
    };
    if guards { Ok(()) } else { Err(RunError::Unguarded { endpoint, protocol }) }
}

/// Whether [`run`](super::run) would take a policy, with all that it names, or a proxy with filter.wasm would; for the kind of
/// endpoint that it can be for, if none is given.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(path: &Path, endpoint: Option<Endpoint>, for_host: bool) -> Result<Policy, RunError> {
    let text = read_policy(path)?;
    let inlined = if for_host { inlined(path, &text)? } else { Inlined::as_written(&text) };
    let policy = Policy::parse(inlined.text()).map_err(|error| refused(path, &inlined, error))?;
    let document = Document::read(path, inlined, endpoint.unwrap_or_else(|| usable_endpoint(&policy)))?;
    if for_host {
        let authentication = Authentication::of(&document.configuration);
        let credentials =
            Credentials::load(&document.files(authentication)?).map_err(RunError::Credentials)?;
        let (ciphers, protocols) = (policy.accepted_ciphers(), policy.accepted_protocols());
        tls::server_config(credentials, authentication, ciphers, protocols, ALPN).map_err(RunError::Tls)?;
    }
    Worker::start(&Filter::embedded().map_err(RunError::Filter)?, &document.for_filter(&Modes::default())?)
        .map_err(RunError::Start)?;
    Ok(policy)
}

/// The kind of endpoint that a policy can only be for, or `peer`.
fn usable_endpoint(policy: &Policy) -> Endpoint {
    if policy.data_plane().is_some() && policy.admits_any_authenticated() {
        Endpoint::Mtls
    } else {
        Endpoint::Peer
    }
}

/// A policy as one kind of endpoint is judged by it.
struct Document<'a> {
    path: &'a Path,
    inlined: Inlined<'a>,
    configuration: Configuration,
}

impl<'a> Document<'a> {
    fn read(path: &'a Path, inlined: Inlined<'a>, endpoint: Endpoint) -> Result<Self, RunError> {
        match Configuration::of(endpoint, inlined.text()) {
            Ok(configuration) => Ok(Self { path, inlined, configuration }),
            Err(error) => Err(refused(path, &inlined, error)),
        }
    }

    fn files(&self, authentication: Authentication) -> Result<RequiredFiles, RunError> {
        let (files, text) = (self.configuration.policy().files(), self.inlined.text());
        let required =
            if authentication.verifies_chains() { files.require(text) } else { files.require_identity(text) };
        required.map_err(|error| refused(self.path, &self.inlined, error))
    }

    /// The document goes to the filter as it was read, not as we understood it, with the modes of the environment.
    fn for_filter(&self, modes: &Modes) -> Result<Arc<str>, RunError> {
        let policy = modes.applied(self.inlined.text()).map_err(RunError::Mode)?;
        let endpoint = self.configuration.endpoint().as_str();
        Ok(format!(r#"{{"endpoint":"{endpoint}","policy":{policy}}}"#).into())
    }
}

fn refused(path: &Path, inlined: &Inlined<'_>, error: PolicyError) -> RunError {
    RunError::Policy { path: path.to_owned(), error: inlined.original(error) }
}

fn inlined<'a>(path: &Path, text: &'a str) -> Result<Inlined<'a>, RunError> {
    Inlined::of(text).map_err(|error| RunError::Certificate { path: path.to_owned(), error: error.into() })
}

fn read_policy(path: &Path) -> Result<String, RunError> {
    let bytes = files::read(path, Audience::Everybody).map_err(RunError::PolicyFile)?;
    String::from_utf8(bytes).map_err(|_| RunError::PolicyEncoding(path.to_owned()))
}
