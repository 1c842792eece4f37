//! Envoy's access log, in the formats of `envoy/README.md`: the decision, the rule, the client and the token by their ids, and never
//! a secret.

use std::fs;
use std::net::SocketAddr;

use peergate_host::envoy::{Bootstrap, Envoy, Identity, Listener, Protocol};
use peergate_host::pki::{Credential, Leaf};
use peergate_tests::client::Client;
use peergate_tests::commands::{peergate, run};
use peergate_tests::data_plane::hex;
use peergate_tests::envoy::{CURRENT, OLD, binary, listener, skipped};
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, peer_endpoint, stranger};
use peergate_tests::upstream::Upstream;
use peergate_tests::{filter, root, wait};
use serde_json::{Value, json};

/// Who comes to the endpoints, and what may never be logged.
struct Desk {
    pki: Pki,
    node: Credential,
    stranger: Credential,
    client: Credential,
    policy: Value,
    token: String,
}

impl Desk {
    /// A policy with a pinned client and a client by token.
    fn new() -> Self {
        let pki = Pki::new();
        let [node, stranger] =
            [node(), stranger()].map(|leaf| pki.authority().issue(&leaf).expect("a certificate"));
        let client = Credential::self_signed(&Leaf::new().cn("client")).expect("a certificate");
        let digest = hex(&peergate_policy::sha256(client.leaf()));
        let policy = json!({
            "authorized-peers": [{
                "name": "cluster",
                "required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}],
            }],
            "data-plane": {
                "token-context": "context",
                "clients": [{"id": "feed", "permissions": ["read", "write"], "certificates": [{"sha256": digest}]}],
            },
        });
        let (path, token) = (pki.file("policy.json"), pki.file("token"));
        fs::write(&path, policy.to_string()).expect("the policy");
        let mut new = peergate();
        new.args([
            "token",
            "new",
            "--client",
            "query",
            "--permissions",
            "read",
            "--id",
            "query-token",
            "--policy",
        ]);
        let made = run(new.arg(&path).arg("--out").arg(&token), b"");
        assert_eq!(made.code, Some(0), "{}", made.output());
        let policy = serde_json::from_slice(&fs::read(&path).expect("the policy")).expect("JSON");
        let token = fs::read_to_string(&token).expect("the token").trim().to_owned();
        Self { pki, node, stranger, client, policy, token }
    }

    /// An endpoint of each kind, and one of peers over TCP, with this format.
    fn start(&self, release: &str, name: &str, format: &Value) -> Envoy {
        let identity =
            if ["1.37.0", OLD].contains(&release) { Identity::FilterState } else { Identity::Property };
        let endpoint = |name: &str, protocol: Protocol, configuration: Value| Listener {
            identity,
            ..listener(release, name, &self.pki, protocol, configuration)
        };
        let of_kind = |kind: &str| json!({"endpoint": kind, "policy": self.policy});
        let mut listeners = vec![
            endpoint("peer", Protocol::Http, peer_endpoint(&self.policy)),
            endpoint("mtls", Protocol::Http, of_kind("mtls")),
            endpoint("token", Protocol::Http, of_kind("token")),
        ];
        if release != OLD {
            let tcp = endpoint("tcp", Protocol::Tcp, peer_endpoint(&self.policy));
            listeners.push(Listener { upstream: Some(Upstream::echo().address), ..tcp });
        }
        let mut bootstrap = Bootstrap { filter: filter(), listeners }.to_json();
        set_format(&mut bootstrap, format);
        let directory = self.pki.file(name);
        fs::create_dir(&directory).expect("a directory");
        let config = directory.join("bootstrap.json");
        fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
        Envoy::start_file(&binary(release), &config, &directory, &root()).expect("Envoy starts")
    }

    fn request(
        &self,
        address: SocketAddr,
        credential: Option<&Credential>,
        line: &str,
        token: Option<&str>,
    ) -> u16 {
        let mut client = Client::connect(address, self.pki.ca(), credential).expect("a connection");
        let field = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{field}\r\n");
        client.request(request.as_bytes()).expect("an answer").status()
    }

    /// One of each kind comes; the lines that are written about them.
    fn visit(&self, envoy: &Envoy, release: &str) -> Vec<String> {
        let at = |name: &str| envoy.listener(name).expect("its address");
        let token = Some(&*self.token);
        for (name, credential, line, token, status) in [
            ("peer", Some(&self.node), "GET /", None, 200),
            ("peer", Some(&self.stranger), "GET /", None, 403),
            ("mtls", Some(&self.client), "GET /", None, 200),
            ("mtls", Some(&self.node), "GET /", None, 403),
            ("token", None, "GET /", token, 200),
            ("token", None, "POST /", token, 403),
            ("token", None, "GET /", Some("vespa_cloud_SecretOfSomebodyElse"), 403),
            ("token", None, "GET /", None, 401),
        ] {
            assert_eq!(self.request(at(name), credential, line, token), status, "{release}, {name}, {line}");
        }
        if release != OLD {
            let mut client =
                Client::connect(at("tcp"), self.pki.ca(), Some(&self.node)).expect("a connection");
            client.write(b"hello").expect("written");
            client.read_exact(&mut [0; 5]).expect("the echo");
        }
        let expected = EXPECTED.len() - usize::from(release == OLD);
        // Lines of Envoy and of the filter begin with a bracket.
        let lines = || {
            envoy
                .log()
                .lines()
                .filter(|line| line.starts_with(['{', '2']))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        wait::until("all is logged", || lines().len() >= expected);
        for secret in [&*self.token, "SecretOfSomebodyElse", "PRIVATE KEY"] {
            assert!(!envoy.log().contains(secret), "{release}: {secret} is in the log");
        }
        lines()
    }
}

/// Decision, rule, client and token of each; `None` where an endpoint has no such thing.
type Fields = (&'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);
const EXPECTED: [Fields; 9] = [
    ("allow", Some("cluster"), None, None),
    ("deny", Some(""), None, None),
    ("allow", None, Some("feed"), Some("")),
    ("deny", None, Some(""), Some("")),
    ("allow", None, Some("query"), Some("query-token")),
    ("deny", None, Some(""), Some("query-token")),
    ("deny", None, Some(""), Some("")),
    ("deny", None, Some(""), Some("")),
    ("allow", Some("cluster"), None, None),
];

fn set_format(bootstrap: &mut Value, format: &Value) {
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners");
    for listener in listeners {
        let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
        let logging = filters.iter_mut().find(|filter| filter["typed_config"]["access_log"].is_array());
        logging.expect("an access log")["typed_config"]["access_log"][0]["typed_config"]["log_format"] =
            format.clone();
    }
}

/// The formats of the manual's section, JSON and text.
fn documented() -> [Value; 2] {
    let readme = fs::read_to_string(root().join("envoy/README.md")).expect("the manual");
    let (_, section) = readme.split_once("### Access log\n").expect("the section");
    let blocks =
        section.split("```yaml\n").skip(1).take(2).map(|rest| rest.split_once("```").expect("an end").0);
    let formats: Vec<Value> = blocks
        .map(|block| serde_saphyr::from_str::<Value>(block).expect("YAML")["log_format"].clone())
        .collect();
    formats.try_into().expect("two formats")
}

#[test]
fn the_documented_formats_tell_who_and_why_and_no_secret() {
    if skipped("the documented formats tell who and why and no secret") {
        return;
    }
    let desk = Desk::new();
    let [json, text] = documented();
    for release in [CURRENT, "1.39.3", "1.37.0", OLD] {
        let lines = desk.visit(&desk.start(release, &format!("{release}-json"), &json), release);
        for (line, expected) in lines.iter().zip(EXPECTED) {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{release}: {line}: {error}"));
            let decision: Value =
                serde_json::from_str(line["decision"].as_str().expect("a text")).expect("JSON in JSON");
            let found = (
                decision["decision"].as_str().expect("a decision"),
                line["rule"].as_str(),
                line["client"].as_str(),
                line["token"].as_str(),
            );
            assert_eq!(found, expected, "{release}: {line}");
            assert_eq!(line["outcome"], expected.0, "{release}: {line}");
            assert_eq!(decision["reason"].is_string(), expected.0 == "deny", "{release}: {line}");
        }
        let lines = desk.visit(&desk.start(release, &format!("{release}-text"), &text), release);
        for (line, (decision, rule, client, token)) in lines.iter().zip(EXPECTED) {
            let of = |value: Option<&str>| value.unwrap_or("-").to_owned();
            let fields = format!(
                " {decision} rule={} client={} token={} {{\"decision\":\"{decision}\"",
                of(rule),
                of(client),
                of(token)
            );
            assert!(line.contains(&fields), "{release}: {fields}: {line}");
        }
    }
}
