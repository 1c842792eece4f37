//! Vespa's own clients and Node's `fetch`, in five roles, by certificate and by token, through Envoy with the filter and
//! through our host: what each may do, and that a document's id arrives byte for byte.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use peergate_host::{
    envoy::{Listener, Protocol},
    pki::{Credential, Leaf},
};
use peergate_policy::{sha256, token::Derivation};
use peergate_tests::{
    client::Client,
    commands::{Finished, run},
    envoy::{CURRENT, OLD, Running, listener, skipped, start},
    host::{Host, Start, write_policy},
    pki::{Peer, Pki},
    root,
    vespa::Vespa,
};
use serde_json::{Value, json};

const TOKEN_CONTEXT: &str = "Vespa Cloud tenant data plane:tests";
/// With all that may go wrong on the way.
const DOCUMENT: &str = "a/b 100% %2F blåbær";
/// As Vespa's command line and `encodeURIComponent` write it.
const ESCAPED: &str = "a%2Fb%20100%25%20%252F%20bl%C3%A5b%C3%A6r";
/// As pyvespa does, which leaves slashes alone.
const QUOTED: &str = "a/b%20100%25%20%252F%20bl%C3%A5b%C3%A6r";

/// Vespa's command line does not even connect with an expired certificate; pyvespa does.
const OWN_REFUSAL: &str = "not sent";
/// It sends no token for `status`, whatever it is told, and for `visit` only as `--header`.
const NO_TOKEN: &str = "401";

/// Somebody with a certificate and a token.
struct Role {
    name: &'static str,
    reads: bool,
    writes: bool,
    peer: Peer,
    token: String,
}

/// What a listener knows its clients by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Certificate,
    Token,
}

/// What is in front of the container.
enum Gate {
    Envoy(Running),
    Host { by_certificate: Host, by_token: Host },
}

struct Stage {
    name: String,
    pki: Pki,
    vespa: Vespa,
    roles: [Role; 5],
    gate: Gate,
}

/// What a client does: its name, whether that is writing, and what then reaches the container.
struct Operation {
    name: &'static str,
    writes: bool,
    requests: &'static [&'static str],
}

const fn reads(name: &'static str, requests: &'static [&'static str]) -> Operation {
    Operation { name, writes: false, requests }
}

const fn writes(name: &'static str, requests: &'static [&'static str]) -> Operation {
    Operation { name, writes: true, requests }
}

const CLI: &[Operation] = &[
    reads("status", &["GET /status.html"]),
    reads("query", &["GET /search/"]),
    reads("query by POST", &["POST /search/"]),
    reads("get", &["GET /document/v1/ns/music/docid/{}"]),
    reads("visit", &["GET /", "GET /document/v1/"]),
    writes("feed", &["POST /document/v1/ns/music/docid/{}"]),
    writes("put", &["POST /document/v1/ns/music/docid/{}"]),
    writes("update", &["PUT /document/v1/ns/music/docid/{}"]),
    writes("remove", &["DELETE /document/v1/ns/music/docid/{}"]),
];

const PYVESPA: &[Operation] = &[
    reads("status", &["GET /ApplicationStatus"]),
    reads("query", &["POST /search/"]),
    reads("query over HTTP/2", &["POST /search/"]),
    reads("get", &["GET /document/v1/ns/music/docid/{}"]),
    reads("visit", &["GET /document/v1/ns/music/docid/"]),
    writes("remove", &["DELETE /document/v1/ns/music/docid/{}"]),
    writes("feed", &["POST /document/v1/ns/music/docid/{}"]),
    writes("put", &["POST /document/v1/ns/music/docid/{}"]),
    writes("update", &["PUT /document/v1/ns/music/docid/{}"]),
];

const FETCH: &[Operation] = &[
    reads("query by GET", &["GET /search/"]),
    reads("query", &["POST /search/"]),
    reads("get", &["GET /document/v1/ns/music/docid/{}"]),
    writes("remove", &["DELETE /document/v1/ns/music/docid/{}"]),
    writes("put", &["POST /document/v1/ns/music/docid/{}"]),
];

impl Role {
    fn new(pki: &Pki, name: &'static str, reads: bool, writes: bool) -> Self {
        let leaf = Leaf::new().cn(name);
        let leaf = if name == "expired" { leaf.expired() } else { leaf };
        let credential = Credential::self_signed(&leaf).expect("a certificate");
        // As random as the key.
        let secret = sha256(credential.key().secret_der());
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, reads, writes, peer: pki.store(credential), token: format!("vespa_cloud_{secret}") }
    }

    fn may(&self, operation: &Operation) -> bool {
        if operation.writes { self.writes } else { self.reads }
    }

    fn expected(&self, operation: &Operation) -> u16 {
        if self.may(operation) { 200 } else { 403 }
    }

    /// The clients of the policy: one by certificate, one by token.
    fn clients(&self) -> [Value; 2] {
        let expired = self.name == "expired";
        let permissions = match (self.reads || expired, self.writes || expired) {
            (true, true) => vec!["read", "write"],
            (true, false) => vec!["read"],
            _ => vec!["write"],
        };
        let derivation = Derivation::of(&self.token);
        let version = json!({
            "fingerprint": derivation.fingerprint().to_string(),
            "check-access-hash": derivation.check_hash(TOKEN_CONTEXT).to_hex(),
            "expiration": if expired { "2020-01-01T00:00:00Z" } else { "<none>" },
        });
        let token = json!({"id": format!("{}-token", self.name), "versions": [version]});
        let certificate = &self.peer.credential.chain_pem;
        [
            json!({"id": self.name, "permissions": permissions, "certificates": [certificate]}),
            json!({"id": format!("{}-by-token", self.name), "permissions": permissions, "tokens": [token]}),
        ]
    }
}

impl Stage {
    fn envoy(release: &str) -> Self {
        Self::new(format!("Envoy {release}"), |pki, policy, upstream| {
            let listeners = ["mtls", "token"].map(|endpoint| {
                let configuration = json!({"endpoint": endpoint, "policy": policy});
                let listener = listener(release, endpoint, pki, Protocol::Http, configuration);
                Listener { upstream: Some(upstream), ..listener }
            });
            Gate::Envoy(start(release, listeners.into()))
        })
    }

    fn host() -> Self {
        Self::new("our host".to_owned(), |pki, policy, upstream| {
            let policy = write_policy(pki, policy);
            let start = |endpoint| Start::endpoint(endpoint, &policy, upstream).start();
            Gate::Host { by_certificate: start("mtls"), by_token: start("token") }
        })
    }

    fn new(name: String, gate: impl FnOnce(&Pki, &Value, SocketAddr) -> Gate) -> Self {
        let pki = Pki::new();
        let vespa = Vespa::start();
        let roles = [
            Role::new(&pki, "reader", true, false),
            Role::new(&pki, "writer", false, true),
            Role::new(&pki, "both", true, true),
            Role::new(&pki, "unknown", false, false),
            Role::new(&pki, "expired", false, false),
        ];
        let known = roles.iter().filter(|role| role.name != "unknown");
        let clients: Vec<_> = known.flat_map(Role::clients).collect();
        let policy = json!({"data-plane": {"token-context": TOKEN_CONTEXT, "clients": clients}});
        let gate = gate(&pki, &policy, vespa.address);
        Self { name, pki, vespa, roles, gate }
    }

    fn address(&self, by: By) -> SocketAddr {
        match (&self.gate, by) {
            (Gate::Envoy(envoy), By::Certificate) => envoy.address("mtls"),
            (Gate::Envoy(envoy), By::Token) => envoy.address("token"),
            (Gate::Host { by_certificate, .. }, By::Certificate) => by_certificate.address,
            (Gate::Host { by_token, .. }, By::Token) => by_token.address,
        }
    }

    fn url(&self, by: By) -> String {
        format!("https://localhost:{}", self.address(by).port())
    }

    fn log(&self) -> String {
        match &self.gate {
            Gate::Envoy(envoy) => envoy.log(),
            Gate::Host { by_certificate, by_token } => by_certificate.log() + &by_token.log(),
        }
    }

    fn ca(&self) -> PathBuf {
        self.pki.file("ca.pem")
    }

    /// Compares what reached the container with what these operations make of a document's `id`.
    fn assert_arrived(&self, operations: &[&Operation], id: &str, context: &str) {
        let arrived = self.vespa.take_requests();
        for request in &arrived {
            assert_eq!(request.header("authorization"), None, "{context}: {request:?}");
        }
        let arrived: Vec<_> = arrived
            .iter()
            .map(|request| request.start.split([' ', '?']).take(2).collect::<Vec<_>>().join(" "))
            .collect();
        let expected: Vec<_> = operations
            .iter()
            .flat_map(|operation| operation.requests.iter().map(|request| request.replace("{}", id)))
            .collect();
        assert_eq!(arrived, expected, "{context}");
    }

    /// Vespa's command line with a role's credential.
    fn cli(&self, role: &Role, by: By, operation: &str) -> Finished {
        let program = root().join("target/venv-clients/vespa");
        assert!(program.is_file(), "Vespa's command line is missing; install it: tests/install-clients.sh");
        let mut command = Command::new(program);
        command.env("HOME", self.pki.directory()).env("VESPA_CLI_HOME", self.pki.directory());
        match by {
            By::Certificate => command
                .env("VESPA_CLI_DATA_PLANE_CA_CERT_FILE", self.ca())
                .env("VESPA_CLI_DATA_PLANE_CERT_FILE", &role.peer.chain)
                .env("VESPA_CLI_DATA_PLANE_KEY_FILE", &role.peer.key),
            // With a token it trusts the system's authorities only, wherever those are.
            By::Token => {
                command.env("SSL_CERT_FILE", self.ca()).env("VESPA_CLI_DATA_PLANE_TOKEN", &role.token)
            }
        };
        if (by, operation) == (By::Token, "visit") {
            command.args(["--header", &format!("Authorization: Bearer {}", role.token)]);
        }
        command.args(cli_arguments(self.pki.directory(), operation)).args(["--target", &self.url(by)]);
        run(&mut command, b"")
    }

    /// What Vespa's command line says an operation ended with.
    fn cli_outcome(&self, role: &Role, by: By, operation: &str) -> (&'static str, String) {
        let finished = self.cli(role, by, operation);
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

    /// Entries for the clients that take all roles at once.
    fn entries(&self, by: By) -> Value {
        let entry = |role: &Role| match by {
            By::Certificate => {
                json!({"url": self.url(by), "id": DOCUMENT, "cert": role.peer.chain, "key": role.peer.key})
            }
            By::Token => json!({"url": self.url(by), "id": DOCUMENT, "token": role.token}),
        };
        self.roles.iter().map(entry).collect()
    }

    /// Runs a client for all roles, each after the other, and compares statuses and what reached the container.
    fn run_roles(&self, command: &mut Command, by: By, operations: &[Operation], id: &str) {
        self.vespa.store(&document_id(), json!({"title": "x"}));
        let finished = run(command, self.entries(by).to_string().as_bytes());
        assert_eq!(finished.code, Some(0), "{}, {by:?}: {}{}", self.name, finished.output(), self.log());
        let answers: Vec<Vec<(String, u16)>> = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", finished.output()));
        let expected: Vec<Vec<(String, u16)>> = self
            .roles
            .iter()
            .map(|role| operations.iter().map(|one| (one.name.to_owned(), role.expected(one))).collect())
            .collect();
        assert_eq!(answers, expected, "{}, {by:?}: {}", self.name, self.log());
        let permitted: Vec<_> = self
            .roles
            .iter()
            .flat_map(|role| operations.iter().filter(|operation| role.may(operation)))
            .collect();
        self.assert_arrived(&permitted, id, &format!("{}, {by:?}", self.name));
    }
}

fn document_id() -> String {
    format!("id:ns:music::{DOCUMENT}")
}

fn cli_arguments(directory: &Path, operation: &str) -> Vec<String> {
    let id = document_id();
    let file = |name: &str, content: Value| {
        let path = directory.join(name);
        std::fs::write(&path, content.to_string()).expect("the client's file");
        path.to_str().expect("a path").to_owned()
    };
    let data = r#"{"fields": {"title": "x"}}"#;
    let update = r#"{"fields": {"title": {"assign": "y"}}}"#;
    let arguments = match operation {
        "status" => vec!["status"],
        "query" => vec!["query", "yql=select * from music where true"],
        "query by POST" => {
            let query = file("query.json", json!({"yql": "select * from music where true"}));
            return vec!["query".to_owned(), "--file".to_owned(), query];
        }
        "get" => vec!["document", "get", &id],
        "visit" => vec!["visit", "--content-cluster", "music", "--bucket-space", "default"],
        "feed" => {
            let feed = file("feed.jsonl", json!({"put": id, "fields": {"title": "x"}}));
            return vec!["feed".to_owned(), feed, "--deadline".to_owned(), "10".to_owned()];
        }
        "put" => vec!["document", "put", &id, "--data", data],
        "update" => vec!["document", "update", &id, "--data", update],
        "remove" => vec!["document", "remove", &id],
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

fn vespa_cli(stage: &Stage) {
    for by in [By::Certificate, By::Token] {
        let mut table = format!("vespa, {}, {by:?}\n", stage.name);
        for role in &stage.roles {
            table += &format!("{:8}", role.name);
            for operation in CLI {
                stage.vespa.store(&document_id(), json!({"title": "x"}));
                let (outcome, output) = stage.cli_outcome(role, by, operation.name);
                let expected = match (by, role.name, operation.name) {
                    (By::Certificate, "expired", _) => OWN_REFUSAL,
                    (By::Token, _, "status") => NO_TOKEN,
                    _ if role.may(operation) => "200",
                    _ => "403",
                };
                let context = format!("{}, {}, {by:?}, {}", stage.name, role.name, operation.name);
                assert_eq!(outcome, expected, "{context}: {output}\n{}", stage.log());
                let arrived: &[_] = if expected == "200" { &[operation] } else { &[] };
                stage.assert_arrived(arrived, ESCAPED, &context);
                table += &format!(" {}={outcome}", operation.name);
            }
            table += "\n";
        }
        io::stdout().write_all(table.as_bytes()).expect("standard output");
    }
}

fn pyvespa(stage: &Stage) {
    let python = root().join("target/venv-clients/bin/python");
    assert!(python.is_file(), "pyvespa is missing; install it: tests/install-clients.sh");
    for by in [By::Certificate, By::Token] {
        let mut command = Command::new(&python);
        command.arg(root().join("tests/clients/pyvespa_roles.py")).env("HTTPR_CA_BUNDLE", stage.ca());
        stage.run_roles(&mut command, by, PYVESPA, QUOTED);
    }
}

fn fetch(stage: &Stage) {
    let node = Command::new("node").args(["--eval", "fetch"]).output();
    assert!(
        node.is_ok_and(|output| output.status.success()),
        "Node with fetch is missing; install it: apt-get install nodejs, 18 or later"
    );
    let mut command = Command::new("node");
    command.arg(root().join("tests/clients/fetch_roles.mjs")).env("NODE_EXTRA_CA_CERTS", stage.ca());
    stage.run_roles(&mut command, By::Token, FETCH, ESCAPED);
}

/// Who has the certificate of a client, but not its key, is nobody; so is who has none.
fn a_pinned_certificate_needs_its_key(stage: &Stage) {
    let address = stage.address(By::Certificate);
    let [_, _, both, unknown, _] = &stage.roles;
    let mut thief = both.peer.credential.clone();
    thief.replace_key(&unknown.peer.credential);
    let stolen =
        Client::connect_unchecked(address, stage.pki.ca(), &thief).and_then(|mut client| client.get("/"));
    assert!(stolen.is_err(), "{}: {stolen:?}", stage.name);
    let nothing = Client::connect(address, stage.pki.ca(), None).and_then(|mut client| client.get("/"));
    assert!(
        nothing.as_ref().map_or(true, |answer| [401, 403].contains(&answer.status())),
        "{}: {nothing:?}",
        stage.name
    );
    stage.assert_arrived(&[], "", &stage.name);
    let own = Client::connect(address, stage.pki.ca(), Some(&both.peer.credential));
    let answer = own.and_then(|mut client| client.get("/")).expect("an answer");
    assert_eq!(answer.status(), 200, "{}", stage.name);
}

#[test]
fn clients_in_envoy() {
    if skipped("Vespa's clients in Envoy") {
        return;
    }
    let stage = Stage::envoy(CURRENT);
    vespa_cli(&stage);
    pyvespa(&stage);
    fetch(&stage);
    a_pinned_certificate_needs_its_key(&stage);
}

#[test]
fn clients_in_an_old_envoy() {
    if skipped("Vespa's clients in an old Envoy") {
        return;
    }
    let stage = Stage::envoy(OLD);
    vespa_cli(&stage);
    pyvespa(&stage);
    fetch(&stage);
    a_pinned_certificate_needs_its_key(&stage);
}

#[test]
fn clients_of_our_host() {
    let stage = Stage::host();
    vespa_cli(&stage);
    pyvespa(&stage);
    fetch(&stage);
    a_pinned_certificate_needs_its_key(&stage);
}
