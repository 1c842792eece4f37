//! Where a filter chain leads: clusters by name, and what cannot be followed.

use std::collections::BTreeSet;

use super::file::File;
use super::node::{Node, Place, snake};
use super::resource::{Kind, Resource};

/// Where something is said.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) file: &'a File,
    pub(super) place: Place,
}

/// A cluster by its name, and where it is named.
pub(super) struct Way {
    pub(super) cluster: String,
}

/// A way that cannot be followed.
pub(super) struct Open<'a> {
    pub(super) spot: Spot<'a>,
    /// Who decides, and what to do.
    pub(super) reason: String,
    /// Whether the cluster is known, and only its endpoints are not.
    pub(super) of_cluster: bool,
}

/// Where a filter chain leads.
#[derive(Default)]
pub(super) struct Ways<'a> {
    pub(super) clusters: Vec<Way>,
    pub(super) open: Vec<Open<'a>>,
}

/// Messages to others of Envoy itself, or that no client chooses.
const OWN_MESSAGES: [&str; 7] =
    ["access_log", "tracing", "remote", "remote_jwks", "vm_config", "config_source", "load_assignment"];
/// Network filters that connect nobody: what they ask is asked by Envoy.
const AUXILIARY: [&str; 5] = [".ext_authz.", ".ext_proc.", ".ratelimit.", ".wasm.", ".rbac."];
pub(super) const CONNECTION_MANAGER: &str = ".http_connection_manager.v3.HttpConnectionManager";

/// Resources of the same Envoy come first, then those of files of their own, then any other.
pub(super) fn lookup(
    files: &[File],
    proxy: usize,
    fits: impl Fn(&Resource) -> bool,
) -> Option<(&File, &Resource)> {
    let all = files.iter().flat_map(|file| file.resources.iter().map(move |resource| (file, resource)));
    let rank = |resource: &Resource| match resource.proxy {
        number if number == proxy => 0,
        0 => 1,
        _ => 2,
    };
    all.filter(|(_, resource)| fits(resource)).min_by_key(|(_, resource)| rank(resource))
}

/// The resource of a kind and a name.
pub(super) fn named<'a>(
    files: &'a [File],
    proxy: usize,
    kind: Kind,
    name: &str,
) -> Option<(&'a File, &'a Resource)> {
    lookup(files, proxy, |it| it.kind == kind && it.node.typed().1.text_of("name") == name)
}

/// Follows a chain of filters.
pub(super) struct Follower<'a> {
    files: &'a [File],
    proxy: usize,
    file: &'a File,
    routes: BTreeSet<String>,
    ways: Ways<'a>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(files: &'a [File], proxy: usize, file: &'a File) -> Self {
        Self { files, proxy, file, routes: BTreeSet::new(), ways: Ways::default() }
    }

    /// All that clients of this part of a listener could make Envoy connect to.
    pub(super) fn everything(mut self, node: &'a Node) -> Ways<'a> {
        self.visit(node);
        self.ways
    }

    /// Where a chain connects its clients to: what the filter in it guards.
    pub(super) fn services(mut self, chain: &'a Node) -> Ways<'a> {
        for filter in chain.list("filters") {
            let (kind, message) = filter.typed_config();
            if kind.ends_with(CONNECTION_MANAGER) {
                let parts = ["route_config", "rds", "scoped_routes"];
                parts.iter().filter_map(|part| message.get(part)).for_each(|it| self.visit(it));
            } else if !AUXILIARY.iter().any(|it| kind.contains(it)) {
                self.visit(filter);
            }
        }
        self.ways
    }

    fn visit(&mut self, node: &'a Node) {
        node.items().iter().for_each(|item| self.visit(item));
        self.visit_message(node);
        for (key, value) in node.members() {
            let key = snake(key);
            match key.as_str() {
                own if OWN_MESSAGES.contains(&own) => {}
                "cluster" | "cluster_name" if value.text().is_some() => self.add(value),
                "cluster_header" => self.open(value, "the client's header names the cluster".to_owned()),
                "weighted_clusters" => {
                    let listed = value.list("clusters").iter();
                    listed.filter_map(|it| it.get("name")).for_each(|it| self.add(it));
                    self.visit(value);
                }
                "cluster_specifier_plugin" | "inline_cluster_specifier_plugin" => {
                    self.open(value, "a plugin names the cluster".to_owned());
                }
                "route_config_name" | "route_configuration_name" => self.visit_routes(value),
                "scoped_rds" => self.visit_all(value, Kind::ScopedRoutes, "SRDS"),
                "vhds" => self.visit_all(value, Kind::VirtualHost, "VHDS"),
                "inline_code" | "inline_string" if value.text().is_some_and(|it| it.contains("httpCall")) => {
                    self.visit_code(value);
                }
                _ => self.visit(value),
            }
        }
    }

    /// Filters that choose a destination by what clients say.
    fn visit_message(&mut self, node: &'a Node) {
        let kind = node.text_of("@type");
        let (typed, _) = node.typed();
        let kind = if typed.is_empty() { kind } else { typed };
        if kind.ends_with(".sni_cluster.v3.SniCluster") {
            self.open(node, "the name in the client's handshake is that of the cluster".to_owned());
        } else if kind.contains(".dynamic_forward_proxy.") || kind.contains(".sni_dynamic_forward_proxy.") {
            self.open(node, "the client names the host that is connected".to_owned());
        } else if node.text_of("object_key") == "envoy.tcp_proxy.cluster" {
            self.open(node, "filter state names the cluster".to_owned());
        }
    }

    fn visit_routes(&mut self, name: &'a Node) {
        let text = name.text().unwrap_or_default();
        if !self.routes.insert(text.to_owned()) {
            return;
        }
        match named(self.files, self.proxy, Kind::Routes, text) {
            Some((file, routes)) => self.within(file, &routes.node),
            None => self.open(
                name,
                format!("the routes `{}` are not in these files; give them too", text.escape_debug()),
            ),
        }
    }

    /// All resources of a kind, of which a control plane delivers some.
    fn visit_all(&mut self, node: &'a Node, kind: Kind, protocol: &str) {
        let mut found = false;
        for file in self.files {
            for resource in file.resources.iter().filter(|it| it.kind == kind) {
                found = true;
                self.within(file, &resource.node);
            }
        }
        if !found {
            self.open(
                node,
                format!("routes are delivered by {protocol}, and not in these files; give them too"),
            );
        }
    }

    fn within(&mut self, file: &'a File, node: &'a Node) {
        let outer = std::mem::replace(&mut self.file, file);
        self.visit(node);
        self.file = outer;
    }

    /// Lua can call a cluster whose name stands in its code.
    fn visit_code(&mut self, code: &'a Node) {
        let text = code.text().unwrap_or_default();
        let clusters = self.files.iter().flat_map(|file| &file.resources);
        for cluster in clusters.filter(|it| it.kind == Kind::Cluster) {
            let name = cluster.node.typed().1.text_of("name");
            if ['"', '\''].iter().any(|quote| text.contains(&format!("{quote}{name}{quote}"))) {
                self.ways.clusters.push(Way { cluster: name.to_owned() });
            }
        }
    }

    fn add(&mut self, name: &Node) {
        if let Some(text) = name.text().filter(|it| !it.is_empty()) {
            self.ways.clusters.push(Way { cluster: text.to_owned() });
        }
    }

    fn open(&mut self, node: &'a Node, reason: String) {
        let spot = Spot { file: self.file, place: node.place };
        self.ways.open.push(Open { spot, reason, of_cluster: false });
    }
}
