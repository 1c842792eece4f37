//! HTTP connection managers and routes.

use super::node::Node;
use super::plugin::Plugin;
use super::resource::Kind;
use super::route::named;
use super::{Report, Rule, filters};

/// Checks a connection manager; its filters of ours.
pub(super) fn check(manager: &Node, report: &mut Report<'_>) -> Vec<Plugin> {
    let plugins = filters::check(manager.list("http_filters"), report);
    check_forwarded_certificate(manager, report);
    if plugins.is_empty() {
        return plugins;
    }
    check_upgrades(manager, report);
    check_routes(manager, report);
    check_delivery(manager, report);
    plugins
}

/// Upgraded requests can have filters of their own.
pub(super) fn check_upgrades(manager: &Node, report: &mut Report<'_>) {
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
}

/// Routes that are delivered may switch the filter off; where they are in these files, that is looked at.
fn check_delivery(manager: &Node, report: &mut Report<'_>) {
    let known = |kind: Kind, name: &str| named(report.files, 0, kind, name).is_some();
    let delivered = manager.get("rds").filter(|it| !known(Kind::Routes, it.text_of("route_config_name")));
    let scopes = manager.get("scoped_routes").filter(|it| {
        let any = |kind| report.files.iter().flat_map(|file| &file.resources).any(|it| it.kind == kind);
        it.get("scoped_rds").is_none() || !any(Kind::ScopedRoutes)
    });
    for place in delivered.into_iter().chain(scopes).map(|it| it.place).collect::<Vec<_>>() {
        report.note(
            place,
            Rule::FilterPerRoute,
            "routes are delivered, and may switch the filter off; they are not in these files, check them too",
        );
    }
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
