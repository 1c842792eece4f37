//! Listeners and their filter chains.

use peergate_policy::Configuration;

use super::file::File;
use super::gate::{Chain, Gate};
use super::node::Node;
use super::plugin::Plugin;
use super::resource::Resource;
use super::route::CONNECTION_MANAGER;
use super::{Report, Rule, filters, http, tls};
use crate::render::Authentication;

/// Checks a listener, and what is around the filter where a chain has it.
pub(super) fn check<'a>(file: &'a File, resource: &'a Resource, report: &mut Report<'_>) -> Gate<'a> {
    let (_, listener) = resource.node.typed();
    let chains: Vec<_> =
        listener.list("filter_chains").iter().chain(listener.get("default_filter_chain")).collect();
    let plugins: Vec<_> = chains.iter().map(|chain| plugins(chain, report)).collect();
    let guarded = |index: usize| plugins.get(index).is_some_and(|it| !it.is_empty());
    let mut ways: Vec<_> =
        (0..).zip(&chains).map(|(index, node)| Chain { node, guarded: guarded(index) }).collect();
    ways.extend(listener.get("api_listener").map(|node| Chain { node, guarded: is_guarded(node, report) }));
    // `udp_proxy` is one of these, and connects by itself.
    let connects = |it: &Node| it.typed_config().0.contains(".udp_proxy.");
    let filters = listener.get("listener_filters").filter(|it| it.items().iter().any(connects));
    ways.extend(filters.map(|node| Chain { node, guarded: false }));
    if plugins.iter().any(|it| !it.is_empty()) {
        for (chain, plugins) in chains.iter().zip(&plugins).filter(|(_, plugins)| !plugins.is_empty()) {
            let asked = plugins.iter().map(Plugin::authentication).min_by_key(|it| strictness(*it));
            tls::check(chain, asked.unwrap_or(Authentication::Verified), report);
            if chains.len() > 1 {
                check_names(chain, plugins, report);
            }
        }
        check_inspector(listener, &chains, report);
    }
    Gate { file, resource, chains: ways }
}

/// Whether an `api_listener` has the filter.
fn is_guarded(listener: &Node, report: &mut Report<'_>) -> bool {
    let manager = listener.get("api_listener").map(|it| it.typed().1);
    manager.is_some_and(|manager| !http::check(manager, report).is_empty())
}

fn strictness(authentication: Authentication) -> u8 {
    match authentication {
        Authentication::Verified => 0,
        Authentication::Pinned => 1,
        Authentication::Nothing => 2,
    }
}

/// Our filters in a chain, of the connection and of its requests.
fn plugins(chain: &Node, report: &mut Report<'_>) -> Vec<Plugin> {
    let all = chain.list("filters");
    let managers = || all.iter().filter(|filter| filter.typed_config().0.ends_with(CONNECTION_MANAGER));
    let mut plugins = filters::check(all, report);
    plugins.extend(managers().flat_map(|filter| http::check(filter.typed_config().1, report)));
    plugins
}

/// HTTP/2 clients use one connection for all names of a certificate: without `names` a request for one endpoint can come in by
/// another.
fn check_names(chain: &Node, plugins: &[Plugin], report: &mut Report<'_>) {
    let served = chain.at(&["filter_chain_match", "server_names"]).map_or(&[][..], Node::items);
    let manager = chain.list("filters").iter().any(|it| it.typed_config().0.ends_with(CONNECTION_MANAGER));
    let last = plugins.last().and_then(|plugin| Some((plugin.place, plugin.configuration.as_ref()?)));
    let (true, Some((place, configuration))) = (manager && !served.is_empty(), last) else { return };
    if configuration.serves_any() {
        report.add(
            place,
            Rule::Names,
            "requests for other endpoints of this port are taken for this \
            one's; list this endpoint's names in `names` of the configuration",
        );
        return;
    }
    for name in served {
        let text = name.text().unwrap_or_default();
        if !text.starts_with('*') && !knows(configuration, text) {
            report.add(
                name.place,
                Rule::Names,
                format!(
                    "the filter answers 421 to requests for \
                `{text}`; put it into `names` of the configuration"
                ),
            );
        }
    }
}

fn knows(configuration: &Configuration, name: &str) -> bool {
    configuration.names().chain(configuration.deprecated_names()).any(|it| it.eq_ignore_ascii_case(name))
}

fn check_inspector(listener: &Node, chains: &[&Node], report: &mut Report<'_>) {
    let by_name = chains.iter().find_map(|chain| chain.at(&["filter_chain_match", "server_names"]));
    let inspected = |filter: &Node| filter.typed_config().0.ends_with(".tls_inspector.v3.TlsInspector");
    if let Some(names) = by_name
        && !listener.list("listener_filters").iter().any(inspected)
    {
        report.add(
            names.place,
            Rule::TlsInspector,
            "nobody reads the names in handshakes, so no \
            connection comes to its chain; add the listener filter `tls_inspector`",
        );
    }
}
