//! Istio's resources.

use super::node::{Node, Place};
use super::plugin::Plugin;
use super::{File, Report, Rule, filters, http, plugin, tls};
use crate::render::Authentication;

/// What is there is for all namespaces.
const ROOT_NAMESPACE: &str = "istio-system";

/// Checks the patches of an `EnvoyFilter`.
pub(super) fn check_envoy_filter(resource: &Node, files: &[File], report: &mut Report<'_>) {
    for patch in patches(resource) {
        check_changes(patch, report);
        let Some(value) = patch.at(&["patch", "value"]) else { continue };
        http::check_routes(value, report);
        value.walk(&mut |node| http::check_forwarded_certificate(node, report));
        filters::check_certificate_source(value, report);
        if let Some(plugin) = filters::check_one(value, report) {
            check_filter_patch(resource, patch, &plugin, files, report);
            let labels = labels(resource);
            if context(patch) != "GATEWAY" {
                check_peer_authentication(resource, labels, files, report);
            }
        }
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

fn check_filter_patch(
    resource: &Node,
    patch: &Node,
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
    check_tls_patch(resource, plugin, (context(patch), port(patch)), files, report);
}

/// Istio's TLS allows resumed sessions, so a patch of the same listener must not.
fn check_tls_patch(
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
            && [context, "ANY"].contains(&self::context(patch))
            && (self::port(patch).is_none() || self::port(patch) == port)
    };
    let mut sockets = Vec::new();
    for (file, other) in of_kind(files, "EnvoyFilter").filter(|(_, other)| may_reach(other, resource)) {
        for patch in patches(other).iter().filter(|patch| fits(patch)) {
            let Some(socket) = patch.at(&["patch", "value", "transport_socket"]) else { continue };
            let merges = patch.at(&["patch", "operation"]).and_then(Node::text) == Some("MERGE");
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

/// Whether an `EnvoyFilter` surely patches the pods of a resource.
fn reaches(filter: &Node, resource: &Node) -> bool {
    let own = labels(resource);
    let selected = labels(filter).is_none_or(|wanted| {
        wanted.members().all(|(key, value)| label(own, key).is_some_and(|it| it.text() == value.text()))
    });
    selected && [namespace(resource), ROOT_NAMESPACE].contains(&namespace(filter))
}

/// Whether it may: a resource without a namespace goes to any.
fn may_reach(filter: &Node, resource: &Node) -> bool {
    let own = labels(resource);
    let other_pods = labels(filter).is_some_and(|wanted| {
        wanted.members().any(|(key, value)| label(own, key).is_some_and(|it| it.text() != value.text()))
    });
    let namespaces = ["", ROOT_NAMESPACE, namespace(resource)];
    !other_pods && (namespace(resource).is_empty() || namespaces.contains(&namespace(filter)))
}

/// Checks a `WasmPlugin`, if it is ours.
pub(super) fn check_wasm_plugin(resource: &Node, files: &[File], report: &mut Report<'_>) {
    let Some(spec) = resource.get("spec") else { return };
    let config = spec.get("plugin_config");
    let text = config.map(|it| it.to_json().to_string()).unwrap_or_default();
    let name = resource.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default();
    let named =
        [name, spec.text_of("plugin_name"), spec.text_of("url")].iter().any(|it| it.contains("peergate"));
    if !named && !plugin::is_policy(&text) {
        return;
    }
    report.filters += 1;
    let configuration = match config {
        Some(config) => plugin::policy(&text, config, report),
        None => {
            report.add(
                spec.place,
                Rule::Configuration,
                "the filter has no configuration; give it as `pluginConfig`",
            );
            None
        }
    };
    check_plugin_failure(spec, report);
    check_plugin_place(spec, report);
    let plugin = Plugin { place: spec.place, configuration };
    let ports =
        spec.list("match").iter().flat_map(|it| it.list("ports")).filter_map(|it| it.get("number")?.number());
    let ports: Vec<_> = ports.map(Some).collect();
    for port in if ports.is_empty() { vec![None] } else { ports } {
        check_tls_patch(resource, &plugin, ("SIDECAR_INBOUND", port), files, report);
    }
    check_peer_authentication(resource, labels(resource), files, report);
}

fn check_plugin_failure(spec: &Node, report: &mut Report<'_>) {
    let place = spec.place_of("fail_strategy");
    match spec.text_of("fail_strategy") {
        "FAIL_RELOAD" => {}
        "FAIL_OPEN" => report.add(
            place,
            Rule::FailOpen,
            "FAIL_OPEN lets requests pass when the filter fails; set FAIL_RELOAD",
        ),
        _ => report.add(
            place,
            Rule::FailurePolicy,
            "after a trap every request gets 503 until Envoy is restarted; set `failStrategy: FAIL_RELOAD`",
        ),
    }
    let url = spec.text_of("url");
    if spec.text_of("sha256").is_empty() && !url.contains("@sha256:") && !url.starts_with("file:") {
        report.add(
            spec.place_of("url"),
            Rule::CodeNotPinned,
            "whoever can write there replaces the filter; set `sha256`",
        );
    }
}

fn check_plugin_place(spec: &Node, report: &mut Report<'_>) {
    if !["AUTHN", "AUTHZ"].contains(&spec.text_of("phase")) {
        report.add(
            spec.place_of("phase"),
            Rule::Phase,
            "filters of earlier phases come first, and may answer what nobody has judged; set `phase: AUTHZ`",
        );
    }
    let selectors = spec.list("match");
    let inbound =
        |it: &Node| it.get("mode").is_none() || it.is_one_of("mode", &["SERVER", "CLIENT_AND_SERVER"], &[]);
    if !selectors.is_empty() && !selectors.iter().any(inbound) {
        report.add(
            spec.place_of("match"),
            Rule::Match,
            "the filter does not run on what comes in; set `mode: SERVER`",
        );
    }
}

/// Without STRICT a sidecar takes plaintext too, and clients without a certificate.
fn check_peer_authentication(
    resource: &Node,
    labels: Option<&Node>,
    files: &[File],
    report: &mut Report<'_>,
) {
    let has = |key: &str, value: &Node| label(labels, key).is_some_and(|it| it.text() == value.text());
    let selects = |it: &Node| {
        let wanted = it.at(&["spec", "selector", "match_labels"]);
        let fits = wanted.is_none_or(|wanted| wanted.members().all(|(key, value)| has(key, value)));
        fits && ([namespace(resource), ROOT_NAMESPACE].contains(&namespace(it)))
    };
    let mut found = false;
    for (file, authentication) in of_kind(files, "PeerAuthentication").filter(|(_, it)| selects(it)) {
        found = true;
        check_strict(authentication, &mut report.of(file));
    }
    if !found {
        lenient(resource.place, report);
    }
}

fn check_strict(authentication: &Node, report: &mut Report<'_>) {
    let mode = authentication.at(&["spec", "mtls", "mode"]);
    let ports = authentication.at(&["spec", "port_level_mtls"]);
    let ports = ports.into_iter().flat_map(Node::members).filter_map(|(_, it)| it.get("mode"));
    for mode in mode.into_iter().chain(ports).filter(|it| it.text() != Some("STRICT")) {
        lenient(mode.place, report);
    }
    if mode.is_none() {
        lenient(authentication.place, report);
    }
}

fn lenient(place: Place, report: &mut Report<'_>) {
    report.add(
        place,
        Rule::PeerAuthentication,
        "sidecars take plaintext and clients without a \
        certificate; use a PeerAuthentication with `mtls: {mode: STRICT}` for these pods",
    );
}

fn of_kind<'a>(files: &'a [File], kind: &str) -> impl Iterator<Item = (&'a File, &'a Node)> {
    let all = files.iter().flat_map(|file| file.resources.iter().map(move |resource| (file, resource)));
    all.filter(move |(_, resource)| resource.text_of("kind") == kind)
}

fn namespace(resource: &Node) -> &str {
    resource.at(&["metadata", "namespace"]).and_then(Node::text).unwrap_or_default()
}

/// Of the pods that an `EnvoyFilter` or a `WasmPlugin` selects.
fn labels(resource: &Node) -> Option<&Node> {
    let of = |path: &[&str]| resource.at(path);
    of(&["spec", "workload_selector", "labels"]).or_else(|| of(&["spec", "selector", "match_labels"]))
}

fn label<'a>(labels: Option<&'a Node>, key: &str) -> Option<&'a Node> {
    labels?.members().find(|(known, _)| *known == key).map(|(_, value)| value)
}

fn patches(resource: &Node) -> &[Node] {
    resource.at(&["spec", "config_patches"]).map_or(&[], Node::items)
}

fn context(patch: &Node) -> &str {
    patch.at(&["match", "context"]).and_then(Node::text).unwrap_or("ANY")
}

fn port(patch: &Node) -> Option<u64> {
    let listener = patch.at(&["match", "listener"])?;
    listener.get("port_number").or_else(|| listener.at(&["filter_chain", "destination_port"]))?.number()
}
