//! Listeners and their filter chains.

use peergate_policy::Configuration;

use super::node::Node;
use super::plugin::Plugin;
use super::{Report, Rule, filters, http, tls};
use crate::render::Authentication;

const CONNECTION_MANAGER: &str = ".http_connection_manager.v3.HttpConnectionManager";

/// Checks a listener, if one of its chains has the filter.
pub(super) fn check(listener: &Node, report: &mut Report<'_>) {
    let chains: Vec<_> =
        listener.list("filter_chains").iter().chain(listener.get("default_filter_chain")).collect();
    let plugins: Vec<_> = chains.iter().map(|chain| plugins(chain, report)).collect();
    if plugins.iter().all(Vec::is_empty) {
        return;
    }
    for (chain, plugins) in chains.iter().zip(&plugins) {
        if plugins.is_empty() {
            report.add(
                chain.place,
                Rule::ChainUnguarded,
                "this filter chain does not have the filter, \
                and others of the listener have; put it into each, or remove the chain",
            );
            continue;
        }
        let asked = plugins.iter().map(Plugin::authentication).min_by_key(|it| strictness(*it));
        tls::check(chain, asked.unwrap_or(Authentication::Verified), report);
        if chains.len() > 1 {
            check_names(chain, plugins, report);
        }
    }
    check_inspector(listener, &chains, report);
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
