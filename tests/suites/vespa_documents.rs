//! Documented files of Vespa are policies as they stand: where Vespa ignores a key, a warning says so in every place that reads
//! the policy.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use peergate_host::envoy::Protocol;
use peergate_host::pki::Leaf;
use peergate_tests::commands::{Finished, curl, peergate, run};
use peergate_tests::envoy::{CURRENT, listener, skipped, start};
use peergate_tests::host::Start;
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use serde_json::{Value, json};

const IGNORED: &str =
    "key `disable-hostname-validation` has no effect in `files`, as in Vespa; it belongs into the top level";

/// The only complete example of Vespa's reference (vespa-engine/documentation, en/reference/security/mtls.md, commit 523dfcf).
struct Desk {
    pki: Pki,
    node: Peer,
    policy: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let pki = Pki::new();
        let node = pki.peer(&Leaf::new().cn("node").dns("a.mycluster.vespa.example.com"));
        let policy = pki.file("tls.json");
        let desk = Self { pki, node, policy };
        desk.write(r#""disable-hostname-validation": false"#);
        desk
    }

    /// The example, with this member on line 6.
    fn write(&self, member: &str) {
        let path = |name: &str| self.pki.file(name).display().to_string();
        let text = format!(
            r#"{{
    "files": {{
        "ca-certificates": "{}",
        "certificates": "{}",
        "private-key": "{}",
        {member}
    }},
    "authorized-peers": [
        {{
            "required-credentials": [ {{ "field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com" }} ],
            "description": "Cluster-internal node P2P access",
            "name": "cluster"
        }}
    ]
}}
"#,
            path("ca.pem"),
            path("server.pem"),
            path("server.key"),
        );
        fs::write(&self.policy, text).expect("the policy");
    }

    /// The warning with its place.
    fn warning(&self) -> String {
        format!("{}:6:9: {IGNORED}", self.policy.display())
    }

    fn said(&self, command: &mut Command) -> Finished {
        let finished = run(command, b"");
        assert_eq!(finished.stderr, format!("peergate: warning: {}\n", self.warning()), "{command:?}");
        finished
    }
}

#[test]
fn commands_take_the_example_and_say_what_is_ignored() {
    let desk = Desk::new();
    let checked = desk.said(peergate().args(["check", "--policy"]).arg(&desk.policy));
    assert_eq!(checked.code, Some(0), "{}", checked.output());
    let mut explain = peergate();
    explain.arg("explain").arg("--policy").arg(&desk.policy).arg("--cert").arg(&desk.node.chain);
    assert_eq!(desk.said(&mut explain).code, Some(0));
    let case = json!({"name": "a node", "certificate": desk.node.chain, "expect": {"decision": "allow"}});
    let cases = desk.pki.file("cases.json");
    fs::write(&cases, json!({"policy-file": "tls.json", "cases": [case]}).to_string()).expect("the cases");
    assert_eq!(desk.said(peergate().arg("test").arg(&cases)).code, Some(0));
    let mut render = peergate();
    render.args(["render", "envoy", "--upstream", "127.0.0.1:1", "--policy"]).arg(&desk.policy);
    assert_eq!(desk.said(&mut render).code, Some(0));
    let endpoint = json!({"endpoint": "peer", "policy": "tls.json"});
    let inbound =
        json!({"address": "127.0.0.1:0", "upstream": {"address": "127.0.0.1:1"}, "endpoints": [endpoint]});
    let config = desk.pki.file("host.json");
    fs::write(&config, json!({ "inbound": [inbound] }).to_string()).expect("the configuration");
    assert_eq!(desk.said(peergate().args(["check", "--config"]).arg(&config)).code, Some(0));
}

/// In a policy that stands in a file of cases, the place is that of the file.
#[test]
fn a_policy_among_cases_has_its_places_there() {
    let desk = Desk::new();
    let cases = desk.pki.file("cases.json");
    let case = json!({"name": "a", "peer": null, "expect": {"decision": "deny"}});
    let text = format!("{{\"cases\": [{case}],\n \"policy\": {{\"files\": {{\"accepted-ciphers\": []}}}}}}");
    fs::write(&cases, text).expect("the cases");
    let finished = run(peergate().arg("test").arg(&cases), b"");
    let place = format!(
        "peergate: warning: {}:2:23: key `accepted-ciphers` has no effect in `files`",
        cases.display()
    );
    assert!(finished.code == Some(0) && finished.stderr.starts_with(&place), "{}", finished.output());
}

#[test]
fn the_host_serves_by_the_example_and_warns_at_start_and_reload() {
    let desk = Desk::new();
    let host = Start::endpoint("peer", &desk.policy, Upstream::http().address).start();
    assert_eq!(curl(&desk.pki, host.address, Some(&desk.node), "/", &[]).status, 200);
    let warnings = || host.log().matches(&format!("policy: {}", desk.warning())).count();
    assert_eq!(warnings(), 1, "{}", host.log());
    host.reload();
    assert_eq!(warnings(), 2, "{}", host.log());
    // What its author believes would be wrong here, so it is no policy; the old one stays.
    desk.write(r#""disable-hostname-validation": true"#);
    host.reload();
    let error = "tls.json:6:9: `files.disable-hostname-validation`: unknown key `disable-hostname-validation`; it belongs into the top level";
    assert!(host.log().contains(error), "{}", host.log());
    assert_eq!(curl(&desk.pki, host.address, Some(&desk.node), "/", &[]).status, 200);
}

#[test]
fn the_filter_warns_in_envoys_log_when_it_is_configured() {
    if skipped("the_filter_warns_in_envoys_log_when_it_is_configured") {
        return;
    }
    let desk = Desk::new();
    let policy: Value =
        serde_json::from_str(&fs::read_to_string(&desk.policy).expect("the policy")).expect("JSON");
    let configuration = json!({"endpoint": "peer", "policy": policy});
    let envoy = start(CURRENT, vec![listener(CURRENT, "gate", &desk.pki, Protocol::Http, configuration)]);
    let said =
        || envoy.log().lines().filter(|line| line.contains(IGNORED)).map(str::to_owned).collect::<Vec<_>>();
    let at_start = said();
    assert!(!at_start.is_empty(), "{}", envoy.log());
    assert!(at_start.iter().all(|line| line.contains("peergate: at line 1 column ")), "{at_start:?}");
    for _ in 0..2 {
        let answer = curl(&desk.pki, envoy.address("gate"), Some(&desk.node), "/", &[]);
        assert_ne!(answer.status, 403, "{}", envoy.log());
    }
    // A VM says it when it is configured, whatever it is asked then.
    assert_eq!(said(), at_start);
}
