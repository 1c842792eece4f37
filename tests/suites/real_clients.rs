//! Vespa's own clients and Node's `fetch`, in five roles, by certificate and by token, through Envoy with the filter and
//! through our host: what each may do, and that a document's id arrives byte for byte.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use peergate_host::envoy::{Listener, Protocol};
use peergate_tests::{
    client::Client,
    commands::run,
    envoy::{CURRENT, OLD, Running, listener, skipped, start},
    host::{Host, Start, write_policy},
    pki::Pki,
    roles::{self, By, Role},
    root,
    vespa::Vespa,
    vespa_cli::{NO_TOKEN, OWN_REFUSAL, VespaCli},
};
use serde_json::{Value, json};

/// With all that may go wrong on the way.
const DOCUMENT: &str = "a/b 100% %2F blåbær";
/// As Vespa's command line and `encodeURIComponent` write it.
const ESCAPED: &str = "a%2Fb%20100%25%20%252F%20bl%C3%A5b%C3%A6r";
/// As pyvespa does, which leaves slashes alone.
const QUOTED: &str = "a/b%20100%25%20%252F%20bl%C3%A5b%C3%A6r";

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

impl Operation {
    fn succeeds_for(&self, role: &Role) -> bool {
        if self.writes { role.writes } else { role.reads }
    }

    fn status_for(&self, role: &Role) -> u16 {
        if self.succeeds_for(role) { 200 } else { 403 }
    }
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
        let roles = roles::all(&pki);
        let policy = roles::policy(&roles);
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
            .map(|role| operations.iter().map(|one| (one.name.to_owned(), one.status_for(role))).collect())
            .collect();
        assert_eq!(answers, expected, "{}, {by:?}: {}", self.name, self.log());
        let permitted: Vec<_> = self
            .roles
            .iter()
            .flat_map(|role| operations.iter().filter(|operation| operation.succeeds_for(role)))
            .collect();
        self.assert_arrived(&permitted, id, &format!("{}, {by:?}", self.name));
    }
}

fn document_id() -> String {
    format!("id:ns:music::{DOCUMENT}")
}

fn vespa_cli(stage: &Stage) {
    for by in [By::Certificate, By::Token] {
        for role in &stage.roles {
            let cli = VespaCli { pki: &stage.pki, role, by, target: stage.url(by) };
            for operation in CLI {
                stage.vespa.store(&document_id(), json!({"title": "x"}));
                let (outcome, output) = cli.outcome(operation.name, &document_id());
                let expected = match (by, role.name, operation.name) {
                    (By::Certificate, "expired", _) => OWN_REFUSAL,
                    (By::Token, _, "status") => NO_TOKEN,
                    _ if operation.succeeds_for(role) => "200",
                    _ => "403",
                };
                let context = format!("{}, {}, {by:?}, {}", stage.name, role.name, operation.name);
                assert_eq!(outcome, expected, "{context}: {output}\n{}", stage.log());
                let arrived: &[_] = if expected == "200" { &[operation] } else { &[] };
                stage.assert_arrived(arrived, ESCAPED, &context);
            }
        }
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
    let node = root().join("target/venv-clients/node");
    assert!(node.exists(), "Node is missing; install it: make clients");
    let mut command = Command::new(node);
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

fn all_clients(stage: &Stage) {
    vespa_cli(stage);
    pyvespa(stage);
    fetch(stage);
    a_pinned_certificate_needs_its_key(stage);
    for role in &stage.roles {
        assert!(
            !stage.log().contains(&role.token),
            "{}: the token of {} is in the log",
            stage.name,
            role.name
        );
    }
}

#[test]
fn clients_in_envoy() {
    if skipped("Vespa's clients in Envoy") {
        return;
    }
    all_clients(&Stage::envoy(CURRENT));
}

#[test]
fn clients_in_an_old_envoy() {
    if skipped("Vespa's clients in an old Envoy") {
        return;
    }
    all_clients(&Stage::envoy(OLD));
}

#[test]
fn clients_of_our_host() {
    all_clients(&Stage::host());
}

#[test]
fn the_example_prints_what_its_readme_shows() {
    let directory = root().join("examples/data-plane");
    let readme = fs::read_to_string(directory.join("README.md")).expect("the README");
    let finished = run(&mut Command::new(directory.join("run.sh")), b"");
    assert_eq!(finished.code, Some(0), "{}", finished.output());
    assert!(readme.contains(finished.stdout.trim()), "{}", finished.output());
}
