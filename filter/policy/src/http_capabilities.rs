//! The policy key `http-capabilities`: which capability a peer needs for which path.

use std::fmt;

use crate::capability::CapabilitySet;
use crate::decision::{DenyReason, Grant};
use crate::path::{PathForm, PathPattern, RequestPath};
use crate::request::{METHODS, Methods, Request};

/// What every path needs that no entry names (Vespa `CapabilityEnforcingRequestHandler.java`).
const UNCLASSIFIED: &str = "vespa.http.unclassified";

/// An entry of `http-capabilities`.
#[derive(Clone, Debug)]
pub(crate) struct HttpCapability {
    pub(crate) methods: Methods,
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) requires: Requirement,
}

/// What a request asks of its peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Requirement {
    /// All of these, which may be none.
    All(CapabilitySet),
    /// One of these: Vespa serves the same path by several programs, each with a capability of its own.
    Any(CapabilitySet),
}

impl Requirement {
    pub(crate) fn is_met_by(self, capabilities: CapabilitySet) -> bool {
        match self {
            Self::All(required) => capabilities.contains(required),
            Self::Any(alternatives) => capabilities.intersects(alternatives),
        }
    }
}

/// For people: `[a, b]` or `[a or b]`.
impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (set, between) = match self {
            Self::All(set) => (set, ", "),
            Self::Any(set) => (set, " or "),
        };
        write!(formatter, "[{}]", set.names().collect::<Vec<_>>().join(between))
    }
}

/// All entries, the first that matches counts.
#[derive(Clone, Debug)]
pub(crate) struct HttpCapabilities {
    entries: Vec<HttpCapability>,
    /// There is no `http-capabilities`, so this is for peers with some capabilities only: those with all need not be
    /// asked, and whoever is let through without a rule was promised nothing.
    default: bool,
}

/// What Vespa's own handlers require (`state_api.cpp`, `CapabilityRequiringRequestHandler.java` and its implementations). Where its
/// C++ and its Java serve one path, the capability of either will do.
const DEFAULTS: [(&[&str], &[&str]); 9] = [
    (&["/state/v1", "/state/v1/", "/state/v1/health", "/state/v1/version"], &[]),
    (&["/state/v1/metrics"], &["vespa.content.metrics_api", "vespa.container.state_api"]),
    (&["/state/v1/**"], &["vespa.content.state_api", "vespa.container.state_api"]),
    (&["/metrics/**"], &["vespa.content.metrics_api", "vespa.metricsproxy.metrics_api"]),
    (&["/prometheus/**"], &["vespa.metricsproxy.metrics_api"]),
    (&["/logs"], &["vespa.logserver.api"]),
    (&["/cluster/v2/**"], &["vespa.cluster_controller.state"]),
    (&["/clustercontroller-status/v1/**"], &["vespa.cluster_controller.status"]),
    (&["/reindexing/**"], &["vespa.cluster_controller.reindexing"]),
];

impl HttpCapabilities {
    /// Whether the policy has no `http-capabilities`.
    pub(crate) fn is_default(&self) -> bool {
        self.default
    }
}

impl Default for HttpCapabilities {
    fn default() -> Self {
        let entry = |(paths, alternatives): &(&[&str], &[&str])| HttpCapability {
            methods: Methods::default(),
            paths: paths.iter().flat_map(|path| PathPattern::new(path)).collect(),
            requires: match alternatives
                .iter()
                .flat_map(|name| CapabilitySet::named(name))
                .reduce(CapabilitySet::union)
            {
                Some(alternatives) => Requirement::Any(alternatives),
                None => Requirement::All(CapabilitySet::EMPTY),
            },
        };
        Self { entries: DEFAULTS.iter().map(entry).collect(), default: true }
    }
}

impl HttpCapabilities {
    pub(crate) fn new(entries: Vec<HttpCapability>) -> Self {
        Self { entries, default: false }
    }

    /// Whether a peer with this grant is asked at all.
    pub(crate) fn concern(&self, grant: &Grant) -> bool {
        !self.default || (!grant.matched().rules.is_empty() && grant.capabilities() != CapabilitySet::ALL)
    }

    /// What `request` needs.
    pub(crate) fn required(&self, request: Request<'_>) -> Result<Requirement, DenyReason> {
        if !METHODS.contains(&request.method) {
            return Err(DenyReason::MethodUnknown);
        }
        let path = RequestPath::new(request.path).map_err(|_| DenyReason::PathUnsafe)?;
        path.judge(|form| self.of_form(request.method, form)).ok_or(DenyReason::PathAmbiguous)
    }

    fn of_form(&self, method: &str, form: PathForm<'_>) -> Requirement {
        let mut entries = self.entries.iter().filter(|entry| entry.methods.include(method));
        match entries.find(|entry| form.matches_any(&entry.paths)) {
            Some(entry) => entry.requires,
            None => Requirement::All(CapabilitySet::named(UNCLASSIFIED).unwrap_or(CapabilitySet::ALL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(methods: &[&'static str], path: &str, capability: Option<&str>) -> HttpCapability {
        let requires = Requirement::All(match capability {
            Some(name) => CapabilitySet::named(name).expect("a capability"),
            None => CapabilitySet::EMPTY,
        });
        let paths = vec![PathPattern::new(path).expect("a pattern")];
        HttpCapability { methods: Methods(methods.to_vec()), paths, requires }
    }

    fn required(entries: Vec<HttpCapability>, method: &str, path: &str) -> Result<String, DenyReason> {
        let required = HttpCapabilities::new(entries).required(Request { method, path });
        required.map(|requirement| requirement.to_string())
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
            ("GET", "/state/v1/health", Ok("[]")),
            ("GET", "/state/v1/health/", Ok("[vespa.container.state_api]")),
            ("GET", "/state/v1?x=/logs", Ok("[vespa.container.state_api]")),
            ("POST", "/state/v1", Ok("[vespa.http.unclassified]")),
            ("DELETE", "/logs/a", Ok("[vespa.logserver.api]")),
            ("GET", "/", Ok("[vespa.http.unclassified]")),
            ("GET", "/state//v1/", Err(DenyReason::PathAmbiguous)),
            ("GET", "/logs/%2E%2E/state", Err(DenyReason::PathUnsafe)),
            ("get", "/logs", Err(DenyReason::MethodUnknown)),
        ] {
            assert_eq!(required(entries(), method, path), answer.map(str::to_owned), "{method} {path}");
        }
    }

    #[test]
    fn by_default_vespas_own_paths_need_what_vespa_asks_for() {
        let defaults = HttpCapabilities::default();
        assert!(defaults.entries.iter().all(|entry| !entry.paths.is_empty()));
        let alternatives = "[vespa.content.metrics_api or vespa.metricsproxy.metrics_api]";
        for (path, required) in [
            ("/state/v1", Ok("[]")),
            ("/state/v1/", Ok("[]")),
            ("/state/v1/health?x=y", Ok("[]")),
            ("/state/v1/version", Ok("[]")),
            ("/state/v1/metrics", Ok("[vespa.container.state_api or vespa.content.metrics_api]")),
            ("/state/v1/config", Ok("[vespa.container.state_api or vespa.content.state_api]")),
            ("/state/v1/health/x", Ok("[vespa.container.state_api or vespa.content.state_api]")),
            ("/metrics/total", Ok(alternatives)),
            ("/metrics/v2/values", Ok(alternatives)),
            ("/prometheus/v1/values", Ok("[vespa.metricsproxy.metrics_api]")),
            ("/logs", Ok("[vespa.logserver.api]")),
            ("/cluster/v2/music/storage", Ok("[vespa.cluster_controller.state]")),
            ("/clustercontroller-status/v1/music", Ok("[vespa.cluster_controller.status]")),
            ("/reindexing/v1/status", Ok("[vespa.cluster_controller.reindexing]")),
            ("/logs/x", Ok("[vespa.http.unclassified]")),
            ("/", Ok("[vespa.http.unclassified]")),
            ("/document/v1/a/b/docid/c", Ok("[vespa.http.unclassified]")),
            ("/state/v2", Ok("[vespa.http.unclassified]")),
            ("/%73tate/v1/health", Err(DenyReason::PathAmbiguous)),
            ("/state/v1/x/../health", Err(DenyReason::PathUnsafe)),
        ] {
            let answer = defaults.required(Request { method: "GET", path }).map(|it| it.to_string());
            assert_eq!(answer, required.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn one_alternative_is_enough() {
        let named = |name| CapabilitySet::named(name).expect("a capability");
        let (one, other) = (named("vespa.content.metrics_api"), named("vespa.metricsproxy.metrics_api"));
        let (any, all) = (Requirement::Any(one.union(other)), Requirement::All(one.union(other)));
        for (capabilities, meets_any, meets_all) in [
            (one, true, false),
            (other, true, false),
            (one.union(other), true, true),
            (CapabilitySet::ALL, true, true),
            (named("vespa.none"), false, false),
            (CapabilitySet::EMPTY, false, false),
        ] {
            assert_eq!((any.is_met_by(capabilities), all.is_met_by(capabilities)), (meets_any, meets_all));
        }
        assert!(Requirement::All(CapabilitySet::EMPTY).is_met_by(CapabilitySet::EMPTY));
    }
}
