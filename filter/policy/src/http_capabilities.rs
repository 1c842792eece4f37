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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(methods: &[&'static str], path: &str, capability: Option<&str>) -> HttpCapability {
        let requires = match capability {
            Some(name) => CapabilitySet::named(name).expect("a capability"),
            None => CapabilitySet::EMPTY,
        };
        let paths = vec![PathPattern::new(path).expect("a pattern")];
        HttpCapability { methods: Methods(methods.to_vec()), paths, requires }
    }

    fn required(
        entries: Vec<HttpCapability>,
        method: &str,
        path: &str,
    ) -> Result<Vec<&'static str>, DenyReason> {
        let required = HttpCapabilities(entries).required(Request { method, path });
        required.map(|set| set.names().collect())
    }

    #[test]
    fn the_first_entry_counts_and_the_rest_is_unclassified() {
        let entries = || {
            vec![
                entry(&["GET"], "/state/v1/health", None),
                entry(&["GET"], "/state/v1/**", Some("vespa.container.state_api")),
                entry(&[], "/logs/**", Some("vespa.logserver.api")),
            ]
        };
        for (method, path, answer) in [
            ("GET", "/state/v1/health", Ok(vec![])),
            ("GET", "/state/v1/health/", Ok(vec!["vespa.container.state_api"])),
            ("GET", "/state/v1?x=/logs", Ok(vec!["vespa.container.state_api"])),
            ("POST", "/state/v1", Ok(vec![UNCLASSIFIED])),
            ("DELETE", "/logs/a", Ok(vec!["vespa.logserver.api"])),
            ("GET", "/", Ok(vec![UNCLASSIFIED])),
            ("GET", "/state//v1/", Err(DenyReason::PathAmbiguous)),
            ("GET", "/logs/%2E%2E/state", Err(DenyReason::PathUnsafe)),
            ("get", "/logs", Err(DenyReason::MethodUnknown)),
        ] {
            assert_eq!(required(entries(), method, path), answer, "{method} {path}");
        }
    }

    #[test]
    fn without_entries_nothing_is_required_of_anything() {
        for (method, path) in [("GET", "/"), ("BREW", "/"), ("GET", "/a/../b"), ("CONNECT", "")] {
            assert_eq!(required(Vec::new(), method, path), Ok(vec![]), "{method} {path}");
        }
    }
}
