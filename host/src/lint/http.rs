//! HTTP connection managers and routes.

use super::node::Node;
use super::plugin::Plugin;
use super::{Report, Rule, filters};

/// Checks a connection manager; its filters of ours.
pub(super) fn check(manager: &Node, report: &mut Report<'_>) -> Vec<Plugin> {
    let plugins = filters::check(manager.list("http_filters"), report);
    check_forwarded_certificate(manager, report);
    if plugins.is_empty() {
        return plugins;
    }
    for upgrade in manager.list("upgrade_configs") {
        let own = upgrade.list("filters");
        if !own.is_empty() && filters::check(own, report).is_empty() {
            report.add(
                upgrade.place,
                Rule::UpgradeFilters,
                "upgraded requests take these filters, and \
                the filter is not among them; put it first, or remove `filters`",
            );
        }
    }
    check_routes(manager, report);
    for by in ["rds", "scoped_routes"] {
        if let Some(place) = manager.get(by).map(|it| it.place) {
            report.note(
                place,
                Rule::FilterPerRoute,
                "routes are delivered, and may switch the filter off; check that file too",
            );
        }
    }
    plugins
}

/// Names of Wasm filters, ours or not, anywhere: a route that switches off another one is worth a look.
pub(super) fn names(resource: &Node) -> Vec<String> {
    let mut names = Vec::new();
    resource.walk(&mut |node| {
        let (kind, _) = node.typed_config();
        let delivered = node.at(&["config_discovery", "type_urls"]).map_or(&[][..], Node::items);
        let wasm = |kind: &str| kind.ends_with(".wasm.v3.Wasm") || kind.ends_with(".ExtensionWithMatcher");
        if wasm(kind) || delivered.iter().filter_map(Node::text).any(wasm) {
            names.push(node.text_of("name").to_owned());
        }
    });
    names
}

/// Anything that a route, a virtual host or a cluster's weight says about the filter.
pub(super) fn check_routes(routes: &Node, report: &mut Report<'_>) {
    routes.walk(&mut |node| {
        let Some(overrides) = node.get("typed_per_filter_config") else { return };
        for (name, value) in overrides.members() {
            let meant = report.means_ours(name) || name == "envoy.filters.http.wasm";
            let (kind, config) = value.typed();
            let harmless = kind.ends_with("config.route.v3.FilterConfig")
                && !config.is_true("disabled")
                && config.get("config").is_none();
            if meant && !harmless {
                report.add(
                    value.place,
                    Rule::FilterPerRoute,
                    format!("this changes or switches off the filter `{name}` for some requests; remove it"),
                );
            }
        }
    });
}

/// Anybody can write this header.
pub(super) fn check_forwarded_certificate(manager: &Node, report: &mut Report<'_>) {
    let key = "forward_client_cert_details";
    if manager.get(key).is_some() && !manager.is_one_of(key, &["SANITIZE", "SANITIZE_SET"], &[0, 3]) {
        report.add(
            manager.place_of(key),
            Rule::ForwardedClientCertificate,
            "x-forwarded-client-cert of \
            clients is believed, and anybody can write it; set `forward_client_cert_details: SANITIZE`",
        );
    }
}
