//! Whether configuration for Envoy or Istio is safe: every place with the filter is looked at, with its listener, its TLS and its
//! routes. What could let a request pass that nobody judged is a finding.

mod error;
mod filters;
mod finding;
mod http;
mod istio;
mod listener;
mod node;
mod plugin;
mod tls;

use std::path::{Path, PathBuf};

pub use error::LintError;
pub use finding::{Finding, Rule, Severity};
pub use node::Place;

use crate::files::{Audience, read};
use node::Node;

/// What was found in some files that belong together.
#[derive(Debug, Default)]
pub struct Findings {
    /// In the order of files and lines.
    pub list: Vec<Finding>,
    /// Places with the filter.
    pub filters: usize,
}

impl Findings {
    /// Whether nothing must change. What has no filter is not safe.
    pub fn is_safe(&self) -> bool {
        self.list.iter().all(|finding| finding.severity == Severity::Note)
    }
}

/// Looks at bootstrap files, LDS, RDS and ECDS files, and Istio's resources; YAML or JSON. Resources may be in any of them: a
/// `PeerAuthentication` in one file is known to a `WasmPlugin` in another.
///
/// # Errors
/// A file that cannot be read, or is neither YAML nor JSON.
pub fn lint(paths: &[PathBuf]) -> Result<Findings, LintError> {
    let files = paths.iter().map(|path| File::read(path)).collect::<Result<Vec<_>, _>>()?;
    let mut findings = Findings::default();
    for file in &files {
        let mut report = Report { file, findings: &mut findings, filters: 0 };
        let before = report.findings.list.len();
        for resource in &file.resources {
            check_resource(resource, &files, &mut report);
        }
        plugin::check_shared_vms(&file.resources, &mut report);
        let filters = report.filters;
        findings.filters += filters;
        // What an alias repeats is said once.
        findings.list[before..].sort();
        findings.list.dedup();
    }
    if findings.filters == 0
        && let Some(file) = files.first()
    {
        Report { file, findings: &mut findings, filters: 0 }.add(
            Place { line: 1, column: 1 },
            Rule::NoFilter,
            "there is no filter of peergate here, so nobody is refused; name the files that have it",
        );
    }
    Ok(findings)
}

fn check_resource(resource: &Node, files: &[File], report: &mut Report<'_>) {
    match resource.text_of("kind") {
        "EnvoyFilter" => return istio::check_envoy_filter(resource, files, report),
        "WasmPlugin" => return istio::check_wasm_plugin(resource, files, report),
        _ => {}
    }
    let (kind, body) = resource.typed();
    if let Some(resources) = resource.at(&["static_resources", "listeners"]) {
        resources.items().iter().for_each(|it| listener::check(it, report));
    }
    if resource.get("filter_chains").or(resource.get("default_filter_chain")).is_some() {
        listener::check(resource, report);
    }
    // ECDS
    if kind.ends_with(".TypedExtensionConfig") {
        let (kind, message) = body.typed_config();
        if let Some(config) = plugin::ours(body.text_of("name"), kind, message) {
            plugin::check(config, report);
        }
    }
    // RDS
    if resource.get("virtual_hosts").is_some() {
        http::check_routes(resource, &["peergate"], report);
    }
}

/// A file with its documents.
struct File {
    path: PathBuf,
    text: String,
    /// Documents, and in their place what lists in them hold: `items` of Kubernetes, `resources` of xDS.
    resources: Vec<Node>,
}

impl File {
    fn read(path: &Path) -> Result<Self, LintError> {
        let bytes = read(path, Audience::Everybody).map_err(LintError::File)?;
        let text = String::from_utf8(bytes).map_err(|_| LintError::Encoding(path.to_owned()))?;
        let documents = Node::documents(&text)
            .map_err(|error| LintError::Content { path: path.to_owned(), error: Box::new(error) })?;
        let mut resources = Vec::new();
        for document in documents {
            match document.get("items").or(document.get("resources")) {
                Some(list) => resources.extend_from_slice(list.items()),
                None => resources.push(document),
            }
        }
        Ok(Self { path: path.to_owned(), text, resources })
    }
}

/// Where findings go.
struct Report<'a> {
    file: &'a File,
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
        self.file.resources.iter().find_map(|resource| {
            let listed = resource.at(&["static_resources", "secrets"]).map_or(&[][..], Node::items);
            listed
                .iter()
                .chain([resource])
                .find(|it| it.text_of("name") == name && it.get("validation_context").is_some())
        })
    }

    /// Reports about a resource of another file.
    fn of<'b>(&'b mut self, file: &'b File) -> Report<'b> {
        Report { file, findings: self.findings, filters: 0 }
    }

    /// The place of a line and a column of a text. Only in a block (`|`) do they show where in the file that is.
    fn inside(&self, value: &Node, line: u32, column: u32) -> Place {
        let Place { line: first, column: indented } = value.place;
        let header =
            usize::try_from(first).ok().and_then(|first| self.file.text.lines().nth(first.checked_sub(2)?));
        let header = header.map_or("", |text| text.split(" #").next().unwrap_or_default()).trim_end();
        if ["|", "|-", "|+"].iter().any(|it| header.ends_with(it)) {
            Place { line: first + line - 1, column: indented + column - 1 }
        } else {
            value.place
        }
    }
}
