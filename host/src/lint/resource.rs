//! Resources of Envoy and of Kubernetes: what they are, and where they stand in lists, bootstraps and dumps.

use super::node::Node;
use super::workload::{operation, patches};

/// One resource.
pub(super) struct Resource {
    pub(super) node: Node,
    pub(super) kind: Kind,
    /// The bootstrap or dump that it is of; 0 for what stands alone, as in files of LDS or CDS.
    pub(super) proxy: usize,
    /// Whether a patch of Istio adds it; the patch is looked at by itself.
    pub(super) patched: bool,
}

impl Resource {
    fn new(node: &Node, kind: Kind, proxy: usize) -> Self {
        Self { node: node.clone(), kind, proxy, patched: false }
    }
}

/// What a resource is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A bootstrap. What is in its `static_resources` are resources of their own.
    Bootstrap,
    /// LDS.
    Listener,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// RDS.
    Routes,
    /// SRDS.
    ScopedRoutes,
    /// VHDS.
    VirtualHost,
    /// ECDS.
    Extension,
    /// SDS.
    Secret,
    /// RTDS, and parts of a dump that hold nothing to look at.
    Harmless,
    /// A listener update that Envoy refused.
    Refused,
    /// A resource of Kubernetes, also of Istio.
    Kubernetes,
    /// None of them.
    Unknown,
}

impl Kind {
    fn of(node: &Node) -> Self {
        if node.get("kind").is_some_and(|it| it.text().is_some()) {
            return Self::Kubernetes;
        }
        let (kind, node) = node.typed();
        let has = |keys: &[&str]| keys.iter().any(|key| node.get(key).is_some());
        for (suffix, found) in TYPES {
            if kind.ends_with(suffix) {
                return *found;
            }
        }
        if !kind.is_empty() {
            return if kind.contains(".route.v3.") { Self::Routes } else { Self::Unknown };
        }
        SHAPES.iter().find(|(keys, _)| has(keys)).map_or(Self::Unknown, |(_, found)| *found)
    }
}

const TYPES: &[(&str, Kind)] = &[
    (".bootstrap.v3.Bootstrap", Kind::Bootstrap),
    (".listener.v3.Listener", Kind::Listener),
    (".cluster.v3.Cluster", Kind::Cluster),
    (".endpoint.v3.ClusterLoadAssignment", Kind::Endpoints),
    (".route.v3.RouteConfiguration", Kind::Routes),
    (".route.v3.ScopedRouteConfiguration", Kind::ScopedRoutes),
    (".route.v3.VirtualHost", Kind::VirtualHost),
    (".core.v3.TypedExtensionConfig", Kind::Extension),
    (".tls.v3.Secret", Kind::Secret),
    (".runtime.v3.Runtime", Kind::Harmless),
];

/// By members that only this kind has.
const SHAPES: &[(&[&str], Kind)] = &[
    (&["static_resources", "dynamic_resources"], Kind::Bootstrap),
    (
        &[
            "filter_chains",
            "default_filter_chain",
            "api_listener",
            "internal_listener",
            "udp_listener_config",
        ],
        Kind::Listener,
    ),
    (&["load_assignment", "eds_cluster_config", "cluster_type", "connect_timeout"], Kind::Cluster),
    (&["virtual_hosts"], Kind::Routes),
    (&["route_configuration", "route_configuration_name"], Kind::ScopedRoutes),
    (&["domains"], Kind::VirtualHost),
    (&["validation_context", "tls_certificate", "session_ticket_keys", "generic_secret"], Kind::Secret),
    (&["endpoints"], Kind::Endpoints),
];

/// Lists in the parts of a dump (`envoy.admin.v3`), and the member of each item that is the resource; empty where the item is it.
const DUMPED: &[(&str, &str)] = &[
    ("static_listeners", "listener"),
    ("static_clusters", "cluster"),
    ("dynamic_active_clusters", "cluster"),
    ("dynamic_warming_clusters", "cluster"),
    ("dynamic_route_configs", "route_config"),
    ("static_secrets", "secret"),
    ("dynamic_active_secrets", "secret"),
    ("ecds_filters", "ecds_filter"),
    ("static_endpoint_configs", "endpoint_config"),
    ("dynamic_endpoint_configs", "endpoint_config"),
];
/// Lists of parts of a dump whose items are looked at otherwise, or repeat what is looked at.
const OTHER_PARTS: &[&str] = &[
    "dynamic_listeners",
    "static_route_configs",
    "dynamic_warming_secrets",
    "inline_scoped_route_configs",
    "dynamic_scoped_route_configs",
];

/// Adds the resources that a document holds. Each bootstrap or dump gets the next number of `proxies`.
pub(super) fn flatten(document: &Node, proxies: &mut usize, resources: &mut Vec<Resource>) {
    let mut proxy = || {
        *proxies += 1;
        *proxies
    };
    if let Some(parts) = document.get("configs").filter(|it| it.is_list()) {
        return dump(parts.items(), proxy(), resources);
    }
    if is_part(document) {
        return dump(std::slice::from_ref(document), proxy(), resources);
    }
    let list = document.get("items").or(document.get("resources")).filter(|it| it.is_list());
    let items = list.map_or_else(|| document.items(), Node::items);
    if list.is_some() || document.is_list() {
        items.iter().for_each(|item| flatten(item, proxies, resources));
        return;
    }
    let node = unwrapped(document);
    let kind = Kind::of(node);
    let number = if kind == Kind::Bootstrap { proxy() } else { 0 };
    if kind == Kind::Bootstrap {
        for list in ["listeners", "clusters", "secrets"] {
            let all = node.typed().1.at(&["static_resources", list]).map_or(&[][..], Node::items);
            resources.extend(all.iter().map(|it| stated(it, list, number)));
        }
    }
    if kind == Kind::Kubernetes && node.text_of("kind") == "EnvoyFilter" {
        patches(node).iter().for_each(|patch| resources.extend(added(patch)));
    }
    resources.push(Resource::new(node, kind, number));
}

/// What a patch adds to an Envoy. Where Istio does not know an insertion it adds (`convertToEnvoyFilterWrapper` in istio/istio,
/// pilot/pkg/model/envoyfilter.go), though it promises that for no EXTENSION_CONFIG.
fn added(patch: &Node) -> Vec<Resource> {
    let Some(value) = patch.at(&["patch", "value"]) else { return Vec::new() };
    let resource = |node: Node, kind| Resource { node, kind, proxy: 0, patched: true };
    if patch.text_of("apply_to") == "BOOTSTRAP" {
        let lists = [("listeners", Kind::Listener), ("clusters", Kind::Cluster)];
        let stated = |list| value.at(&["static_resources", list]).map_or(&[][..], Node::items);
        return lists
            .iter()
            .flat_map(|(list, kind)| stated(*list).iter().map(|it| resource(it.clone(), *kind)))
            .collect();
    }
    let adds = operation(patch) == "ADD" || operation(patch).starts_with("INSERT_");
    let (node, kind) = match patch.text_of("apply_to") {
        "LISTENER" if adds => (value.clone(), Kind::Listener),
        "FILTER_CHAIN" if adds => (value.clone().listed("filter_chains"), Kind::Listener),
        "CLUSTER" if adds => (value.clone(), Kind::Cluster),
        "EXTENSION_CONFIG" if operation(patch) == "ADD" => (value.clone(), Kind::Extension),
        _ => return Vec::new(),
    };
    vec![resource(node, kind)]
}

/// Of a list in which no other kind can be.
fn stated(node: &Node, list: &str, proxy: usize) -> Resource {
    let kind = match list {
        "listeners" => Kind::Listener,
        "clusters" => Kind::Cluster,
        _ => Kind::Secret,
    };
    Resource::new(node, kind, proxy)
}

/// What a control plane wraps to give it a name and a version.
fn unwrapped(resource: &Node) -> &Node {
    match resource.get("resource") {
        Some(inner) if resource.typed().0.ends_with(".discovery.v3.Resource") => unwrapped(inner),
        _ => resource,
    }
}

/// A part of Envoy's `/config_dump`, by its type or, as `istioctl proxy-config` prints it, by its members.
fn is_part(node: &Node) -> bool {
    let lists = DUMPED.iter().map(|(list, _)| list).chain(OTHER_PARTS);
    node.text_of("@type").ends_with("ConfigDump")
        || node.get("bootstrap").is_some_and(Node::is_map)
        || lists.into_iter().any(|list| node.get(list).is_some_and(Node::is_list))
}

/// Parts of a dump: what is in force, and what will be. The static resources are in the bootstrap and in parts of their own.
fn dump(parts: &[Node], proxy: usize, resources: &mut Vec<Resource>) {
    let mut add = |node: &Node| {
        let node = unwrapped(node);
        resources.push(Resource::new(node, Kind::of(node), proxy));
    };
    for part in parts {
        if !is_part(part) {
            add(part);
        }
        for (list, member) in DUMPED {
            part.list(list).iter().filter_map(|item| item.get(member)).for_each(&mut add);
        }
        for listener in part.list("dynamic_listeners") {
            // Of an update that waits for its resources, only what is in force counts.
            let states = ["active_state", "warming_state"];
            states.iter().find_map(|state| listener.at(&[*state, "listener"])).into_iter().for_each(&mut add);
        }
        for scopes in ["inline_scoped_route_configs", "dynamic_scoped_route_configs"] {
            part.list(scopes).iter().flat_map(|it| it.list("scoped_route_configs")).for_each(&mut add);
        }
    }
    for listener in parts.iter().flat_map(|part| part.list("dynamic_listeners")) {
        if let Some(error) = listener.get("error_state") {
            resources.push(Resource::new(error, Kind::Refused, proxy));
        }
    }
    let holds = |list: &str| parts.iter().any(|part| part.get(list).is_some());
    for bootstrap in parts.iter().filter_map(|part| part.get("bootstrap")) {
        for (list, part) in [
            ("listeners", "static_listeners"),
            ("clusters", "static_clusters"),
            ("secrets", "static_secrets"),
        ] {
            let all = bootstrap.at(&["static_resources", list]).map_or(&[][..], Node::items);
            let missing = all.iter().filter(|_| !holds(part));
            resources.extend(missing.map(|it| stated(it, list, proxy)));
        }
        resources.push(Resource::new(bootstrap, Kind::Bootstrap, proxy));
    }
}
