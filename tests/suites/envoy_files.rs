//! The files under `envoy/`, each started as it stands in every release that it is for, with clients to admit and clients to
//! refuse.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use peergate_host::{
    config::Address,
    envoy::Envoy,
    pki::DevelopmentPki,
    render::envoy::{
        Bootstrap, Chain, Clients, Identity, Listener, Protocol, Tls, TlsParameters, Upstream as Cluster,
        http_log_format, tcp_log_format,
    },
};
use peergate_policy::sha256;
use peergate_tests::{
    commands::{Finished, run, spawn},
    data_plane::hex,
    envoy::{binary, skipped},
    filter,
    http1::Message,
    root,
    upstream::{GREETING, Upstream},
    wait,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use tempfile::TempDir;

/// Releases with `connection.peer_certificate`.
const CURRENT: &[&str] = &["1.40.0", "1.39.3"];
/// Releases in which `set_filter_state` can hand a certificate to HTTP filters.
const HTTP: &[&str] = &["1.40.0", "1.39.3", "1.37.0", "1.36.4"];
/// Releases in which it can hand one to network filters.
const NETWORK: &[&str] = &["1.40.0", "1.39.3", "1.37.0"];

const HTTP_FILES: &[(&str, &[&str])] = &[("http-mtls.yaml", CURRENT), ("http-mtls.envoy-1.36.yaml", HTTP)];
const TCP_FILES: &[(&str, &[&str])] = &[("tcp-mtls.yaml", CURRENT), ("tcp-mtls.envoy-1.37.yaml", NETWORK)];
const SERVER_FIRST_FILES: &[(&str, &[&str])] =
    &[("tcp-server-first.yaml", CURRENT), ("tcp-server-first.envoy-1.37.yaml", NETWORK)];
const ENDPOINT_FILES: &[(&str, &[&str])] =
    &[("endpoints.yaml", CURRENT), ("endpoints.envoy-1.36.yaml", HTTP)];
const L4_FILES: &[(&str, &[&str])] = &[("http-decided-at-l4.yaml", CURRENT)];
const CAPABILITY_FILES: &[(&str, &[&str])] = &[("http-capabilities.yaml", CURRENT)];

/// Admitted and refused by the policy of the files.
const PEERS: [(&str, bool); 4] =
    [("node", true), ("monitor-us-east", true), ("monitor-eu-west", false), ("stranger", false)];
/// Refused in the handshake.
const UNTRUSTED: [&str; 2] = ["rogue-node", "expired-node"];

/// The token of the examples, known to everybody.
const TOKEN: &str = "vespa_cloud_PublicExampleOfPeergateWhichEverybodyKnows123";

/// A file in Envoy, in front of a service.
struct Example {
    pki: DevelopmentPki,
    envoy: Envoy,
    address: SocketAddr,
    upstream: Upstream,
    directory: TempDir,
}

impl Example {
    /// Every port is a free one instead, because those of the file may be taken on the machine that runs this. In the place of the
    /// pinned certificate that nobody has is that of the client.
    fn start(file: &str, release: &str, upstream: Upstream) -> Self {
        filter();
        let (pki, _) = DevelopmentPki::open_or_create(&root().join("target/pki")).expect("target/pki");
        let text = fs::read_to_string(root().join("envoy").join(file)).expect("the file");
        let text = text.replace(&"0".repeat(64), &hex(&sha256(&leaf(&pki.chain("client")))));
        let text: String =
            text.split_inclusive('\n').map(|line| with_port(line, upstream.address.port())).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join(file);
        fs::write(&config, text).expect("the configuration");
        let envoy = Envoy::start_file(&binary(release), &config, directory.path(), &root())
            .unwrap_or_else(|error| panic!("{file} in {release}: {error}"));
        let example = Self { pki, envoy, address: ([127, 0, 0, 1], 0).into(), upstream, directory };
        let listeners: Value = example.admin("/listeners?format=json");
        let name = listeners["listener_statuses"][0]["name"].as_str().expect("a listener").to_owned();
        let address = example.envoy.listener(&name).expect("its address");
        Self { address, ..example }
    }

    fn admin(&self, path: &str) -> Value {
        let body = self.envoy.admin_body(path).expect("the admin interface");
        serde_json::from_str(&body).expect("JSON")
    }

    /// What `curl` gets from `https://NAME/` as this peer: the status, 0 without an answer, and the error.
    fn get(&self, name: &str, peer: Option<&str>, arguments: &[&str]) -> (u16, String) {
        let port = self.address.port();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        curl.args(["--max-time", "30", "--resolve", &format!("{name}:{port}:127.0.0.1")]);
        curl.arg("--cacert").arg(self.pki.ca());
        if let Some(peer) = peer {
            curl.arg("--cert").arg(self.pki.chain(peer)).arg("--key").arg(self.pki.key(peer));
        }
        let finished = run(curl.args(arguments).arg(format!("https://{name}:{port}/")), b"");
        (finished.stdout.parse().expect("a status"), finished.stderr)
    }

    fn status(&self, name: &str, peer: Option<&str>) -> u16 {
        self.get(name, peer, &[]).0
    }

    fn s_client(&self, peer: &str, arguments: &[&str]) -> Command {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &self.address.to_string(), "-CAfile"]).arg(self.pki.ca());
        client.arg("-cert").arg(self.pki.chain(peer)).arg("-cert_chain").arg(self.pki.chain(peer));
        client.arg("-key").arg(self.pki.key(peer)).args(arguments);
        client
    }

    /// What a TCP client gets after it has sent `sent`, up to `most` bytes or the end of the connection.
    fn receive(&self, peer: &str, sent: &[u8], most: usize) -> Vec<u8> {
        let mut client = self.s_client(peer, &["-quiet", "-no_ign_eof"]);
        let mut child = spawn(client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut stdin = child.stdin.take().expect("piped");
        // A refused client may have ended before it reads its input.
        stdin.write_all(sent).ok();
        let mut received = Vec::new();
        let mut stdout = child.stdout.take().expect("piped").take(most as u64);
        stdout.read_to_end(&mut received).expect("the output");
        drop(stdin);
        child.kill().ok();
        child.wait().expect("openssl ends");
        received
    }

    /// The decisions in the access log, once there are as many.
    fn decisions(&self, count: usize) -> Vec<Value> {
        let read = || -> Vec<Value> {
            let log = self.envoy.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter_map(|line| serde_json::from_str(line["decision"].as_str()?).ok()).collect()
        };
        wait::until("the decisions are logged", || read().len() >= count);
        read()
    }
}

fn leaf(chain: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(chain).expect("a certificate")
}

fn with_port(line: &str, upstream: u16) -> String {
    let Some((before, rest)) = line.split_once("port_value: ") else { return line.to_owned() };
    let digits = rest.find(|character: char| !character.is_ascii_digit()).expect("something after the port");
    let port = if &rest[..digits] == "8080" { upstream } else { 0 };
    format!("{before}port_value: {port}{}", &rest[digits..])
}

/// Every file with each of its releases.
fn each(what: &str, files: &[(&'static str, &'static [&'static str])], test: impl Fn(&str, &str)) {
    if skipped(what) {
        return;
    }
    for (file, releases) in files {
        for release in *releases {
            test(file, release);
        }
    }
}

#[test]
fn every_file_is_tested() {
    let mut tested: Vec<_> =
        [HTTP_FILES, TCP_FILES, SERVER_FIRST_FILES, ENDPOINT_FILES, L4_FILES, CAPABILITY_FILES]
            .concat()
            .into_iter()
            .map(|(file, _)| file.to_owned())
            .collect();
    tested.sort();
    let directory = fs::read_dir(root().join("envoy")).expect("envoy/");
    let mut files: Vec<_> =
        directory.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    files.retain(|name| name.ends_with(".yaml"));
    files.sort();
    assert_eq!(files, tested);
}

#[test]
fn http_requests_are_decided() {
    each("http requests are decided", HTTP_FILES, |file, release| {
        let example = Example::start(file, release, Upstream::http());
        for (peer, admitted) in PEERS {
            let status = if admitted { 200 } else { 403 };
            let forged =
                ["--header", "x-forwarded-client-cert: Hash=00", "--header", "x-peergate-policy: admin"];
            let answer = example.get("localhost", Some(peer), &forged);
            assert_eq!(
                answer.0,
                status,
                "{file} in {release}, {peer}: {}\n{}",
                answer.1,
                example.envoy.log()
            );
        }
        for peer in UNTRUSTED.map(Some).into_iter().chain([None]) {
            assert_eq!(example.status("localhost", peer), 0, "{file} in {release}, {peer:?}");
        }
        let requests = example.upstream.requests();
        assert_eq!(requests.len(), 2, "{file} in {release}");
        for request in requests {
            assert_eq!(request.header("x-forwarded-client-cert"), None, "{file} in {release}");
            assert_eq!(request.header("x-peergate-policy"), None, "{file} in {release}");
        }
        let decisions = example.decisions(4);
        assert_eq!(decisions[0]["matched"], serde_json::json!(["cluster"]), "{file} in {release}");
        assert_eq!(decisions[3]["reason"], "no-rule-matched", "{file} in {release}");
        assert_no_session_is_resumed(&example, &format!("{file} in {release}"));
        assert_counted(&example, &format!("{file} in {release}"));
    });
}

fn assert_no_session_is_resumed(example: &Example, what: &str) {
    for version in ["-tls1_3", "-tls1_2"] {
        let session = example.directory.path().join("session");
        let path = session.to_str().expect("a path");
        let get = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let first: Finished =
            run(example.s_client("node", &["-ign_eof", version, "-sess_out", path]).arg("-no_ign_eof"), get);
        assert!(first.stdout.contains("\nNew, TLSv1."), "{what}, {version}: {}", first.output());
        // OpenSSL writes no file where the server offers nothing to resume.
        if session.exists() {
            let second = run(&mut example.s_client("node", &["-ign_eof", version, "-sess_in", path]), get);
            assert!(!second.stdout.contains("\nReused, TLSv1."), "{what}, {version}: {}", second.output());
            fs::remove_file(&session).expect("the session");
        }
    }
}

/// The names that the files' `stats_tags` give to the filter's counters.
fn assert_counted(example: &Example, what: &str) {
    let expected = [
        r#"peergate_decisions{outcome="allow",rule="monitoring"} 1"#,
        r#"peergate_decisions{outcome="deny",reason="no_rule_matched"} 2"#,
    ];
    let stats = example.envoy.admin_body("/stats/prometheus").expect("the statistics");
    for line in expected {
        assert!(stats.contains(line), "{what}: {stats}");
    }
}

#[test]
fn a_tcp_client_that_is_refused_never_touches_the_service() {
    each("a TCP client that is refused never touches the service", TCP_FILES, |file, release| {
        let example = Example::start(file, release, Upstream::echo());
        for peer in ["stranger", "monitor-eu-west", "rogue-node", "expired-node"] {
            assert_eq!(example.receive(peer, b"hello\n", 6), b"", "{file} in {release}, {peer}");
        }
        assert_eq!((example.upstream.connections(), example.upstream.bytes()), (0, 0), "{file} in {release}");
        for peer in ["node", "monitor-us-east"] {
            assert_eq!(example.receive(peer, b"hello\n", 6), b"hello\n", "{file} in {release}, {peer}");
        }
        assert_eq!(example.upstream.connections(), 2, "{file} in {release}");
    });
}

#[test]
fn a_tcp_client_that_is_refused_hears_nothing_of_a_service_that_speaks_first() {
    let what = "a TCP client that is refused hears nothing of a service that speaks first";
    each(what, SERVER_FIRST_FILES, |file, release| {
        let example = Example::start(file, release, Upstream::greeting());
        for peer in ["stranger", "monitor-eu-west", "rogue-node", "expired-node"] {
            assert_eq!(example.receive(peer, b"", GREETING.len()), b"", "{file} in {release}, {peer}");
        }
        assert_eq!(example.receive("stranger", b"hello\n", GREETING.len()), b"", "{file} in {release}");
        assert_eq!(example.upstream.bytes(), 0, "{file} in {release}");
        for peer in ["node", "monitor-us-east"] {
            assert_eq!(example.receive(peer, b"", GREETING.len()), GREETING, "{file} in {release}, {peer}");
        }
        let all = [GREETING, b"hello\n"].concat();
        assert_eq!(example.receive("node", b"hello\n", all.len()), all, "{file} in {release}");
    });
}

#[test]
fn the_name_in_the_handshake_selects_the_endpoint() {
    each("the name in the handshake selects the endpoint", ENDPOINT_FILES, |file, release| {
        let example = Example::start(file, release, Upstream::http());
        let header = example.directory.path().join("header");
        fs::write(&header, format!("authorization: Bearer {TOKEN}\n")).expect("the header");
        let token = format!("@{}", header.display());
        let bearer: &[&str] = &["--header", &token];
        let post: &[&str] = &["--request", "POST"];
        let (peer, mtls, tokens) = ("peer.peergate.test", "mtls.peergate.test", "token.peergate.test");
        for (name, certificate, arguments, status) in [
            (peer, Some("node"), &[][..], 200),
            (peer, Some("stranger"), &[], 403),
            (peer, Some("client"), &[], 0),
            (peer, None, bearer, 0),
            (mtls, Some("client"), &[], 200),
            (mtls, Some("client"), post, 200),
            (mtls, Some("node"), &[], 403),
            (mtls, Some("rogue-node"), &[], 403),
            (mtls, None, &[], 403),
            (mtls, None, bearer, 403),
            (tokens, None, bearer, 200),
            (tokens, Some("client"), &[], 401),
            (tokens, None, &["--request", "POST", "--header", &token], 403),
            (tokens, None, &["--header", "authorization: Bearer vespa_cloud_other"], 403),
            ("localhost", Some("node"), &[], 0),
        ] {
            for version in ["--http1.1", "--http2"] {
                let (got, error) = example.get(name, certificate, &[arguments, &[version]].concat());
                let log = example.envoy.log();
                assert_eq!(
                    got, status,
                    "{file} in {release}, {name}, {certificate:?} {arguments:?}: {error}\n{log}"
                );
            }
        }
        assert_authority_is_checked(&example, bearer, &format!("{file} in {release}"));
        assert_unnamed_is_closed(&example, &format!("{file} in {release}"));
        let requests = example.upstream.requests();
        assert!(
            requests.iter().all(|request| request.header("authorization").is_none()),
            "{file} in {release}"
        );
    });
}

/// A client with a connection to one endpoint asks for another: HTTP/2 clients do so where one certificate has both names.
fn assert_authority_is_checked(example: &Example, bearer: &[&str], what: &str) {
    for version in ["--http1.1", "--http2"] {
        for (authority, status) in [("mtls.peergate.test", 421), ("TOKEN.peergate.test:443", 200)] {
            let host = format!("host: {authority}");
            let (got, error) =
                example.get("token.peergate.test", None, &[bearer, &["--header", &host, version]].concat());
            assert_eq!(got, status, "{what}, {authority} {version}: {error}");
        }
    }
}

fn assert_unnamed_is_closed(example: &Example, what: &str) {
    for arguments in [&["-noservername"][..], &["-servername", "other.peergate.test"]] {
        let finished = run(&mut example.s_client("node", arguments), b"");
        assert_ne!(finished.code, Some(0), "{what}: {}", finished.output());
        assert!(finished.stdout.contains("no peer certificate available"), "{what}: {}", finished.output());
    }
    let mut plain = TcpStream::connect(example.address).expect("a connection");
    plain.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: peer.peergate.test\r\n\r\n").expect("an open connection");
    let mut answer = Vec::new();
    let end = plain.read_to_end(&mut answer);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{what}");
    assert_eq!(answer, b"", "{what}");
}

#[test]
fn native_filters_use_the_decision_of_the_connection() {
    each("native filters use the decision of the connection", L4_FILES, |file, release| {
        let example = Example::start(file, release, Upstream::http());
        for version in ["--http1.1", "--http2"] {
            for (peer, method, status) in [
                ("node", "GET", 200),
                ("node", "POST", 200),
                ("monitor-us-east", "GET", 200),
                ("monitor-us-east", "POST", 403),
                ("monitor-eu-west", "GET", 0),
                ("stranger", "GET", 0),
                ("rogue-node", "GET", 0),
            ] {
                let arguments = ["--request", method, version, "--header", "x-peergate-policy: admin"];
                let (got, error) = example.get("localhost", Some(peer), &arguments);
                let log = example.envoy.log();
                assert_eq!(got, status, "{file} in {release}, {peer} {method}: {error}\n{log}");
            }
        }
        assert_eq!(example.get("localhost", Some("node"), &["--header", "x_peergate_policy: admin"]).0, 200);
        let requests = example.upstream.requests();
        assert_eq!(requests.len(), 7, "{file} in {release}");
        assert!(requests.iter().all(|request| request.header("x_peergate_policy").is_none()));
        let told = |request: &Message| request.header("x-peergate-policy").map(<[u8]>::to_vec);
        assert_eq!(told(&requests[0]).as_deref(), Some(&b"cluster"[..]), "{file} in {release}");
        assert_eq!(told(&requests[2]).as_deref(), Some(&b"monitoring"[..]), "{file} in {release}");
        let decisions = example.decisions(9);
        assert_eq!(decisions[0]["matched"], serde_json::json!(["cluster"]), "{file} in {release}");
        // Two certificates, each read once.
        let stats = example.envoy.admin_body("/stats/prometheus").expect("the statistics");
        let line = r#"peergate_connection_grants{outcome="taken_over"} 2"#;
        assert!(stats.contains(line), "{file} in {release}: {stats}");
    });
}

#[test]
fn a_connection_and_its_requests_are_decided_in_one_vm() {
    each("a connection and its requests are decided in one VM", CAPABILITY_FILES, |file, release| {
        let example = Example::start(file, release, Upstream::http());
        for version in ["--http1.1", "--http2"] {
            for (peer, path, status) in [
                ("node", "/", 200),
                ("node", "/metrics/v2/values", 200),
                ("monitor-us-east", "/metrics/v2/values", 200),
                ("monitor-us-east", "/state/v1/health", 200),
                ("monitor-us-east", "/document/v1/a/b/docid/c", 403),
                ("monitor-eu-west", "/metrics/v2/values", 0),
                ("stranger", "/", 0),
            ] {
                let arguments = [version, "--request-target", path, "--header", "x-peergate-policy: admin"];
                let (got, error) = example.get("localhost", Some(peer), &arguments);
                assert_eq!(
                    got,
                    status,
                    "{file} in {release}, {peer} {path}: {error}\n{}",
                    example.envoy.log()
                );
            }
        }
        let requests = example.upstream.requests();
        assert_eq!(requests.len(), 8, "{file} in {release}");
        assert!(requests.iter().all(|request| request.header("x-peergate-policy").is_none()));
        assert_no_session_is_resumed(&example, &format!("{file} in {release}"));
    });
}

/// What every file must say of each of its listeners, asked of the file itself.
#[test]
fn every_file_is_safe() {
    for (file, _) in
        [HTTP_FILES, TCP_FILES, SERVER_FIRST_FILES, ENDPOINT_FILES, L4_FILES, CAPABILITY_FILES].concat()
    {
        let text = fs::read_to_string(root().join("envoy").join(file)).expect("the file");
        let document: Value = serde_saphyr::from_str(&text).expect("YAML");
        let mut machines = Vec::new();
        let mut contexts = 0;
        visit(&document, &mut |typed| {
            let kind = typed["@type"].as_str().unwrap_or_default();
            if kind.ends_with(".DownstreamTlsContext") {
                contexts += 1;
                assert_eq!(typed["disable_stateless_session_resumption"], true, "{file}");
                assert_eq!(typed["disable_stateful_session_resumption"], true, "{file}");
                let validation = &typed["common_tls_context"]["validation_context"];
                let trusted = !validation["trusted_ca"].is_null();
                let pinned =
                    *validation == serde_json::json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"});
                let asked = typed["require_client_certificate"] == true;
                assert!(asked == (trusted || pinned) && !(trusted && pinned), "{file}: {typed}");
            } else if kind.ends_with(".HttpConnectionManager") {
                assert_eq!(typed["forward_client_cert_details"], "SANITIZE", "{file}");
            } else if kind.ends_with(".wasm.v3.Wasm") {
                assert_eq!(typed["config"]["failure_policy"], "FAIL_RELOAD", "{file}");
                machines.push(typed["config"]["vm_config"]["vm_id"].as_str().expect("a vm_id").to_owned());
            }
        });
        machines.sort();
        machines.dedup();
        let layers = if file.starts_with("http-decided-at-l4") { 2 } else { 1 };
        assert!(contexts > 0 && machines.len() == contexts * layers, "{file}: a VM for each TLS context");
    }
}

fn visit(value: &Value, look: &mut impl FnMut(&Value)) {
    look(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| visit(item, look)),
        Value::Object(members) => members.values().for_each(|member| visit(member, look)),
        _ => {}
    }
}

/// The files say what `peergate render` and the demo would, but for comments and names.
#[test]
fn the_files_are_what_is_rendered() {
    for (file, _) in [HTTP_FILES, TCP_FILES, SERVER_FIRST_FILES, ENDPOINT_FILES].concat() {
        let text = fs::read_to_string(root().join("envoy").join(file)).expect("the file");
        let mut document: Value = serde_saphyr::from_str(&text).expect("YAML");
        let listener = listener_of(file, &document["static_resources"]["listeners"][0]);
        let admin = document["admin"]["address"]["socket_address"]["port_value"].as_u64().expect("a port");
        let bootstrap = Bootstrap {
            admin: Address::Tcp(format!("127.0.0.1:{admin}")),
            filter: "target/filter.wasm".into(),
            listeners: vec![listener],
        };
        let mut rendered = bootstrap.to_json();
        // The files speak of the services behind them, the renderer of the listener in front.
        for document in [&mut document, &mut rendered] {
            if let Some(chains) = document.pointer_mut("/static_resources/listeners/0/filter_chains") {
                chains.as_array_mut().expect("chains").iter_mut().for_each(without_prefix);
            }
        }
        assert_eq!(difference("", &document, &rendered), None, "{file}");
    }
}

/// The first place where two documents differ.
fn difference(place: &str, one: &Value, other: &Value) -> Option<String> {
    let keys = |value: &Value| match value {
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|index| index.to_string()).collect(),
        _ => Vec::new(),
    };
    if keys(one) != keys(other) || (keys(one).is_empty() && one != other) {
        return Some(format!("{place}: {one} and {other}"));
    }
    keys(one).into_iter().find_map(|key| {
        let at = |value: &Value| value.get(&key).or_else(|| value.get(key.parse::<usize>().ok()?)).cloned();
        difference(&format!("{place}/{key}"), &at(one).unwrap_or_default(), &at(other).unwrap_or_default())
    })
}

fn without_prefix(chain: &mut Value) {
    for filter in chain["filters"].as_array_mut().expect("filters") {
        filter["typed_config"]["stat_prefix"] = Value::Null;
    }
}

/// The listener that should have been rendered into `json`.
fn listener_of(file: &str, json: &Value) -> Listener {
    let protocol = if file.starts_with("tcp") { Protocol::Tcp } else { Protocol::Http };
    let port = json["address"]["socket_address"]["port_value"].as_u64().expect("a port");
    let chains = json["filter_chains"].as_array().expect("chains").iter().map(chain_of).collect();
    Listener {
        name: json["name"].as_str().expect("a name").to_owned(),
        address: Address::Tcp(format!("127.0.0.1:{port}")),
        protocol,
        identity: if file.contains(".envoy-") { Identity::FilterState } else { Identity::Property },
        chains,
        upstream: Some(Cluster {
            name: "service".to_owned(),
            address: Address::Tcp("127.0.0.1:8080".to_owned()),
            http2: false,
        }),
        websocket: false,
        server_speaks_first: file.starts_with("tcp-server-first"),
        access_log: if protocol == Protocol::Tcp { tcp_log_format() } else { http_log_format() },
    }
}

fn chain_of(json: &Value) -> Chain {
    let mut plugin = Value::Null;
    visit(json, &mut |typed| {
        if typed["@type"].as_str().is_some_and(|kind| kind.ends_with(".wasm.v3.Wasm")) {
            plugin = typed["config"].clone();
        }
    });
    let configuration =
        plugin["configuration"]["value"].as_str().expect("the plugin's configuration").to_owned();
    let kind: Value = serde_json::from_str(&configuration).expect("JSON");
    let kind = kind["endpoint"].as_str().expect("a kind of endpoint").to_owned();
    let clients = match kind.as_str() {
        "peer" => Clients::Verified { ca_certificates: "target/pki/ca.pem".into(), revocation_list: None },
        "mtls" => Clients::Pinned,
        _ => Clients::Nothing,
    };
    let named = !json["filter_chain_match"].is_null();
    Chain {
        server_names: if named { vec![format!("{kind}.peergate.test")] } else { Vec::new() },
        tls: Tls {
            certificate: "target/pki/server.pem".into(),
            private_key: "target/pki/server.key".into(),
            clients,
            parameters: TlsParameters::default(),
        },
        configuration,
        vm_id: plugin["vm_config"]["vm_id"].as_str().expect("a vm_id").to_owned(),
        name: kind,
    }
}
