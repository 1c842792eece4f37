//! What would be served, without serving it.

use std::path::Path;

use peergate_policy::{Endpoint as Kind, Policy};

use super::generation::{Judge, Loader, endpoint, server};
use super::modes::Modes;
use super::policy_document::PolicyDocument;
use super::{RunError, Source, guard};
use crate::config::Document;
use crate::proxy::ALPN;
use crate::wasm::{Filter, Worker};

/// Whether [`run`](super::run) would take a policy, with all that it names and with the filter of others in that file, or a proxy
/// with filter.wasm would; for the kind of endpoint that it can be for, if none is given.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(
    path: &Path,
    kind: Option<Kind>,
    for_host: bool,
    filter: Option<&Path>,
) -> Result<Checked, RunError> {
    let text = PolicyDocument::text(path)?;
    let document = PolicyDocument::parse_for(path, &text, kind, for_host)?;
    let warnings = match for_host {
        true => document.warnings_with(&document.terms(ALPN)?),
        false => document.warnings(),
    };
    let filter = filter.map_or_else(Filter::embedded, Filter::from_wasm).map_err(RunError::Filter)?;
    guard::rules(&filter, path, document.policy())?;
    let configuration = document.configuration(&[], &[], false, &Modes::default())?;
    Worker::start(&filter, &configuration).map_err(RunError::Start)?;
    let warnings = warnings.into_iter().chain(guard::warning(&filter)).collect();
    Ok(Checked { policy: document.policy().clone(), warnings })
}

/// A policy that would be taken.
#[derive(Debug)]
pub struct Checked {
    /// The policy.
    pub policy: Policy,
    /// What is legal and probably not meant, with its place where it has one.
    pub warnings: Vec<String>,
}

/// Whether `run --config` would take a configuration, with all that it names; nothing is bound. Also what in its policies
/// is legal and probably not meant.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_configuration(path: &Path) -> Result<(Document, Vec<String>), RunError> {
    let mut loader = Loader::new(Source::File(path.to_owned()));
    let document = loader.source.read()?;
    let filter = loader.filter(document.filter.as_deref())?;
    let judge = Judge::new(filter, Modes::default(), &document);
    for inbound in &document.inbound {
        for it in &inbound.endpoints {
            endpoint(inbound, it, &judge)?;
        }
    }
    for outbound in &document.outbound {
        server(outbound, &judge)?;
    }
    let mut warnings = judge.warnings.take();
    // Of a policy that several endpoints have.
    warnings.dedup();
    warnings.extend(guard::warning(&judge.filter));
    Ok((document, warnings))
}
