//! What patches of other `EnvoyFilter`s put before the filter.
//!
//! Istio applies them by `priority`, then those of the root namespace before others, then by age and name (`EnvoyFilters` in istio/istio,
//! pilot/pkg/model/push_context.go). Of several INSERT_FIRST the one that is applied last comes first; INSERT_BEFORE without a filter to
//! stand before is INSERT_FIRST (`patchHTTPFilters`, pilot/pkg/networking/core/envoyfilter/listener_patch.go). Plugins are in the
//! listener before any patch is applied.

use super::file::File;
use super::node::Node;
use super::workload::{ROOT_NAMESPACE, may_reach, namespace, of_kind, operation, overlap, patches};
use super::{Report, Rule, filters};

/// The filter, as a patch or as a plugin.
pub(super) struct Own<'a> {
    pub(super) resource: &'a Node,
    /// Of the patch; a plugin has none.
    pub(super) index: Option<usize>,
    /// A filter of connections, not of requests.
    pub(super) network: bool,
    pub(super) context: &'a str,
    pub(super) port: Option<u64>,
}

/// Who comes first.
#[derive(PartialEq)]
enum First {
    Filter,
    Other,
    /// The one that was created last.
    Youngest,
}

/// Finds filters of others that come before ours.
pub(super) fn check(own: &Own<'_>, files: &[File], report: &mut Report<'_>) {
    for (file, other) in of_kind(files, "EnvoyFilter").filter(|(_, other)| may_reach(other, own.resource)) {
        for (index, patch) in patches(other).iter().enumerate() {
            if !inserts_before(own, patch, report) {
                continue;
            }
            let message = match first(own, other, index, patch) {
                First::Filter => continue,
                First::Other => {
                    "this patch puts a filter before peergate's, which may answer what nobody has judged; insert it before \
                     `envoy.filters.http.router` instead, or give the EnvoyFilter of peergate a higher `priority`"
                }
                First::Youngest => {
                    "this patch and the filter's both insert first, and the resource that is younger comes first; give the \
                     EnvoyFilter of peergate a higher `priority`"
                }
            };
            let place = patch.at(&["patch", "operation"]).map_or(patch.place, |it| it.place);
            report.of(file).add(place, Rule::FilterOrder, message);
        }
    }
}

/// Whether a patch inserts at the beginning something that may answer.
fn inserts_before(own: &Own<'_>, patch: &Node, report: &Report<'_>) -> bool {
    let of_requests = patch.text_of("apply_to") == "HTTP_FILTER";
    let of_connections = patch.text_of("apply_to") == "NETWORK_FILTER";
    let Some(value) = patch.at(&["patch", "value"]) else { return false };
    if !(of_connections || of_requests && !own.network) || !overlap(patch, own.context, own.port) {
        return false;
    }
    let filter = patch.at(&["match", "listener", "filter_chain", "filter"]);
    let target = if of_requests { filter.and_then(|it| it.get("sub_filter")) } else { filter };
    let target = target.map(|it| it.text_of("name")).filter(|it| !it.is_empty());
    let before = target.is_none_or(|name| {
        report.means_ours(name) || of_connections && !own.network && name.ends_with("http_connection_manager")
    });
    let inserts = operation(patch) == "INSERT_FIRST" || operation(patch) == "INSERT_BEFORE" && before;
    inserts && !filters::is_harmless(value, report)
}

fn first(own: &Own<'_>, other: &Node, index: usize, patch: &Node) -> First {
    let around = !own.network && patch.text_of("apply_to") == "NETWORK_FILTER";
    let Some(mine) = own.index.filter(|_| !around) else { return First::Other };
    if std::ptr::eq(own.resource, other) {
        return if index > mine { First::Other } else { First::Filter };
    }
    let priority = |it: &Node| it.at(&["spec", "priority"]).and_then(Node::integer).unwrap_or_default();
    let rank = |it: &Node| (priority(it), namespace(it) != ROOT_NAMESPACE);
    match rank(other).cmp(&rank(own.resource)) {
        std::cmp::Ordering::Less => First::Filter,
        std::cmp::Ordering::Greater => First::Other,
        std::cmp::Ordering::Equal => First::Youngest,
    }
}
