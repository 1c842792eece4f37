//! Files, and the resources in them.

use std::path::{Path, PathBuf};

use super::LintError;
use super::node::{Node, Place};
use super::resource::{Kind, Resource, flatten};
use crate::files::{Audience, read};

/// A file with its documents.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// As they stand in the file, and those that stand in a `ConfigMap` as text.
    pub(super) documents: Vec<Node>,
    /// What the documents hold.
    pub(super) resources: Vec<Resource>,
    /// The first document that Envoy does not read.
    pub(super) unread: Option<Place>,
    /// Texts of a `ConfigMap` that look like Envoy's and are not YAML, and why.
    pub(super) broken: Vec<(Place, String)>,
}

impl File {
    /// Reads a file. Each bootstrap or dump in it gets the next number of `proxies`.
    pub(super) fn read(path: &Path, proxies: &mut usize) -> Result<Self, LintError> {
        let bytes = read(path, Audience::Everybody).map_err(LintError::File)?;
        let text = decode(path, bytes)?;
        let documents = Node::documents(&text).map_err(|error| LintError::content(path, &text, error))?;
        let documents: Vec<_> = documents.into_iter().filter(|it| !it.is_null()).collect();
        let kubernetes = |it: &Node| it.get("kind").is_some() && it.get("apiVersion").is_some();
        let unread = documents.get(1).filter(|_| !documents.iter().all(kubernetes)).map(|it| it.place);
        let mut file = Self {
            path: path.to_owned(),
            text,
            documents,
            resources: Vec::new(),
            unread,
            broken: Vec::new(),
        };
        for document in &file.documents {
            flatten(document, proxies, &mut file.resources);
        }
        file.unpack(proxies);
        Ok(file)
    }

    /// Adds what a `ConfigMap` has in its texts.
    fn unpack(&mut self, proxies: &mut usize) {
        let maps = self.resources.iter().filter(|it| it.node.text_of("kind") == "ConfigMap");
        let texts: Vec<_> = maps
            .filter_map(|map| map.node.get("data"))
            .flat_map(Node::members)
            .filter_map(|(_, value)| Some((value.place, value.text()?.to_owned())))
            .collect();
        for (place, text) in texts {
            match Node::documents(&text) {
                Ok(documents) => self.add(documents, place, proxies),
                Err(error) if looks_like_envoy(&text) => {
                    self.broken.push((place, error.without_snippet().to_string()));
                }
                Err(_) => {}
            }
        }
    }

    fn add(&mut self, documents: Vec<Node>, place: Place, proxies: &mut usize) {
        let block = self.is_block(place);
        for mut document in documents {
            let mut resources = Vec::new();
            document.relocate(place, block);
            flatten(&document, proxies, &mut resources);
            resources.retain(|it| it.kind != Kind::Unknown && it.kind != Kind::Kubernetes);
            if !resources.is_empty() {
                self.resources.extend(resources);
                self.documents.push(document);
            }
        }
    }

    /// Whether the text at `place` is a block (`|`), in which lines are lines of the file.
    pub(super) fn is_block(&self, place: Place) -> bool {
        let header =
            usize::try_from(place.line).ok().and_then(|line| self.text.lines().nth(line.checked_sub(2)?));
        let header = header.map_or("", |text| text.split(" #").next().unwrap_or_default()).trim_end();
        ["|", "|-", "|+"].iter().any(|it| header.ends_with(it))
    }
}

fn looks_like_envoy(text: &str) -> bool {
    ["static_resources", "staticResources", "filter_chains", "filterChains"]
        .iter()
        .any(|it| text.contains(it))
}

/// The text of a file, without the mark that editors put first.
fn decode(path: &Path, bytes: Vec<u8>) -> Result<String, LintError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(LintError::Compressed(path.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| LintError::Encoding(path.to_owned()))?;
    // YAML has no control characters but these; a serialized message has.
    if text.chars().any(|it| it.is_control() && !['\t', '\n', '\r', '\u{85}'].contains(&it)) {
        return Err(LintError::Encoding(path.to_owned()));
    }
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}
