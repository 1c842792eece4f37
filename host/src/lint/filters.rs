//! A chain of filters, of connections or of requests: where ours stands in it.

use super::file::File;
use super::node::Node;
use super::plugin::{self, Plugin};
use super::resource::Kind;
use super::route::{CONNECTION_MANAGER, named};
use super::{Report, Rule};

/// They answer nobody, or only refuse.
const HARMLESS: [&str; 4] = [
    ".set_filter_state.v3.Config",
    ".rbac.v3.RBAC",
    ".local_ratelimit.v3.LocalRateLimit",
    ".ratelimit.v3.RateLimit",
];

/// The filters of ours in a chain.
pub(super) fn check(filters: &[Node], report: &mut Report<'_>) -> Vec<Plugin> {
    let mut plugins = Vec::new();
    let mut earlier: Option<&Node> = None;
    for filter in filters {
        check_certificate_source(filter, report);
        let found = check_one(filter, report);
        let (kind, _) = filter.typed_config();
        if found.is_none() && plugins.is_empty() && !answers_nobody(kind) {
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

fn answers_nobody(kind: &str) -> bool {
    HARMLESS.iter().any(|it| kind.ends_with(it))
}

/// Whether a filter that comes first lets nobody pass: it is ours, or answers nobody.
pub(super) fn is_harmless(filter: &Node, report: &Report<'_>) -> bool {
    let (kind, message) = filter.typed_config();
    answers_nobody(kind)
        || plugin::ours(filter.text_of("name"), kind, message).is_some()
        || is_discovered(filter, report)
}

/// What ECDS delivers under a name, if it is in these files.
pub(super) fn extension<'a>(name: &str, files: &'a [File]) -> Option<&'a Node> {
    let (_, resource) = named(files, 0, Kind::Extension, name)?;
    Some(resource.node.typed().1)
}

/// Whether ECDS delivers our filter here, by what it delivers or by the name.
fn is_discovered(filter: &Node, report: &Report<'_>) -> bool {
    let name = filter.text_of("name");
    let delivers = |it: &Node| {
        let (kind, message) = it.typed_config();
        plugin::ours("", kind, message).is_some()
    };
    filter.get("config_discovery").is_some()
        && (name.contains("peergate") || extension(name, report.files).is_some_and(delivers))
}

/// ECDS with another filter in the place of ours.
pub(super) fn check_replacement(extension: &Node, report: &mut Report<'_>) {
    if extension.text_of("name").contains("peergate") {
        report.add(
            extension.place,
            Rule::Discovered,
            "another filter takes the place of peergate's, and judges nobody; deliver the filter, or rename this",
        );
    }
}

/// One filter with what surrounds it, if it is ours.
pub(super) fn check_one(filter: &Node, report: &mut Report<'_>) -> Option<Plugin> {
    let name = filter.text_of("name");
    let (kind, message) = filter.typed_config();
    let config = plugin::ours(name, kind, message);
    let plugin = match config {
        Some(config) => plugin::check(config, report),
        None if is_discovered(filter, report) => discovered(filter, report),
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
    let delivered = extension(filter.text_of("name"), report.files);
    // What is delivered is counted where it is.
    report.filters += usize::from(delivered.is_none());
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
    let configuration = configuration.or_else(|| {
        let (kind, message) = delivered?.typed_config();
        plugin::configuration(plugin::ours("", kind, message)?)
    });
    if delivered.is_none() {
        report.note(
            filter.place,
            Rule::Configuration,
            "the filter's configuration is delivered by ECDS, and not in these files; check that too",
        );
    }
    Plugin { place: filter.place, configuration }
}

/// Ours within another filter, whichever that is: it decides whether ours runs.
fn wrapped(filter: &Node, report: &mut Report<'_>) -> Option<Plugin> {
    let mut inner = None;
    let (kind, message) = filter.typed_config();
    // Its own filters are looked at one by one.
    if kind.ends_with(CONNECTION_MANAGER) {
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
