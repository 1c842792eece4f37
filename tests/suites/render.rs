//! `peergate render`: what it writes is started in real Envoy, with clients to admit and clients to refuse.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use peergate_host::config::Document;
use peergate_host::envoy::Envoy;
use peergate_host::pki::{Credential, Leaf};
use peergate_policy::sha256;
use peergate_tests::client::Client;
use peergate_tests::commands::{Finished, peergate, run, s_client};
use peergate_tests::data_plane::hex;
use peergate_tests::envoy::{binary, skipped};
use peergate_tests::host::Start;
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::policies::{node, stranger, vespa_example};
use peergate_tests::upstream::{GREETING, Upstream};
use peergate_tests::{filter, root};
use serde_json::{Value, json};

/// Releases, and the `--envoy-version` that suits them.
const RELEASES: [(&str, &str); 4] =
    [("1.40.0", "1.40"), ("1.39.3", "1.39.3"), ("1.37.0", "1.37"), ("1.36.4", "1.36")];

const PEER_AND_DATA_PLANE: [&str; 3] = ["peer", "mtls", "token"];

/// A PKI, a policy for all kinds of endpoints, and their clients.
struct Desk {
    pki: Pki,
    node: Peer,
    stranger: Peer,
    client: Peer,
    token: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let pki = Pki::new();
        let (node, stranger) = (pki.peer(&node()), pki.peer(&stranger()));
        let client = pki.store(Credential::self_signed(&Leaf::new().cn("client")).expect("a certificate"));
        let mut policy = pki.with_files(&vespa_example());
        policy["data-plane"] = json!({
            "token-context": "context",
            "clients": [{"id": "feed", "permissions": ["read", "write"], "certificates": [{"file": client.chain}]}],
        });
        fs::write(pki.file("policy.json"), format!("{policy:#}")).expect("the policy");
        let token = pki.file("token");
        let mut new = peergate();
        new.args(["token", "new", "--client", "query", "--permissions", "read", "--id", "t", "--policy"]);
        new.arg(pki.file("policy.json")).arg("--out").arg(&token);
        let made = run(&mut new, b"");
        assert_eq!(made.code, Some(0), "{}", made.output());
        Self { pki, node, stranger, client, token }
    }

    fn render(&self, what: &str, arguments: &[&str]) -> Finished {
        run(
            peergate().args(["render", what, "--policy"]).arg(self.pki.file("policy.json")).args(arguments),
            b"",
        )
    }

    /// The bootstrap for free ports.
    fn envoy(&self, upstream: &Upstream, version: &str, arguments: &[&str]) -> String {
        let (address, filter) = (upstream.address.to_string(), filter());
        let common = [
            "--inbound",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--upstream",
            &address,
            "--envoy-version",
            version,
        ];
        let filter = ["--filter", filter.to_str().expect("a path")];
        let rendered = self.render("envoy", &[&common, &filter[..], arguments].concat());
        assert_eq!((rendered.code, rendered.stderr.as_str()), (Some(0), ""));
        rendered.stdout
    }

    fn start(&self, release: &str, text: &str) -> (Envoy, SocketAddr) {
        let config = self.pki.file(&format!("envoy-{release}.yaml"));
        fs::write(&config, text).expect("the bootstrap");
        let envoy = Envoy::start_file(&binary(release), &config, self.pki.directory(), &root())
            .unwrap_or_else(|error| panic!("{release}: {error}\n{text}"));
        let address = envoy.listener("inbound_0").expect("the listener");
        (envoy, address)
    }

    /// What `curl` gets of `name`: the status, 0 without an answer.
    fn status(&self, address: SocketAddr, name: &str, peer: Option<&Peer>, arguments: &[&str]) -> u16 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "30"]);
        curl.args(["--resolve", &format!("{name}:{}:127.0.0.1", address.port())]);
        curl.arg("--cacert").arg(self.pki.file("ca.pem"));
        if let Some(peer) = peer {
            curl.arg("--cert").arg(&peer.chain).arg("--key").arg(&peer.key);
        }
        let finished = run(curl.args(arguments).arg(format!("https://{name}:{}/", address.port())), b"");
        finished.stdout.parse().expect("a status")
    }

    /// An `Authorization` header, in a file: a token is no argument.
    fn bearer(&self) -> String {
        let token = fs::read_to_string(&self.token).expect("the token");
        let header = self.pki.file("header");
        fs::write(&header, format!("authorization: Bearer {}\n", token.trim())).expect("the header");
        format!("@{}", header.display())
    }

    /// Names of `peergate endpoint new`, and a certificate with their wildcard, which the policy names from now on.
    fn names(&self, count: usize) -> Vec<String> {
        let count = count.to_string();
        let new = ["endpoint", "new", "--scope", "z", "--suffix", "example.com", "--count", &count];
        let made = run(peergate().args(new), b"");
        assert_eq!(made.code, Some(0), "{}", made.output());
        let rows = made.stdout.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows: Vec<_> = rows.filter(|row| row.len() == 2).collect();
        let own = Leaf::new().cn("anonymous").dns("localhost").dns(rows[0][1]);
        let own = self.pki.authority().issue(&own).expect("a certificate");
        own.write(self.pki.directory(), "server").expect("the server's files");
        rows.into_iter().map(|row| row[0].to_owned()).collect()
    }
}

fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn a_rendered_policy_admits_and_refuses() {
    if skipped("a rendered policy admits and refuses") {
        return;
    }
    let desk = Desk::new();
    for (release, version) in RELEASES {
        let upstream = Upstream::http();
        // The defaults: YAML, HTTP, the kind of endpoint that the policy can be for.
        let (envoy, address) = desk.start(release, &desk.envoy(&upstream, version, &[]));
        for arguments in [["--http1.1"], ["--http2"]] {
            let status = |peer| desk.status(address, "localhost", peer, &arguments);
            assert_eq!(status(Some(&desk.node)), 200, "{release}\n{}", envoy.log());
            assert_eq!(status(Some(&desk.stranger)), 403, "{release}");
            assert_eq!(status(Some(&desk.client)), 0, "{release}");
            assert_eq!(status(None), 0, "{release}");
        }
        assert_eq!(upstream.requests().len(), 2, "{release}");
        let session = desk.pki.file("session");
        let path = session.to_str().expect("a path");
        s_client(&desk.pki, address, Some(&desk.node), &["-sess_out", path], peergate_tests::commands::GET);
        assert!(!session.exists(), "{release}: nothing to resume");
    }
}

#[test]
fn names_that_were_made_choose_their_endpoint() {
    if skipped("names that were made choose their endpoint") {
        return;
    }
    let desk = Desk::new();
    let names = desk.names(3);
    let bearer = desk.bearer();
    let with_token: &[&str] = &["--header", &bearer];
    let mut arguments: Vec<&str> = Vec::new();
    for (kind, name) in PEER_AND_DATA_PLANE.iter().zip(&names) {
        arguments.extend(["--endpoint", kind, "--name", name]);
    }
    for (release, version) in RELEASES {
        let upstream = Upstream::http();
        let (envoy, address) = desk.start(release, &desk.envoy(&upstream, version, &arguments));
        for (index, peer, arguments, status) in [
            (0, Some(&desk.node), &[][..], 200),
            (0, Some(&desk.stranger), &[], 403),
            (0, None, with_token, 0),
            (1, Some(&desk.client), &[], 200),
            (1, Some(&desk.node), &[], 403),
            (1, None, with_token, 403),
            (2, None, with_token, 200),
            (2, None, &[], 401),
            (2, None, &["--request", "POST", "--header", &bearer], 403),
        ] {
            let got = desk.status(address, &names[index], peer, arguments);
            assert_eq!(got, status, "{release}, {index} {arguments:?}\n{}", envoy.log());
        }
        assert_eq!(desk.status(address, "localhost", Some(&desk.node), &[]), 0, "{release}: no such name");
        let host = format!("host: {}", names[1]);
        let foreign = desk.status(address, &names[2], None, &["--header", &host, "--header", &bearer]);
        assert_eq!(foreign, 421, "{release}");
    }
}

#[test]
fn rendered_tcp_admits_and_refuses() {
    if skipped("rendered TCP admits and refuses") {
        return;
    }
    let desk = Desk::new();
    for (release, version) in RELEASES.into_iter().filter(|(release, _)| *release != "1.36.4") {
        let upstream = Upstream::echo();
        let text = desk.envoy(&upstream, version, &["--protocol", "tcp", "--format", "json"]);
        serde_json::from_str::<Value>(&text).expect("JSON");
        let (_envoy, address) = desk.start(release, &text);
        let connect = |peer: &Peer| Client::connect(address, desk.pki.ca(), Some(&peer.credential));
        let mut refused = connect(&desk.stranger).expect("a handshake");
        refused.write(b"hello").ok();
        assert_eq!(refused.read_to_end().unwrap_or_default(), b"", "{release}");
        assert_eq!(upstream.connections(), 0, "{release}");
        let mut admitted = connect(&desk.node).expect("a handshake");
        admitted.write(b"hello").expect("an open connection");
        let mut echo = [0; 5];
        admitted.read_exact(&mut echo).expect("the echo");
        drop(_envoy);

        let upstream = Upstream::greeting();
        let text = desk.envoy(&upstream, version, &["--protocol", "tcp", "--server-speaks-first"]);
        let (_envoy, address) = desk.start(release, &text);
        let connect = |peer: &Peer| Client::connect(address, desk.pki.ca(), Some(&peer.credential));
        let heard = connect(&desk.stranger).expect("a handshake").read_to_end().unwrap_or_default();
        assert_eq!(heard, b"", "{release}");
        let mut greeting = vec![0; GREETING.len()];
        connect(&desk.node)
            .and_then(|mut admitted| admitted.read_exact(&mut greeting))
            .expect("the greeting");
        assert_eq!(greeting, GREETING, "{release}");
    }
    let old = desk.render("envoy", &["--protocol", "tcp", "--envoy-version", "1.36"]);
    assert_eq!((old.code, old.stdout.as_str()), (Some(2), ""));
    assert!(old.stderr.contains("use 1.37 or later, or `--protocol http`"), "{}", old.stderr);
}

#[test]
fn a_host_s_configuration_is_rendered_with_all_its_listeners() {
    if skipped("a host's configuration is rendered with all its listeners") {
        return;
    }
    let desk = Desk::new();
    let names = desk.names(3);
    let (web, echo) = (Upstream::http(), Upstream::echo());
    let config = json!({"inbound": [
        {"address": "127.0.0.1:0", "upstream": {"address": web.address.to_string()}, "endpoints": [
            {"endpoint": "mtls", "policy": "policy.json", "names": [names[0]], "deprecated-names": [names[1]]},
            {"endpoint": "token", "policy": "policy.json", "names": [names[2]]}]},
        {"name": "bytes", "address": "127.0.0.1:0", "protocol": "tcp", "upstream": {"address": echo.address.to_string()},
         "endpoints": [{"endpoint": "peer", "policy": "policy.json"}]},
    ]});
    fs::write(desk.pki.file("host.json"), config.to_string()).expect("the configuration");
    let mut render = peergate();
    render.args(["render", "envoy", "--admin", "127.0.0.1:0", "--config"]).arg(desk.pki.file("host.json"));
    let rendered = run(render.arg("--filter").arg(filter()), b"");
    assert_eq!((rendered.code, rendered.stderr.as_str()), (Some(0), ""));
    let (envoy, address) = desk.start("1.40.0", &rendered.stdout);
    for (index, status) in [(0, 200), (1, 200), (2, 401)] {
        assert_eq!(desk.status(address, &names[index], Some(&desk.client), &[]), status, "{}", envoy.log());
    }
    let bytes = envoy.listener("bytes").expect("the listener");
    let mut admitted =
        Client::connect(bytes, desk.pki.ca(), Some(&desk.node.credential)).expect("a handshake");
    admitted.write(b"hello").expect("an open connection");
    admitted.read_exact(&mut [0; 5]).expect("the echo");
    let mut refused =
        Client::connect(bytes, desk.pki.ca(), Some(&desk.stranger.credential)).expect("a handshake");
    refused.write(b"hello").ok();
    assert_eq!(refused.read_to_end().unwrap_or_default(), b"");
}

/// Whatever is rendered: a peer listener has authorities and asks for a certificate, nothing is resumed, and the client's own
/// identity headers are dropped.
#[test]
fn no_rendered_listener_is_open() {
    let desk = Desk::new();
    let digest = hex(&sha256(desk.client.credential.leaf()));
    for kind in PEER_AND_DATA_PLANE {
        for arguments in [&[][..], &["--envoy-version", "1.36"], &["--protocol", "tcp"]] {
            let rendered = desk.render("envoy", &[&["--endpoint", kind], arguments].concat());
            if kind != "peer" && arguments.contains(&"tcp") {
                assert_eq!((rendered.code, rendered.stdout.as_str()), (Some(2), ""), "{kind}");
                continue;
            }
            assert_eq!(rendered.code, Some(0), "{kind} {arguments:?}: {}", rendered.stderr);
            let chain =
                parsed(&rendered.stdout)["static_resources"]["listeners"][0]["filter_chains"][0].clone();
            let tls = &chain["transport_socket"]["typed_config"];
            assert_eq!(tls["require_client_certificate"], kind != "token", "{kind}");
            let expected = match kind {
                "peer" => json!({"trusted_ca": {"filename": desk.pki.file("ca.pem")}}),
                "mtls" => json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"}),
                _ => Value::Null,
            };
            assert_eq!(tls["common_tls_context"]["validation_context"], expected, "{kind}");
            for resumption in ["disable_stateless_session_resumption", "disable_stateful_session_resumption"]
            {
                assert_eq!(tls[resumption], true, "{kind}");
            }
            assert!(rendered.stdout.contains("failure_policy: FAIL_RELOAD"), "{kind}");
            assert!(rendered.stdout.contains(&digest), "{kind}: the client's file is put in by digest");
            assert!(!rendered.stdout.contains(&desk.client.chain.display().to_string()), "{kind}");
            if !arguments.contains(&"tcp") {
                assert!(rendered.stdout.contains("forward_client_cert_details: SANITIZE"), "{kind}");
            }
        }
    }
}

#[test]
fn what_the_policy_says_of_tls_is_rendered_or_refused() {
    let desk = Desk::new();
    let policy = |change: &dyn Fn(&mut Value)| {
        let mut policy = desk.pki.with_files(&vespa_example());
        change(&mut policy);
        fs::write(desk.pki.file("policy.json"), policy.to_string()).expect("the policy");
        desk.render("envoy", &["--format", "json"])
    };
    let crl = policy(&|policy| policy["files"]["crls"] = json!(["/etc/crl.pem"]));
    let socket =
        "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config/common_tls_context";
    let common =
        |finished: &Finished| parsed(&finished.stdout).pointer(socket).expect("the TLS context").clone();
    assert_eq!(common(&crl)["validation_context"]["crl"], json!({"filename": "/etc/crl.pem"}));
    let new = policy(&|policy| policy["accepted-protocols"] = json!(["TLSv1.3"]));
    assert_eq!(common(&new)["tls_params"]["tls_minimum_protocol_version"], "TLSv1_3");
    let none = policy(&|policy| drop(policy.as_object_mut().expect("an object").remove("files")));
    assert_eq!(common(&none)["validation_context"], json!({"trusted_ca": {"filename": "/etc/tls/ca.crt"}}));
    for (change, message) in [
        (json!({"files": {"crls": ["/a", "/b"]}}), "Envoy takes one"),
        (json!({"files": {"ca-certificates": null}}), "policy.json:1:"),
        (json!({"accepted-ciphers": ["TLS_AES_128_GCM_SHA256"]}), "name all three, or accept TLSv1.2 only"),
        (json!({"authorised-peers": []}), "unknown key `authorised-peers`"),
    ] {
        let refused = policy(&|policy| merge(policy, &change));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{change}");
        assert!(refused.stderr.contains(message), "{change}: {}", refused.stderr);
    }
}

/// As JSON merge patches do (RFC 7396).
fn merge(into: &mut Value, change: &Value) {
    for (key, value) in change.as_object().expect("an object") {
        match value {
            Value::Null => drop(into.as_object_mut().expect("an object").remove(key)),
            Value::Object(_) => merge(&mut into[key], value),
            other => into[key] = other.clone(),
        }
    }
}

#[test]
fn arguments_that_make_no_sense_are_errors() {
    let desk = Desk::new();
    for (arguments, message) in [
        (&["--name", "a.example", "--endpoint", "mtls"][..], "`a.example` stands before the `--endpoint`"),
        (&["--endpoint", "mtls", "--endpoint", "token", "--name", "a.example"], "needs `names`"),
        (
            &["--endpoint", "mtls", "--name", "a.example", "--endpoint", "token", "--name", "A.example."],
            "twice",
        ),
        (&["--endpoint", "mtls", "--name", "*.example"], "no host name"),
        (&["--endpoint", "other"], "invalid value"),
        (&["--envoy-version", "1.35"], "1.36 or later"),
        (&["--upstream", "127.0.0.1:0"], "port 0"),
        (&["--inbound", "localhost:4443"], "Envoy listens on IP addresses"),
        (&["--admin", "localhost:9901"], "Envoy listens on IP addresses"),
        (&["--config", "host.json"], "cannot be used with"),
    ] {
        let refused = desk.render("envoy", arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(refused.stderr.contains(message), "{arguments:?}: {}", refused.stderr);
    }
}

#[test]
fn a_rendered_host_is_a_configuration() {
    let desk = Desk::new();
    let rendered = desk.render(
        "host",
        &[
            "--endpoint",
            "mtls",
            "--name",
            "a.example",
            "--deprecated-name",
            "old.example",
            "--endpoint",
            "token",
            "--name",
            "b.example",
            "--inbound",
            "127.0.0.1:0",
            "--upstream",
            "localhost:8080",
            "--upstream-protocol",
            "h2c",
            "--admin",
            "127.0.0.1:9901",
            "--workers",
            "2",
        ],
    );
    assert_eq!((rendered.code, rendered.stderr.as_str()), (Some(0), ""));
    let policy = desk.pki.file("policy.json");
    let expected = json!({
        "inbound": [{"address": "127.0.0.1:0", "protocol": "http",
            "upstream": {"address": "localhost:8080", "protocol": "h2c"}, "endpoints": [
            {"endpoint": "mtls", "policy": policy, "names": ["a.example"], "deprecated-names": ["old.example"]},
            {"endpoint": "token", "policy": policy, "names": ["b.example"]}]}],
        "admin": {"address": "127.0.0.1:9901"},
        "workers": 2,
    });
    assert_eq!(serde_json::from_str::<Value>(&rendered.stdout).expect("JSON"), expected);
    Document::parse(&rendered.stdout, Path::new("host.json")).expect("a configuration");
}

#[test]
fn names_that_were_made_go_into_a_host_that_runs() {
    let desk = Desk::new();
    let names = desk.names(2);
    let upstream = Upstream::http();
    let address = upstream.address.to_string();
    let endpoints = ["--endpoint", "mtls", "--name", &names[0], "--endpoint", "token", "--name", &names[1]];
    let addresses = ["--inbound", "127.0.0.1:0", "--upstream", &address];
    let rendered = desk.render("host", &[&endpoints[..], &addresses].concat());
    assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
    fs::write(desk.pki.file("host.json"), rendered.stdout).expect("the configuration");
    let host = Start::config(&desk.pki.file("host.json")).start();
    let bearer = desk.bearer();
    let with_token: &[&str] = &["--header", &bearer];
    for (name, peer, arguments, status) in [
        (&names[0], Some(&desk.client), &[][..], 200),
        (&names[0], Some(&desk.node), &[], 403),
        (&names[1], None, with_token, 200),
        (&names[1], None, &[], 401),
    ] {
        assert_eq!(
            desk.status(host.address, name, peer, arguments),
            status,
            "{name} {arguments:?}\n{}",
            host.log()
        );
    }
    assert_eq!(desk.status(host.address, "localhost", Some(&desk.client), &[]), 0, "no such name");
}
