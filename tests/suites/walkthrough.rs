//! Appendix A of Vespa's mTLS guide as written, and what happens when a step goes wrong.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use peergate_tests::{
    commands::{Finished, GET, openssl, peergate, run},
    host::Start,
    upstream::Upstream,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const ACCESS_DENIED: u8 = 49;
const CERTIFICATE_REQUIRED: u8 = 116;

/// The two kinds of key that the guide offers.
const EC: &str = "ecparam -name prime256v1 -genkey -noout -out";
const RSA: &str = "genrsa -out";

/// A directory in which the guide was followed, for one host.
struct Walkthrough {
    directory: TempDir,
}

impl Walkthrough {
    fn new(algorithm: &str) -> Self {
        let walkthrough = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        walkthrough.generate(algorithm, "root-ca.key");
        fs::write(walkthrough.file("subject.cnf"), CA_SUBJECT).expect("the subject");
        walkthrough.openssl(
            "req -new -x509 -nodes -key root-ca.key -out root-ca.pem -config subject.cnf -extensions v3_ca -sha256 -days 3650",
        );
        walkthrough.add_host(algorithm, "host", "myhost.example.com");
        walkthrough
    }

    /// "Creating a private key and certificate for a Vespa host".
    fn add_host(&self, algorithm: &str, name: &str, dns: &str) {
        self.generate(algorithm, &format!("{name}.key"));
        fs::write(self.file("cert-exts.cnf"), EXTENSIONS.replace("myhost.example.com", dns))
            .expect("the extensions");
        self.openssl(&format!(
            "req -new -key {name}.key -out {name}.csr -subj /C=US/L=California/OU=ACME/O=App -sha256"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA root-ca.pem -CAkey root-ca.key -CAcreateserial -out {name}.pem \
             -extfile cert-exts.cnf -extensions host_cert_extensions -days 3650 -sha256"
        ));
    }

    fn generate(&self, algorithm: &str, file: &str) {
        let bits = if algorithm == RSA { " 2048" } else { "" };
        self.openssl(&format!("{algorithm} {file}{bits}"));
    }

    fn openssl(&self, arguments: &str) {
        openssl(self.directory.path(), arguments);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The guide's "simplest possible configuration file".
    fn config(&self) -> Value {
        json!({"files": {
            "ca-certificates": self.file("root-ca.pem"),
            "certificates": self.file("host.pem"),
            "private-key": self.file("host.key"),
        }})
    }

    fn write(&self, config: &str) -> PathBuf {
        let path = self.file("my-tls-config.json");
        fs::write(&path, config).expect("the configuration");
        path
    }

    /// Starts a host with this configuration and connects to it as the guide says, with the certificate of `name`.
    fn connect(&self, config: &Value, name: Option<&str>) -> Finished {
        let upstream = Upstream::http();
        let host = Start::by_environment(&self.write(&config.to_string()), upstream.address).start();
        let mut client = std::process::Command::new("openssl");
        client.args(["s_client", "-ign_eof", "-connect", &host.address.to_string()]);
        client.args(["-verify_return_error", "-verify_hostname", "myhost.example.com"]);
        client.arg("-CAfile").arg(self.file("root-ca.pem"));
        if let Some(name) = name {
            client.arg("-key").arg(self.file(&format!("{name}.key")));
            client.arg("-cert").arg(self.file(&format!("{name}.pem")));
        }
        run(&mut client, GET)
    }
}

/// The guide gives the subject as `-subj`; its spaces would be split here.
const CA_SUBJECT: &str = "\
[req]
prompt = no
distinguished_name = subject
[subject]
C = US
L = California
O = ACME
OU = ACME test root CA
[v3_ca]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:true
";

const EXTENSIONS: &str = "\
[host_cert_extensions]
basicConstraints       = critical, CA:FALSE
keyUsage               = critical, digitalSignature, keyAgreement, keyEncipherment
extendedKeyUsage       = serverAuth, clientAuth
subjectKeyIdentifier   = hash
authorityKeyIdentifier = keyid,issuer
subjectAltName         = @host_sans
[host_sans]
DNS.1 = myhost.example.com
";

#[test]
fn the_guide_works_as_written() {
    for algorithm in [EC, RSA] {
        let walkthrough = Walkthrough::new(algorithm);
        let config = walkthrough.config();
        let admitted = walkthrough.connect(&config, Some("host"));
        assert_eq!(admitted.status(), Some(200), "{algorithm}\n{}", admitted.output());
        let refused = walkthrough.connect(&config, None);
        assert_eq!(refused.alert(), Some(CERTIFICATE_REQUIRED), "{algorithm}\n{}", refused.output());
    }
}

#[test]
fn rules_narrow_whom_the_authority_admits() {
    for algorithm in [EC, RSA] {
        let walkthrough = Walkthrough::new(algorithm);
        walkthrough.add_host(algorithm, "other", "host.other.example.org");
        let mut config = walkthrough.config();
        config["authorized-peers"] =
            json!([{"required-credentials": [{"field": "SAN_DNS", "must-match": "*.example.com"}]}]);
        let admitted = walkthrough.connect(&config, Some("host"));
        assert_eq!(admitted.status(), Some(200), "{algorithm}\n{}", admitted.output());
        let refused = walkthrough.connect(&config, Some("other"));
        assert_eq!(refused.alert(), Some(ACCESS_DENIED), "{algorithm}\n{}", refused.output());
    }
}

#[test]
fn keys_load_in_every_encoding() {
    for (algorithm, encoding, convert) in [
        (EC, "BEGIN EC PRIVATE KEY", None),
        (EC, "BEGIN PRIVATE KEY", Some("pkcs8 -topk8 -nocrypt -in host.key -out converted.key")),
        (RSA, "BEGIN PRIVATE KEY", Some("pkcs8 -topk8 -nocrypt -in host.key -out converted.key")),
        (RSA, "BEGIN RSA PRIVATE KEY", Some("rsa -traditional -in host.key -out converted.key")),
    ] {
        let walkthrough = Walkthrough::new(algorithm);
        if let Some(convert) = convert {
            walkthrough.openssl(convert);
            fs::rename(walkthrough.file("converted.key"), walkthrough.file("host.key")).expect("the key");
        }
        let key = fs::read_to_string(walkthrough.file("host.key")).expect("the key");
        assert!(key.contains(encoding), "{key}");
        let admitted = walkthrough.connect(&walkthrough.config(), Some("host"));
        assert_eq!(admitted.status(), Some(200), "{encoding}\n{}", admitted.output());
    }
}

/// `run` and `check` both end with 2 and one line that says where.
fn assert_refused(walkthrough: &Walkthrough, config: &Path, what: &str, expected: &[&str]) {
    let upstream = "127.0.0.1:1".parse().expect("an address");
    let started = run(&mut Start::by_environment(config, upstream).command(), b"");
    let checked = run(peergate().args(["check", "--policy"]).arg(config), b"");
    for (command, finished) in [("run", started), ("check", checked)] {
        let said = &finished.stderr;
        assert_eq!(finished.code, Some(2), "{what}, {command}: {said}");
        assert_eq!(said.lines().count(), 1, "{what}, {command}: {said}");
        for text in expected {
            assert!(said.contains(text), "{what}, {command}: no `{text}` in: {said}");
        }
        assert!(!said.contains("PRIVATE KEY-----"), "{what}, {command}: {said}");
    }
    assert!(walkthrough.directory.path().exists());
}

#[test]
fn unusable_files_are_named() {
    let walkthrough = Walkthrough::new(EC);
    walkthrough.add_host(EC, "other", "other.example.com");
    walkthrough.openssl("pkcs8 -topk8 -passout pass:secret -in host.key -out encrypted.key");
    walkthrough.openssl("ec -aes256 -passout pass:secret -in host.key -out encrypted-sec1.key");
    fs::copy(walkthrough.file("root-ca.pem"), walkthrough.file("no-key.pem")).expect("a copy");
    fs::set_permissions(walkthrough.file("no-key.pem"), Permissions::from_mode(0o600)).expect("the mode");
    fs::create_dir(walkthrough.file("folder")).expect("a directory");
    fs::write(walkthrough.file("empty.pem"), "").expect("a file");
    fs::write(walkthrough.file("garbage.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").expect("a file");
    fs::write(
        walkthrough.file("short.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .expect("a file");
    for (key, file, remedy) in [
        ("private-key", "other.key", "host.pem"),
        ("private-key", "encrypted.key", "encrypted"),
        ("private-key", "encrypted-sec1.key", "encrypted"),
        ("private-key", "folder", "regular file"),
        ("private-key", "missing.key", ""),
        ("private-key", "no-key.pem", "no private key"),
        ("private-key", "host.pem", "chmod"),
        ("certificates", "folder", "regular file"),
        ("certificates", "missing.pem", ""),
        ("certificates", "empty.pem", ""),
        ("certificates", "garbage.pem", ""),
        ("certificates", "short.pem", ""),
        ("ca-certificates", "folder", "regular file"),
        ("ca-certificates", "missing.pem", ""),
        ("ca-certificates", "empty.pem", ""),
        ("ca-certificates", "garbage.pem", ""),
        ("ca-certificates", "short.pem", ""),
    ] {
        let mut config = walkthrough.config();
        config["files"][key] = json!(walkthrough.file(file));
        let path = walkthrough.write(&config.to_string());
        assert_refused(&walkthrough, &path, &format!("{key} {file}"), &[file, remedy]);
    }
}

#[test]
fn unusable_documents_are_named_with_the_place() {
    let walkthrough = Walkthrough::new(EC);
    let good = serde_json::to_string_pretty(&walkthrough.config()).expect("JSON");
    let with = |key: &str, value: &str| good.replacen('{', &format!("{{\n\"{key}\": {value},\n"), 1);
    let peers = |peers: &str| with("authorized-peers", peers);
    let rule = |rule: &str| peers(&format!("[{{\"required-credentials\": [{rule}]}}]"));
    let relative = good.replace(&format!("\"{}", walkthrough.directory.path().display()), "\"relative");
    let misplaced = good.replace("\"files\": {", "\"files\": {\"disable-hostname-validation\": true,");
    for (what, document, expected) in [
        ("no JSON", "nonsense".to_owned(), "my-tls-config.json:1:"),
        ("nothing", String::new(), "my-tls-config.json"),
        ("trailing text", format!("{good} x"), "my-tls-config.json:"),
        ("a relative path", relative, "relative/"),
        ("a misspelt key", peers("[]").replace("authorized", "authorised"), "authorized-peers"),
        ("a misplaced key", misplaced, "disable-hostname-validation"),
        ("no peers", peers("[]"), "my-tls-config.json:2:"),
        ("null", peers("null"), "my-tls-config.json:2:"),
        ("no credentials", rule(""), "required-credentials"),
        ("an unknown field", rule(r#"{"field": "SAN_DN", "must-match": "x"}"#), "SAN_DNS"),
        ("no pattern", rule(r#"{"field": "CN"}"#), "must-match"),
        (
            "an unknown capability",
            rule(r#"{"field": "CN", "must-match": "x"}"#)
                .replace("\"required", "\"capabilities\": [\"vespa.al\"], \"required"),
            "vespa.al",
        ),
        ("no ciphers", with("accepted-ciphers", "[]"), "accepted-ciphers"),
        ("the same key twice", good.replacen('{', "{\"files\": {},", 1), "files"),
    ] {
        // Nothing has no lines.
        let place = if document.is_empty() { "is empty" } else { "my-tls-config.json:" };
        let path = walkthrough.write(&document);
        assert_refused(&walkthrough, &path, what, &[place, expected]);
    }
    assert_refused(&walkthrough, walkthrough.directory.path(), "a directory", &["regular file"]);
    assert_refused(&walkthrough, &walkthrough.file("missing.json"), "no file", &["missing.json"]);
}

#[test]
fn without_a_policy_nothing_starts() {
    let arguments = ["run", "--endpoint", "peer", "--protocol", "http", "--inbound", "127.0.0.1:0"];
    let refused = run(peergate().args(arguments).args(["--upstream", "127.0.0.1:1"]), b"");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("VESPA_TLS_CONFIG_FILE"), "{}", refused.stderr);
}
