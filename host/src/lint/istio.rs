//! Istio's resources.

use super::node::{Node, Place};
use super::plugin::Plugin;
use super::{File, Report, Rule, filters, http, plugin, tls};
use crate::render::Authentication;

/// Checks the patches of an `EnvoyFilter`.
pub(super) fn check_envoy_filter(resource: &Node, files: &[File], report: &mut Report<'_>) {
    for patch in patches(resource) {
        let Some(value) = patch.at(&["patch", "value"]) else { continue };
        http::check_routes(value, &["peergate"], report);
        value.walk(&mut |node| http::check_forwarded_certificate(node, report));
        filters::check_certificate_source(value, report);
        if let Some(plugin) = filters::check_one(value, report) {
            check_filter_patch(patch, &plugin, files, report);
            let labels = resource.at(&["spec", "workload_selector", "labels"]);
            if context(patch) != "GATEWAY" {
                check_peer_authentication(resource, labels, files, report);
            }
        }
    }
}

fn check_filter_patch(patch: &Node, plugin: &Plugin, files: &[File], report: &mut Report<'_>) {
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
    check_tls_patch(plugin, context(patch), port(patch), files, report);
}

/// Istio's TLS allows resumed sessions, so a patch of the same listener must not.
fn check_tls_patch(
    plugin: &Plugin,
    context: &str,
    port: Option<u64>,
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
    let mut sockets = of_kind(files, "EnvoyFilter").flat_map(|(file, resource)| {
        let fitting = patches(resource).iter().filter(|patch| fits(patch));
        fitting.filter_map(move |patch| Some((file, patch.at(&["patch", "value", "transport_socket"])?)))
    });
    match sockets.next() {
        Some((file, socket)) => {
            let (_, terms) = socket.typed_config();
            tls::check_terms(terms, &mut report.of(file));
            tls::check_version(terms, &mut report.of(file));
        }
        None => report.add(
            plugin.place,
            Rule::SessionResumption,
            "Istio resumes sessions, whose certificates Envoy does not verify again; add an EnvoyFilter for this \
             port that merges a `transport_socket` with both switches against it, as `peergate render` does",
        ),
    }
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
        check_tls_patch(&plugin, "SIDECAR_INBOUND", port, files, report);
    }
    check_peer_authentication(resource, spec.at(&["selector", "match_labels"]), files, report);
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
    if spec.get("sha256").is_none() && !url.contains("@sha256:") && !url.starts_with("file:") {
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
    let has = |key: &str, value: &Node| {
        labels.is_some_and(|it| it.members().any(|(known, text)| known == key && text.text() == value.text()))
    };
    let namespace =
        |it: &Node| it.at(&["metadata", "namespace"]).and_then(Node::text).unwrap_or_default().to_owned();
    let selects = |it: &Node| {
        let wanted = it.at(&["spec", "selector", "match_labels"]);
        let fits = wanted.is_none_or(|wanted| wanted.members().all(|(key, value)| has(key, value)));
        fits && ([namespace(resource), "istio-system".to_owned()].contains(&namespace(it)))
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
