//! The series of the filter's counters: as labels in every release of Envoy and in the host, named by the policy and by fixed lists,
//! and never by a client.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use peergate_host::envoy::{Identity, Listener, Protocol};
use peergate_host::pki::{Credential, Leaf};
use peergate_tests::admin;
use peergate_tests::client::Client;
use peergate_tests::envoy::{CURRENT, OLD, listener, skipped, start};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, peer_endpoint, stranger};
use peergate_tests::prometheus::lint;
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use serde_json::{Value, json};

fn rule(name: &str, dns: &str) -> Value {
    json!({"name": name, "required-credentials": [{"field": "SAN_DNS", "must-match": dns}]})
}

/// The second rule matches nodes too, and admits nobody.
fn peers() -> Value {
    let mut shadow = rule("candidates", "node1.mycluster.vespa.example.com");
    shadow["mode"] = json!("log_only");
    json!({"authorized-peers": [rule("cluster", "*.mycluster.vespa.example.com"), shadow]})
}

/// Known to nobody: whatever comes is refused.
fn tokens() -> Value {
    json!({"data-plane": {"token-context": "context", "clients": []}})
}

/// One proxy with an endpoint of peers and one of tokens.
struct Doors {
    peers: SocketAddr,
    tokens: SocketAddr,
    /// The page with its numbers.
    page: (SocketAddr, &'static str),
    /// Whether the filter hears of methods that nobody knows. Envoy closes the connection.
    any_method: bool,
}

impl Doors {
    fn page(&self) -> String {
        admin::get(self.page.0, self.page.1).text()
    }

    /// All series, without their values.
    fn series(&self) -> BTreeSet<String> {
        let page = self.page();
        let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
    }
}

fn start_host(pki: &Pki, upstream: SocketAddr) -> (Host, Doors) {
    let listener = |mut endpoint: Value, policy: &Value| {
        endpoint["policy"] = json!(write_policy(pki, policy));
        json!({"address": "127.0.0.1:0", "upstream": {"address": upstream}, "endpoints": [endpoint]})
    };
    let token = json!({"endpoint": "token", "names": ["localhost"], "deprecated-names": ["old.example"]});
    let inbound = [listener(json!({"endpoint": "peer"}), &peers()), listener(token, &tokens())];
    let path = pki.file("host.json");
    let configuration = json!({"inbound": inbound, "admin": {"address": "127.0.0.1:0"}});
    fs::write(&path, configuration.to_string()).expect("the configuration");
    let host = Start::config(&path).start();
    wait::until("it listens on both", || host.addresses().len() == 2);
    let [peers, tokens] = host.addresses()[..] else { unreachable!() };
    let page = (host.admin(), "/metrics");
    (host, Doors { peers, tokens, page, any_method: true })
}

fn listeners(release: &str, pki: &Pki) -> Vec<Listener> {
    let identity = if release.starts_with("1.3") && release < "1.39" {
        Identity::FilterState
    } else {
        Identity::Property
    };
    let token = json!({"endpoint": "token", "names": ["localhost"], "deprecated-names": ["old.example"], "policy": tokens()});
    [("peers", peer_endpoint(&peers())), ("tokens", token)]
        .map(|(name, configuration)| Listener {
            identity,
            ..listener(release, name, pki, Protocol::Http, configuration)
        })
        .to_vec()
}

fn status(address: SocketAddr, pki: &Pki, credential: Option<&Credential>) -> Option<u16> {
    let client = Client::connect(address, pki.ca(), credential);
    Some(client.and_then(|mut client| client.get("/")).ok()?.status())
}

/// Everything once that makes a series of the filter or of the proxy.
fn warm_up(doors: &Doors, pki: &Pki, node: &Credential, stranger: &Credential) {
    assert_eq!(status(doors.peers, pki, Some(node)), Some(200));
    assert_ne!(status(doors.peers, pki, Some(stranger)), Some(200));
    let mut client = Client::connect(doors.tokens, pki.ca(), None).expect("a connection");
    for (host, rest, expected) in [
        ("localhost", "", 401),
        ("old.example", "", 401),
        ("localhost", "authorization: Bearer unknown\r\n", 403),
        ("localhost", "authorization: bearer malformed\r\n", 401),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{rest}\r\n");
        assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), expected, "{request}");
    }
    let unsafe_path = b"GET /%00 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer unknown\r\n\r\n";
    assert!((400..500).contains(&client.request(unsafe_path).expect("an answer").status()));
}

/// Requests with names, paths, methods and tokens that are all different, and certificates with names that look like metrics.
fn attack(doors: &Doors, pki: &Pki) {
    let mut client = Client::connect(doors.tokens, pki.ca(), None).expect("a connection");
    for number in 0..REQUESTS {
        let host = if number % 2 == 0 { "localhost".to_owned() } else { format!("evil{number}.rule.evil") };
        let method =
            if doors.any_method && number % 3 == 0 { format!("EVIL{number}") } else { "GET".to_owned() };
        let request = format!(
            "{method} /evil{number}.rule.evil.outcome.allow HTTP/1.1\r\nhost: {host}\r\n\
             authorization: Bearer evil{number}.rule.evil\r\nx-peergate-policy: evil{number}\r\n\r\n"
        );
        let status =
            client.request(request.as_bytes()).unwrap_or_else(|error| panic!("{request}: {error}")).status();
        assert!((400..500).contains(&status), "{request}: {status}");
    }
    for number in 0..CERTIFICATES {
        let name = format!("evil{number}.rule.evil\"}} 1\npeergate_evil{number} 1\n");
        let leaf = Leaf::new()
            .cn(&name)
            .uri(&format!("evil:{number}.rule.evil"))
            .dns(&format!("evil{number}.example"));
        let credential = pki.authority().issue(&leaf).expect("a certificate");
        assert_ne!(status(doors.peers, pki, Some(&credential)), Some(200));
    }
}

const REQUESTS: usize = 10_000;
const CERTIFICATES: usize = 100;

fn assert_clients_make_no_series(doors: &Doors, pki: &Pki, node: &Credential, stranger: &Credential) {
    warm_up(doors, pki, node, stranger);
    let mut client = Client::connect(doors.tokens, pki.ca(), None).expect("a connection");
    for (method, host) in [("GET", "other"), (if doors.any_method { "EVIL" } else { "PUT" }, "localhost")] {
        let request = format!("{method} / HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer unknown\r\n\r\n");
        assert!((400..500).contains(&client.request(request.as_bytes()).expect("an answer").status()));
    }
    let before = doors.series();
    assert!(before.iter().any(|series| series.starts_with("peergate_decisions")), "{before:?}");
    attack(doors, pki);
    let after = doors.series();
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(!doors.page().contains("evil"));
}

#[test]
fn clients_of_the_host_make_no_series() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let [node, stranger] =
        [node(), stranger()].map(|leaf| pki.authority().issue(&leaf).expect("a certificate"));
    let (_host, doors) = start_host(&pki, upstream.address);
    assert_clients_make_no_series(&doors, &pki, &node, &stranger);
    // Prometheus' own opinion of names, units and types. A filter's histograms have whole numbers, so this one cannot be in seconds.
    let linted = lint(&doors.page()).output();
    let complaints: Vec<_> =
        linted.lines().filter(|line| !line.starts_with("peergate_decision_duration_ns ")).collect();
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn clients_of_envoy_make_no_series() {
    if skipped("clients of Envoy make no series") {
        return;
    }
    let pki = Pki::new();
    let [node, stranger] =
        [node(), stranger()].map(|leaf| pki.authority().issue(&leaf).expect("a certificate"));
    let envoy = start(CURRENT, listeners(CURRENT, &pki));
    let doors = Doors {
        peers: envoy.address("peers"),
        tokens: envoy.address("tokens"),
        page: (envoy.admin(), "/stats/prometheus"),
        any_method: false,
    };
    assert_clients_make_no_series(&doors, &pki, &node, &stranger);
}

#[test]
fn every_release_of_envoy_has_labels() {
    if skipped("every release of Envoy has labels") {
        return;
    }
    let pki = Pki::new();
    let [node, stranger] =
        [node(), stranger()].map(|leaf| pki.authority().issue(&leaf).expect("a certificate"));
    for release in [CURRENT, "1.39.3", "1.37.0", OLD] {
        let envoy = start(release, listeners(release, &pki));
        let doors = Doors {
            peers: envoy.address("peers"),
            tokens: envoy.address("tokens"),
            page: (envoy.admin(), "/stats/prometheus"),
            any_method: false,
        };
        warm_up(&doors, &pki, &node, &stranger);
        let (plain, labelled) = (admin::get(envoy.admin(), "/stats").text(), doors.page());
        for (name, series, value) in [
            (
                "peergate_decisions.outcome.allow.rule.cluster",
                r#"peergate_decisions{outcome="allow",rule="cluster"}"#,
                1,
            ),
            (
                "peergate_decisions.outcome.deny.reason.no_rule_matched",
                r#"peergate_decisions{outcome="deny",reason="no_rule_matched"}"#,
                1,
            ),
            (
                "peergate_decisions.outcome.deny.reason.token_missing",
                r#"peergate_decisions{outcome="deny",reason="token_missing"}"#,
                3,
            ),
            ("peergate_shadow_matched.rule.candidates", r#"peergate_shadow_matched{rule="candidates"}"#, 1),
            (
                "peergate_deprecated_names.name.old_example",
                r#"peergate_deprecated_names{name="old_example"}"#,
                1,
            ),
        ] {
            let line = format!("wasmcustom.{name}: {value}");
            assert!(plain.lines().any(|it| it == line), "{release}: {line}: {plain}");
            let line = format!("{series} {value}");
            assert!(labelled.lines().any(|it| it == line), "{release}: {line}: {labelled}");
        }
        let reloads = r#"envoy_wasm_vm_reload_success{plugin="peergate_http_peers"} 0"#;
        assert!(labelled.lines().any(|it| it == reloads), "{release}: {labelled}");
    }
}

/// However many rules a policy has, and whatever their names are.
#[test]
fn rules_beyond_a_hundred_share_a_series() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let hostile = "a.rule.b\"} 1\npeergate_evil 1\n \u{202e}";
    let rules: Vec<_> = (0..120)
        .map(|number| {
            let name = if number == 0 { hostile.to_owned() } else { format!("rule{number}") };
            rule(&name, &format!("host{number}.example"))
        })
        .collect();
    let host = Start::new(&pki, &json!({"authorized-peers": rules}), upstream.address).admin().start();
    for number in 0..120 {
        let peer =
            pki.authority().issue(&Leaf::new().dns(&format!("host{number}.example"))).expect("a certificate");
        assert_eq!(status(host.address, &pki, Some(&peer)), Some(200));
    }
    let page = admin::get(host.admin(), "/metrics").text();
    let series: Vec<_> = page.lines().filter(|line| line.starts_with("peergate_decisions_total{")).collect();
    assert_eq!(series.len(), 101, "{series:?}");
    for expected in [
        // Each connection and each request is a decision.
        r#"peergate_decisions_total{outcome="allow",rule="a_rule_b___1_peergate_evil_1_____"} 2"#,
        r#"peergate_decisions_total{outcome="allow",rule="rule99"} 2"#,
        r#"peergate_decisions_total{outcome="allow",rule="other"} 40"#,
    ] {
        assert!(series.contains(&expected), "{expected}: {series:?}");
    }
}
