//! The life of a token as its operator and its users see it: `peergate token`, SIGHUP, and requests to one host that is
//! never started again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use peergate_tests::client::Client;
use peergate_tests::commands::{Finished, curl, peergate, run};
use peergate_tests::host::{Host, Start};
use peergate_tests::pki::Pki;
use peergate_tests::root;
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use serde_json::json;

/// A host with an endpoint for tokens, and the desk from which its policy is edited.
struct Service {
    pki: Pki,
    upstream: Upstream,
    policy: PathBuf,
    host: Host,
}

impl Service {
    fn start() -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let policy = pki.file("policy.json");
        let document =
            json!({"data-plane": {"token-context": "Vespa Cloud tenant data plane:t", "clients": []}});
        let text = serde_json::to_string_pretty(&pki.with_files(&document)).expect("JSON");
        fs::write(&policy, text).expect("the policy");
        let host = Start::endpoint("token", &policy, upstream.address).trace().start();
        Self { pki, upstream, policy, host }
    }

    /// `peergate token VERB --policy policy.json ARGUMENTS`; what it said.
    fn token(&self, verb: &str, arguments: &str) -> String {
        self.token_of("policy.json", verb, arguments)
    }

    fn token_of(&self, policy: &str, verb: &str, arguments: &str) -> String {
        let mut command = peergate();
        command.current_dir(self.pki.directory()).args(["token", verb, "--policy", policy]);
        let done = run(command.args(arguments.split_ascii_whitespace()), b"");
        assert_eq!(done.code, Some(0), "{verb} {arguments}: {}", done.stderr);
        done.output()
    }

    /// A new version of `query-token`, and its fingerprint.
    fn new_token(&self, name: &str, arguments: &str) -> (String, String) {
        let said = self.token("new", &format!("--client query --id query-token --out {name} {arguments}"));
        let (_, rest) = said.split_once("fingerprint ").expect("a fingerprint");
        let token = fs::read_to_string(self.pki.file(name)).expect("the token");
        (token.trim_end().to_owned(), rest.split(',').next().unwrap_or_default().to_owned())
    }

    fn status(&self, token: &str, arguments: &[&str]) -> u16 {
        // In a file: an argument would show in the list of processes.
        let header = self.pki.file("header");
        fs::write(&header, format!("Authorization: Bearer {token}\n")).expect("the header");
        let header = format!("@{}", header.display());
        let arguments = [&["--header", &header], arguments].concat();
        curl(&self.pki, self.host.address, None, "/search/?yql=x", &arguments).status
    }

    /// Waits until every worker answers so; connections are spread over them.
    fn wait_for(&self, token: &str, status: u16) {
        wait::until(&format!("answers are {status}"), || (0..8).all(|_| self.status(token, &[]) == status));
    }
}

#[test]
fn a_token_is_made_replaced_and_revoked_while_the_host_runs() {
    let service = Service::start();
    let pid = service.host.pid();
    let mut open = Client::connect(service.host.address, service.pki.ca(), None).expect("a connection");
    let mut get = |token: &str| {
        let request =
            format!("GET /search/ HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        open.request(request.as_bytes()).expect("an answer on the first connection").status()
    };

    let (first, first_name) = service.new_token("first", "--permissions read");
    service.host.reload();
    service.wait_for(&first, 200);
    assert_eq!(get(&first), 200);
    assert_eq!(service.status(&first, &["--request", "PUT"]), 403, "it may read");

    let (second, second_name) = service.new_token("second", "--no-expiry");
    service.host.reload();
    service.wait_for(&second, 200);
    service.wait_for(&first, 200);
    let listed = service.token("list", "");
    assert!(listed.contains(&first_name) && listed.contains(&second_name), "{listed}");

    service.token("revoke", &format!("--fingerprint {first_name}"));
    service.host.reload();
    service.wait_for(&first, 403);
    assert_eq!((get(&first), get(&second)), (403, 200));
    assert_eq!(service.status(&second, &[]), 200);

    service.token("revoke", &format!("--fingerprint {second_name}"));
    service.host.reload();
    service.wait_for(&second, 403);
    assert_eq!((get(&second), service.host.pid()), (403, pid));

    let log = service.host.log();
    for (token, name) in [(&first, &first_name), (&second, &second_name)] {
        assert!(!log.contains(&token["vespa_cloud_".len()..]), "the log has a token");
        assert!(log.contains(name), "the log does not name {name}");
    }
}

/// Nobody reads the policy again when a token ends.
#[test]
fn a_token_ends_without_a_reload() {
    let service = Service::start();
    let (short, name) = service.new_token("short", "--permissions read --ttl 3s");
    let (long, _) = service.new_token("long", "--ttl 1h");
    service.host.reload();
    service.wait_for(&long, 200);
    service.wait_for(&short, 403);
    assert_eq!(service.status(&long, &[]), 200);
    wait::until("the refusal is in the log", || {
        service.host.log().lines().any(|line| line.contains("token-expired") && line.contains(&name))
    });
    assert!(service.token("list", "").contains("expired"));
}

/// A typing error in the middle of a rotation must not lock everybody out.
#[test]
fn a_policy_that_cannot_be_read_leaves_the_tokens_as_they_are() {
    let service = Service::start();
    let (token, name) = service.new_token("token", "--permissions read");
    service.host.reload();
    service.wait_for(&token, 200);
    let copy = service.pki.file("copy.json");
    fs::copy(&service.policy, &copy).expect("a copy");
    service.token_of("copy.json", "revoke", &format!("--fingerprint {name}"));
    let good = fs::read_to_string(&copy).expect("the copy");
    fs::write(&service.policy, good.replace("\"clients\"", "\"client\"")).expect("the policy");
    service.host.reload();
    assert!(service.host.log().contains("reload failed"), "{}", service.host.log());
    assert_eq!(service.status(&token, &[]), 200);
    fs::write(&service.policy, good).expect("the policy");
    service.host.reload();
    service.wait_for(&token, 403);
    let requests = service.upstream.requests();
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

/// A policy in a directory that the disk cannot write: the change is there, and a crash could undo it.
struct FailingDisk {
    pki: Pki,
    library: PathBuf,
}

impl FailingDisk {
    fn new() -> Self {
        let pki = Pki::new();
        fs::create_dir(pki.file("policy")).expect("a directory");
        let document = json!({"data-plane": {"token-context": "c", "clients": []}});
        fs::write(pki.file("policy/policy.json"), document.to_string()).expect("the policy");
        let library = pki.file("failing_fsync.so");
        let source = root().join("tests/suites/failing_fsync.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
        let compiled = run(&mut compiler, b"");
        assert_eq!(compiled.code, Some(0), "{}", compiled.output());
        Self { pki, library }
    }

    /// `peergate token VERB` with a disk that cannot write the directory.
    fn token(&self, failing: &str, verb: &str, arguments: &str) -> Finished {
        let mut command = peergate();
        command.env("LD_PRELOAD", &self.library).env("FAILING_DIRECTORY", self.pki.file(failing));
        command.current_dir(self.pki.directory()).args(["token", verb, "--policy", "policy/policy.json"]);
        run(command.args(arguments.split_ascii_whitespace()), b"")
    }

    fn policy(&self) -> String {
        fs::read_to_string(self.pki.file("policy/policy.json")).expect("the policy")
    }
}

#[test]
fn a_change_that_a_crash_could_undo_is_said_and_stays() {
    const SAID: &str = "was changed, and a crash of the machine could undo that: Input/output error";
    let disk = FailingDisk::new();
    let new = "--client query --permissions read --id t";
    // The token that was written is the policy's.
    let made = disk.token("policy", "new", &format!("{new} --out token"));
    assert_eq!(made.code, Some(2), "{}", made.output());
    assert!(made.stderr.contains(SAID) && !made.stderr.contains("opens nothing"), "{}", made.stderr);
    let token = fs::read(disk.pki.file("token")).expect("the token");
    let fingerprint = run(peergate().args(["token", "fingerprint"]), &token).stdout;
    let fingerprint = fingerprint.trim_end();
    assert!(
        !fingerprint.is_empty() && disk.policy().contains(fingerprint),
        "{fingerprint} {}",
        disk.policy()
    );
    // What was revoked is out of the policy.
    let revoked = disk.token("policy", "revoke", &format!("--fingerprint {fingerprint}"));
    assert!(revoked.code == Some(2) && revoked.stderr.contains(SAID), "{}", revoked.output());
    assert!(!disk.policy().contains(fingerprint), "{}", disk.policy());
    // A token that may be lost is none: nothing was changed for it.
    let before = disk.policy();
    let lost = disk.token(".", "new", &format!("{new} --out lost"));
    assert_eq!(lost.code, Some(2), "{}", lost.output());
    assert!(!disk.pki.file("lost").exists() && disk.policy() == before, "{}", disk.policy());
}
