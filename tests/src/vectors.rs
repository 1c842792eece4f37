//! The vectors: Vespa's own tests and documents as JSON, and the cases we answer differently.

use std::fs;

use peergate_policy::PeerIdentity;
use serde_json::{Value, json};

use crate::root;

/// One vector file.
///
/// # Panics
/// The file is not there or is no JSON.
pub fn load(file: &str) -> Value {
    let path = root().join("tests/vectors").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}

/// The cases of a vector file that is a list.
///
/// # Panics
/// As [`load`], or a case is not as it should be.
pub fn cases<T>(file: &str, read: fn(&Value) -> T) -> Vec<T> {
    list(&load(file)).iter().map(read).collect()
}

/// A case of `glob.json`.
#[derive(Clone, Debug)]
pub struct GlobCase {
    /// `CN`, `SAN_DNS`, `SAN_URI`, or `GENERIC` for a form that no policy can reach.
    pub field: String,
    /// The pattern.
    pub pattern: String,
    /// The certificate's value.
    pub value: String,
    /// Whether they match.
    pub matches: bool,
}

/// A case of `authorize.json`.
#[derive(Clone, Debug)]
pub struct AuthorizeCase {
    /// The policy.
    pub config: Value,
    /// The peer's names.
    pub peer: PeerIdentity,
    /// Whether Vespa lets it in.
    pub allowed: bool,
    /// The names of the rules that match.
    pub matched: Vec<String>,
    /// What the peer may do, where the vector says so.
    pub granted_capabilities: Option<Value>,
    /// Which of Vespa's implementations: `cpp`, `java` or both.
    pub implementations: Vec<String>,
    /// Every CN of the certificate, where there are several.
    pub all_cns: Option<Vec<String>>,
}

/// A case of `config_errors.json`.
#[derive(Clone, Debug)]
pub struct ConfigCase {
    /// The document; `$KEY`, `$CERT` and `$CA` stand for files.
    pub config_json: String,
    /// Whether Vespa accepts it.
    pub valid: bool,
    /// Which of Vespa's implementations.
    pub implementations: Vec<String>,
    /// What it means, where the vector says so.
    pub expect: Option<Value>,
}

impl GlobCase {
    /// Reads a case.
    pub fn read(case: &Value) -> Self {
        Self {
            field: text(&case["field"]),
            pattern: text(&case["pattern"]),
            value: text(&case["value"]),
            matches: flag(&case["matches"]),
        }
    }
}

impl AuthorizeCase {
    /// Reads a case.
    pub fn read(case: &Value) -> Self {
        let peer = &case["peer"];
        Self {
            config: case["config"].clone(),
            peer: PeerIdentity {
                common_name: peer["cn"].as_str().map(str::to_owned),
                dns_names: texts(&peer["san_dns"]),
                uris: texts(&peer["san_uri"]),
                addresses: match &peer["san_ip"] {
                    Value::Null => Vec::new(),
                    addresses => texts(addresses).iter().map(|ip| ip.parse().expect("an address")).collect(),
                },
            },
            allowed: flag(&case["allowed"]),
            matched: texts(&case["matched"]),
            granted_capabilities: case.get("granted_capabilities").cloned(),
            implementations: texts(&case["impl"]),
            all_cns: case.get("all_cns").map(texts),
        }
    }
}

impl ConfigCase {
    /// Reads a case.
    pub fn read(case: &Value) -> Self {
        Self {
            config_json: text(&case["config_json"]),
            valid: flag(&case["valid"]),
            implementations: texts(&case["impl"]),
            expect: case.get("expect").cloned(),
        }
    }
}

impl Difference {
    fn read(entry: &Value) -> Self {
        Self {
            file: text(&entry["file"]),
            index: usize::try_from(entry["index"].as_u64().expect("an index")).expect("an index"),
            excerpt: text(&entry["excerpt"]),
            compatibility: entry["compatibility"].as_str().map(str::to_owned),
            reason: text(&entry["reason"]),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text expected, not {value}")).to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

/// The elements of a list.
///
/// # Panics
/// It is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list expected, not {value}"))
}

fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| panic!("true or false expected, not {value}"))
}

/// The compatibility modes a case is answered in: those of the implementations it names, and the strict one where
/// both agree.
pub fn compatibilities(implementations: &[String]) -> Vec<&'static str> {
    let mut modes: Vec<_> = implementations
        .iter()
        .map(|implementation| match implementation.as_str() {
            "cpp" => "vespa-cpp",
            "java" => "vespa-java",
            other => panic!("unknown implementation `{other}`"),
        })
        .collect();
    if modes.len() == 2 {
        modes.insert(0, "strict");
    }
    modes
}

/// The policy with this compatibility mode.
pub fn with_compatibility(policy: &Value, compatibility: &str) -> Value {
    let mut policy = policy.clone();
    policy["compatibility"] = compatibility.into();
    policy
}

/// A glob as the only credential of the only rule, and a peer with the value and no other name. `None` for a field
/// that policies do not have.
pub fn single_credential(case: &GlobCase) -> Option<(Value, PeerIdentity)> {
    let value = case.value.clone();
    let mut peer = PeerIdentity::default();
    match case.field.as_str() {
        "CN" => peer.common_name = Some(value),
        "SAN_DNS" => peer.dns_names.push(value),
        "SAN_URI" => peer.uris.push(value),
        _ => return None,
    }
    let credential = json!({"field": case.field, "must-match": case.pattern});
    Some((json!({"authorized-peers": [{"name": "glob", "required-credentials": [credential]}]}), peer))
}

/// A case that we answer differently, and why.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The vector file.
    pub file: String,
    /// The position of the case in it.
    pub index: usize,
    /// Text that the case contains, so that a moved index is noticed.
    pub excerpt: String,
    /// The compatibility mode, or every one.
    pub compatibility: Option<String>,
    /// Why we answer differently.
    pub reason: String,
}

/// Compares answers with vectors and collects what is not as expected.
pub struct Comparison {
    file: &'static str,
    cases: Vec<Value>,
    known: Vec<Difference>,
    seen: Vec<bool>,
    faults: Vec<String>,
}

impl Comparison {
    /// For one vector file with a list of cases.
    pub fn new(file: &'static str) -> Self {
        let mut known = cases("KNOWN_DIFFERENCES.json", Difference::read);
        known.retain(|difference| difference.file == file);
        let cases = list(&load(file)).to_vec();
        Self { file, cases, seen: vec![false; known.len()], known, faults: Vec::new() }
    }

    /// Records one answer. `wrong` says what differs from the vector.
    pub fn answer(&mut self, index: usize, compatibility: &str, wrong: Option<String>) {
        let known = self.known.iter().position(|difference| {
            difference.index == index
                && difference.compatibility.as_ref().is_none_or(|mode| mode == compatibility)
        });
        if let Some(known) = known {
            self.seen[known] = true;
        }
        match (known, wrong) {
            (None, None) | (Some(_), Some(_)) => {}
            (None, Some(wrong)) => self.fault(index, compatibility, &wrong),
            (Some(_), None) => {
                self.fault(
                    index,
                    compatibility,
                    "listed in KNOWN_DIFFERENCES.json but answered as Vespa does",
                );
            }
        }
    }

    /// Reports everything at once.
    ///
    /// # Panics
    /// An answer differs and is not listed, or is listed and does not differ, or an entry fits no case.
    pub fn finish(mut self) {
        for (known, seen) in self.known.clone().into_iter().zip(self.seen.clone()) {
            let text = self.cases.get(known.index).map(Value::to_string).unwrap_or_default();
            if !seen || !text.contains(&known.excerpt) {
                self.fault(known.index, "KNOWN_DIFFERENCES.json", "the entry fits no case");
            }
        }
        assert!(self.faults.is_empty(), "{} cases:\n{}", self.faults.len(), self.faults.join("\n"));
    }

    fn fault(&mut self, index: usize, compatibility: &str, what: &str) {
        let case = self.cases.get(index).map(Value::to_string).unwrap_or_default();
        self.faults.push(format!("{}[{index}] {compatibility}: {what}\n    {case}", self.file));
    }
}
