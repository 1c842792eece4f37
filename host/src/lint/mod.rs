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
    let names: Vec<_> = files.iter().flat_map(|file| &file.resources).flat_map(http::names).collect();
    let names = &names[..];
    let mut findings = Findings::default();
    for file in &files {
        let mut report = Report { file, names, findings: &mut findings, filters: 0 };
        let before = report.findings.list.len();
        check_text(&mut report);
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
        Report { file, names, findings: &mut findings, filters: 0 }.add(
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
        "PeerAuthentication" => return,
        _ => {}
    }
    if !check_discovered(resource, report) {
        report.note(resource.place, Rule::NotLookedAt, "not looked at: nothing is known of what this is");
    }
}

/// Checks what Envoy reads itself; whether anything did.
fn check_discovered(resource: &Node, report: &mut Report<'_>) -> bool {
    let (kind, resource) = resource.typed();
    let mut known = resource.get("static_resources").is_some();
    if let Some(resources) = resource.at(&["static_resources", "listeners"]) {
        resources.items().iter().for_each(|it| listener::check(it, report));
    }
    if resource.get("filter_chains").or(resource.get("default_filter_chain")).is_some() {
        known = true;
        listener::check(resource, report);
    }
    if kind.ends_with(".TypedExtensionConfig") {
        known = true;
        check_extension(resource, report);
    }
    // RDS, SRDS, VHDS
    if kind.contains(".route.v3.")
        || ["virtual_hosts", "route_configuration", "domains"].iter().any(|key| resource.get(key).is_some())
    {
        known = true;
        http::check_routes(resource, report);
    }
    for secret in secrets(resource) {
        known = true;
        if let Some(validation) = secret.get("validation_context") {
            tls::check_leniency(validation, report);
        }
    }
    known
}

/// ECDS
fn check_extension(extension: &Node, report: &mut Report<'_>) {
    let name = extension.text_of("name");
    if filters::check_one(extension, report).is_none() && name.contains("peergate") {
        report.add(
            extension.place,
            Rule::Discovered,
            "another filter takes the place of peergate's, and judges nobody; deliver the filter, or rename this",
        );
    }
}

/// Secrets in a bootstrap, or a resource that is one.
fn secrets(resource: &Node) -> impl Iterator<Item = &Node> {
    let listed = resource.at(&["static_resources", "secrets"]).map_or(&[][..], Node::items);
    let secret =
        |it: &&Node| it.typed().0.ends_with(".tls.v3.Secret") || it.get("validation_context").is_some();
    listed.iter().chain(Some(resource).filter(secret))
}

/// Members that Envoy drops, and documents that it does not read.
fn check_text(report: &mut Report<'_>) {
    let file = report.file;
    for (line, text) in (1..).zip(file.text.lines()).filter(|(_, text)| !text.trim_start().starts_with('#')) {
        let tag = ["!ignore", "!<!ignore>"].iter().find_map(|tag| text.find(tag));
        if let Some(at) = tag.or(text.starts_with("%TAG").then_some(0)) {
            let column = u32::try_from(text[..at].chars().count() + 1).unwrap_or(u32::MAX);
            report.add(
                Place { line, column },
                Rule::FieldIgnored,
                "Envoy drops what has the tag `!ignore`; remove the tag, or what has it",
            );
        }
    }
    for resource in &file.resources {
        resource.walk(&mut |node| {
            for (key, value) in node.repeated() {
                let key = key.escape_debug();
                let message = format!(
                    "`{key}` is here as snake_case and as camelCase, and Envoy takes one of them; remove one"
                );
                report.add(value.place, Rule::FieldRepeated, message);
            }
        });
    }
    if let Some(place) = file.unread {
        report.add(
            place,
            Rule::Documents,
            "Envoy reads the first document of a file, and no other; give each a file of its own",
        );
    }
}

/// A file with its documents.
struct File {
    path: PathBuf,
    text: String,
    /// Documents, and in their place what lists in them hold: `items` of Kubernetes, `resources` of xDS.
    resources: Vec<Node>,
    /// The first document that Envoy does not read.
    unread: Option<Place>,
}

/// What a control plane wraps to give it a name and a version.
fn unwrapped(resource: &Node) -> &Node {
    match resource.get("resource") {
        Some(inner) if resource.typed().0.ends_with(".discovery.v3.Resource") => unwrapped(inner),
        _ => resource,
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, LintError> {
        let bytes = read(path, Audience::Everybody).map_err(LintError::File)?;
        let text = String::from_utf8(bytes).map_err(|_| LintError::Encoding(path.to_owned()))?;
        let documents = Node::documents(&text)
            .map_err(|error| LintError::Content { path: path.to_owned(), error: Box::new(error) })?;
        let documents: Vec<_> = documents.into_iter().filter(|it| !it.is_null()).collect();
        let kubernetes = |it: &Node| it.get("kind").is_some() && it.get("apiVersion").is_some();
        let unread = documents.get(1).filter(|_| !documents.iter().all(kubernetes)).map(|it| it.place);
        let mut resources = Vec::new();
        for document in documents {
            match document.get("items").or(document.get("resources")) {
                Some(list) => resources.extend(list.items().iter().map(unwrapped).cloned()),
                None => resources.push(unwrapped(&document).clone()),
            }
        }
        Ok(Self { path: path.to_owned(), text, resources, unread })
    }
}

/// Where findings go.
struct Report<'a> {
    file: &'a File,
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
        let mut all = self.file.resources.iter().flat_map(secrets);
        all.find(|it| it.text_of("name") == name && it.get("validation_context").is_some())
    }

    /// Whether a filter of that name is ours, or any of Wasm.
    fn means_ours(&self, name: &str) -> bool {
        name.contains("peergate") || self.names.iter().any(|it| it == name)
    }

    /// Reports about a resource of another file.
    fn of<'b>(&'b mut self, file: &'b File) -> Report<'b> {
        Report { file, names: self.names, findings: self.findings, filters: 0 }
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
