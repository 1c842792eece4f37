//! PEM files as people make them: read whole, or refused with file, line, reason and remedy. Never fewer certificates
//! than there are without a word.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use peergate_host::files::Credentials;
use peergate_host::pki::{Authority, Leaf};
use peergate_policy::RequiredFiles;
use peergate_tests::admin::metric;
use peergate_tests::client::Client;
use peergate_tests::commands::{Finished, curl, openssl, peergate, run};
use peergate_tests::host::Start;
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use serde_json::{Value, json};

/// Two authorities with a client each.
struct Desk {
    pki: Pki,
    /// PEM of the first authority, which issued the server's certificate too, and of the second.
    authorities: [String; 2],
    clients: [Peer; 2],
}

impl Desk {
    fn new() -> Self {
        let pki = Pki::new();
        let other = Authority::root("Second root").expect("a root");
        let authorities = [pki.root().pem(), other.pem()];
        let first = pki.peer(&Leaf::new().cn("first"));
        let second = pki.store(other.issue(&Leaf::new().cn("second")).expect("a certificate"));
        Self { pki, authorities, clients: [first, second] }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.pki.file(name);
        fs::write(&path, content).expect("written");
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.pki.file(name)).expect("text")
    }

    /// A policy with these files in the place of the good ones.
    fn policy(&self, files: &[(&str, &str)]) -> PathBuf {
        let mut policy = self.pki.with_files(&json!({}));
        for (key, name) in files {
            let path = self.pki.file(name);
            policy["files"][key] = if *key == "crls" { json!([path]) } else { json!(path) };
        }
        self.write("policy.json", policy.to_string())
    }

    fn check(&self, files: &[(&str, &str)]) -> Finished {
        run(peergate().args(["check", "--policy"]).arg(self.policy(files)), b"")
    }

    /// How many authorities a bundle has for us.
    fn authorities_of(&self, bundle: &str) -> Result<usize, String> {
        let text = |name: &str| self.pki.file(name).to_str().expect("text").to_owned();
        let files = RequiredFiles {
            ca_certificates: Some(text(bundle)),
            certificates: text("server.pem"),
            private_key: text("server.key"),
            crls: Vec::new(),
        };
        let credentials = Credentials::load(&files).map_err(|error| error.to_string())?;
        let shown = format!("{credentials:?}");
        let (_, rest) = shown.split_once("authorities: ").expect("their number");
        Ok(rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number"))
    }

    /// How many certificates OpenSSL finds. It has no word for what it leaves out.
    fn found_by_openssl(&self, bundle: &str) -> usize {
        let mut storeutl = Command::new("openssl");
        let listed = run(storeutl.args(["storeutl", "-noout", "-certs"]).arg(self.pki.file(bundle)), b"");
        let (_, number) = listed.stdout.rsplit_once("Total found: ").unwrap_or(("", "0"));
        number.trim().parse().expect("a number")
    }
}

fn trimmed(pem: &str) -> &str {
    pem.trim_end()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Bundles of two authorities, and whether they have only one meaning.
fn bundles([one, two]: &[String; 2]) -> Vec<(&'static str, Vec<u8>, bool)> {
    let both = format!("{one}{two}");
    let glued = format!("{}{two}", trimmed(one));
    let changed = |from: &str, to: &str| format!("{one}{}", two.replace(from, to)).into_bytes();
    vec![
        ("plain", both.clone().into(), true),
        // openssl/openssl#6281
        ("byte order mark", format!("\u{feff}{both}").into(), true),
        ("byte order mark in each", format!("\u{feff}{one}\u{feff}{two}").into(), true),
        // zenhack/simp_le#149, linkerd/linkerd#1772, debops/debops#1424
        ("glued", glued.clone().into(), true),
        ("glued with a byte order mark", format!("\u{feff}{}\u{feff}{two}", trimmed(one)).into(), true),
        ("CR LF", both.replace('\n', "\r\n").into(), true),
        ("CR LF, glued", glued.replace('\n', "\r\n").into(), true),
        ("CR", both.replace('\n', "\r").into(), true),
        ("no last line end", trimmed(&both).into(), true),
        ("white space at line ends", both.replace('\n', " \t\n").into(), true),
        ("text", format!("# one\n{one}# two - of two\nsubject=CN = x\n{two}# end").into(), true),
        (
            "attributes",
            format!("Bag Attributes\n    localKeyID: 01 00 \nsubject=/CN=x\n{one}Key Attributes: <No Attributes>\n{two}").into(),
            true,
        ),
        ("OpenSSL's old label", changed("CERTIFICATE", "X509 CERTIFICATE"), true),
        ("twice", format!("{both}{one}").into(), true),
        ("trusted certificate", changed("CERTIFICATE", "TRUSTED CERTIFICATE"), false),
        ("signing request", changed("CERTIFICATE", "CERTIFICATE REQUEST"), false),
        ("misspelt label", changed("CERTIFICATE", "CERTIFCATE"), false),
        ("small letters", changed("BEGIN CERTIFICATE", "begin certificate"), false),
        ("four hyphens", changed("-----", "----"), false),
        ("six hyphens", changed("-----", "------"), false),
        ("dashes of a word processor", changed("-----", "–––––"), false),
        ("indented", format!("{one}{}", two.replace('\n', "\n  ").replacen("-----", "  -----", 1)).into(), false),
        ("in a comment", format!("{one}#{}", two.replace('\n', "\n#")).into(), false),
        ("no BEGIN", changed("-----BEGIN CERTIFICATE-----\n", ""), false),
        ("no END", changed("-----END CERTIFICATE-----\n", ""), false),
        ("no END of the first", format!("{}{two}", one.replace("-----END CERTIFICATE-----\n", "")).into(), false),
        ("other END", changed("END CERTIFICATE", "END X509 CERTIFICATE"), false),
        ("cut", both[..both.len() - 60].into(), false),
        ("not base64", changed("\nM", "\n!"), false),
        ("text after END", format!("{} # one\n{two}", trimmed(one)).into(), false),
        ("UTF-16 with its mark", utf16(&format!("\u{feff}{both}")), false),
        ("UTF-16 without its mark", utf16(&both), false),
        ("UTF-16 appended", [one.as_bytes(), &utf16(two)].concat(), false),
        ("white space", " \n\t\n".into(), false),
        ("a page of a proxy", "<html>Sign in</html>\n".into(), false),
    ]
}

/// OpenSSL leaves out what it cannot read. What it reads we read too, or refuse; and what we leave out we refuse.
#[test]
fn a_bundle_is_read_whole_or_refused_with_its_place() {
    let desk = Desk::new();
    for (what, content, one_meaning) in bundles(&desk.authorities) {
        let path = desk.write("bundle.pem", &content);
        let (ours, theirs) = (desk.authorities_of("bundle.pem"), desk.found_by_openssl("bundle.pem"));
        let sections = String::from_utf8_lossy(&content).matches("-----BEGIN ").count();
        match ours {
            Ok(ours) => {
                assert!(one_meaning, "{what}: read");
                assert!(ours == sections && ours >= theirs, "{what}: {ours} of {sections}, openssl {theirs}");
            }
            Err(error) => {
                assert!(!one_meaning, "{what}: {error}");
                let named = format!("`files.ca-certificates`: `{}", path.display());
                assert!(error.starts_with(&named) && error.contains("; "), "{what}: {error}");
                let lines = desk.authorities.iter().flat_map(|pem| pem.lines());
                let mut body = lines.filter(|line| !line.starts_with('-'));
                assert!(!body.any(|line| error.contains(line)), "{what}: {error}");
            }
        }
    }
}

/// The clients of both authorities are admitted by every bundle that is read.
#[test]
fn an_authority_of_a_file_that_was_put_together_admits_its_clients() {
    let desk = Desk::new();
    let [one, two] = &desk.authorities;
    for content in [format!("\u{feff}{one}{two}"), format!("{}{two}", trimmed(one))] {
        desk.write("bundle.pem", content);
        let policy = desk.policy(&[("ca-certificates", "bundle.pem")]);
        let host = Start::endpoint("peer", &policy, Upstream::http().address).start();
        for client in &desk.clients {
            assert_eq!(curl(&desk.pki, host.address, Some(client), "/", &[]).status, 200, "{}", host.log());
        }
    }
}

/// A broken bundle is no generation. The old one goes on, and so do connections of clients whose authority the new bundle
/// would have lost.
#[test]
fn a_reload_with_a_broken_bundle_cuts_no_connection() {
    let desk = Desk::new();
    let [one, two] = &desk.authorities;
    desk.write("bundle.pem", format!("{one}{two}"));
    let policy = desk.policy(&[("ca-certificates", "bundle.pem")]);
    let host = Start::endpoint("peer", &policy, Upstream::http().address).admin().start();
    let mut clients = desk.clients.each_ref().map(|client| {
        Client::connect(host.address, desk.pki.ca(), Some(&client.credential)).expect("a connection")
    });
    let mut all_are_served = |what: &str| {
        for client in &mut clients {
            let answer = client.get("/").unwrap_or_else(|error| panic!("{what}: {error}\n{}", host.log()));
            assert_eq!(answer.status(), 200, "{what}");
        }
    };
    all_are_served("before");
    let failures = || metric(host.admin(), "peergate_reload_failures_total");
    let dashed = format!("{}{two}", one.replace("-----", "–––––"));
    let cut = format!("{}{two}", one.replace("-----END CERTIFICATE-----\n", ""));
    for (content, reason) in [
        (dashed.into_bytes(), "bundle.pem:1` is almost a BEGIN or END line"),
        (cut.into_bytes(), "bundle.pem:1` begins a section that has no END"),
        (utf16(&format!("\u{feff}{one}{two}")), "bundle.pem` is UTF-16"),
    ] {
        let before = failures();
        fs::rename(desk.write("new.pem", content), desk.pki.file("bundle.pem")).expect("renamed");
        wait::until("it is refused", || failures() > before);
        assert!(host.log().contains(reason), "{reason}\n{}", host.log());
        all_are_served(reason);
    }
    // Glued, it has both authorities.
    fs::rename(desk.write("new.pem", format!("{}{two}", trimmed(one))), desk.pki.file("bundle.pem"))
        .expect("renamed");
    wait::until("it is taken", || metric(host.admin(), "peergate_reload_last_attempt_successful") == 1.0);
    host.reload();
    all_are_served("glued");
    assert!(!host.log().contains("end connection"), "{}", host.log());
}

/// Whatever the command, and whatever the key of the policy: one reader.
#[test]
fn every_command_names_the_file_and_the_line() {
    let desk = Desk::new();
    let client = fs::read_to_string(&desk.clients[0].chain).expect("a certificate");
    let line = client.lines().count() + 1;
    let broken = desk.write("broken.pem", format!("{client}–––––BEGIN CERTIFICATE–––––\nMIIB\n"));
    let named = format!("{}:{line}` is almost a BEGIN or END line", broken.display());
    let refused = |finished: &Finished, named: &str| {
        assert_eq!(finished.code, Some(2), "{}", finished.output());
        assert!(finished.stderr.contains(named), "{named}\n{}", finished.output());
    };
    for key in ["ca-certificates", "certificates", "private-key", "crls"] {
        fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
        let named = if key == "crls" {
            format!("{}:1` is a certificate where only revocation lists", broken.display())
        } else {
            named.clone()
        };
        refused(&desk.check(&[(key, "broken.pem")]), &format!("`files.{key}`: `{named}"));
    }
    let data_plane = |certificate: Value| {
        let clients = json!([{"id": "a", "permissions": ["read"], "certificates": [certificate]}]);
        let policy = desk.pki.with_files(&json!({"data-plane": {"token-context": "c", "clients": clients}}));
        desk.write("data-plane.json", policy.to_string())
    };
    let by_file = data_plane(json!({"file": broken}));
    refused(&run(peergate().args(["check", "--policy"]).arg(&by_file), b""), &named);
    for what in ["envoy", "host"] {
        let mut render = peergate();
        render.args(["render", what, "--upstream", "127.0.0.1:1", "--policy"]).arg(&by_file);
        refused(&run(&mut render, b""), &named);
    }
    let inline = data_plane(json!(fs::read_to_string(&broken).expect("text")));
    let named_inline = format!("line {line} of the PEM text is almost a BEGIN or END line");
    refused(&run(peergate().args(["check", "--policy"]).arg(&inline), b""), &named_inline);
    let policy = desk.write("empty.json", "{}");
    let mut explain = peergate();
    explain.arg("explain").arg("--policy").arg(&policy).arg("--cert").arg(&broken);
    refused(&run(&mut explain, b""), &named);
    let case = json!({"name": "a", "certificate": broken, "expect": {"decision": "allow"}});
    let cases = desk.write("cases.json", json!({"policy": {}, "cases": [case]}).to_string());
    refused(&run(peergate().arg("test").arg(&cases), b""), &named);
    fs::create_dir(desk.pki.file("security")).expect("a directory");
    fs::copy(&broken, desk.pki.file("security/clients.pem")).expect("a copy");
    let services = r#"<services version="1.0"><container id="a" version="1.0"><clients><client id="a" permissions="read"><certificate file="security/clients.pem"/></client></clients></container></services>"#;
    let services = desk.write("services.xml", services);
    let named = format!("`security/clients.pem:{line}` is almost a BEGIN or END line");
    refused(&run(peergate().arg("import").arg(&services), b""), &named);
}

/// A client of a file whose first certificate has a byte order mark, or that was glued, is not lost.
#[test]
fn every_client_of_a_file_is_imported() {
    let desk = Desk::new();
    fs::create_dir(desk.pki.file("security")).expect("a directory");
    let services = r#"<services version="1.0"><container id="a" version="1.0"><clients><client id="a" permissions="read"><certificate file="security/clients.pem"/></client></clients></container></services>"#;
    let services = desk.write("services.xml", services);
    let [one, two] = &desk.authorities;
    for content in [format!("\u{feff}{one}{two}"), format!("{}{two}", trimmed(one))] {
        desk.write("security/clients.pem", content);
        let imported = run(peergate().arg("import").arg(&services), b"");
        assert_eq!(imported.code, Some(0), "{}", imported.output());
        assert_eq!(imported.stdout.matches("BEGIN CERTIFICATE").count(), 2, "{}", imported.output());
    }
}

/// The remedies that messages name are commands that work.
#[test]
fn the_remedies_make_good_files() {
    let desk = Desk::new();
    let [one, two] = &desk.authorities;
    let directory = desk.pki.directory();
    desk.write("one.pem", one);
    desk.write("two.pem", two);
    let remedied = |what: &str, key: &str, name: &str, command: &str| {
        let refused = desk.check(&[(key, name)]);
        assert_eq!(refused.code, Some(2), "{what}");
        // As the message has it, with the names of these files.
        let template = command.replace(name, "FILE").replace("good", "GOOD");
        assert!(refused.stderr.contains(&template), "{what}: {template}\n{}", refused.stderr);
        let finished = run(Command::new("sh").current_dir(directory).args(["-c", command]), b"");
        assert_eq!(finished.code, Some(0), "{what}: {}", finished.output());
        fs::set_permissions(desk.pki.file("good"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("a mode");
        let checked = desk.check(&[(key, "good")]);
        assert_eq!(checked.code, Some(0), "{what}: {}", checked.output());
    };
    let key = desk.read("server.key");
    let chain = desk.read("server.pem");
    let ca = "ca-certificates";
    openssl(directory, "x509 -in one.pem -outform DER -out one.der");
    remedied("DER", ca, "one.der", "openssl x509 -inform DER -in one.der -out good");
    openssl(directory, "x509 -in one.pem -trustout -addtrust clientAuth -out trusted.pem");
    remedied("trusted certificate", ca, "trusted.pem", "openssl x509 -in trusted.pem -out good");
    openssl(directory, "crl2pkcs7 -nocrl -certfile one.pem -certfile two.pem -out p7.pem");
    remedied("PKCS #7", ca, "p7.pem", "openssl pkcs7 -print_certs -in p7.pem -out good");
    desk.write("utf16.pem", utf16(&format!("\u{feff}{one}{two}")));
    remedied("UTF-16", ca, "utf16.pem", "iconv -f UTF-16 -t UTF-8 utf16.pem > good");
    desk.write("combined.pem", format!("{key}{chain}"));
    remedied(
        "a key",
        "certificates",
        "combined.pem",
        "openssl crl2pkcs7 -nocrl -certfile combined.pem | openssl pkcs7 -print_certs -out good",
    );
    openssl(directory, "pkey -in server.key -outform DER -out key.der");
    fs::set_permissions(desk.pki.file("key.der"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    remedied("DER key", "private-key", "key.der", "openssl pkey -inform DER -in key.der -out good");
    fs::set_permissions(desk.pki.file("combined.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    desk.write("combined.pem", format!("{key}{one}"));
    remedied("a stray certificate", "private-key", "combined.pem", "openssl pkey -in combined.pem -out good");
}

/// What `openssl ecparam -genkey` writes, and what HAProxy and cert-manager keep in one file.
#[test]
fn ordinary_key_files_are_read() {
    let desk = Desk::new();
    let directory = desk.pki.directory();
    openssl(directory, "ecparam -genkey -name prime256v1 -out ec.key");
    openssl(directory, "req -x509 -new -key ec.key -subj /CN=localhost -days 2 -out ec.pem");
    let key = desk.read("ec.key");
    assert!(key.contains("BEGIN EC PARAMETERS"), "{key}");
    fs::set_permissions(desk.pki.file("ec.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    for content in
        [key.clone(), format!("\u{feff}{key}"), key.replace('\n', "\r\n"), key.clone() + &desk.read("ec.pem")]
    {
        desk.write("ec.key", content);
        let checked = desk.check(&[("certificates", "ec.pem"), ("private-key", "ec.key")]);
        assert_eq!(checked.code, Some(0), "{}", checked.output());
    }
}
