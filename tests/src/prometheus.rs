//! A real Prometheus, and `promtool`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    admin,
    commands::{Finished, run, spawn},
    root, wait,
};

/// A running Prometheus; dropping it ends the process.
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

/// One series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels; the name is `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// The value of a label, empty if there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", |value| value)
    }
}

impl Prometheus {
    /// Starts it with this configuration, and waits until it is ready.
    ///
    /// # Panics
    /// It ends, or is not ready within half a minute.
    pub fn start(configuration: &Value) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| directory.path().join(name);
        fs::write(file("prometheus.json"), configuration.to_string()).expect("the configuration");
        let log = file("log");
        let mut child = spawn(
            Command::new(binary("prometheus"))
                .arg("--config.file")
                .arg(file("prometheus.json"))
                .arg("--storage.tsdb.path")
                .arg(file("data"))
                .arg("--web.listen-address=127.0.0.1:0")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&log).expect("the log")),
        );
        let mut address = None;
        wait::until("Prometheus is ready", || {
            let said = fs::read_to_string(&log).expect("the log");
            assert!(child.try_wait().expect("its state").is_none(), "Prometheus ended:\n{said}");
            address = said.lines().find_map(listening_address);
            address.is_some() && said.contains("Server is ready to receive web requests")
        });
        Self { address: address.expect("an address"), child, _directory: directory }
    }

    /// What an expression is now.
    ///
    /// # Errors
    /// Prometheus refuses it; the text says why.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let answer = self.get(&format!("/api/v1/query?query={}", percent_encoded(expression)));
        if answer["status"] != "success" {
            return Err(format!("{expression}: {}", answer["error"]));
        }
        let data = &answer["data"];
        if data["resultType"] == "scalar" {
            return Ok(vec![Sample { labels: BTreeMap::new(), value: number(&data["result"][1]) }]);
        }
        Ok(data["result"].as_array().expect("a vector").iter().map(sample).collect())
    }

    /// The sum of what an expression is now; 0 of nothing.
    ///
    /// # Panics
    /// Prometheus refuses it.
    pub fn sum(&self, expression: &str) -> f64 {
        let samples = self.query(expression).expect("an expression");
        samples.iter().map(|sample| sample.value).sum()
    }

    /// All names of metrics that it has got.
    pub fn names(&self) -> BTreeSet<String> {
        let answer = self.get("/api/v1/label/__name__/values");
        texts(&answer["data"]).collect()
    }

    /// A page of the HTTP API.
    pub fn get(&self, path: &str) -> Value {
        admin::json(self.address, path)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs `promtool`.
///
/// # Panics
/// It is not installed.
pub fn promtool(arguments: &[&str], file: &Path) -> Finished {
    run(Command::new(binary("promtool")).args(arguments).arg(file), b"")
}

/// What Prometheus thinks of a page of metrics: nothing, if all is well.
///
/// # Panics
/// `promtool` is not installed.
pub fn lint(page: &str) -> Finished {
    run(Command::new(binary("promtool")).args(["check", "metrics"]), page.as_bytes())
}

/// The names of metrics in an expression: ours, Envoy's, and `up`.
pub fn names_in(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let bare = without_labels(expression);
    let words = bare.split(|c: char| !is_part(c));
    let is_name = |word: &&str| *word == "up" || word.starts_with("peergate_") || word.starts_with("envoy_");
    words.filter(is_name).map(str::to_owned).collect()
}

/// Without texts, and without what is in braces or after `by`, `on` and the like: those are labels. There are no escapes in the
/// texts of our expressions.
fn without_labels(expression: &str) -> String {
    let (mut bare, mut quoted, mut skipped_until) = (String::new(), false, None);
    for character in expression.chars() {
        match (character, skipped_until) {
            ('"', _) => quoted = !quoted,
            _ if quoted => {}
            (_, Some(end)) if character == end => {
                skipped_until = None;
                bare.push(';');
            }
            (_, Some(_)) => {}
            ('{', None) => skipped_until = Some('}'),
            ('(', None) if ends_in_grouping(&bare) => skipped_until = Some(')'),
            (_, None) => bare.push(character),
        }
    }
    bare
}

fn ends_in_grouping(text: &str) -> bool {
    let word = text.trim_end().rsplit(' ').next().unwrap_or_default();
    ["by", "on", "ignoring", "without", "group_left", "group_right"].contains(&word)
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text").to_owned())
}

fn sample(result: &Value) -> Sample {
    let labels = result["metric"].as_object().expect("labels").iter();
    let labels = labels.map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()));
    Sample { labels: labels.collect(), value: number(&result["value"][1]) }
}

fn number(text: &Value) -> f64 {
    text.as_str().and_then(|text| text.parse().ok()).expect("a number")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        // Writing to a string does not fail.
        let _ = match byte {
            b if b.is_ascii_alphanumeric() => write!(encoded, "{}", char::from(b)),
            b => write!(encoded, "%{b:02X}"),
        };
        encoded
    })
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    line.split_once("msg=\"Listening on\" address=")?.1.trim().parse().ok()
}

fn binary(name: &str) -> PathBuf {
    let path = root().join("target/prometheus").join(name);
    assert!(path.is_file(), "{name} is missing; install it: tests/install-prometheus.sh");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_metrics_only() {
        let expression = r#"sum by (envoy_listener_address) (rate(envoy_a{envoy_b="up)", c="}"}[5m])) > on (peergate_x) group_left (peergate_y) max by(peergate_z) (up{job="x"}) / peergate_d"#;
        let names: Vec<_> = names_in(expression).into_iter().collect();
        assert_eq!(names, ["envoy_a", "peergate_d", "up"]);
    }
}
