//! Certificates of X.509 versions 1 and 2: what `openssl x509 -req` makes without extensions, as in Vespa's guide for
//! Kubernetes. Envoy verifies them, the host does not and says what to do; as pinned certificates they serve in both.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use peergate_host::envoy::Protocol;
use peergate_host::pki::Leaf;
use peergate_tests::commands::{Finished, GET, curl, openssl, peergate, run, s_client};
use peergate_tests::der::of_version_2;
use peergate_tests::envoy::{CURRENT, OLD, listener, skipped, start};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::policies::peer_endpoint;
use peergate_tests::upstream::Upstream;
use peergate_tests::{admin, wait};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// RFC 8446, 6.
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const UNKNOWN_CA: u8 = 48;
const TLS: [&str; 2] = ["-tls1_3", "-tls1_2"];

/// Admits by the common name: a certificate without extensions has no other name.
fn ingress() -> Value {
    json!({"authorized-peers": [
        {"name": "ingress", "required-credentials": [{"field": "CN", "must-match": "ingress"}]},
    ]})
}

/// An authority and openssl.
struct Workshop {
    pki: Pki,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Self { pki: Pki::new() };
        let authority = workshop.pki.authority();
        workshop.write("issuer.pem", &authority.pem());
        workshop.write("issuer.key", &authority.key().serialize_pem());
        workshop
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.pki.file(name), text).expect("a file");
    }

    fn openssl(&self, arguments: &str) {
        openssl(self.pki.directory(), arguments);
    }

    fn request(&self, name: &str, cn: &str) {
        self.openssl(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        self.openssl(&format!("req -new -key {name}.key -subj /CN={cn} -out {name}.csr"));
    }

    /// The guide's command: no extensions, so version 1.
    fn sign(&self, name: &str, issuer: &str, more: &str) {
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -days 2 -sha256 -out {name}.pem {more}"
        ));
    }

    /// The same with extensions.
    fn sign_with(&self, name: &str, issuer: &str, extensions: &str) {
        self.write("extensions.cnf", extensions);
        self.sign(name, issuer, "-extfile extensions.cnf");
    }

    fn self_sign(&self, name: &str) {
        self.openssl(&format!(
            "x509 -req -in {name}.csr -signkey {name}.key -days 2 -sha256 -out {name}.pem"
        ));
    }

    /// A peer of the authority, of version 1.
    fn version_1(&self) -> Peer {
        self.request("v1", "ingress");
        self.sign("v1", "issuer", "");
        self.assert_version("v1", "1 (0x0)");
        self.peer("v1", &["v1", "issuer"])
    }

    fn version_2(&self) -> Peer {
        self.request("v2", "ingress");
        self.sign("v2", "issuer", "");
        self.make_version_2("v2", self.pki.authority().key());
        self.peer("v2", &["v2", "issuer"])
    }

    fn below_an_authority_of_version_1(&self) -> Peer {
        self.request("old", "old-authority");
        self.sign("old", "issuer", "");
        self.request("leaf", "ingress");
        self.sign_with("leaf", "old", "extendedKeyUsage=clientAuth");
        self.peer("leaf", &["leaf", "old", "issuer"])
    }

    /// Changes a certificate of version 1.
    fn make_version_2(&self, name: &str, issuer: &rcgen::KeyPair) {
        let v1 = CertificateDer::from_pem_file(self.pki.file(&format!("{name}.pem"))).expect("a certificate");
        fs::write(self.pki.file("changed.der"), of_version_2(issuer, &v1)).expect("a file");
        self.openssl(&format!("x509 -inform DER -in changed.der -out {name}.pem"));
        self.assert_version(name, "2 (0x1)");
    }

    fn assert_version(&self, name: &str, version: &str) {
        let mut show = std::process::Command::new("openssl");
        show.args(["x509", "-noout", "-text", "-in"]).arg(self.pki.file(&format!("{name}.pem")));
        let text = run(&mut show, b"").stdout;
        assert!(text.contains(&format!("Version: {version}")), "{text}");
    }

    /// Presents these certificates, leaf first.
    fn peer(&self, key: &str, chain: &[&str]) -> Peer {
        let read =
            |name: &&str| fs::read_to_string(self.pki.file(&format!("{name}.pem"))).expect("a certificate");
        let file = self.pki.file(&format!("{key}-chain.pem"));
        fs::write(&file, chain.iter().map(read).collect::<String>()).expect("a chain");
        Peer { chain: file, key: self.pki.file(&format!("{key}.key")), ..self.pki.peer(&Leaf::new()) }
    }

    fn host(&self, policy: &Value, upstream: &Upstream) -> Host {
        Start::new(&self.pki, policy, upstream.address)
            .admin()
            .argument("--audit")
            .argument(self.audit())
            .start()
    }

    fn audit(&self) -> PathBuf {
        self.pki.file("audit.jsonl")
    }

    fn s_client(&self, address: SocketAddr, peer: &Peer, version: &str) -> Finished {
        s_client(&self.pki, address, Some(peer), &[version], GET)
    }
}

/// What the remedy in a message says to write into the file of extensions.
fn remedy(message: &str) -> &str {
    let (_, rest) = message.split_once("-extfile <(echo ").unwrap_or_else(|| panic!("no remedy: {message}"));
    rest.split_once(')').expect("the end of the command").0
}

#[test]
fn a_peer_is_refused_by_name_and_admitted_after_the_remedy() {
    let workshop = Workshop::new();
    let upstream = Upstream::http();
    let host = workshop.host(&ingress(), &upstream);
    for (peer, version) in [(workshop.version_1(), 1), (workshop.version_2(), 2)] {
        for tls in TLS {
            let refused = workshop.s_client(host.address, &peer, tls);
            assert_eq!(refused.alert(), Some(UNSUPPORTED_CERTIFICATE), "{tls}\n{}", refused.output());
            assert_eq!(refused.status(), None);
        }
        let words = format!("the client's certificate is X.509 version {version}, and only version 3 can be");
        let audited = || fs::read_to_string(workshop.audit()).expect("the audit file");
        wait::until("it is audited", || audited().lines().filter(|line| line.contains(&words)).count() == 2);
    }
    let failures = format!(
        "peergate_handshake_failures_total{{listener=\"{}\",failure=\"unsupported-certificate-version\"}}",
        host.address
    );
    assert_eq!(admin::metric(host.admin(), &failures), 4.0, "{failures}");
    assert_eq!(upstream.connections(), 0);

    let audit = fs::read_to_string(workshop.audit()).expect("the audit file");
    workshop.sign_with("v1", "issuer", remedy(&audit));
    let renewed = workshop.peer("v1", &["v1", "issuer"]);
    for tls in TLS {
        let answer = workshop.s_client(host.address, &renewed, tls);
        assert_eq!(answer.status(), Some(200), "{}", answer.output());
    }
}

#[test]
fn an_authority_in_the_chain_is_refused_by_name() {
    let workshop = Workshop::new();
    let upstream = Upstream::http();
    let host = workshop.host(&ingress(), &upstream);
    let peer = workshop.below_an_authority_of_version_1();
    let refused = workshop.s_client(host.address, &peer, "-tls1_3");
    assert_eq!(refused.alert(), Some(UNSUPPORTED_CERTIFICATE), "{}", refused.output());
    let audited = || fs::read_to_string(workshop.audit()).expect("the audit file");
    wait::until("it is audited", || {
        audited().contains("an authority's certificate in the chain is X.509 version 1")
    });
    assert_eq!(remedy(&audited()), "basicConstraints=critical,CA:true");
}

/// The signature of TLS 1.2 is made by another scheme than that of TLS 1.3, and by RSA with another padding.
#[test]
fn a_pinned_certificate_serves_whatever_its_version() {
    let workshop = Workshop::new();
    let (v1, v2) = (workshop.version_1(), workshop.version_2());
    workshop.openssl("req -new -newkey rsa:2048 -nodes -keyout rsa.key -subj /CN=rsa -out rsa.csr");
    workshop.self_sign("rsa");
    workshop.openssl("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout p384.key -subj /CN=p384 -out p384.csr");
    workshop.self_sign("p384");
    let peers = [v1, v2, workshop.peer("rsa", &["rsa"]), workshop.peer("p384", &["p384"])];
    let pins: Vec<Value> = peers.iter().map(|peer| json!({"file": peer.chain})).collect();
    let policy = json!({"data-plane": {"token-context": "test", "clients": [
        {"id": "old", "permissions": ["read"], "certificates": pins},
    ]}});
    let upstream = Upstream::http();
    let path = write_policy(&workshop.pki, &policy);
    let host = Start::endpoint("mtls", &path, upstream.address).start();
    for peer in &peers {
        for tls in TLS {
            let answer = workshop.s_client(host.address, peer, tls);
            assert_eq!(answer.status(), Some(200), "{} {tls}\n{}", peer.chain.display(), answer.output());
        }
    }
}

#[test]
fn envoy_verifies_them_and_the_filter_decides() {
    if skipped("certificates of versions 1 and 2 in Envoy") {
        return;
    }
    let workshop = Workshop::new();
    let peers = [workshop.version_1(), workshop.version_2()];
    let upstream = Upstream::http();
    for release in [CURRENT, OLD] {
        for (name, status) in [("ingress", 200), ("other", 403)] {
            let mut policy = ingress();
            policy["authorized-peers"][0]["required-credentials"][0]["must-match"] = name.into();
            let mut gate = listener(release, "gate", &workshop.pki, Protocol::Http, peer_endpoint(&policy));
            gate.upstream = Some(upstream.address);
            let envoy = start(release, vec![gate]);
            for peer in &peers {
                let answer = curl(&workshop.pki, envoy.address("gate"), Some(peer), "/", &[]);
                assert_eq!(answer.status, status, "{release} {name} {answer:?}\n{}", envoy.log());
            }
        }
    }
}

#[test]
fn envoy_takes_pinned_ones_and_refuses_an_authority_in_the_chain() {
    if skipped("certificates of versions 1 and 2, pinned and as authorities, in Envoy") {
        return;
    }
    let workshop = Workshop::new();
    let pinned = [workshop.version_1(), workshop.version_2()];
    let pin = |name| json!(fs::read_to_string(workshop.pki.file(name)).expect("a certificate"));
    let pins = [pin("v1.pem"), pin("v2.pem")];
    let mtls = json!({"endpoint": "mtls", "policy": {"data-plane": {"token-context": "test", "clients": [
        {"id": "old", "permissions": ["read"], "certificates": pins},
    ]}}});
    let below = workshop.below_an_authority_of_version_1();
    let upstream = Upstream::http();
    for release in [CURRENT, OLD] {
        let mut gate = listener(release, "pinned", &workshop.pki, Protocol::Http, mtls.clone());
        gate.tls.accept_untrusted = true;
        gate.upstream = Some(upstream.address);
        let mut peers = listener(release, "peers", &workshop.pki, Protocol::Http, peer_endpoint(&ingress()));
        peers.upstream = Some(upstream.address);
        let envoy = start(release, vec![gate, peers]);
        for peer in &pinned {
            let answer = curl(&workshop.pki, envoy.address("pinned"), Some(peer), "/", &[]);
            assert_eq!(answer.status, 200, "{release} {answer:?}\n{}", envoy.log());
        }
        let refused = workshop.s_client(envoy.address("peers"), &below, "-tls1_3");
        assert_eq!((refused.alert(), refused.status()), (Some(UNKNOWN_CA), None), "{}", refused.output());
    }
}

/// A root is believed, not verified.
#[test]
fn a_trusted_root_of_version_1_serves_in_both() {
    let workshop = Workshop::new();
    workshop.request("root", "old-root");
    workshop.self_sign("root");
    workshop.assert_version("root", "1 (0x0)");
    workshop.request("leaf", "ingress");
    workshop.sign_with("leaf", "root", "extendedKeyUsage=clientAuth");
    let peer = workshop.peer("leaf", &["leaf"]);
    let mut policy = workshop.pki.with_files(&ingress());
    policy["files"]["ca-certificates"] = json!(workshop.pki.file("root.pem"));
    let path = workshop.pki.file("policy.json");
    fs::write(&path, policy.to_string()).expect("the policy");
    let upstream = Upstream::http();
    let host = Start::endpoint("peer", &path, upstream.address).start();
    assert_eq!(curl(&workshop.pki, host.address, Some(&peer), "/", &[]).status, 200, "{}", host.log());
    if skipped("a root of version 1 in Envoy") {
        return;
    }
    for release in [CURRENT, OLD] {
        let mut gate = listener(release, "gate", &workshop.pki, Protocol::Http, peer_endpoint(&ingress()));
        gate.upstream = Some(upstream.address);
        gate.tls.ca = workshop.pki.file("root.pem");
        let envoy = start(release, vec![gate]);
        let answer = curl(&workshop.pki, envoy.address("gate"), Some(&peer), "/", &[]);
        assert_eq!(answer.status, 200, "{release} {answer:?}\n{}", envoy.log());
    }
}

#[test]
fn files_of_the_host_are_refused_by_name() {
    let workshop = Workshop::new();
    workshop.version_1();
    workshop.request("root", "Root");
    workshop.self_sign("root");
    // Nothing verifies a root's own signature, so any key will do.
    workshop.make_version_2("root", workshop.pki.authority().key());
    let check = |files: &[(&str, &str)]| {
        let mut policy = workshop.pki.with_files(&ingress());
        for (key, file) in files {
            policy["files"][key] = json!(workshop.pki.file(file));
        }
        let path = workshop.pki.file("policy.json");
        fs::write(&path, policy.to_string()).expect("the policy");
        let checked = run(peergate().args(["check", "--policy"]).arg(&path), b"");
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(2), ""), "{}", checked.stderr);
        checked.stderr
    };
    let error = check(&[("certificates", "v1.pem"), ("private-key", "v1.key")]);
    let expected = format!("certificate 1 of `{}:1` is X.509 version 1", path(&workshop, "v1.pem"));
    assert!(error.contains(&expected), "{error}");
    assert_eq!(remedy(&error), "subjectAltName=DNS:NAME");
    let error = check(&[("ca-certificates", "root.pem")]);
    let expected = format!("certificate 1 of `{}:1` is X.509 version 2", path(&workshop, "root.pem"));
    assert!(error.contains(&expected), "{error}");
    assert_eq!(remedy(&error), "basicConstraints=critical,CA:true");
}

fn path(workshop: &Workshop, name: &str) -> String {
    workshop.pki.file(name).display().to_string()
}

#[test]
fn explain_tells_where_it_is_refused() {
    let workshop = Workshop::new();
    let chain = workshop.version_1().chain;
    let policy = write_policy(&workshop.pki, &ingress());
    let explain = |cert: &Path, code: i32, more: &[&str]| {
        let mut command = peergate();
        command.args(["explain", "--policy"]).arg(&policy).arg("--cert").arg(cert).args(more);
        let finished = run(&mut command, b"");
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(code), ""), "{}", finished.stdout);
        finished.stdout
    };
    let text = explain(&chain, 1, &[]);
    assert!(text.contains("  chain: refused, unsupported-certificate-version: "), "{text}");
    assert!(text.contains("  note: `peergate run` refuses it in the handshake, Envoy does not: "), "{text}");
    assert_eq!(remedy(&text), "extendedKeyUsage=clientAuth");
    let json: Value = serde_json::from_str(&explain(&chain, 1, &["--format", "json"])).expect("JSON");
    assert!(json["note"].as_str().is_some_and(|note| note.contains("X.509 version 1")), "{json}");
    assert_eq!(json["chain"]["failure"], "unsupported-certificate-version");
    workshop.sign_with("v1", "issuer", remedy(&text));
    let chain = workshop.peer("v1", &["v1", "issuer"]).chain;
    assert!(!explain(&chain, 0, &[]).contains("note"));
}

#[test]
fn a_server_is_refused_by_name() {
    let workshop = Workshop::new();
    workshop.request("server-v1", "localhost");
    workshop.sign("server-v1", "issuer", "");
    let server = workshop.peer("server-v1", &["server-v1", "issuer"]);
    let mut command = std::process::Command::new("openssl");
    let port = free_port();
    command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
    command.arg(&server.chain).arg("-cert_chain").arg(&server.chain).arg("-key").arg(&server.key);
    let _server = Server(command.spawn().expect("openssl"));
    wait::until("openssl listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let config = workshop.pki.file("host.json");
    let outbound = json!({"outbound": [{
        "address": "127.0.0.1:0",
        "upstream": {"address": format!("localhost:{port}")},
        "policy": write_policy(&workshop.pki, &ingress()),
    }]});
    fs::write(&config, outbound.to_string()).expect("the configuration");
    let host = Start::config(&config).start();
    assert_eq!(admin::get(host.address, "/").status(), 502);
    let words = "the server's certificate is X.509 version 1";
    wait::until("it is logged", || host.log().contains(words));
    assert_eq!(remedy(&host.log()), "subjectAltName=DNS:NAME");
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Ends with the test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
