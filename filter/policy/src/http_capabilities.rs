//! The policy key `http-capabilities`: which capability a peer needs for which path.

use crate::capability::CapabilitySet;
use crate::decision::DenyReason;
use crate::path::{PathForm, PathPattern, RequestPath};
use crate::request::{METHODS, Methods, Request};

/// What every path needs that no entry names (Vespa `CapabilityEnforcingRequestHandler.java`).
const UNCLASSIFIED: &str = "vespa.http.unclassified";

/// An entry of `http-capabilities`.
#[derive(Clone, Debug)]
pub(crate) struct HttpCapability {
    pub(crate) methods: Methods,
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) requires: CapabilitySet,
}

/// All entries, the first that matches counts. Without entries nothing is required.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpCapabilities(pub(crate) Vec<HttpCapability>);

impl HttpCapabilities {
    /// What `request` needs.
    pub(crate) fn required(&self, request: Request<'_>) -> Result<CapabilitySet, DenyReason> {
        if self.0.is_empty() {
            return Ok(CapabilitySet::EMPTY);
        }
        if !METHODS.contains(&request.method) {
            return Err(DenyReason::MethodUnknown);
        }
        let path = RequestPath::new(request.path).map_err(|_| DenyReason::PathUnsafe)?;
        path.judge(|form| self.of_form(request.method, form)).ok_or(DenyReason::PathAmbiguous)
    }

    fn of_form(&self, method: &str, form: PathForm<'_>) -> CapabilitySet {
        let mut entries = self.0.iter().filter(|entry| entry.methods.include(method));
        match entries.find(|entry| form.matches_any(&entry.paths)) {
            Some(entry) => entry.requires,
            None => CapabilitySet::named(UNCLASSIFIED).unwrap_or(CapabilitySet::ALL),
        }
    }
}
