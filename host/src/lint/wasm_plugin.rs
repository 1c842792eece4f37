//! `WasmPlugin`, and `TrafficExtension`, which has the same under `spec.wasm` from Istio 1.31 on.

use super::file::File;
use super::istio::check_tls_patch;
use super::node::Node;
use super::order::{self, Own};
use super::plugin::{self, Plugin};
use super::workload::{labels, may_reach, of_kind};
use super::{Report, Rule, peer_authentication};

/// Where the module and its configuration stand.
fn module(spec: &Node) -> &Node {
    spec.get("wasm").unwrap_or(spec)
}

fn configuration(spec: &Node) -> Option<(&Node, String)> {
    let config = module(spec).get("plugin_config")?;
    Some((config, config.to_json().to_string()))
}

fn is_ours(resource: &Node, spec: &Node) -> bool {
    let name = resource.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default();
    let module = module(spec);
    let named = [name, module.text_of("plugin_name"), module.text_of("url")];
    named.iter().any(|it| it.contains("peergate"))
        || configuration(spec).is_some_and(|(_, text)| plugin::is_policy(&text))
}

/// Checks a `WasmPlugin`, if it is ours.
pub(super) fn check(resource: &Node, files: &[File], report: &mut Report<'_>) {
    let Some(spec) = resource.get("spec") else { return };
    if !is_ours(resource, spec) {
        return;
    }
    report.filters += 1;
    let configuration = match configuration(spec) {
        Some((config, text)) => plugin::policy(&text, config, report),
        None => {
            report.add(
                spec.place,
                Rule::Configuration,
                "the filter has no configuration; give it as `pluginConfig`",
            );
            None
        }
    };
    check_plugin_failure(module(spec), report);
    check_plugin_place(spec, report);
    check_others(resource, spec, files, report);
    let network = is_network(spec);
    let plugin = Plugin { place: spec.place, configuration };
    let ports =
        spec.list("match").iter().flat_map(|it| it.list("ports")).filter_map(|it| it.get("number")?.number());
    let ports: Vec<_> = ports.map(Some).collect();
    for port in if ports.is_empty() { vec![None] } else { ports } {
        let context = "SIDECAR_INBOUND";
        check_tls_patch(resource, &plugin, (context, port), files, report);
        order::check(&Own { resource, index: None, network, context, port }, files, report);
        peer_authentication::check(resource, labels(resource), port, files, report);
        if let Some(port) = port {
            report.guard(resource, port);
        }
    }
}

fn is_network(spec: &Node) -> bool {
    module(spec).text_of("type") == "NETWORK"
}

/// Istio's order of phases.
fn phase(spec: &Node) -> usize {
    let phases = ["AUTHN", "AUTHZ", "STATS"];
    phases.iter().position(|it| *it == spec.text_of("phase")).unwrap_or(phases.len())
}

/// Other plugins of the same pods that come first: of an earlier phase, or of the same with a higher or the same `priority`.
fn check_others(resource: &Node, spec: &Node, files: &[File], report: &mut Report<'_>) {
    let priority = |spec: &Node| spec.get("priority").and_then(Node::integer).unwrap_or_default();
    for kind in ["WasmPlugin", "TrafficExtension"] {
        for (file, other) in of_kind(files, kind).filter(|(_, other)| may_reach(other, resource)) {
            let Some(theirs) = other.get("spec") else { continue };
            let inbound = theirs.list("match").is_empty() || theirs.list("match").iter().any(is_inbound);
            if is_ours(other, theirs) || is_network(theirs) != is_network(spec) || !inbound {
                continue;
            }
            let first = (phase(theirs), -priority(theirs)) <= (phase(spec), -priority(spec));
            if first {
                report.of(file).add(
                    theirs.place_of("phase"),
                    Rule::FilterOrder,
                    "this plugin comes before the filter, and may answer what nobody has judged; give it a later `phase` than \
                     the filter, or a lower `priority`",
                );
            }
        }
    }
}

/// Whether a selector of traffic is for what comes in.
fn is_inbound(selector: &Node) -> bool {
    selector.get("mode").is_none() || selector.is_one_of("mode", &["SERVER", "CLIENT_AND_SERVER"], &[])
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
    if !selectors.is_empty() && !selectors.iter().any(is_inbound) {
        report.add(
            spec.place_of("match"),
            Rule::Match,
            "the filter does not run on what comes in; set `mode: SERVER`",
        );
    }
}
