use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use peergate_policy::RequiredFiles;
use tempfile::TempDir;

use super::*;
use crate::pki::{Authority, Key, Leaf};

/// A directory with good files, for one thing at a time to be broken.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with_key(Key::P256)
    }

    fn with_key(key: Key) -> Self {
        let fixture = Self { directory: TempDir::new().expect("a directory") };
        let root = Authority::root("root").expect("a root");
        let leaf = root.issue(&Leaf::new().cn("node").key(key)).expect("a leaf");
        leaf.write(fixture.directory.path(), "node").expect("written");
        fixture.write("ca.pem", &root.pem());
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).expect("written");
        self
    }

    fn mode(&self, name: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        self
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("text")
    }

    fn openssl(&self, arguments: &[&str]) -> &Self {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .expect("install openssl to run this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self
    }

    fn files(&self) -> RequiredFiles {
        let path = |name| self.path(name).to_str().expect("text").to_owned();
        RequiredFiles {
            ca_certificates: Some(path("ca.pem")),
            certificates: path("node.pem"),
            private_key: path("node.key"),
            crls: Vec::new(),
        }
    }

    fn load(&self) -> Result<Credentials, CredentialsError> {
        Credentials::load(&self.files())
    }

    /// The one line an operator sees, without the directory.
    fn error(&self) -> String {
        let message = self.load().expect_err("must be refused").to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn good_files_load_and_show_no_key() {
    let credentials = Fixture::new().load().expect("good files");
    assert_eq!(
        format!("{credentials:?}"),
        "Credentials { certificates: 1, authorities: 1, revocation_lists: 0, .. }"
    );
}

#[test]
fn carriage_returns_and_text_around_pem_are_fine() {
    let fixture = Fixture::new();
    let pem = format!("subject=CN = root\r\n{}", fixture.read("ca.pem").replace('\n', "\r\n"));
    assert!(fixture.write("ca.pem", &pem).load().is_ok());
}

#[test]
fn missing_empty_and_foreign_files_are_named() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.path("ca.pem")).expect("removed");
    let missing = fixture.error();
    assert!(missing.starts_with("`files.ca-certificates`: cannot read `ca.pem`: No such file"), "{missing}");
    fs::create_dir(fixture.path("ca.pem")).expect("a directory");
    assert_eq!(
        fixture.error(),
        "`files.ca-certificates`: `ca.pem` is not a regular file; name the file itself"
    );
    let cases = [
        ("", "` is empty; write its content first"),
        ("\n \t\r\n", "` is empty; write its content first"),
        ("hello", "` has no certificate; it needs a `BEGIN CERTIFICATE` section"),
        (
            "\n-----BEGIN CERTIFICATE-----\nMIIB",
            ":2` begins a section that has no END; the file was cut, so copy it again",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            ":2` has a character that base64 does not have; copy the file again",
        ),
    ];
    for (text, expected) in cases {
        let fixture = Fixture::new();
        let error = fixture.write("node.pem", text).error();
        assert_eq!(error, format!("`files.certificates`: `node.pem{expected}"));
    }
}

#[test]
fn an_authority_that_is_no_certificate_is_counted_out() {
    let fixture = Fixture::new();
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let pem = fixture.read("ca.pem") + broken;
    let line = pem.lines().count() - 2;
    assert_eq!(
        fixture.write("ca.pem", &pem).error(),
        format!(
            "`files.ca-certificates`: certificate 2 of `ca.pem:{line}` cannot be used: it is broken, or has a name that readers disagree about"
        )
    );
}

#[test]
fn a_key_must_belong_to_the_leaf() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    assert_eq!(
        fixture.write("node.key", &other.read("node.key")).error(),
        "`files.private-key`: `node.key` is not the key of the first certificate in `node.pem`; the leaf must come first"
    );
}

#[test]
fn a_chain_with_the_leaf_last_is_refused() {
    let fixture = Fixture::new();
    let pem = fixture.read("ca.pem") + &fixture.read("node.pem");
    assert!(matches!(
        fixture.write("node.pem", &pem).load().expect_err("leaf last").fault(),
        Fault::KeyMismatch { .. }
    ));
}

#[test]
fn pkcs8_sec1_and_pkcs1_keys_load() {
    let elliptic = Fixture::new();
    fs::rename(elliptic.path("node.key"), elliptic.path("pkcs8.key")).expect("renamed");
    elliptic.openssl(&["ec", "-in", "pkcs8.key", "-out", "node.key"]);
    assert!(elliptic.read("node.key").contains("BEGIN EC PRIVATE KEY"));
    assert!(elliptic.load().is_ok());
    let rsa = Fixture::with_key(Key::Rsa2048);
    assert!(rsa.read("node.key").contains("BEGIN PRIVATE KEY"));
    assert!(rsa.load().is_ok());
    fs::rename(rsa.path("node.key"), rsa.path("pkcs8.key")).expect("renamed");
    rsa.openssl(&["rsa", "-traditional", "-in", "pkcs8.key", "-out", "node.key"]);
    assert!(rsa.read("node.key").contains("BEGIN RSA PRIVATE KEY"));
    assert!(rsa.load().is_ok());
}

#[test]
fn encrypted_keys_are_refused_by_that_name() {
    let expected = "`files.private-key`: `node.key:1` is an encrypted private key; \
                    decrypt it with `openssl pkey -in KEY -out PLAIN-KEY`";
    let fixture = Fixture::new();
    fs::rename(fixture.path("node.key"), fixture.path("plain.key")).expect("renamed");
    fixture.openssl(&["pkcs8", "-topk8", "-in", "plain.key", "-out", "node.key", "-passout", "pass:x"]);
    assert!(fixture.read("node.key").contains("BEGIN ENCRYPTED PRIVATE KEY"));
    assert_eq!(fixture.error(), expected);
    fixture.openssl(&["ec", "-in", "plain.key", "-out", "node.key", "-aes128", "-passout", "pass:x"]);
    assert!(fixture.read("node.key").contains("Proc-Type: 4,ENCRYPTED"));
    assert_eq!(fixture.error(), expected);
}

#[test]
fn exactly_one_key_is_wanted() {
    let fixture = Fixture::new();
    let key = fixture.read("node.key");
    let line = key.lines().count() + 1;
    let several = fixture.write("node.key", &(key.clone() + &key)).error();
    assert_eq!(
        several,
        format!(
            "`files.private-key`: `node.key:{line}` is a second private key; leave the one that is meant"
        )
    );
    let none = fixture.write("node.key", &fixture.read("ca.pem")).error();
    assert!(none.starts_with("`files.private-key`: `node.key` has no private key"), "{none}");
}

/// HAProxy, nginx and cert-manager know one file with key and chain.
#[test]
fn a_key_file_may_also_have_the_certificates_that_are_served() {
    let fixture = Fixture::new();
    let combined = fixture.read("node.key") + &fixture.read("node.pem");
    assert!(fixture.write("node.key", &combined).load().is_ok());
    let line = combined.lines().count() + 1;
    let error = fixture.write("node.key", &(combined + &fixture.read("ca.pem"))).error();
    assert_eq!(
        error,
        format!(
            "`files.private-key`: `node.key:{line}` is a certificate that `node.pem` does not have, so it would not be served; put it there, or keep only the key: openssl pkey -in FILE -out GOOD"
        )
    );
}

/// Files of certificates are read whoever can read them.
#[test]
fn a_key_beside_certificates_is_refused() {
    for name in ["node.pem", "ca.pem"] {
        let fixture = Fixture::new();
        let certificates = fixture.read(name);
        let line = certificates.lines().count() + 1;
        let error = fixture.write(name, &(certificates + &fixture.read("node.key"))).error();
        let expected = format!(
            "`{name}:{line}` is a private key where only certificates are expected; such a file is not guarded as a key is; keep only its certificates: openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out GOOD"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn an_error_about_a_key_never_quotes_it() {
    let fixture = Fixture::new();
    let key = fixture.read("node.key");
    let body = key.lines().nth(1).expect("a body").to_owned();
    for broken in [key.replace("-----END", "-----EN"), key.replace("-----BEGIN PRIVATE KEY-----", "")] {
        let error = fixture.write("node.key", &broken).error();
        assert!(!error.contains(&body[..16]), "{error}");
    }
}

#[test]
fn keys_may_be_read_by_the_group_and_by_nobody_else() {
    let fixture = Fixture::new();
    for (mode, admitted) in [(0o400, true), (0o600, true), (0o640, true), (0o604, false), (0o644, false)] {
        assert_eq!(fixture.mode("node.key", mode).load().is_ok(), admitted, "{mode:o}");
    }
    assert_eq!(
        fixture.error(),
        "`files.private-key`: `node.key` is a private key that everybody can read; chmod o-rwx it"
    );
}

/// docker-library/postgres#777, kubernetes/kubernetes#28317, rucio/helm-charts#159: nobody can chmod a file of a Secret.
#[test]
fn in_a_volume_of_kubernetes_the_remedy_is_the_volumes_mode() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("..2026_11_29")).expect("a directory");
    for name in ["ca.pem", "node.pem", "node.key"] {
        fs::rename(fixture.path(name), fixture.path("..2026_11_29").join(name)).expect("moved");
        symlink(format!("..data/{name}"), fixture.path(name)).expect("a link");
    }
    symlink("..2026_11_29", fixture.path("..data")).expect("a link");
    fixture.mode("", 0o1777).mode("..2026_11_29", 0o755);
    let remedy = "it is in a Kubernetes volume, so set `defaultMode: 0440` in the volume and `fsGroup` in the pod's `securityContext`";
    for mode in [0o644, 0o604, 0o777, 0o666] {
        let error = fixture.mode("node.key", mode).error();
        assert!(error.ends_with(remedy) && !error.contains("chmod"), "{mode:o}: {error}");
    }
    for mode in [0o640, 0o440, 0o400] {
        assert!(fixture.mode("node.key", mode).load().is_ok(), "{mode:o}");
    }
    let error = fixture.mode("ca.pem", 0o666).error();
    assert!(error.ends_with(remedy), "{error}");
    let error = fixture.mode("ca.pem", 0o644).mode("", 0o777).error();
    assert!(error.ends_with("is writable by others; mount the volume with `readOnly: true`"), "{error}");
}

#[test]
fn what_everybody_can_write_is_refused() {
    for name in ["ca.pem", "node.pem", "node.key"] {
        let fixture = Fixture::new();
        let error = fixture.mode(name, 0o602).error();
        assert!(error.ends_with(&format!("`{name}` is writable by everybody; chmod o-w it")), "{error}");
    }
}

#[test]
fn a_directory_everybody_can_write_is_refused_unless_it_is_sticky() {
    let fixture = Fixture::new();
    fixture.mode("", 0o777);
    let error = fixture.load().expect_err("replaceable").to_string();
    assert!(error.contains("everybody can replace `"), "{error}");
    fixture.mode("", 0o1777);
    assert!(fixture.load().is_ok());
}

#[test]
fn the_directory_behind_a_link_counts_too() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("..data")).expect("a directory");
    fs::rename(fixture.path("ca.pem"), fixture.path("..data/ca.pem")).expect("moved");
    symlink("..data/ca.pem", fixture.path("ca.pem")).expect("a link");
    assert!(fixture.load().is_ok());
    fixture.mode("..data", 0o777);
    let error = fixture.error();
    assert!(error.contains("everybody can replace `ca.pem`: directory `..data`"), "{error}");
}

/// `ca.pem -> open/hop -> safe/ca.pem`: whoever can replace `hop` chooses the authorities.
#[test]
fn every_link_on_the_way_counts() {
    let fixture = Fixture::new();
    for directory in ["open", "safe"] {
        fs::create_dir(fixture.path(directory)).expect("a directory");
    }
    fs::rename(fixture.path("ca.pem"), fixture.path("safe/ca.pem")).expect("moved");
    symlink("../safe/ca.pem", fixture.path("open/hop")).expect("a link");
    symlink("open/hop", fixture.path("ca.pem")).expect("a link");
    assert!(fixture.load().is_ok());
    fixture.mode("open", 0o777);
    let error = fixture.error();
    assert!(error.contains("everybody can replace `ca.pem`: directory `open`"), "{error}");
}

/// `link/ca.pem` with `open/link -> ../safe`: the link to the directory is what can be replaced.
#[test]
fn a_link_to_the_directory_counts_too() {
    let fixture = Fixture::new();
    for directory in ["open", "safe"] {
        fs::create_dir(fixture.path(directory)).expect("a directory");
    }
    fs::rename(fixture.path("ca.pem"), fixture.path("safe/ca.pem")).expect("moved");
    symlink("../safe", fixture.path("open/link")).expect("a link");
    let files = RequiredFiles {
        ca_certificates: Some(fixture.path("open/link/ca.pem").to_str().expect("text").to_owned()),
        ..fixture.files()
    };
    assert!(Credentials::load(&files).is_ok());
    fixture.mode("open", 0o777);
    let error = Credentials::load(&files).expect_err("replaceable").to_string();
    assert!(error.contains("everybody can replace"), "{error}");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.path("ca.pem")).expect("removed");
    let made = Command::new("mkfifo").arg(fixture.path("ca.pem")).status().expect("mkfifo");
    assert!(made.success());
    assert!(fixture.error().contains("is not a regular file"));
}

#[test]
fn revocation_lists_are_read_or_refused() {
    let fixture = Fixture::new();
    let mut files = fixture.files();
    files.crls.push(fixture.path("ca.pem").to_str().expect("text").to_owned());
    let error = Credentials::load(&files).expect_err("no list in it").to_string();
    assert!(error.contains("ca.pem:1` is a certificate where only revocation lists are expected"), "{error}");
}

#[test]
fn a_file_name_cannot_break_the_line() {
    let error = read(Path::new("/nowhere/a\nb"), Audience::Everybody).expect_err("not there").to_string();
    assert!(error.starts_with("cannot read `/nowhere/a\\nb`"), "{error}");
}

#[test]
fn the_end_of_each_file_is_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = Authority::root("root").expect("a root");
    let now = time::OffsetDateTime::now_utc();
    let end = now + time::Duration::hours(7);
    let leaf = root.issue(&Leaf::new().cn("node").valid(now - time::Duration::HOUR, end)).expect("a leaf");
    leaf.write(directory.path(), "node").expect("written");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    std::fs::write(path("ca.pem"), root.pem()).expect("written");
    let files = RequiredFiles {
        ca_certificates: Some(path("ca.pem")),
        certificates: path("node.pem"),
        private_key: path("node.key"),
        crls: Vec::new(),
    };
    let expiries = Credentials::load(&files).expect("credentials").expiries;
    let [authority, identity] = expiries.as_slice() else { panic!("{expiries:?}") };
    assert_eq!((authority.key, identity.key), ("ca-certificates", "certificates"));
    assert_eq!(
        (identity.path.to_str(), identity.not_after),
        (Some(&*files.certificates), end.unix_timestamp())
    );
    assert!(authority.not_after > identity.not_after);
}
