//! A chain of filters, of connections or of requests: where ours stands in it.

use super::node::Node;
use super::plugin::{self, Plugin};
use super::{Report, Rule};

/// They answer nobody, or only refuse.
const HARMLESS: [&str; 4] = [
    ".set_filter_state.v3.Config",
    ".rbac.v3.RBAC",
    ".local_ratelimit.v3.LocalRateLimit",
    ".ratelimit.v3.RateLimit",
];
/// Filters that let other filters run, or not.
const WRAPPERS: [&str; 2] = [".ExtensionWithMatcher", ".composite.v3.Composite"];

/// The filters of ours in a chain.
pub(super) fn check(filters: &[Node], report: &mut Report<'_>) -> Vec<Plugin> {
    let mut plugins = Vec::new();
    let mut earlier: Option<&Node> = None;
    for filter in filters {
        check_certificate_source(filter, report);
        let found = check_one(filter, report);
        let (kind, _) = filter.typed_config();
        if found.is_none() && plugins.is_empty() && !HARMLESS.iter().any(|it| kind.ends_with(it)) {
            earlier = earlier.or(Some(filter));
        }
        if found.is_some()
            && plugins.is_empty()
            && let Some(other) = earlier
        {
            let name = other.text_of("name");
            report.add(
                filter.place,
                Rule::FilterOrder,
                format!(
                    "`{name}` comes first, and answers what nobody has judged; put this filter before it"
                ),
            );
        }
        plugins.extend(found);
    }
    plugins
}

/// One filter with what surrounds it, if it is ours.
pub(super) fn check_one(filter: &Node, report: &mut Report<'_>) -> Option<Plugin> {
    let name = filter.text_of("name");
    let (kind, message) = filter.typed_config();
    let config = plugin::ours(name, kind, message);
    let plugin = match config {
        Some(config) => plugin::check(config, report),
        None if filter.get("config_discovery").is_some() && name.contains("peergate") => {
            discovered(filter, report)
        }
        None => wrapped(filter, report)?,
    };
    if filter.is_true("disabled") {
        report.add(
            filter.place_of("disabled"),
            Rule::FilterDisabled,
            "the filter does not run; remove `disabled`",
        );
    }
    if filter.is_true("is_optional") {
        report.add(
            filter.place_of("is_optional"),
            Rule::FilterOptional,
            "an Envoy without this filter would serve without it; remove `is_optional`",
        );
    }
    Some(plugin)
}

/// ECDS: another file has the filter, or the control plane.
fn discovered(filter: &Node, report: &mut Report<'_>) -> Plugin {
    report.filters += 1;
    let default = filter.at(&["config_discovery", "default_config"]);
    let configuration = match default {
        None => None,
        Some(default) => {
            let (kind, message) = default.typed();
            match plugin::ours("", kind, message) {
                Some(config) => plugin::check(config, report).configuration,
                None => {
                    report.add(
                        default.place,
                        Rule::DiscoveryDefault,
                        "until the filter is delivered \
                        this runs in its place, and judges nobody; remove `default_config`",
                    );
                    None
                }
            }
        }
    };
    report.note(
        filter.place,
        Rule::Configuration,
        "the filter's configuration is delivered by ECDS; check that file too",
    );
    Plugin { place: filter.place, configuration }
}

/// Ours within another filter, which decides whether it runs.
fn wrapped(filter: &Node, report: &mut Report<'_>) -> Option<Plugin> {
    let mut inner = None;
    let (kind, message) = filter.typed_config();
    if !WRAPPERS.iter().any(|it| kind.ends_with(it)) {
        return None;
    }
    message.walk(&mut |node| {
        let (kind, message) = node.typed_config();
        inner = inner.or_else(|| plugin::ours(node.text_of("name"), kind, message));
        let (kind, message) = node.typed();
        inner = inner.or_else(|| plugin::ours("", kind, message));
    });
    let plugin = plugin::check(inner?, report);
    report.add(
        filter.place,
        Rule::FilterConditional,
        "requests decide by what they are whether the filter runs; use it without a matcher around it",
    );
    Some(plugin)
}

/// Filter state that our filter believes: only Envoy's own word for the peer's certificate may be there.
pub(super) fn check_certificate_source(filter: &Node, report: &mut Report<'_>) {
    let (kind, message) = filter.typed_config();
    if !kind.ends_with(".set_filter_state.v3.Config") {
        return;
    }
    for entry in message.members().flat_map(|(_, value)| value.items()) {
        let key = entry.text_of("object_key");
        if key.starts_with("wasm.peergate") {
            report.add(
                entry.place,
                Rule::CertificateSource,
                format!("`{key}` is what the filter decided; remove what else writes it"),
            );
        }
        let format = entry.at(&["format_string", "text_format_source", "inline_string"]).and_then(Node::text);
        if key == "peergate.pem" && (format != Some("%DOWNSTREAM_PEER_CERT%") || !entry.is_true("read_only"))
        {
            report.add(
                entry.place,
                Rule::CertificateSource,
                "the filter takes `peergate.pem` for the client's certificate; write `%DOWNSTREAM_PEER_CERT%` to \
                 it and nothing else, with `read_only: true`",
            );
        }
    }
}
