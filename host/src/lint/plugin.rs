//! The configuration of a Wasm plugin (`envoy.extensions.wasm.v3.PluginConfig`), and whether it is ours.

use std::collections::BTreeMap;

use peergate_policy::Configuration;

use super::node::{Node, Place, snake};
use super::resource::{Kind, Resource};
use super::{Report, Rule};
use crate::render::Authentication;

/// Of `filter.wasm`: without the first two it decides nothing, without the others it cannot start, decide or say so.
const CALLBACKS: [&str; 5] = [
    "proxy_on_request_headers",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_context_create",
    "proxy_on_configure",
];

/// One place that has the filter.
pub(super) struct Plugin {
    pub(super) place: Place,
    /// `None` where the filter would refuse it.
    pub(super) configuration: Option<Configuration>,
}

impl Plugin {
    /// What the listener must ask of clients; the strictest where that is not known.
    pub(super) fn authentication(&self) -> Authentication {
        self.configuration.as_ref().map_or(Authentication::Verified, Authentication::of)
    }
}

/// The plugin's configuration, if this message is a Wasm filter with ours.
pub(super) fn ours<'a>(name: &str, kind: &str, message: &'a Node) -> Option<&'a Node> {
    let config = message.get("config").filter(|_| kind.ends_with(".wasm.v3.Wasm"))?;
    is_ours(name, config).then_some(config)
}

/// By the names that we give it, or by what it is configured with.
fn is_ours(name: &str, config: &Node) -> bool {
    let named = [name, config.text_of("name"), config.text_of("root_id")];
    let module = config.at(&["vm_config", "code", "local", "filename"]).and_then(Node::text);
    let value = config.at(&["configuration", "value"]).and_then(Node::text).unwrap_or_default();
    named.into_iter().chain(module).any(|it| it.contains("peergate")) || is_policy(value)
}

pub(super) fn is_policy(text: &str) -> bool {
    ["\"authorized-peers\"", "\"data-plane\""].iter().any(|key| text.contains(key))
}

/// What is unsafe in a plugin that is ours.
pub(super) fn check(config: &Node, report: &mut Report<'_>) -> Plugin {
    report.filters += 1;
    check_failure(config, report);
    check_capabilities(config, report);
    if config.at(&["vm_config", "vm_id"]).and_then(Node::text).is_none_or(str::is_empty) {
        let place = config.place_of("vm_config");
        report.add(
            place,
            Rule::VmIdMissing,
            "plugins without a `vm_id` share one VM, and a trap in one stops all; give it one of its own",
        );
    }
    Plugin { place: config.place, configuration: check_configuration(config, report) }
}

fn check_failure(config: &Node, report: &mut Report<'_>) {
    if config.is_true("fail_open") {
        let place = config.place_of("fail_open");
        report.add(
            place,
            Rule::FailOpen,
            "`fail_open` lets requests pass when the filter fails; remove \
            it and set `failure_policy: FAIL_RELOAD`",
        );
    }
    let place = config.place_of("failure_policy");
    if config.is_one_of("failure_policy", &["FAIL_OPEN"], &[3]) {
        report.add(
            place,
            Rule::FailOpen,
            "FAIL_OPEN lets requests pass when the filter fails; set FAIL_RELOAD",
        );
    } else if !config.is_one_of("failure_policy", &["FAIL_RELOAD"], &[1]) && config.get("fail_open").is_none()
    {
        report.add(
            place,
            Rule::FailurePolicy,
            "after a trap every request gets 503 until Envoy is restarted; set `failure_policy: FAIL_RELOAD`",
        );
    }
}

fn check_capabilities(config: &Node, report: &mut Report<'_>) {
    let Some(allowed) = config.at(&["capability_restriction_config", "allowed_capabilities"]) else { return };
    // An empty map restricts nothing (Envoy's `CapabilityRestrictionConfig`).
    if allowed.members().next().is_none() {
        return;
    }
    let missing: Vec<_> = CALLBACKS.into_iter().filter(|name| allowed.get(name).is_none()).collect();
    let effect = if missing.is_empty() {
        "a restriction that lacks a callback lets requests pass, without a word".to_owned()
    } else {
        format!(
            "Envoy never calls {} of the filter, and lets requests pass without a word",
            missing.join(", ")
        )
    };
    report.add(
        allowed.place,
        Rule::CapabilityRestriction,
        format!("{effect}; remove `capability_restriction_config`"),
    );
}

fn check_configuration(config: &Node, report: &mut Report<'_>) -> Option<Configuration> {
    let right = "give it as a google.protobuf.StringValue with JSON in `value`";
    let Some(any) = config.get("configuration") else {
        report.add(config.place, Rule::Configuration, format!("the filter has no configuration; {right}"));
        return None;
    };
    let (kind, value) = (any.typed().0, any.get("value").filter(|value| value.text().is_some()));
    match (kind, value) {
        ("google.protobuf.StringValue", Some(value)) => {
            policy(value.text().unwrap_or_default(), value, report)
        }
        _ => {
            report.add(
                any.place,
                Rule::Configuration,
                format!("the filter cannot read a configuration of this type; {right}"),
            );
            None
        }
    }
}

/// The configuration of a plugin that is checked elsewhere.
pub(super) fn configuration(config: &Node) -> Option<Configuration> {
    let text = config.at(&["configuration", "value"]).and_then(Node::text)?;
    Configuration::parse(text).ok()
}

/// Judges the JSON as the filter does. `value` is where it stands.
pub(super) fn policy(text: &str, value: &Node, report: &mut Report<'_>) -> Option<Configuration> {
    let configuration = match Configuration::parse(text) {
        Ok(configuration) => configuration,
        Err(error) => {
            let place = report.inside(value, error.line(), error.column());
            let path = if error.path().is_empty() { String::new() } else { format!("`{}`: ", error.path()) };
            report.add(
                place,
                Rule::Policy,
                format!("the filter refuses this configuration: {path}{}", error.kind()),
            );
            return None;
        }
    };
    if configuration.insecure_mixed_mode() {
        report.add(
            value.place,
            Rule::InsecureMixedMode,
            "everybody who speaks no TLS is admitted; remove `insecure-mixed-mode`",
        );
    }
    for warning in configuration.policy().warnings() {
        let place = warning.place().map(|(line, column)| report.inside(value, line, column));
        report.note(place.unwrap_or(value.place), Rule::Policy, warning.message().to_owned());
    }
    Some(configuration)
}

/// A plugin and where it is.
struct User<'a> {
    chain: Option<&'a Node>,
    plugin: &'a Node,
    vm_id: &'a Node,
}

/// A VM that a plugin of ours has in common with any other plugin. In one chain the same configuration may decide twice, about the
/// connection and about its requests: what stops one should stop the other.
pub(super) fn check_shared_vms(resources: &[Resource], report: &mut Report<'_>) {
    let mut all: BTreeMap<&str, Vec<User<'_>>> = BTreeMap::new();
    // What a bootstrap or a patch adds is here in two forms.
    for resource in resources.iter().filter(|it| !it.patched) {
        let parts = resource.node.typed().1.members().filter(|(key, _)| snake(key) != "static_resources");
        match resource.kind {
            Kind::Bootstrap => parts.for_each(|(_, part)| collect(part, None, &mut all)),
            _ => collect(&resource.node, None, &mut all),
        }
    }
    for (name, users) in all {
        let first = &users[0];
        let alike = |user: &User<'_>| {
            let text = |user: &User<'_>| {
                user.plugin.at(&["configuration", "value"]).and_then(Node::text).map(str::to_owned)
            };
            let together =
                matches!((user.chain, first.chain), (Some(one), Some(other)) if std::ptr::eq(one, other));
            together && is_ours("", user.plugin) && text(user) == text(first)
        };
        if users.iter().skip(1).all(alike) || !users.iter().any(|user| is_ours("", user.plugin)) {
            continue;
        }
        let place = users.iter().map(|user| user.vm_id.place).max().unwrap_or(first.vm_id.place);
        let message = format!(
            "{} plugins have the VM `{name}`, and a trap in one stops all; give each its own `vm_id`",
            users.len()
        );
        report.add(place, Rule::VmIdShared, message);
    }
}

fn collect<'a>(node: &'a Node, chain: Option<&'a Node>, all: &mut BTreeMap<&'a str, Vec<User<'a>>>) {
    let chain = if node.list("filters").is_empty() { chain } else { chain.or(Some(node)) };
    let vm_id = node.at(&["vm_config", "vm_id"]).filter(|it| it.text().is_some_and(|text| !text.is_empty()));
    if let Some(vm_id) = vm_id {
        all.entry(vm_id.text().unwrap_or_default()).or_default().push(User { chain, plugin: node, vm_id });
    }
    node.items().iter().for_each(|item| collect(item, chain, all));
    node.members().for_each(|(_, value)| collect(value, chain, all));
}
