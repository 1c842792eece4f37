//! Files change under a running host: what is whole is taken by itself, what is not leaves the old generation in use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use peergate_host::pki::{Authority, Credential, Leaf};
use peergate_tests::admin::{json, metric};
use peergate_tests::client::Client;
use peergate_tests::host::{Host, Start};
use peergate_tests::pki::Pki;
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

/// Two peers; each policy of these tests admits one of them.
fn policy_for(name: &str) -> Value {
    json!({"authorized-peers": [{"name": name, "required-credentials": [{"field": "CN", "must-match": name}]}]})
}

struct Fixture {
    pki: Pki,
    policy: PathBuf,
    host: Host,
}

impl Fixture {
    /// A host that admits `one`.
    fn start() -> Self {
        let pki = Pki::new();
        let policy = pki.file("policy.json");
        fs::write(&policy, pki.with_files(&policy_for("one")).to_string()).expect("the policy");
        let host = Start::endpoint("peer", &policy, Upstream::http().address).admin().start();
        Self { pki, policy, host }
    }

    fn admits(&self, name: &str) -> bool {
        let peer = self.pki.authority().issue(&Leaf::new().cn(name)).expect("a certificate");
        admits(self.host.address, self.pki.ca(), &peer)
    }

    fn text(&self, name: &str) -> String {
        self.pki.with_files(&policy_for(name)).to_string()
    }

    /// Waits until `name` and nobody else is admitted, which the host noticed by itself.
    fn becomes(&self, name: &str) {
        wait::until("the change is live", || self.admits(name));
        for other in ["one", "two", "three"].into_iter().filter(|other| *other != name) {
            assert!(!self.admits(other), "{other} under the policy for {name}\n{}", self.host.log());
        }
    }

    fn failures(&self) -> f64 {
        metric(self.host.admin(), "peergate_reload_failures_total")
    }

    fn warnings(&self) -> usize {
        self.host.log().matches("reload failed").count()
    }
}

fn admits(address: std::net::SocketAddr, ca: &CertificateDer<'static>, peer: &Credential) -> bool {
    let client = Client::connect(address, ca, Some(peer));
    client.and_then(|mut client| client.get("/")).is_ok_and(|answer| answer.status() == 200)
}

#[test]
fn a_file_renamed_into_place_is_taken() {
    let fixture = Fixture::start();
    fixture.becomes("one");
    let new = fixture.pki.file("policy.json.new");
    fs::write(&new, fixture.text("two")).expect("written");
    fs::rename(&new, &fixture.policy).expect("renamed");
    fixture.becomes("two");
    assert!(metric(fixture.host.admin(), "peergate_reload_generation") >= 2.0);
    assert_eq!(fixture.warnings(), 0, "{}", fixture.host.log());
}

/// The old generation serves while half of the new one is there, and a warning says so once.
#[test]
fn a_file_caught_half_written_is_refused_and_the_rest_is_taken() {
    let fixture = Fixture::start();
    let text = fixture.text("two");
    fs::write(&fixture.policy, &text[..text.len() / 2]).expect("half of it");
    wait::until("the half is refused", || fixture.failures() > 0.0);
    assert!(fixture.admits("one") && !fixture.admits("two"));
    let attempt = json(fixture.host.admin(), "/config")["last-attempt"].clone();
    let error = attempt["error"].as_str().unwrap_or_default();
    assert!(error.contains("policy.json:1:"), "{attempt}");
    // Several looks at the files later it is still one warning: nothing has changed.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!((fixture.warnings(), fixture.failures()), (1, 1.0), "{}", fixture.host.log());
    fs::write(&fixture.policy, &text).expect("all of it");
    fixture.becomes("two");
    assert_eq!(metric(fixture.host.admin(), "peergate_reload_last_attempt_successful"), 1.0);
}

#[test]
fn the_old_content_again_ends_the_trouble_without_a_new_generation() {
    let fixture = Fixture::start();
    fs::write(&fixture.policy, "{").expect("nonsense");
    wait::until("it is refused", || fixture.failures() > 0.0);
    fs::write(&fixture.policy, fixture.text("one")).expect("the old content");
    let successful = || metric(fixture.host.admin(), "peergate_reload_last_attempt_successful") == 1.0;
    wait::until("the trouble is over", successful);
    assert_eq!(metric(fixture.host.admin(), "peergate_reload_generation"), 1.0);
}

#[test]
fn a_file_deleted_and_written_again_is_taken() {
    let fixture = Fixture::start();
    fs::remove_file(&fixture.policy).expect("removed");
    wait::until("its absence is noticed", || fixture.failures() > 0.0);
    assert!(fixture.admits("one"), "{}", fixture.host.log());
    fs::write(&fixture.policy, fixture.text("two")).expect("written");
    fixture.becomes("two");
}

/// cert-manager and people replace two files one after the other.
#[test]
fn a_certificate_and_then_its_key_are_taken_together() {
    let fixture = Fixture::start();
    let authority = fixture.pki.authority();
    let server = authority.issue(&Leaf::new().cn("localhost").dns("localhost")).expect("a certificate");
    server.write(fixture.pki.directory(), "new").expect("written");
    fs::rename(fixture.pki.file("new.pem"), fixture.pki.file("server.pem")).expect("renamed");
    wait::until("the mismatch is noticed", || fixture.failures() > 0.0);
    assert!(fixture.admits("one"));
    assert!(fixture.host.log().contains("is not the key of the first certificate"), "{}", fixture.host.log());
    fs::rename(fixture.pki.file("new.key"), fixture.pki.file("server.key")).expect("renamed");
    wait::until("the pair is taken", || metric(fixture.host.admin(), "peergate_reload_generation") >= 2.0);
    assert!(fixture.admits("one"));
}

#[test]
fn new_files_under_new_names_and_then_the_policy_are_taken() {
    let fixture = Fixture::start();
    let other = Authority::root("Other root").expect("a root");
    fs::write(fixture.pki.file("ca-2.pem"), other.pem()).expect("written");
    let mut policy = fixture.pki.with_files(&policy_for("two"));
    policy["files"]["ca-certificates"] = json!(fixture.pki.file("ca-2.pem"));
    let new = fixture.pki.file("new");
    fs::write(&new, policy.to_string()).expect("written");
    fs::rename(&new, &fixture.policy).expect("renamed");
    let peer = other.issue(&Leaf::new().cn("two")).expect("a certificate");
    wait::until("the new authority counts", || admits(fixture.host.address, fixture.pki.ca(), &peer));
    assert!(!fixture.admits("two"), "the old authority still counts");
    // The new file is watched from now on.
    fs::write(fixture.pki.file("ca-2.pem"), fs::read(fixture.pki.file("ca.pem")).expect("the old one"))
        .expect("written");
    wait::until("the old authority counts again", || fixture.admits("two"));
}

/// A secret and a config map as the kubelet mounts them: links into a dated directory, swapped by one rename.
#[test]
fn kubernetes_swaps_a_link() {
    let pki = Pki::new();
    let mount = pki.file("mount");
    let volume = |date: &str, ca: &str, policy: &Value| {
        let directory = mount.join(date);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("ca.crt"), ca).expect("written");
        fs::write(directory.join("tls-config.json"), policy.to_string()).expect("written");
    };
    let policy = |name: &str| {
        let mut policy = pki.with_files(&policy_for(name));
        policy["files"]["ca-certificates"] = json!(mount.join("ca.crt"));
        policy
    };
    let swap = |date: &str| {
        symlink(date, mount.join("..data_tmp")).expect("a link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swapped");
    };
    let other = Authority::root("Other root").expect("a root");
    let own_ca = fs::read_to_string(pki.file("ca.pem")).expect("the authority");
    volume("..2026_11_21", &own_ca, &policy("one"));
    swap("..2026_11_21");
    for name in ["ca.crt", "tls-config.json"] {
        symlink(Path::new("..data").join(name), mount.join(name)).expect("a link");
    }
    let host =
        Start::endpoint("peer", &mount.join("tls-config.json"), Upstream::http().address).admin().start();
    let one = pki.authority().issue(&Leaf::new().cn("one")).expect("a certificate");
    let two = other.issue(&Leaf::new().cn("two")).expect("a certificate");
    assert!(admits(host.address, pki.ca(), &one) && !admits(host.address, pki.ca(), &two));
    volume("..2026_11_22", &other.pem(), &policy("two"));
    swap("..2026_11_22");
    fs::remove_dir_all(mount.join("..2026_11_21")).expect("removed");
    wait::until("the new volume is live", || admits(host.address, pki.ca(), &two));
    assert!(!admits(host.address, pki.ca(), &one));
    assert_eq!(host.log().matches("reload failed").count(), 0, "{}", host.log());
}

/// A client's certificate that the policy names by file is part of the generation.
#[test]
fn a_certificate_named_by_a_policy_is_watched() {
    let pki = Pki::new();
    let [one, two] = ["one", "two"].map(|name| pki.peer(&Leaf::new().cn(name)));
    let pinned = pki.file("feed.pem");
    fs::copy(&one.chain, &pinned).expect("copied");
    let policy = pki.file("policy.json");
    let clients = json!({"data-plane": {"clients": [
        {"id": "feed", "permissions": ["read"], "certificates": [{"file": pinned}]},
    ]}});
    fs::write(&policy, pki.with_files(&clients).to_string()).expect("written");
    let host = Start::endpoint("mtls", &policy, Upstream::http().address).start();
    let admitted = |peer: &peergate_tests::pki::Peer| admits(host.address, pki.ca(), &peer.credential);
    assert!(admitted(&one) && !admitted(&two));
    fs::copy(&two.chain, &pinned).expect("copied");
    wait::until("the new certificate counts", || admitted(&two));
    assert!(!admitted(&one));
}

/// The configuration itself, with a policy that it did not name before.
#[test]
fn the_configuration_is_watched() {
    let pki = Pki::new();
    for name in ["one", "two"] {
        let text = pki.with_files(&policy_for(name)).to_string();
        fs::write(pki.file(&format!("{name}.json")), text).expect("written");
    }
    let upstream = Upstream::http().address.to_string();
    let config = |name: &str| {
        let endpoints = json!([{"endpoint": "peer", "policy": format!("{name}.json")}]);
        let inbound =
            json!({"address": "127.0.0.1:0", "upstream": {"address": upstream}, "endpoints": endpoints});
        json!({"inbound": [inbound], "admin": {"address": "127.0.0.1:0"}}).to_string()
    };
    let path = pki.file("host.json");
    fs::write(&path, config("one")).expect("written");
    let host = Start::config(&path).start();
    let admitted = |name: &str| {
        let peer = pki.authority().issue(&Leaf::new().cn(name)).expect("a certificate");
        admits(host.address, pki.ca(), &peer)
    };
    assert!(admitted("one") && !admitted("two"));
    fs::write(&path, config("two")).expect("written");
    wait::until("the other policy is live", || admitted("two"));
    assert!(!admitted("one"));
    assert_eq!(json(host.admin(), "/config")["generation"], 2);
}
