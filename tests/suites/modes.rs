//! Global modes: a dry run refuses nobody and counts whom it would have, in Envoy and by Vespa's variables in our host.

use peergate_host::envoy::Protocol;
use peergate_host::pki::Leaf;
use peergate_tests::client::Client;
use peergate_tests::commands::run;
use peergate_tests::envoy::{CURRENT, listener, skipped, start};
use peergate_tests::host::Start;
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, peer_endpoint, stranger, vespa_example};
use peergate_tests::upstream::Upstream;
use serde_json::json;

const AUTHORIZATION: &str = "VESPA_TLS_INSECURE_AUTHORIZATION_MODE";

#[test]
fn a_dry_run_in_envoy_admits_everybody_and_counts() {
    if skipped("a dry run in Envoy") {
        return;
    }
    let pki = Pki::new();
    let mut policy = vespa_example();
    let enforcing = listener(CURRENT, "enforcing", &pki, Protocol::Http, peer_endpoint(&policy));
    policy["authorization-mode"] = json!("log_only");
    let dry = listener(CURRENT, "dry", &pki, Protocol::Http, peer_endpoint(&policy));
    let envoy = start(CURRENT, vec![enforcing, dry]);
    let get = |name: &str, leaf: &Leaf| {
        let credential = pki.authority().issue(leaf).expect("a certificate");
        let client = Client::connect(envoy.address(name), pki.ca(), Some(&credential));
        client.and_then(|mut client| client.get("/")).expect("an answer").status()
    };
    for (name, leaf, status) in [
        ("enforcing", node(), 200),
        ("enforcing", stranger(), 403),
        ("dry", node(), 200),
        ("dry", stranger(), 200),
        ("dry", stranger(), 200),
    ] {
        assert_eq!(get(name, &leaf), status, "{name}");
    }
    let stats = envoy.admin_body("/stats?filter=peergate_decisions").expect("the counters");
    for (name, count) in [
        ("outcome.allow.rule.authorized-peers_1_", 2),
        ("outcome.deny.reason.no_rule_matched", 1),
        ("outcome.would_deny.reason.no_rule_matched", 2),
    ] {
        assert!(
            stats.contains(&format!("wasmcustom.peergate_decisions.{name}: {count}\n")),
            "{name}: {stats}"
        );
    }
    assert!(envoy.log().contains("authorization-mode is log_only: every certificate of the CA is admitted"));
}

#[test]
fn a_missing_capability_is_told_as_vespa_tells_it() {
    if skipped("a missing capability in Envoy") {
        return;
    }
    let pki = Pki::new();
    let mut policy = vespa_example();
    policy["authorized-peers"][1]["capabilities"] = json!(["vespa.logserver.api"]);
    let enforcing = listener(CURRENT, "enforcing", &pki, Protocol::Http, peer_endpoint(&policy));
    policy["capability-mode"] = json!("log_only");
    let dry = listener(CURRENT, "dry", &pki, Protocol::Http, peer_endpoint(&policy));
    let envoy = start(CURRENT, vec![enforcing, dry]);
    let credential = pki.authority().issue(&node()).expect("a certificate");
    let get = |name: &str, path: &str| {
        let client = Client::connect(envoy.address(name), pki.ca(), Some(&credential));
        client.and_then(|mut client| client.get(path)).expect("an answer")
    };
    assert_eq!(get("enforcing", "/logs").status(), 200);
    let refused = get("enforcing", "/it's?secret=1");
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.text(), r#"{"error-code":"403","message":"Missing required capabilities"}"#);
    assert_eq!(get("dry", "/").status(), 200);
    let log = envoy.log();
    for line in [
        r"peergate: Permission denied for 'GET' on '/it\u0027s'. Peer '127.0.0.1:",
        "peergate: Dry-run: Permission denied for 'GET' on '/'. Peer '127.0.0.1:",
        "' with [CN='node1', SAN_DNS=[node1.mycluster.vespa.example.com], SAN_URI=[]]. \
         Requires capabilities [vespa.http.unclassified] but peer has [vespa.logserver.api].",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn vespas_variable_makes_a_dry_run_of_the_host() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let stranger = pki.authority().issue(&stranger()).expect("a certificate");
    let admitted = |start: Start| {
        let host = start.start();
        let client = Client::connect(host.address, pki.ca(), Some(&stranger));
        let answer = client.and_then(|mut client| client.get("/"));
        (answer.is_ok_and(|answer| answer.status() == 200), host.log())
    };
    assert!(!admitted(Start::new(&pki, &vespa_example(), upstream.address)).0);
    for word in ["log_only", "disable"] {
        let (admitted, log) =
            admitted(Start::new(&pki, &vespa_example(), upstream.address).environment(AUTHORIZATION, word));
        assert!(admitted, "{word}: {log}");
        assert!(log.contains(&format!("authorization-mode is {word}")), "{log}");
    }
    assert!(!admitted(Start::new(&pki, &vespa_example(), upstream.address).environment(AUTHORIZATION, "")).0);
}

#[test]
fn variables_that_cannot_be_followed_stop_the_start() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let mut enforcing = vespa_example();
    enforcing["authorization-mode"] = json!("enforce");
    for (policy, variable, word, message) in [
        (&vespa_example(), AUTHORIZATION, "Log_only", "unknown value `Log_only`; expected one of `enforce`"),
        (&enforcing, AUTHORIZATION, "log_only", "and the policy's `authorization-mode` differ"),
        (&vespa_example(), "VESPA_TLS_INSECURE_MIXED_MODE", "plaintext", "unknown value `plaintext`"),
    ] {
        let start = Start::new(&pki, policy, upstream.address).environment(variable, word);
        let finished = run(&mut start.command(), b"");
        assert_eq!(finished.code, Some(2), "{variable}={word}: {}", finished.output());
        assert!(finished.stderr.contains(message), "{variable}={word}: {}", finished.stderr);
    }
}
