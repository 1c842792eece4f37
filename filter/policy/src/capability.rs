//! Vespa's 32 capabilities and 7 named sets of them.
//!
//! Source: Vespa `security-utils/.../tls/Capability.java` and `CapabilitySet.java`, the same in
//! `vespalib/.../net/tls/capability.cpp` and `capability_set.cpp`.

use std::fmt;

/// Names in the order of Vespa's enumeration; a capability is an index into this list.
const NAMES: [&str; 32] = [
    "vespa.none",
    "vespa.http.unclassified",
    "vespa.restapi.unclassified",
    "vespa.rpc.unclassified",
    "vespa.client.filereceiver_api",
    "vespa.client.slobrok_api",
    "vespa.cluster_controller.reindexing",
    "vespa.cluster_controller.state",
    "vespa.cluster_controller.status",
    "vespa.configproxy.config_api",
    "vespa.configproxy.management_api",
    "vespa.configproxy.filedistribution_api",
    "vespa.configserver.config_api",
    "vespa.configserver.filedistribution_api",
    "vespa.container.document_api",
    "vespa.container.management_api",
    "vespa.container.state_api",
    "vespa.content.cluster_controller.internal_state_api",
    "vespa.content.document_api",
    "vespa.content.metrics_api",
    "vespa.content.proton_admin_api",
    "vespa.content.search_api",
    "vespa.content.state_api",
    "vespa.content.status_pages",
    "vespa.content.storage_api",
    "vespa.logserver.api",
    "vespa.metricsproxy.management_api",
    "vespa.metricsproxy.metrics_api",
    "vespa.sentinel.connectivity_check",
    "vespa.sentinel.inspect_services",
    "vespa.sentinel.management_api",
    "vespa.slobrok.api",
];

/// A set of capabilities.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct CapabilitySet(u32);

impl CapabilitySet {
    /// No capability at all. Not the same as `vespa.none`, which is a capability.
    pub const EMPTY: Self = Self(0);
    /// All 32, Vespa's `vespa.all`.
    pub const ALL: Self = Self(u32::MAX);

    /// The set of that name, or the single capability; `None` for a name Vespa does not have.
    pub fn named(name: &str) -> Option<Self> {
        match SETS.iter().find(|(set, _)| *set == name) {
            Some((_, lists)) => {
                lists.iter().flat_map(|list| list.iter()).map(|name| Self::single(name)).reduce(Self::union)
            }
            None => Some(Self::single(name)).filter(|single| !single.is_empty()),
        }
    }

    /// The one capability of that name, or nothing.
    fn single(name: &str) -> Self {
        NAMES.iter().position(|capability| *capability == name).map_or(Self::EMPTY, |index| Self(1 << index))
    }

    /// The capabilities of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every capability of `required` is here.
    pub const fn contains(self, required: Self) -> bool {
        self.0 & required.0 == required.0
    }

    /// Whether any capability of `alternatives` is here.
    pub(crate) const fn intersects(self, alternatives: Self) -> bool {
        self.0 & alternatives.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are, 0 to 32.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The names, in Vespa's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(index, _)| self.0 & (1 << index) != 0).map(|(_, name)| *name)
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

/// Every name `capabilities` may hold, for hints.
pub(crate) fn known_names() -> Vec<&'static str> {
    SETS.iter().map(|(name, _)| *name).chain(NAMES).collect()
}

const TELEMETRY: &[&str] = &[
    "vespa.content.status_pages",
    "vespa.content.state_api",
    "vespa.content.metrics_api",
    "vespa.container.state_api",
    "vespa.metricsproxy.metrics_api",
    "vespa.sentinel.connectivity_check",
];

/// What every node of a cluster may do beside telemetry; Vespa calls the two together `SHARED`.
const SHARED: &[&str] = &[
    "vespa.logserver.api",
    "vespa.configserver.config_api",
    "vespa.configserver.filedistribution_api",
    "vespa.configproxy.config_api",
    "vespa.configproxy.filedistribution_api",
    "vespa.slobrok.api",
];

/// The named sets, each a union of lists.
const SETS: [(&str, &[&[&str]]); 7] = [
    ("vespa.all", &[&NAMES]),
    ("vespa.telemetry", &[TELEMETRY]),
    ("vespa.logserver_node", &[SHARED, TELEMETRY]),
    (
        "vespa.content_node",
        &[
            &["vespa.content.storage_api", "vespa.content.document_api", "vespa.container.document_api"],
            SHARED,
            TELEMETRY,
        ],
    ),
    (
        "vespa.container_node",
        &[
            &["vespa.content.document_api", "vespa.container.document_api", "vespa.content.search_api"],
            SHARED,
            TELEMETRY,
        ],
    ),
    (
        "vespa.cluster_controller_node",
        &[
            &[
                "vespa.content.cluster_controller.internal_state_api",
                "vespa.client.slobrok_api",
                "vespa.container.document_api",
            ],
            SHARED,
            TELEMETRY,
        ],
    ),
    (
        "vespa.config_server_node",
        &[
            &[
                "vespa.client.filereceiver_api",
                "vespa.container.management_api",
                "vespa.slobrok.api",
                "vespa.cluster_controller.reindexing",
                "vespa.cluster_controller.state",
                "vespa.logserver.api",
            ],
            TELEMETRY,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_a_capability_and_not_the_empty_set() {
        let none = CapabilitySet::named("vespa.none").unwrap();
        assert!(!none.is_empty());
        assert!(CapabilitySet::ALL.contains(none));
        assert!(none.contains(CapabilitySet::EMPTY));
        assert!(!CapabilitySet::EMPTY.contains(none));
    }

    #[test]
    fn no_set_but_all_has_the_unclassified() {
        for name in ["vespa.http.unclassified", "vespa.restapi.unclassified", "vespa.rpc.unclassified"] {
            let unclassified = CapabilitySet::named(name).unwrap();
            let holders =
                SETS.iter().filter(|(set, _)| CapabilitySet::named(set).unwrap().contains(unclassified));
            assert_eq!(holders.count(), 1, "{name}");
        }
    }

    #[test]
    fn unknown_names_are_no_capability() {
        assert_eq!(CapabilitySet::named("vespa.content.stale_cat_memes"), None);
        assert_eq!(CapabilitySet::named(""), None);
        assert_eq!(CapabilitySet::named("VESPA.ALL"), None);
    }
}
