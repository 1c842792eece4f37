//! Vespa's command line, the Go program of the PyPI package `vespacli`.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    commands::{Finished, run},
    pki::Pki,
    roles::{By, Role},
    root,
};

/// It does not even connect with an expired certificate.
pub const OWN_REFUSAL: &str = "not sent";
/// It sends no token for `status`, whatever it is told, and for `visit` only as `--header`.
pub const NO_TOKEN: &str = "401";

/// The command line with a role's credential, in front of an endpoint.
pub struct VespaCli<'a> {
    /// The server's authority, and where its files go.
    pub pki: &'a Pki,
    /// Whose credential it uses.
    pub role: &'a Role,
    /// Which credential.
    pub by: By,
    /// The endpoint's URL.
    pub target: String,
}

impl VespaCli<'_> {
    /// What it says that an operation on the document `id` ended with: `200`, `403`, [`OWN_REFUSAL`], [`NO_TOKEN`], or `?`;
    /// and all it said.
    ///
    /// # Panics
    /// It is not installed.
    pub fn outcome(&self, operation: &str, id: &str) -> (&'static str, String) {
        let finished = self.run(operation, id);
        let output = finished.output();
        let outcome = match finished.code {
            _ if output.contains("Error: certificate in ") && output.contains(" expired at ") => OWN_REFUSAL,
            Some(0) if operation == "feed" => feed_outcome(&finished),
            Some(0) => "200",
            _ if output.contains("status 401") => NO_TOKEN,
            _ if output.contains("403") => "403",
            _ => "?",
        };
        (outcome, output)
    }

    fn run(&self, operation: &str, id: &str) -> Finished {
        let program = root().join("target/venv-clients/vespa");
        assert!(program.is_file(), "Vespa's command line is missing; install it: tests/install-clients.sh");
        let mut command = Command::new(program);
        let home = self.pki.directory();
        command.env("HOME", home).env("VESPA_CLI_HOME", home);
        match self.by {
            By::Certificate => command
                .env("VESPA_CLI_DATA_PLANE_CA_CERT_FILE", self.pki.file("ca.pem"))
                .env("VESPA_CLI_DATA_PLANE_CERT_FILE", &self.role.peer.chain)
                .env("VESPA_CLI_DATA_PLANE_KEY_FILE", &self.role.peer.key),
            // With a token it trusts the system's authorities only, wherever those are.
            By::Token => command
                .env("SSL_CERT_FILE", self.pki.file("ca.pem"))
                .env("VESPA_CLI_DATA_PLANE_TOKEN", &self.role.token),
        };
        command.args(arguments(home, operation, id)).args(["--target", &self.target]);
        if (self.by, operation) == (By::Token, "visit") {
            command.args(["--header", &format!("Authorization: Bearer {}", self.role.token)]);
        }
        run(&mut command, b"")
    }
}

fn arguments(directory: &Path, operation: &str, id: &str) -> Vec<String> {
    let file = |name: &str, content: Value| {
        let path = directory.join(name);
        std::fs::write(&path, content.to_string()).expect("the client's file");
        path.to_str().expect("a path").to_owned()
    };
    let path;
    let arguments = match operation {
        "status" => vec!["status"],
        "query" => vec!["query", "yql=select * from music where true"],
        "query by POST" => {
            path = file("query.json", json!({"yql": "select * from music where true"}));
            vec!["query", "--file", &path]
        }
        "get" => vec!["document", "get", id],
        "visit" => vec!["visit", "--content-cluster", "music", "--bucket-space", "default"],
        "feed" => {
            path = file("feed.jsonl", json!({"put": id, "fields": {"title": "x"}}));
            vec!["feed", &path, "--deadline", "10"]
        }
        "put" => vec!["document", "put", id, "--data", r#"{"fields": {"title": "x"}}"#],
        "update" => vec!["document", "update", id, "--data", r#"{"fields": {"title": {"assign": "y"}}}"#],
        "remove" => vec!["document", "remove", id],
        other => panic!("no operation `{other}`"),
    };
    arguments.into_iter().map(str::to_owned).collect()
}

/// `vespa feed` ends with 0 whatever was refused: its summary tells. One request: 403 is the status it does not try again.
fn feed_outcome(finished: &Finished) -> &'static str {
    let Ok(summary) = serde_json::from_str::<Value>(&finished.stdout) else { return "?" };
    if summary["http.request.count"] != 1 || summary["feeder.error.count"] != 0 {
        return "?";
    }
    let codes = &summary["http.response.code.counts"];
    ["200", "403"].into_iter().find(|code| *codes == json!({*code: 1})).unwrap_or("?")
}
