//! Our host's `mtls` and `token` endpoints with `curl` and `openssl s_client`: who reads, who writes, and what the others
//! are told.

use std::fs;
use std::path::PathBuf;

use peergate_host::pki::{Authority, Credential, Leaf};
use peergate_policy::token::Derivation;
use peergate_tests::{
    client::{Client, alert},
    commands::{Curl, Finished, GET, curl, payload, peergate, run, s_client},
    host::{Host, Start, write_policy},
    pki::{Peer, Pki},
    policies::vespa_example,
    upstream::Upstream,
    wait,
};
use rustls::AlertDescription;
use serde_json::{Value, json};

/// Alert numbers (RFC 8446, 6).
const UNKNOWN_CA: u8 = 48;
const CERTIFICATE_REQUIRED: u8 = 116;

const CONTEXT: &str = "Vespa Cloud tenant data plane:test";
const READ_TOKEN: &str = "vespa_cloud_reads_0123456789abcdefghijklmnopqrstuv";
const WRITE_TOKEN: &str = "vespa_cloud_writes_0123456789abcdefghijklmnopqrstu";
const OLD_TOKEN: &str = "vespa_cloud_old_0123456789abcdefghijklmnopqrstuvwx";
const UNKNOWN_TOKEN: &str = "vespa_cloud_unknown_0123456789abcdefghijklmnopqrst";

/// A host in front of a recording upstream.
struct Endpoint {
    pki: Pki,
    upstream: Upstream,
    policy: PathBuf,
    host: Host,
}

impl Endpoint {
    fn start(kind: &str, pki: Pki, policy: &Value) -> Self {
        let path = pki.file("policy.json");
        fs::write(&path, pki.with_files(policy).to_string()).expect("the policy");
        let upstream = Upstream::http();
        let host = Start::endpoint(kind, &path, upstream.address).trace().start();
        Self { pki, upstream, policy: path, host }
    }

    fn token(policy: &Value) -> Self {
        Self::start("token", Pki::new(), policy)
    }

    fn change(&self, policy: &Value) {
        fs::write(&self.policy, self.pki.with_files(policy).to_string()).expect("the policy");
        self.host.reload();
    }

    fn curl(&self, peer: Option<&Peer>, path: &str, arguments: &[&str]) -> Curl {
        curl(&self.pki, self.host.address, peer, path, arguments)
    }

    fn with_token(&self, token: &str, path: &str, arguments: &[&str]) -> Curl {
        let field = format!("Authorization: Bearer {token}");
        self.curl(None, path, &[&["--header", &field], arguments].concat())
    }

    fn s_client(&self, peer: Option<&Peer>, arguments: &[&str]) -> Finished {
        s_client(&self.pki, self.host.address, peer, arguments, GET)
    }

    fn wait_for_log(&self, text: &str) {
        wait::until(text, || self.host.log().contains(text));
    }
}

fn self_signed(pki: &Pki, leaf: &Leaf) -> Peer {
    pki.store(Credential::self_signed(leaf).expect("a certificate"))
}

fn certificate_client(id: &str, permissions: &[&str], peer: &Peer) -> Value {
    json!({"id": id, "permissions": permissions, "certificates": [{"file": peer.chain}]})
}

fn token_client(id: &str, permissions: &[&str], token: &str, expiration: &str) -> Value {
    let derivation = Derivation::of(token);
    json!({"id": id, "permissions": permissions, "tokens": [{"id": format!("{id}-token"), "versions": [{
        "fingerprint": derivation.fingerprint().to_string(),
        "check-access-hash": derivation.check_hash(CONTEXT).to_hex(),
        "expiration": expiration,
    }]}]})
}

fn data_plane(clients: &[Value]) -> Value {
    json!({"data-plane": {"token-context": CONTEXT, "clients": clients}})
}

fn tokens() -> Value {
    data_plane(&[
        token_client("reader", &["read"], READ_TOKEN, "<none>"),
        token_client("writer", &["write"], WRITE_TOKEN, "2999-01-01T00:00:00Z"),
        token_client("old", &["read", "write"], OLD_TOKEN, "2026-01-01T00:00:00Z"),
    ])
}

const POST: &[&str] = &["--data", "{}"];
const VERSIONS: [&[&str]; 3] = [&[], &["--tls-max", "1.2"], &["--http1.1"]];

/// A reader by file, a writer by PEM text; both certificates are signed by themselves.
fn pinned() -> (Endpoint, Peer, Peer) {
    let pki = Pki::new();
    let [reader, writer] = ["reader", "writer"].map(|cn| self_signed(&pki, &Leaf::new().cn(cn)));
    let pem = fs::read_to_string(&writer.chain).expect("the certificate");
    let policy = data_plane(&[
        certificate_client("reader", &["read"], &reader),
        json!({"id": "writer", "permissions": ["write"], "certificates": [pem]}),
    ]);
    (Endpoint::start("mtls", pki, &policy), reader, writer)
}

#[test]
fn pinned_certificates_read_and_write_as_permitted() {
    let (endpoint, reader, writer) = pinned();
    endpoint.wait_for_log("(http, endpoint mtls)");
    for version in VERSIONS {
        for (name, peer, path, method, status) in [
            ("reader", &reader, "/", &[][..], 200),
            ("reader", &reader, "/search/", POST, 200),
            ("reader", &reader, "/document/v1/", POST, 403),
            ("writer", &writer, "/document/v1/", POST, 200),
            ("writer", &writer, "/search/", POST, 403),
            ("writer", &writer, "/", &[], 403),
        ] {
            let answer = endpoint.curl(Some(peer), path, &[version, method].concat());
            assert_eq!(answer.status, status, "{name} {path} {version:?} {answer:?}");
        }
    }
    assert_eq!(endpoint.upstream.requests().len(), 9);
}

/// Clients of Vespa try TLS errors again, and not 403.
#[test]
fn an_unknown_certificate_is_told_over_http() {
    let (endpoint, ..) = pinned();
    let stranger = self_signed(&endpoint.pki, &Leaf::new().cn("reader"));
    let issued = endpoint.pki.peer(&Leaf::new().cn("reader"));
    for peer in [&stranger, &issued] {
        for version in VERSIONS {
            let answer = endpoint.curl(Some(peer), "/", version);
            assert_eq!(answer.status, 403, "{answer:?}");
            assert!(answer.body.contains("Forbidden"), "{answer:?}");
        }
    }
    endpoint.wait_for_log("certificate-unknown");
    assert!(endpoint.upstream.requests().is_empty());
}

#[test]
fn an_expired_pinned_certificate_is_told_over_http() {
    let pki = Pki::new();
    let expired = self_signed(&pki, &Leaf::new().cn("reader").expired());
    let policy = data_plane(&[certificate_client("reader", &["read"], &expired)]);
    let endpoint = Endpoint::start("mtls", pki, &policy);
    let answer = endpoint.curl(Some(&expired), "/", &[]);
    assert_eq!(answer.status, 403, "{answer:?}");
    endpoint.wait_for_log("expired");
    assert!(endpoint.upstream.requests().is_empty());
}

#[test]
fn an_mtls_endpoint_needs_a_certificate() {
    let (endpoint, ..) = pinned();
    for version in ["-tls1_3", "-tls1_2"] {
        let refused = endpoint.s_client(None, &[version]);
        assert_eq!(refused.alert(), Some(CERTIFICATE_REQUIRED), "{version}\n{}", refused.output());
        assert_eq!(refused.status(), None);
    }
}

/// A certificate is public. Without its key it must not even learn that it is pinned.
#[test]
fn a_pinned_certificate_without_its_key_is_nothing() {
    let (endpoint, reader, writer) = pinned();
    let unknown = self_signed(&endpoint.pki, &Leaf::new());
    for stolen in [&reader, &unknown] {
        let mut thief = stolen.credential.clone();
        thief.replace_key(&writer.credential);
        for connect in [Client::connect_unchecked, Client::connect_unchecked_tls12] {
            let refused = connect(endpoint.host.address, endpoint.pki.ca(), &thief)
                .and_then(|mut client| client.get("/"))
                .expect_err("no key, no answer");
            assert_eq!(alert(&refused), Some(AlertDescription::DecryptError), "{refused}");
        }
    }
    assert!(endpoint.upstream.requests().is_empty());
}

#[test]
fn any_certificate_of_the_ca_reads_and_writes_where_the_policy_says_so() {
    let pki = Pki::new();
    let (issued, expired) = (pki.peer(&Leaf::new().cn("x")), pki.peer(&Leaf::new().cn("x").expired()));
    let stranger = self_signed(&pki, &Leaf::new().cn("x"));
    let mut policy = data_plane(&[certificate_client("x", &["read"], &stranger)]);
    policy["data-plane"]["trusted-certificates"] = json!("any");
    let endpoint = Endpoint::start("mtls", pki, &policy);
    for version in VERSIONS {
        assert_eq!(endpoint.curl(Some(&issued), "/", version).status, 200);
        assert_eq!(endpoint.curl(Some(&issued), "/", &[version, POST].concat()).status, 200);
    }
    // Its own pin is no help to a certificate without a chain.
    assert_eq!(endpoint.s_client(Some(&stranger), &["-tls1_3"]).alert(), Some(UNKNOWN_CA));
    assert_eq!(endpoint.s_client(None, &["-tls1_3"]).alert(), Some(CERTIFICATE_REQUIRED));
    let refused = endpoint.s_client(Some(&expired), &["-tls1_3"]);
    assert!(refused.alert().is_some() && refused.status().is_none(), "{}", refused.output());
}

/// A certificate that was taken without a chain is not a certificate of the CA later on.
#[test]
fn a_pinned_certificate_is_not_taken_for_one_of_the_ca() {
    let (endpoint, reader, _) = pinned();
    let connect = || Client::connect(endpoint.host.address, endpoint.pki.ca(), Some(&reader.credential));
    let mut open = connect().expect("a connection");
    assert_eq!(open.get("/").expect("an answer").status(), 200);
    let mut policy = data_plane(&[certificate_client("reader", &["read"], &reader)]);
    policy["data-plane"]["trusted-certificates"] = json!("any");
    endpoint.change(&policy);
    endpoint.wait_for_log("end connection");
    assert!(open.get("/").is_err(), "{}", endpoint.host.log());
    assert!(endpoint.host.log().contains("endpoint-changed"));
}

/// Nor is one of a CA that has been taken away, not even on a connection from before.
#[test]
fn a_connection_does_not_outlive_the_authority_it_was_verified_by() {
    let pki = Pki::new();
    let issued = pki.peer(&Leaf::new().cn("x"));
    let mut policy = data_plane(&[]);
    policy["data-plane"]["trusted-certificates"] = json!("any");
    let endpoint = Endpoint::start("mtls", pki, &policy);
    let connect = || Client::connect(endpoint.host.address, endpoint.pki.ca(), Some(&issued.credential));
    let mut open = connect().expect("a connection");
    assert_eq!(open.get("/").expect("an answer").status(), 200);
    let other = Authority::root("Another root").expect("a root");
    fs::write(endpoint.pki.file("ca.pem"), other.pem()).expect("ca.pem");
    endpoint.host.reload();
    wait::until("the old connection ends", || !open.get("/").is_ok_and(|answer| answer.status() == 200));
    let refused = connect().and_then(|mut client| client.get("/"));
    assert!(refused.is_err(), "{refused:?}");
}

/// A client that still writes must learn that there is no use in it.
#[test]
fn a_refused_upload_is_answered() {
    let endpoint = Endpoint::token(&tokens());
    for (version, number) in VERSIONS.into_iter().zip(["2", "2", "1.1"]) {
        for size in [2, 3_000_000] {
            let body = format!("@{}", payload(&endpoint.pki, size).display());
            for _ in 0..10 {
                let arguments = [version, &["--header", "Expect:", "--data-binary", &body]].concat();
                let answer = endpoint.with_token(READ_TOKEN, "/document/v1/", &arguments);
                assert_eq!((answer.status, answer.version.as_str()), (403, number), "{size} {answer:?}");
            }
        }
    }
    assert!(endpoint.upstream.requests().is_empty());
}

/// Connections to these endpoints are not judged, so requests must be.
#[test]
fn a_filter_that_cannot_refuse_requests_does_not_start() {
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_new_connection") (param i32) (result i32) i32.const 0))"#,
    );
    fs::write(pki.file("weak.wasm"), wasm.expect("a module")).expect("the filter");
    let policy = write_policy(&pki, &data_plane(&[]));
    for kind in ["mtls", "token"] {
        let start = Start::endpoint(kind, &policy, upstream.address).filter(&pki.file("weak.wasm"));
        let finished = run(&mut start.command(), b"");
        assert_eq!(finished.code, Some(2), "{kind}: {}", finished.stderr);
        assert!(finished.stderr.contains("the filter cannot refuse requests"), "{}", finished.stderr);
    }
}

#[test]
fn tokens_read_and_write_as_permitted() {
    let endpoint = Endpoint::token(&tokens());
    for version in VERSIONS {
        for (name, token, path, method, status) in [
            ("reader", READ_TOKEN, "/", &[][..], 200),
            ("reader", READ_TOKEN, "/search/", POST, 200),
            ("reader", READ_TOKEN, "/document/v1/", POST, 403),
            ("writer", WRITE_TOKEN, "/document/v1/", POST, 200),
            ("writer", WRITE_TOKEN, "/", &[], 403),
            ("expired", OLD_TOKEN, "/", &[], 403),
            ("unknown", UNKNOWN_TOKEN, "/", &[], 403),
        ] {
            let answer = endpoint.with_token(token, path, &[version, method].concat());
            assert_eq!(answer.status, status, "{name} {path} {version:?} {answer:?}");
        }
    }
    assert_eq!(endpoint.upstream.requests().len(), 9);
    endpoint.wait_for_log("token-expired");
}

#[test]
fn what_is_no_bearer_token_is_unauthorized() {
    let endpoint = Endpoint::token(&tokens());
    let bearer = format!("Authorization: Bearer {READ_TOKEN}");
    let lower_case = format!("Authorization: bearer {READ_TOKEN}");
    let (bearer, lower_case) = (bearer.as_str(), lower_case.as_str());
    let (basic, empty) = ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Bearer ");
    for fields in [&[][..], &[lower_case], &[basic], &[empty], &[bearer, bearer]] {
        for version in VERSIONS {
            let mut arguments = version.to_vec();
            for field in fields {
                arguments.extend(["--header", field]);
            }
            let answer = endpoint.curl(None, "/", &arguments);
            assert_eq!(answer.status, 401, "{answer:?}");
            assert!(answer.head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{}", answer.head);
        }
    }
    assert!(endpoint.upstream.requests().is_empty());
}

/// A token endpoint does not ask for a certificate, and one that is pinned elsewhere opens nothing.
#[test]
fn no_kind_falls_back_to_another() {
    let pki = Pki::new();
    let reader = self_signed(&pki, &Leaf::new().cn("reader"));
    let mut policy = tokens();
    let clients = policy["data-plane"]["clients"].as_array_mut().expect("clients");
    clients.push(certificate_client("by-certificate", &["read"], &reader));
    let endpoint = Endpoint::start("token", pki, &policy);
    let answer = endpoint.s_client(Some(&reader), &["-tls1_3"]);
    assert_eq!(answer.status(), Some(401), "{}", answer.output());
    assert!(answer.stdout.contains("No client certificate CA names sent"), "{}", answer.stdout);
    let Endpoint { pki, .. } = endpoint;
    let endpoint = Endpoint::start("mtls", pki, &policy);
    let bearer = format!("Authorization: Bearer {READ_TOKEN}");
    let unknown = self_signed(&endpoint.pki, &Leaf::new());
    assert_eq!(endpoint.curl(Some(&unknown), "/", &["--header", &bearer]).status, 403);
    assert_eq!(endpoint.curl(Some(&reader), "/", &[]).status, 200);
}

#[test]
fn the_upstream_sees_a_token_only_if_the_policy_says_so() {
    let endpoint = Endpoint::token(&tokens());
    assert_eq!(endpoint.with_token(READ_TOKEN, "/", &[]).status, 200);
    assert_eq!(endpoint.upstream.last_request().header("authorization"), None);
    let mut policy = tokens();
    policy["upstream-headers"] = json!({"authorization": "keep"});
    endpoint.change(&policy);
    assert_eq!(endpoint.with_token(READ_TOKEN, "/", &[]).status, 200);
    let kept = endpoint.upstream.last_request();
    assert_eq!(kept.header("authorization"), Some(format!("Bearer {READ_TOKEN}").as_bytes()));
}

#[test]
fn no_log_has_a_token() {
    let endpoint = Endpoint::token(&tokens());
    let halves = |token: &'static str| [token, &token[20..]];
    for version in VERSIONS {
        for token in [READ_TOKEN, OLD_TOKEN, UNKNOWN_TOKEN] {
            endpoint.with_token(token, "/", version);
            endpoint.with_token(token, "/document/v1/", &[version, POST].concat());
            let doubled = format!("Authorization: Bearer {token}");
            endpoint.with_token(token, "/", &[version, &["--header", &doubled]].concat());
            let small = format!("Authorization: bearer {token}");
            endpoint.curl(None, "/", &[version, &["--header", &small]].concat());
        }
    }
    // Lines about refusals are limited; that about an admission comes last.
    endpoint.change(&tokens());
    endpoint.with_token(READ_TOKEN, "/last", &[]);
    endpoint.wait_for_log("path=/last");
    let log = endpoint.host.log();
    assert!(log.contains("TRACE") && !log.contains("lines lost"), "not everything was logged");
    for token in [READ_TOKEN, OLD_TOKEN, UNKNOWN_TOKEN].into_iter().flat_map(halves) {
        assert!(!log.contains(token), "{token}");
    }
    assert!(log.contains(&Derivation::of(READ_TOKEN).fingerprint().to_string()), "{log}");
}

/// A connection may live for days; a token that was revoked must not.
#[test]
fn a_reload_adds_and_revokes_tokens_on_open_connections_too() {
    let reader = token_client("reader", &["read"], READ_TOKEN, "<none>");
    let endpoint = Endpoint::token(&data_plane(std::slice::from_ref(&reader)));
    let mut open = Client::connect(endpoint.host.address, endpoint.pki.ca(), None).expect("a connection");
    let mut get = |token: &str| {
        let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        open.request(request.as_bytes()).expect("an answer").status()
    };
    assert_eq!((get(READ_TOKEN), get(UNKNOWN_TOKEN)), (200, 403));
    let added = token_client("added", &["read"], UNKNOWN_TOKEN, "<none>");
    endpoint.change(&data_plane(std::slice::from_ref(&added)));
    wait::until("the token is revoked", || get(READ_TOKEN) == 403);
    assert_eq!(get(UNKNOWN_TOKEN), 200);
    wait::until("every worker has the new policy", || {
        (0..8).all(|_| endpoint.with_token(READ_TOKEN, "/", &[]).status == 403)
    });
    assert_eq!(endpoint.with_token(UNKNOWN_TOKEN, "/", &[]).status, 200);
    // A policy that cannot be read changes nothing.
    fs::write(&endpoint.policy, "{").expect("the policy");
    endpoint.host.reload();
    assert_eq!((get(READ_TOKEN), get(UNKNOWN_TOKEN)), (403, 200));
}

#[test]
fn a_reload_reads_the_clients_certificates_again() {
    let pki = Pki::new();
    let [first, second] = ["a", "b"].map(|cn| self_signed(&pki, &Leaf::new().cn(cn)));
    let file = pki.file("client.pem");
    fs::copy(&first.chain, &file).expect("the certificate");
    let policy = data_plane(&[json!({"id": "x", "permissions": ["read"], "certificates": [{"file": file}]})]);
    let endpoint = Endpoint::start("mtls", pki, &policy);
    let status = |peer: &Peer| endpoint.curl(Some(peer), "/", &[]).status;
    assert_eq!((status(&first), status(&second)), (200, 403));
    let both = [&first, &second].map(|peer| fs::read_to_string(&peer.chain).expect("a certificate")).concat();
    fs::write(&file, both).expect("the certificates");
    endpoint.host.reload();
    wait::until("both are known", || (0..8).all(|_| status(&second) == 200));
    assert_eq!(status(&first), 200);
    fs::copy(&second.chain, &file).expect("the certificate");
    endpoint.host.reload();
    wait::until("the first is forgotten", || (0..8).all(|_| status(&first) == 403));
    fs::remove_file(&file).expect("removed");
    endpoint.host.reload();
    endpoint.wait_for_log("`data-plane.clients[0].certificates[0].file`: cannot read");
    assert_eq!(status(&second), 200);
}

/// Where no chain is verified, no authority is needed.
#[test]
fn the_ca_is_needed_only_where_it_is_asked() {
    let pki = Pki::new();
    let client = self_signed(&pki, &Leaf::new().cn("x"));
    let upstream = Upstream::http();
    let write = |policy: &Value| {
        let mut policy = pki.with_files(policy);
        policy["files"].as_object_mut().expect("files").remove("ca-certificates");
        let path = pki.file("no-ca.json");
        fs::write(&path, policy.to_string()).expect("the policy");
        path
    };
    let mut policy = data_plane(&[certificate_client("x", &["read"], &client)]);
    for kind in ["mtls", "token"] {
        let host = Start::endpoint(kind, &write(&policy), upstream.address).start();
        let expected = if kind == "mtls" { 200 } else { 401 };
        assert_eq!(curl(&pki, host.address, Some(&client), "/", &[]).status, expected, "{kind}");
    }
    policy["data-plane"]["trusted-certificates"] = json!("any");
    for (kind, policy) in [("mtls", &policy), ("peer", &vespa_example())] {
        let finished = run(&mut Start::endpoint(kind, &write(policy), upstream.address).command(), b"");
        assert_eq!(finished.code, Some(2), "{kind}: {}", finished.stderr);
        assert!(finished.stderr.contains("`files.ca-certificates` is missing"), "{}", finished.stderr);
    }
}

#[test]
fn what_no_endpoint_could_do_does_not_start() {
    let pki = Pki::new();
    let upstream = Upstream::http();
    let path = pki.file("policy.json");
    let client = self_signed(&pki, &Leaf::new());
    let by_file = certificate_client("x", &["read"], &client);
    let missing = json!({"id": "x", "permissions": ["read"], "certificates": [{"file": "/none/x.pem"}]});
    let misspelt = json!({"id": "y", "permissions": ["raed"], "certificates": [{"sha256": "00"}]});
    let needs_data_plane =
        |kind| format!("json:1:1: an endpoint of kind `{kind}` needs `data-plane` in its policy");
    for (kind, protocol, policy, message) in [
        (
            "mtls",
            "tcp",
            data_plane(&[]),
            "kind `mtls` judges requests, and protocol `tcp` has none".to_owned(),
        ),
        ("token", "tcp", data_plane(&[]), "kind `token` judges requests".to_owned()),
        ("mtls", "http", vespa_example(), needs_data_plane("mtls")),
        ("token", "http", vespa_example(), needs_data_plane("token")),
        (
            "peer",
            "http",
            data_plane(&[]),
            "json:1:1: an endpoint of kind `peer` needs `authorized-peers` in its policy".to_owned(),
        ),
        (
            "mtls",
            "http",
            data_plane(&[missing]),
            "`data-plane.clients[0].certificates[0].file`: cannot read `/none/x.pem`".to_owned(),
        ),
        (
            "mtls",
            "http",
            data_plane(&[by_file, misspelt]),
            "`data-plane.clients[1].permissions[0]`: unknown value `raed`".to_owned(),
        ),
    ] {
        let text = pki.with_files(&policy).to_string();
        fs::write(&path, &text).expect("the policy");
        let start = Start::endpoint(kind, &path, upstream.address);
        let start = if protocol == "tcp" { start.tcp() } else { start };
        let finished = run(&mut start.command(), b"");
        assert_eq!(finished.code, Some(2), "{kind} {protocol}: {}", finished.stderr);
        assert!(finished.stderr.contains(&message), "{kind} {protocol}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        if let Some(at) = text.find("\"raed\"") {
            // The place is that in the file, not in what the filter was given.
            assert!(finished.stderr.contains(&format!("json:1:{}: ", at + 1)), "{}", finished.stderr);
        }
    }
    let checked = run(peergate().arg("check").arg("--policy").arg(&path), b"");
    assert_eq!(checked.code, Some(2), "{}", checked.output());
    assert!(checked.stderr.contains("unknown value `raed`"), "{}", checked.stderr);
}
