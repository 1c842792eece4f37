//! Whether configuration for Envoy or Istio is safe: every listener is looked at, with its filters, its TLS and its routes. What could let
//! a request pass that nobody judged is a finding.

mod cluster;
mod error;
mod file;
mod filters;
mod finding;
mod gate;
mod http;
mod istio;
mod kubernetes;
mod listener;
mod node;
mod order;
mod peer_authentication;
mod plugin;
mod resource;
mod route;
mod text;
mod tls;
mod wasm_plugin;
mod workload;

use std::path::PathBuf;

pub use error::LintError;
pub use finding::{Finding, Rule, Severity};
pub use node::Place;

use file::File;
use gate::Gate;
use node::Node;
use resource::{Kind, Resource};

/// What was found in some files that belong together.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order of files and lines.
    pub list: Vec<Finding>,
    /// Places with the filter.
    pub filters: usize,
    /// Ports of sidecars that resources of Istio put the filter before, and the resource.
    patched: Vec<(String, u64)>,
}

impl Findings {
    /// Whether nothing must change. What has no filter is not safe.
    pub fn is_safe(&self) -> bool {
        self.list.iter().all(|finding| finding.severity == Severity::Note)
    }
}

/// Looks at bootstrap files, files of LDS, RDS, CDS, EDS, SDS and ECDS, dumps of `/config_dump`, and Istio's resources; YAML or JSON.
/// Resources may be in any of them: a `PeerAuthentication` in one file is known to a `WasmPlugin` in another.
///
/// # Errors
/// A file that cannot be read, or is neither YAML nor JSON.
pub fn lint(paths: &[PathBuf]) -> Result<Findings, LintError> {
    let mut proxies = 0;
    let files = paths.iter().map(|path| File::read(path, &mut proxies)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = files.iter().flat_map(|file| &file.documents).flat_map(http::names).collect();
    let (files, names) = (&files[..], &names[..]);
    let mut findings = Findings::default();
    let mut gates = Vec::new();
    for file in files {
        let mut report = Report { file, files, names, findings: &mut findings, filters: 0 };
        text::check(&mut report);
        for resource in &file.resources {
            gates.extend(check_resource(resource, file, &mut report));
        }
        plugin::check_shared_vms(&file.resources, &mut report);
        let filters = report.filters;
        findings.filters += filters;
    }
    kubernetes::check_names(files, names, &mut findings);
    gate::check(&gates, files, names, &mut findings);
    if findings.filters == 0
        && let Some(file) = files.first()
    {
        let mut report = Report { file, files, names, findings: &mut findings, filters: 0 };
        text::check_absence(&mut report);
    }
    // What an alias or a second look repeats is said once.
    let order = |finding: &Finding| paths.iter().position(|path| *path == finding.file);
    findings.list.sort_by(|one, other| order(one).cmp(&order(other)).then_with(|| one.cmp(other)));
    findings.list.dedup();
    Ok(findings)
}

fn check_resource<'a>(resource: &'a Resource, file: &'a File, report: &mut Report<'_>) -> Option<Gate<'a>> {
    let node = &resource.node;
    let (_, message) = node.typed();
    match resource.kind {
        Kind::Listener => return Some(listener::check(file, resource, report)),
        Kind::Kubernetes => check_kubernetes(node, report),
        Kind::Extension if !resource.patched => check_extension(message, report),
        Kind::Routes | Kind::ScopedRoutes | Kind::VirtualHost => http::check_routes(message, report),
        Kind::Secret => {
            if let Some(validation) = message.get("validation_context") {
                tls::check_leniency(validation, report);
            }
        }
        Kind::Bootstrap => check_bootstrap(message, report),
        Kind::Refused => {
            let details = message.text_of("details");
            let message = format!(
                "Envoy refused the last update of a listener, and goes on as before: {}",
                details.escape_debug()
            );
            report.note(node.place, Rule::UpdateRefused, message);
        }
        Kind::Unknown => check_unknown(node, report),
        Kind::Extension | Kind::Cluster | Kind::Endpoints | Kind::Harmless => {}
    }
    None
}

fn check_kubernetes(node: &Node, report: &mut Report<'_>) {
    let files = report.files;
    match node.text_of("kind") {
        "EnvoyFilter" => istio::check_envoy_filter(node, files, report),
        "WasmPlugin" | "TrafficExtension" => wasm_plugin::check(node, files, report),
        "PeerAuthentication" | "ConfigMap" => {}
        _ => check_unknown(node, report),
    }
}

/// Listeners that a control plane delivers are in none of these files, unless files of LDS or a dump are among them.
fn check_bootstrap(bootstrap: &Node, report: &mut Report<'_>) {
    let delivered = bootstrap.at(&["dynamic_resources", "lds_config"]);
    let listeners =
        || report.files.iter().flat_map(|file| &file.resources).filter(|it| it.kind == Kind::Listener);
    let given = bootstrap.at(&["static_resources", "listeners"]).map_or(0, |it| it.items().len());
    if let Some(delivered) = delivered
        && listeners().count() <= given
    {
        report.note(
            delivered.place,
            Rule::NotLookedAt,
            "listeners are delivered by LDS, and not in these files; give the file of LDS, or the `/config_dump` of the Envoy",
        );
    }
}

/// What is not known is passed over, unless the filter is somewhere in it.
fn check_unknown(node: &Node, report: &mut Report<'_>) {
    let mut filter = None;
    node.walk(&mut |inner| {
        let (kind, message) = inner.typed_config();
        filter = filter.or_else(|| plugin::ours(inner.text_of("name"), kind, message).map(|_| inner.place));
    });
    match filter {
        Some(place) => report.add(
            place,
            Rule::NotLookedAt,
            "peergate's filter is here, in a place of which nothing is known; give the listener that has it, or the \
             `/config_dump` of the Envoy",
        ),
        None => report.note(node.place, Rule::NotLookedAt, "not looked at: nothing is known of what this is"),
    }
}

/// ECDS
fn check_extension(extension: &Node, report: &mut Report<'_>) {
    if filters::check_one(extension, report).is_none() {
        filters::check_replacement(extension, report);
    }
}

/// Where findings go.
struct Report<'a> {
    file: &'a File,
    /// All that belong together.
    files: &'a [File],
    /// Of Wasm filters, in all files.
    names: &'a [String],
    findings: &'a mut Findings,
    filters: usize,
}

impl Report<'_> {
    fn add(&mut self, place: Place, rule: Rule, message: impl Into<String>) {
        self.push(place, Severity::Unsafe, rule, message.into());
    }

    fn note(&mut self, place: Place, rule: Rule, message: impl Into<String>) {
        self.push(place, Severity::Note, rule, message.into());
    }

    fn push(&mut self, place: Place, severity: Severity, rule: Rule, message: String) {
        self.findings.list.push(Finding { file: self.file.path.clone(), place, severity, rule, message });
    }

    /// The secret of that name, where the files say what it is.
    fn secret(&self, name: &str) -> Option<&Node> {
        let fits = |it: &Resource| {
            let secret = it.node.typed().1;
            it.kind == Kind::Secret
                && secret.text_of("name") == name
                && secret.get("validation_context").is_some()
        };
        route::lookup(self.files, 0, fits).map(|(_, resource)| resource.node.typed().1)
    }

    /// Says that a resource of Istio puts the filter before a port of sidecars.
    fn guard(&mut self, resource: &Node, port: u64) {
        let name = resource.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default();
        let title = format!("the {} `{}`", resource.text_of("kind"), name.escape_debug());
        self.findings.patched.push((title, port));
    }

    /// Whether a filter of that name is ours, or any of Wasm.
    fn means_ours(&self, name: &str) -> bool {
        name.contains("peergate") || self.names.iter().any(|it| it == name)
    }

    /// Reports about a resource of another file.
    fn of<'b>(&'b mut self, file: &'b File) -> Report<'b> {
        Report { file, files: self.files, names: self.names, findings: self.findings, filters: 0 }
    }

    /// The place of a line and a column of a text. Only in a block (`|`) do they show where in the file that is.
    fn inside(&self, value: &Node, line: u32, column: u32) -> Place {
        let Place { line: first, column: indented } = value.place;
        if self.file.is_block(value.place) {
            Place { line: first + line - 1, column: indented + column - 1 }
        } else {
            value.place
        }
    }
}
