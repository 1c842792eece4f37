//! What `kubectl kustomize` makes of a directory, for as much of it as `envoy/kubernetes` uses. Whatever else a kustomization
//! asks for is a panic.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    config_map_generator: Vec<Generator>,
    generator_options: Option<GeneratorOptions>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generator {
    name: String,
    behavior: Option<String>,
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GeneratorOptions {
    disable_name_suffix_hash: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: String,
    target: Option<Target>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Target {
    label_selector: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
}

/// All resources of a kustomization, by kind and name.
///
/// # Panics
/// It asks for something that this does not know, or for nothing that makes sense.
pub fn build(directory: &Path) -> Vec<Value> {
    let mut resources = Vec::new();
    accumulate(directory, &mut resources);
    sorted(resources)
}

/// The documents of a YAML text.
///
/// # Panics
/// It is no YAML.
pub fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").filter(|text| !text.trim().is_empty());
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect()
}

/// By kind and name.
pub fn sorted(mut resources: Vec<Value>) -> Vec<Value> {
    resources.sort_by_key(|it| (it["kind"].to_string(), it["metadata"]["name"].to_string()));
    resources
}

/// In kustomize's order: resources, generators, components, then patches, the namespace and images.
fn accumulate(directory: &Path, resources: &mut Vec<Value>) {
    let kustomization: Kustomization = yaml(&directory.join("kustomization.yaml"));
    for name in &kustomization.resources {
        let path = directory.join(name);
        match path.is_dir() {
            true => accumulate(&path, resources),
            false => resources.extend(documents(&read(&path))),
        }
    }
    let stable = kustomization.generator_options.is_some_and(|options| options.disable_name_suffix_hash);
    assert!(stable || kustomization.config_map_generator.is_empty(), "{}: a suffix", directory.display());
    kustomization.config_map_generator.iter().for_each(|it| it.apply(directory, resources));
    kustomization.components.iter().for_each(|name| accumulate(&directory.join(name), resources));
    kustomization.patches.iter().for_each(|it| it.apply(directory, resources));
    for resource in resources.iter_mut() {
        if let Some(namespace) = &kustomization.namespace
            && resource["kind"] != "Namespace"
        {
            resource["metadata"]["namespace"] = json!(namespace);
        }
        kustomization.images.iter().for_each(|image| image.apply(resource));
    }
}

impl Generator {
    fn apply(&self, directory: &Path, resources: &mut Vec<Value>) {
        let content = self.files.iter().map(|name| (name.clone(), json!(read(&directory.join(name)))));
        let content: Map<String, Value> = content.collect();
        let existing = resources.iter_mut().find(|it| is(it, "ConfigMap", &self.name));
        match (existing, self.behavior.as_deref()) {
            (None, None) => resources.push(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}, "data": content,
            })),
            (Some(existing), Some("merge")) => merge(existing, &json!({"data": content})),
            (_, behavior) => panic!("ConfigMap {}: behavior {behavior:?}", self.name),
        }
    }
}

impl Patch {
    fn apply(&self, directory: &Path, resources: &mut [Value]) {
        let mut patch: Value = yaml(&directory.join(&self.path));
        let (kind, name) = (patch["kind"].clone(), patch["metadata"]["name"].clone());
        let chosen = |it: &Value| match &self.target {
            Some(target) => target.chooses(it),
            None => it["kind"] == kind && it["metadata"]["name"] == name,
        };
        if self.target.is_some() {
            let patch = patch.as_object_mut().expect("a resource");
            patch.retain(|key, _| !["apiVersion", "kind", "metadata"].contains(&key.as_str()));
        }
        let mut applied = 0;
        for resource in resources.iter_mut().filter(|it| chosen(it)) {
            merge(resource, &patch);
            applied += 1;
        }
        assert!(applied > 0, "{}/{} changes nothing", directory.display(), self.path);
    }
}

impl Target {
    fn chooses(&self, resource: &Value) -> bool {
        let (label, value) = self.label_selector.split_once('=').expect("LABEL=VALUE");
        resource["metadata"]["labels"][label] == value
    }
}

impl Image {
    fn apply(&self, value: &mut Value) {
        match value {
            Value::Object(object) => {
                if let Some(image) = object.get_mut("image").filter(|image| **image == self.name) {
                    let name = self.new_name.as_ref().unwrap_or(&self.name);
                    let tag = self.new_tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
                    *image = json!(format!("{name}{tag}"));
                }
                object.values_mut().for_each(|value| self.apply(value));
            }
            Value::Array(array) => array.iter_mut().for_each(|value| self.apply(value)),
            _ => {}
        }
    }
}

/// A strategic merge: objects by key, lists of named things by name, new ones first, other lists as a whole.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                match (target.get_mut(key), names_of(key, value)) {
                    (_, _) if value.is_null() => drop(target.remove(key)),
                    (Some(Value::Array(existing)), Some(names)) => merge_lists(existing, value, names),
                    (Some(existing), _) => merge(existing, value),
                    (None, _) => drop(target.insert(key.clone(), value.clone())),
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn merge_lists(target: &mut Vec<Value>, patch: &Value, names: &[&str]) {
    let mut new = Vec::new();
    for element in patch.as_array().expect("a list") {
        match target.iter_mut().find(|it| names.iter().all(|name| it[name] == element[name])) {
            Some(existing) => merge(existing, element),
            None => new.push(element.clone()),
        }
    }
    target.splice(..0, new);
}

/// `x-kubernetes-list-map-keys` of a list, in Kubernetes' own schemas.
fn names_of(key: &str, list: &Value) -> Option<&'static [&'static str]> {
    let is_container_port = list.pointer("/0/containerPort").is_some();
    match key {
        "containers" | "volumes" | "env" => Some(&["name"]),
        "volumeMounts" => Some(&["mountPath"]),
        "ports" if is_container_port => Some(&["containerPort", "protocol"]),
        "ports" => Some(&["port", "protocol"]),
        _ => None,
    }
}

fn is(resource: &Value, kind: &str, name: &str) -> bool {
    resource["kind"] == kind && resource["metadata"]["name"] == name
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
