//! Resources of Kubernetes by name: of two with the same name, `kubectl apply` keeps the last.

use std::collections::BTreeMap;

use super::file::File;
use super::node::Node;
use super::{Findings, Report, Rule};

/// Kinds that can hold the filter, or what it needs.
const KINDS: [&str; 5] = ["EnvoyFilter", "WasmPlugin", "TrafficExtension", "PeerAuthentication", "ConfigMap"];

/// Finds resources that replace another one.
pub(super) fn check_names(files: &[File], names: &[String], findings: &mut Findings) {
    let mut known: BTreeMap<[&str; 4], (&File, &Node)> = BTreeMap::new();
    for file in files {
        for resource in &file.resources {
            let node = &resource.node;
            let kind = node.text_of("kind");
            let member = |name| node.at(&["metadata", name]).and_then(Node::text).unwrap_or_default();
            if !KINDS.contains(&kind) || member("name").is_empty() {
                continue;
            }
            // One resource has one name in all versions of its group.
            let group = node.text_of("api_version").rsplit_once('/').map_or("", |(group, _)| group);
            let key = [group, kind, member("namespace"), member("name")];
            match known.insert(key, (file, node)) {
                Some((other, first)) if first.to_json() != node.to_json() => {
                    let message = format!(
                        "`kubectl apply` of this {kind} `{}` replaces the one of the same name in {}:{}; give each a \
                         `metadata.name` of its own",
                        member("name").escape_debug(),
                        other.path.display().to_string().escape_debug(),
                        first.place,
                    );
                    let mut report = Report { file, files, names, findings, filters: 0 };
                    report.add(node.place, Rule::NameRepeated, message);
                }
                _ => {}
            }
        }
    }
}
