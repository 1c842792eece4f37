//! Which pods a resource of Istio is for, and whether another one is for the same.

use super::file::File;
use super::node::Node;

/// What is there is for all namespaces.
pub(super) const ROOT_NAMESPACE: &str = "istio-system";

/// Whether an `EnvoyFilter` surely patches the pods of a resource.
pub(super) fn reaches(filter: &Node, resource: &Node) -> bool {
    let own = labels(resource);
    let selected = labels(filter).is_none_or(|wanted| {
        wanted.members().all(|(key, value)| label(own, key).is_some_and(|it| it.text() == value.text()))
    });
    selected && [namespace(resource), ROOT_NAMESPACE].contains(&namespace(filter))
}

/// Whether it may: a resource without a namespace goes to any.
pub(super) fn may_reach(filter: &Node, resource: &Node) -> bool {
    let own = labels(resource);
    let other_pods = labels(filter).is_some_and(|wanted| {
        wanted.members().any(|(key, value)| label(own, key).is_some_and(|it| it.text() != value.text()))
    });
    let namespaces = ["", ROOT_NAMESPACE, namespace(resource)];
    !other_pods && (namespace(resource).is_empty() || namespaces.contains(&namespace(filter)))
}

/// All resources of a kind of Kubernetes.
pub(super) fn of_kind<'a>(files: &'a [File], kind: &str) -> impl Iterator<Item = (&'a File, &'a Node)> {
    let all = files.iter().flat_map(|file| file.resources.iter().map(move |it| (file, &it.node)));
    all.filter(move |(_, node)| node.text_of("kind") == kind)
}

pub(super) fn namespace(resource: &Node) -> &str {
    resource.at(&["metadata", "namespace"]).and_then(Node::text).unwrap_or_default()
}

/// Of the pods that an `EnvoyFilter` or a `WasmPlugin` selects.
pub(super) fn labels(resource: &Node) -> Option<&Node> {
    let of = |path: &[&str]| resource.at(path);
    of(&["spec", "workload_selector", "labels"]).or_else(|| of(&["spec", "selector", "match_labels"]))
}

pub(super) fn label<'a>(labels: Option<&'a Node>, key: &str) -> Option<&'a Node> {
    labels?.members().find(|(known, _)| *known == key).map(|(_, value)| value)
}

/// The patches of an `EnvoyFilter`.
pub(super) fn patches(resource: &Node) -> &[Node] {
    resource.at(&["spec", "config_patches"]).map_or(&[], Node::items)
}

/// What a patch does.
pub(super) fn operation(patch: &Node) -> &str {
    patch.at(&["patch", "operation"]).and_then(Node::text).unwrap_or_default()
}

/// For which listeners a patch is.
pub(super) fn context(patch: &Node) -> &str {
    patch.at(&["match", "context"]).and_then(Node::text).unwrap_or("ANY")
}

/// For which port a patch is, if for one.
pub(super) fn port(patch: &Node) -> Option<u64> {
    let listener = patch.at(&["match", "listener"])?;
    listener.get("port_number").or_else(|| listener.at(&["filter_chain", "destination_port"]))?.number()
}

/// Whether two patches can be for the same listener.
pub(super) fn overlap(patch: &Node, context: &str, port: Option<u64>) -> bool {
    let same = |one: &str, other: &str| one == "ANY" || other == "ANY" || one == other;
    let ports = self::port(patch).is_none_or(|number| port.is_none_or(|port| port == number));
    same(self::context(patch), context) && ports
}
