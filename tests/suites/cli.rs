//! `peergate explain`, `test`, `check` and `demo`, as a script calls them.

use std::fs;
use std::path::PathBuf;

use peergate_host::pki::Leaf;
use peergate_tests::commands::{Finished, peergate, run};
use peergate_tests::pki::Pki;
use peergate_tests::root;
use serde_json::{Value, json};
use tempfile::TempDir;

const POLICY: &str = r#"{
  "authorized-peers": [
    {"name": "monitoring", "required-credentials": [
      {"field": "CN", "must-match": "vespa-monitoring.example.com"},
      {"field": "SAN_DNS", "must-match": "*.us-east-*.monitor.example.com"}], "capabilities": ["vespa.telemetry"]},
    {"required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}]},
    {"name": "trial", "mode": "log_only", "required-credentials": [{"field": "SAN_IP", "must-match": "10.0.0.0/8"}]}
  ]
}"#;

const NODE: &str = r#"{"san_dns": ["other.example.com", "a.mycluster.vespa.example.com"]}"#;
const STRANGER: &str = r#"{"cn": "x\n\u001b[31m", "san_dns": [], "san_ip": ["10.1.2.3"]}"#;

struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        fs::write(desk.file("policy.json"), POLICY).expect("the policy");
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn explain(&self, arguments: &[&str]) -> Finished {
        run(peergate().arg("explain").arg("--policy").arg(self.file("policy.json")).args(arguments), b"")
    }

    fn explain_json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let finished = self.explain(&[arguments, &["--format", "json"]].concat());
        let json = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.output()));
        (finished.code, json)
    }

    /// Runs `peergate test` on one file of cases.
    fn test(&self, file: &Value, arguments: &[&str]) -> Finished {
        fs::write(self.file("cases.json"), file.to_string()).expect("the cases");
        run(peergate().arg("test").args(arguments).arg(self.file("cases.json")), b"")
    }
}

#[test]
fn explain_prints_the_contract() {
    let desk = Desk::new();
    for engine in ["wasm", "native"] {
        let (code, allowed) = desk.explain_json(&["--peer", NODE, "--engine", engine]);
        assert_eq!(code, Some(0));
        assert_eq!(allowed["decision"], "allow");
        assert_eq!(allowed["status"], 200);
        assert_eq!(allowed["matched"], json!(["authorized-peers[1]"]));
        assert_eq!(allowed["capabilities"].as_array().map(Vec::len), Some(32));
        assert_eq!((&allowed["client"], &allowed["reason"]), (&Value::Null, &Value::Null));

        let (code, denied) = desk.explain_json(&["--peer", STRANGER, "--engine", engine]);
        assert_eq!(code, Some(1));
        assert_eq!(denied["decision"], "deny");
        assert_eq!(denied["status"], 403);
        assert_eq!(denied["reason"], "no-rule-matched");
        assert_eq!(denied["shadow_matched"], json!(["trial"]));
        assert_eq!(
            denied["rules"][0],
            json!({"name": "monitoring", "matched": false, "failed": {
                "field": "CN", "must-match": "vespa-monitoring.example.com", "values": ["x\n\u{1b}[31m"]}})
        );
        assert_eq!(denied["rules"][1]["failed"]["values"], json!([]));
        assert_eq!(denied["rules"][2], json!({"name": "trial", "matched": true, "mode": "log_only"}));
    }
}

#[test]
fn explain_prints_hostile_names_on_one_line_each() {
    let finished = Desk::new().explain(&["--peer", STRANGER]);
    assert_eq!(finished.stdout.lines().count(), 4, "{}", finished.stdout);
    assert!(!finished.stdout.contains('\u{1b}'));
}

#[test]
fn explain_reads_a_certificate_and_the_time() {
    let desk = Desk::new();
    let pki = Pki::new();
    let peer = pki.peer(&Leaf::new().dns("n.mycluster.vespa.example.com"));
    let certificate = peer.chain.to_str().expect("a UTF-8 path");
    assert_eq!(desk.explain_json(&["--cert", certificate]).1["decision"], "allow");
    for (now, reason) in [("2001-01-01T00:00:00Z", "not-yet-valid"), ("2199-01-01T00:00:00Z", "expired")] {
        for engine in ["wasm", "native"] {
            let (code, json) = desk.explain_json(&["--cert", certificate, "--now", now, "--engine", engine]);
            assert_eq!((code, json["reason"].as_str()), (Some(1), Some(reason)), "{engine}");
        }
    }
    assert_eq!(desk.explain_json(&["--peer", "null"]).1["reason"], "no-certificate");
}

#[test]
fn explain_refuses_what_it_cannot_read() {
    let desk = Desk::new();
    let policy = desk.file("policy.json");
    let policy = policy.to_str().expect("a UTF-8 path");
    for (arguments, message) in [
        (vec!["--peer", "{}", "--header", "Authorization: Bearer secret"], "secrets are never arguments"),
        (vec!["--peer", "{}", "--header", "Cookie: secret"], "secrets are never arguments"),
        (vec!["--peer", r#"{"san-dns": []}"#], "unknown field `san-dns`"),
        (vec!["--peer", "{}", "--cert", "x"], "cannot be used with"),
        (vec![], "give the peer"),
        (vec!["--peer", "{}", "--now", "1960-01-01T00:00:00Z"], "between 1970 and 2554"),
        (vec!["--endpoint", "token"], "an endpoint of kind `token` needs `data-plane`"),
        (vec!["--peer", "{}", "--token-file", "/nowhere"], "--token-file"),
        (vec!["--cert", policy], "has no certificate; it needs a `BEGIN CERTIFICATE` section"),
        (vec!["--cert", "/nowhere"], "cannot read `/nowhere`"),
        (vec!["--peer", "{}", "--now", "yesterday"], "expected a time"),
    ] {
        let finished = desk.explain(&arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}");
        assert!(finished.stderr.contains(message), "{arguments:?}: {}", finished.stderr);
        assert!(!finished.output().contains("Bearer secret"), "{}", finished.stderr);
    }
}

const DATA_PLANE: &str = r#"{"data-plane": {"token-context": "my-token-context", "clients": [
  {"id": "search", "permissions": ["read"], "tokens": [{"id": "query", "versions": [{
    "fingerprint": "62:d5:4c:4a:3d:2b:28:36:87:36:22:28:ef:07:64:43",
    "check-access-hash": "79d52b1f983f1c2551e01f582af31c206b27ab0e76e2d6739b0e6a009a1fc415",
    "expiration": "2030-01-01T00:00:00Z"}]}]}]}}"#;
const TOKEN: &str = "vespa_token_C758REDZuHxZN7rQIGnIhasPfRFn8hLZdraZcX9chHR";

#[test]
fn explain_judges_a_token_and_never_prints_it() {
    let desk = Desk::new();
    fs::write(desk.file("policy.json"), DATA_PLANE).expect("the policy");
    fs::write(desk.file("token"), format!("{TOKEN}\n")).expect("the token");
    let token = desk.file("token");
    let token = token.to_str().expect("a UTF-8 path");
    for (arguments, decision, status, reason) in [
        (vec!["--token-file", token], "allow", 200, None),
        (vec!["--token-file", token, "--method", "POST", "--path", "/search/"], "allow", 200, None),
        (vec!["--token-file", token, "--method", "POST"], "deny", 403, Some("permission-missing")),
        (vec!["--token-file", token, "--now", "2030-01-01T00:00:00.1Z"], "deny", 403, Some("token-expired")),
        (vec!["--token-file", token, "--path", "/a/../b"], "deny", 403, Some("path-unsafe")),
        (vec![], "deny", 401, Some("token-missing")),
    ] {
        for engine in ["wasm", "native"] {
            let finished = desk.explain(
                &[&["--endpoint", "token", "--engine", engine, "--format", "json"], &arguments[..]].concat(),
            );
            let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
            assert_eq!(json["decision"], decision, "{engine} {arguments:?}");
            assert_eq!(json["status"], status, "{engine} {arguments:?}");
            assert_eq!(json["reason"].as_str(), reason, "{engine} {arguments:?}");
            assert!(!finished.output().contains(&TOKEN[12..]), "{engine} {arguments:?}");
            if decision == "allow" {
                assert_eq!(json["client"]["ids"], json!(["search"]));
                assert_eq!(json["client"]["token"]["id"], "query");
            }
        }
    }
}

#[test]
fn test_files_judge_tokens_and_pinned_certificates() {
    let desk = Desk::new();
    let pki = Pki::new();
    let peer = pki.peer(&Leaf::new().cn("feeder"));
    let pem = fs::read_to_string(&peer.chain).expect("the certificate");
    let leaf = &pem[..pem.find("-----END").expect("PEM") + "-----END CERTIFICATE-----\n".len()];
    fs::write(desk.file("token"), TOKEN).expect("the token");
    let mut policy: Value = serde_json::from_str(DATA_PLANE).expect("JSON");
    let feed = json!({"id": "feed", "permissions": ["write"], "certificates": [leaf]});
    policy["data-plane"]["clients"].as_array_mut().expect("a list").push(feed);
    let case = |name: &str, rest: Value, expect: Value| {
        let mut case = rest;
        case["name"] = json!(name);
        case["expect"] = expect;
        case
    };
    let by_token =
        |method: &str| json!({"token-file": "token", "request": {"endpoint": "token", "method": method}});
    let by_certificate = |method: &str| json!({"certificate": peer.chain, "request": {"endpoint": "mtls", "method": method, "path": "/document/v1/"}});
    let file = json!({"policy": policy, "cases": [
        case("read", by_token("GET"), json!({"decision": "allow", "status": 200})),
        case("no write", by_token("PUT"), json!({"decision": "deny", "status": 403})),
        case("no token", json!({"request": {"endpoint": "token"}}), json!({"decision": "deny", "status": 401})),
        case("write", by_certificate("POST"), json!({"decision": "allow"})),
        case("no read", by_certificate("GET"), json!({"decision": "deny", "status": 403})),
        case("nobody", json!({"peer": null, "request": {"endpoint": "mtls"}}), json!({"decision": "deny", "status": 403})),
    ]});
    for engine in ["wasm", "native"] {
        let finished = desk.test(&file, &["--engine", engine]);
        assert_eq!(finished.code, Some(0), "{}", finished.output());
        assert!(finished.stdout.ends_with("6 passed, 0 failed\n"));
    }
}

#[test]
fn a_policy_error_names_file_line_and_column() {
    let desk = Desk::new();
    fs::write(desk.file("policy.json"), "{\n \"authorised-peers\": []}").expect("the policy");
    let expected = format!(
        "peergate: {}:2:2: `authorised-peers`: unknown key `authorised-peers`; did you mean `authorized-peers`?\n",
        desk.file("policy.json").display()
    );
    let check = run(peergate().arg("check").arg("--policy").arg(desk.file("policy.json")), b"");
    assert_eq!((check.code, check.stderr), (Some(2), expected.clone()));
    let explain = desk.explain(&["--peer", "null"]);
    assert_eq!((explain.code, explain.stderr), (Some(2), expected.clone()));
    let cases = json!({"policy-file": "policy.json", "cases": [
        {"name": "x", "peer": {}, "expect": {"decision": "deny"}}]});
    let test = desk.test(&cases, &[]);
    assert_eq!((test.code, test.stderr), (Some(2), expected));
}

#[test]
fn test_counts_and_explains() {
    let desk = Desk::new();
    let cases = json!({"policy-file": "policy.json", "cases": [
        {"name": "node", "peer": serde_json::from_str::<Value>(NODE).expect("JSON"),
         "request": {"method": "POST", "path": "/x", "headers": {"Accept": ["a", "b"]}},
         "expect": {"decision": "allow", "status": 200, "matched": ["authorized-peers[1]"], "capabilities": ["vespa.all"]}},
        {"name": "nobody", "peer": null, "expect": {"decision": "deny", "status": 403, "matched": []}},
        {"name": "odd", "peer": {"san_dns": [""]}, "expect": {"decision": "deny"}},
    ]});
    for engine in ["wasm", "native"] {
        let finished = desk.test(&cases, &["--engine", engine]);
        assert_eq!(finished.code, Some(0), "{}", finished.output());
        assert!(finished.stdout.ends_with("3 passed, 0 failed\n"));
        assert_eq!(
            finished.stdout.contains("natively: no certificate can carry these names"),
            engine == "wasm"
        );
    }
    for (expect, difference) in [
        (json!({"decision": "deny"}), "decision is allow"),
        (json!({"status": 403}), "status is 200"),
        (json!({"matched": ["monitoring"]}), "matched is [\"authorized-peers[1]\"]"),
        (json!({"capabilities": ["vespa.none"]}), "capabilities are"),
    ] {
        let mut wrong = cases.clone();
        wrong["cases"][0]["expect"] = expect;
        let finished = desk.test(&wrong, &[]);
        assert_eq!(finished.code, Some(1), "{}", finished.output());
        assert!(finished.stdout.contains(difference), "{}", finished.stdout);
        assert!(finished.stdout.ends_with("2 passed, 1 failed\n"));
    }
}

#[test]
fn test_refuses_cases_that_prove_nothing() {
    let desk = Desk::new();
    let with = |case: Value| json!({"policy-file": "policy.json", "cases": [case]});
    let peer = json!({});
    let deny = json!({"decision": "deny"});
    for (file, message) in [
        (with(json!({"name": "x", "peer": peer, "expect": {}})), "the case could not fail"),
        (with(json!({"name": "x", "expect": deny})), "exactly one of `peer` and `certificate`"),
        (with(json!({"name": "x", "peer": peer, "certificate": null, "expect": deny})), "exactly one of"),
        (with(json!({"name": "x", "peer": peer, "expect": deny, "expct": 1})), "unknown field `expct`"),
        (with(json!({"name": "x", "peer": peer, "expect": {"capabilities": ["vespa.cat"]}})), "vespa.cat"),
        (with(json!({"name": "x", "peer": peer, "expect": deny, "now": "x"})), "no time"),
        (with(json!({"name": "x", "certificate": "absent.pem", "expect": deny})), "absent.pem"),
        (json!({"policy": {}, "policy-file": "policy.json", "cases": []}), "exactly one of `policy`"),
        (json!({"policy": {}, "cases": []}), "`cases` is empty"),
    ] {
        let finished = desk.test(&file, &[]);
        assert_eq!(finished.code, Some(2), "{file}: {}", finished.output());
        assert!(finished.stderr.contains(message), "{file}: {}", finished.stderr);
    }
    let finished = run(peergate().args(["test", "/nowhere/*.json"]), b"");
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("no file matches"));
}

#[test]
fn the_example_prints_what_its_readme_says() {
    let cases = "examples/policy-tests/cases.json";
    let finished = run(peergate().current_dir(root()).args(["test", cases]), b"");
    assert_eq!(finished.code, Some(0), "{}", finished.output());
    let readme = fs::read_to_string(root().join("examples/policy-tests/README.md")).expect("the README");
    for line in finished.stdout.lines() {
        assert!(readme.contains(line), "the README lacks `{line}`");
    }
}

#[test]
fn the_demo_tells_its_story() {
    let finished = run(peergate().arg("demo"), b"");
    assert_eq!(finished.code, Some(0), "{}", finished.output());
    let told: Vec<Vec<&str>> = finished
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  allow").or(line.strip_prefix("  deny")))
        .map(|line| line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect())
        .collect();
    let columns: Vec<(&str, &str)> = told.iter().map(|line| (line[0], line[1])).collect();
    assert_eq!(
        columns,
        [
            ("cluster node", "HTTP 200"),
            ("monitoring, us-east", "HTTP 200"),
            ("monitoring, eu-west", "alert access_denied"),
            ("stranger, same CA", "alert access_denied"),
            ("node, expired", "alert certificate_expired"),
            ("node, of another CA", "alert unknown_ca"),
            ("no certificate", "alert certificate_required"),
        ]
    );
    assert_eq!(told[0][2], "authorized-peers[1]");
    assert_eq!(told[1][2], "authorized-peers[0]");
    assert!(
        told[3][2].starts_with("no-rule-matched: authorized-peers[0] wants CN vespa-monitoring.example.com")
    );
}
