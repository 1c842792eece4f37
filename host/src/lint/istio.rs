//! Istio's resources.

use super::file::File;
use super::node::Node;
use super::order::{self, Own};
use super::plugin::Plugin;
use super::workload::{context, labels, may_reach, of_kind, operation, patches, port, reaches};
use super::{Report, Rule, filters, http, peer_authentication, tls, workload};
use crate::render::Authentication;

/// Checks the patches of an `EnvoyFilter`.
pub(super) fn check_envoy_filter(resource: &Node, files: &[File], report: &mut Report<'_>) {
    for (index, patch) in patches(resource).iter().enumerate() {
        check_changes(patch, report);
        check_listener_changes(patch, report);
        let Some(value) = patch.at(&["patch", "value"]) else { continue };
        http::check_routes(value, report);
        http::check_upgrades(value.typed_config().1, report);
        value.walk(&mut |node| http::check_forwarded_certificate(node, report));
        filters::check_certificate_source(value, report);
        let extension = patch.text_of("apply_to") == "EXTENSION_CONFIG";
        match filters::check_one(value, report) {
            Some(_) if extension => check_extension(patch, value, files, report),
            Some(plugin) => {
                check_filter_patch(resource, (index, patch), &plugin, files, report);
                check_delivery(value, files, report);
                if context(patch) != "GATEWAY" {
                    peer_authentication::check(resource, labels(resource), port(patch), files, report);
                }
            }
            None if extension => filters::check_replacement(value, report),
            None => {}
        }
    }
}

/// Istio takes only ADD of an EXTENSION_CONFIG (its reference of `EnvoyFilter.ApplyTo`; `InsertedExtensionConfigurations` in istio/istio,
/// pilot/pkg/networking/core/envoyfilter/extension_configuration_patch.go), and delivers it to the filters that ask for it by name.
fn check_extension(patch: &Node, value: &Node, files: &[File], report: &mut Report<'_>) {
    if operation(patch) != "ADD" {
        let place = patch.at(&["patch", "operation"]).map_or(patch.place, |it| it.place);
        report.add(
            place,
            Rule::ExtensionConfig,
            "Istio's EXTENSION_CONFIG knows only ADD, and delivers no filter by another operation; set `operation: ADD`",
        );
    }
    let name = value.text_of("name");
    let asks = |patch: &Node| {
        let filter = patch.at(&["patch", "value"]);
        filter.is_some_and(|it| it.get("config_discovery").is_some() && it.text_of("name") == name)
    };
    if !of_kind(files, "EnvoyFilter").any(|(_, other)| patches(other).iter().any(asks)) {
        report.add(
            value.place,
            Rule::ExtensionConfig,
            format!(
                "no filter asks for `{name}`, so it runs nowhere; add a patch of HTTP_FILTER or NETWORK_FILTER, INSERT_FIRST, \
                 with this `name` and `config_discovery`",
                name = name.escape_debug()
            ),
        );
    }
}

/// A filter that asks for its configuration must get one: Istio sends what an EXTENSION_CONFIG adds, and its own plugins.
fn check_delivery(filter: &Node, files: &[File], report: &mut Report<'_>) {
    let name = filter.text_of("name");
    if filter.get("config_discovery").is_none() || name.starts_with("extensions.istio.io/") {
        return;
    }
    if filters::extension(name, files).is_none() {
        report.add(
            filter.place,
            Rule::ExtensionConfig,
            format!(
                "nothing delivers `{name}`: the listener waits for it; add a patch of EXTENSION_CONFIG, ADD, with this `name` \
                 and the filter",
                name = name.escape_debug()
            ),
        );
    }
}

/// A patch that takes away the filter of another one, or what is around it, or makes something else of it.
fn check_changes(patch: &Node, report: &mut Report<'_>) {
    let Some(operation) = patch.at(&["patch", "operation"]) else { return };
    let filter = patch.at(&["match", "listener", "filter_chain", "filter"]);
    let name = |node: &Node| Some(node.text_of("name").to_owned()).filter(|it| !it.is_empty());
    let target = match patch.text_of("apply_to") {
        "HTTP_FILTER" => filter.and_then(|it| it.get("sub_filter")).and_then(name),
        "NETWORK_FILTER" => filter.and_then(name),
        // Without the chain of its port a connection comes to that for all other ports.
        "FILTER_CHAIN" if operation.text() == Some("REMOVE") => None,
        _ => return,
    };
    let (merges, removes) =
        (operation.text() == Some("MERGE"), matches!(operation.text(), Some("REMOVE" | "REPLACE")));
    // Without a name every filter is meant.
    let ours = target.as_deref().is_none_or(|it| report.means_ours(it));
    let around = target.as_deref().is_some_and(|it| it.ends_with("http_connection_manager")) && removes;
    if context(patch) != "SIDECAR_OUTBOUND" && (around || ours && (merges || removes)) {
        report.add(
            operation.place,
            Rule::FilterPatched,
            "this patch removes or changes the filter; remove the patch, or name another filter in its `match`",
        );
    }
}

/// A patch that changes the chains of a listener, or takes away their TLS.
fn check_listener_changes(patch: &Node, report: &mut Report<'_>) {
    let Some(value) = patch.at(&["patch", "value"]) else { return };
    let changes = operation(patch) == "MERGE" || operation(patch) == "REPLACE";
    if context(patch) == "SIDECAR_OUTBOUND" || !changes {
        return;
    }
    let applies = patch.text_of("apply_to");
    if applies == "LISTENER" {
        let chains = ["filter_chains", "default_filter_chain", "filter_chain_matcher", "use_original_dst"];
        if let Some(changed) = chains.iter().find_map(|key| value.get(key)) {
            report.add(
                changed.place,
                Rule::FilterPatched,
                "this patch changes which filter chains the listener has, also those with the filter; use patches of \
                 FILTER_CHAIN, or remove it",
            );
        }
    }
    if applies == "LISTENER" || applies == "FILTER_CHAIN" {
        value.walk(&mut |node| {
            let sockets =
                node.members().filter(|(key, _)| ["transport_socket", "transportSocket"].contains(key));
            for (_, socket) in sockets.filter(|(_, it)| tls::is_other(it)) {
                report.add(
                    socket.place,
                    Rule::Tls,
                    "this patch takes away the TLS of filter chains, also of those with the filter; merge a \
                     DownstreamTlsContext, or remove it",
                );
            }
        });
    }
}

fn check_filter_patch(
    resource: &Node,
    (index, patch): (usize, &Node),
    plugin: &Plugin,
    files: &[File],
    report: &mut Report<'_>,
) {
    let operation = patch.at(&["patch", "operation"]);
    if operation.and_then(Node::text) != Some("INSERT_FIRST") {
        let place = operation.map_or(patch.place, |it| it.place);
        report.add(
            place,
            Rule::FilterOrder,
            "other filters come first, and answer what nobody has judged; set `operation: INSERT_FIRST`",
        );
    }
    let place = patch.at(&["match", "context"]).map_or(patch.place, |it| it.place);
    match context(patch) {
        "SIDECAR_INBOUND" => {}
        "GATEWAY" => report.note(
            place,
            Rule::TrustedCa,
            "the TLS of a gateway is that of its Gateway: peers need `tls.mode: MUTUAL`",
        ),
        _ => report.add(
            place,
            Rule::Context,
            "the filter judges who comes in; set `context: SIDECAR_INBOUND` or `GATEWAY`",
        ),
    }
    if let Some(version) = patch.at(&["match", "proxy", "proxy_version"]) {
        report.note(version.place, Rule::Match, "proxies of another version do not get the filter");
    }
    let network = patch.text_of("apply_to") == "NETWORK_FILTER";
    order::check(
        &Own { resource, index: Some(index), network, context: context(patch), port: port(patch) },
        files,
        report,
    );
    if let Some(port) = port(patch).filter(|_| context(patch) == "SIDECAR_INBOUND") {
        report.guard(resource, port);
    }
    check_tls_patch(resource, plugin, (context(patch), port(patch)), files, report);
}

/// Istio's TLS allows resumed sessions, so a patch of the same listener must not.
pub(super) fn check_tls_patch(
    resource: &Node,
    plugin: &Plugin,
    (context, port): (&str, Option<u64>),
    files: &[File],
    report: &mut Report<'_>,
) {
    if plugin.authentication() == Authentication::Nothing {
        return;
    }
    let fits = |patch: &Node| {
        patch.text_of("apply_to") == "FILTER_CHAIN"
            && [context, "ANY"].contains(&workload::context(patch))
            && (workload::port(patch).is_none() || workload::port(patch) == port)
    };
    let mut sockets = Vec::new();
    for (file, other) in of_kind(files, "EnvoyFilter").filter(|(_, other)| may_reach(other, resource)) {
        for patch in patches(other).iter().filter(|patch| fits(patch)) {
            let Some(socket) = patch.at(&["patch", "value", "transport_socket"]) else { continue };
            if tls::is_other(socket) {
                continue;
            }
            let merges = operation(patch) == "MERGE";
            sockets.push((file, socket.typed_config().1, merges && reaches(other, resource)));
        }
    }
    let sure = || sockets.iter().enumerate().filter(|(_, (_, _, sure))| *sure);
    let main = sure().find(|(_, (_, terms, _))| tls::has_terms(terms)).or_else(|| sure().next());
    let main = main.map(|(index, _)| index);
    for (index, (file, terms, _)) in sockets.iter().enumerate() {
        let report = &mut report.of(file);
        if main == Some(index) || tls::has_terms(terms) {
            tls::check_terms(terms, report);
        }
        tls::check_version(terms, report);
        terms.walk(&mut |node| tls::check_leniency(node, report));
    }
    if main.is_none() {
        report.add(
            plugin.place,
            Rule::SessionResumption,
            "Istio resumes sessions, whose certificates Envoy does not verify again; add an EnvoyFilter for this \
             port that merges a `transport_socket` with both switches against it, as `peergate render` does",
        );
    }
}
