//! Revocation lists: who is on one is refused, and where nobody can tell, everybody is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use peergate_host::pki::{Authority, Key, Leaf};
use peergate_tests::client::{Client, alert};
use peergate_tests::commands::{peergate, run};
use peergate_tests::host::{Host, Start};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::Upstream;
use peergate_tests::wait;
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, KeyIdMethod,
    RevokedCertParams, SerialNumber,
};
use rustls::AlertDescription;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// Peers with numbers, and the lists of both authorities above them.
struct Desk {
    pki: Pki,
    upstream: Upstream,
    policy: PathBuf,
}

impl Desk {
    /// Nobody is revoked, until tomorrow.
    fn new() -> Self {
        let pki = Pki::new();
        let policy = pki.file("policy.json");
        let desk = Self { upstream: Upstream::http(), policy, pki };
        desk.name(&["root.crl", "intermediate.crl"]);
        desk.write("root.crl", desk.pki.root(), &[], Duration::days(1));
        desk.write("intermediate.crl", desk.pki.authority(), &[], Duration::days(1));
        desk
    }

    /// The policy with these lists.
    fn name(&self, lists: &[&str]) {
        let rule = json!({"required-credentials": [{"field": "CN", "must-match": "peer"}]});
        let mut policy = self.pki.with_files(&json!({"authorized-peers": [rule]}));
        policy["files"]["crls"] =
            lists.iter().map(|list| Value::from(self.pki.file(list).to_str())).collect();
        fs::write(&self.policy, policy.to_string()).expect("the policy");
    }

    /// A list that is good for `left` from now on.
    fn write(&self, file: &str, authority: &Authority, revoked: &[u64], left: Duration) {
        self.write_list(file, authority, &list(revoked, left));
    }

    fn write_list(&self, file: &str, authority: &Authority, list: &CertificateRevocationListParams) {
        let list = authority.revoke(list).and_then(|list| Ok(list.pem()?)).expect("a list");
        fs::write(self.pki.file(file), list).expect("written");
    }

    /// The list of the intermediate with 0x1234 on it, and one more extension.
    fn write_by_openssl(&self, extension: &str) {
        let file = |name: &str| self.pki.file(name);
        fs::write(file("authority.key"), self.pki.authority().key().serialize_pem()).expect("the key");
        fs::write(file("authority.pem"), self.pki.authority().pem()).expect("the certificate");
        fs::write(file("index"), "R\t490101000000Z\t260101000000Z\t1234\tunknown\t/CN=peer\n")
            .expect("the index");
        fs::write(file("number"), "01\n").expect("the number");
        let config = format!(
            "[ca]\ndefault_ca = it\n\
             [it]\ndatabase = {}\ncrlnumber = {}\ndefault_md = sha256\ndefault_crl_days = 1\ncrl_extensions = list\n\
             [list]\nauthorityKeyIdentifier = keyid\n{extension}\n\
             [scope]\nfullname = URI:http://crl.example/all\n\
             [indirect]\nfullname = URI:http://crl.example/all\nindirectCRL = TRUE\n\
             [reasons]\nfullname = URI:http://crl.example/all\nonlysomereasons = keyCompromise\n",
            file("index").display(),
            file("number").display(),
        );
        fs::write(file("openssl.cnf"), config).expect("the configuration");
        let mut openssl = Command::new("openssl");
        openssl.args(["ca", "-gencrl", "-config"]).arg(file("openssl.cnf"));
        openssl.arg("-cert").arg(file("authority.pem")).arg("-keyfile").arg(file("authority.key"));
        let made = run(openssl.arg("-out").arg(file("intermediate.crl")), b"");
        assert_eq!(made.code, Some(0), "{}", made.output());
    }

    fn peer(&self, number: u64) -> Peer {
        let mut params = Leaf::new().cn("peer").to_params().expect("parameters");
        params.serial_number = Some(SerialNumber::from(number));
        self.pki.peer_with(&params)
    }

    /// A peer whose list is at `uri`.
    fn peer_listed_at(&self, number: u64, uri: &str) -> Peer {
        let mut params = Leaf::new().cn("peer").to_params().expect("parameters");
        params.serial_number = Some(SerialNumber::from(number));
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![uri.to_owned()] }];
        self.pki.peer_with(&params)
    }

    fn start(&self) -> Host {
        Start::endpoint("peer", &self.policy, self.upstream.address).start()
    }

    fn connect(&self, host: &Host, peer: &Peer) -> std::io::Result<Client> {
        let mut client = Client::connect(host.address, self.pki.ca(), Some(&peer.credential))?;
        // In TLS 1.3 a refusal comes with the first read.
        client.get("/").map(|answer| assert_eq!(answer.status(), 200))?;
        Ok(client)
    }

    fn refusal(&self, host: &Host, peer: &Peer) -> Option<AlertDescription> {
        self.connect(host, peer).err().as_ref().and_then(alert)
    }

    /// What it says when it does not start; `check` says the same.
    fn complaint(&self) -> String {
        let started = run(&mut Start::endpoint("peer", &self.policy, self.upstream.address).command(), b"");
        assert_eq!(started.code, Some(2), "{}", started.output());
        let checked = run(peergate().args(["check", "--policy"]).arg(&self.policy), b"");
        assert_eq!(checked.code, Some(2), "{}", checked.output());
        started.stderr
    }
}

fn list(revoked: &[u64], left: Duration) -> CertificateRevocationListParams {
    let now = OffsetDateTime::now_utc();
    let revoked = revoked.iter().map(|number| RevokedCertParams {
        serial_number: SerialNumber::from(*number),
        revocation_time: now - Duration::hours(1),
        reason_code: None,
        invalidity_date: None,
    });
    CertificateRevocationListParams {
        this_update: now - Duration::days(2),
        next_update: now + left,
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

/// A list for certificates that name this distribution point.
fn scoped(uri: &str, revoked: &[u64]) -> CertificateRevocationListParams {
    let distribution_point = CrlDistributionPoint { uris: vec![uri.to_owned()] };
    let point = CrlIssuingDistributionPoint { distribution_point, scope: None };
    CertificateRevocationListParams {
        issuing_distribution_point: Some(point),
        ..list(revoked, Duration::days(1))
    }
}

const A: &str = "http://crl.example/a";
const B: &str = "http://crl.example/b";

#[test]
fn a_revoked_certificate_is_refused_and_its_connections_end() {
    let desk = Desk::new();
    let (first, second, third) = (desk.peer(1), desk.peer(2), desk.peer(3));
    desk.write("intermediate.crl", desk.pki.authority(), &[3], Duration::days(1));
    let host = desk.start();
    assert_eq!(desk.refusal(&host, &third), Some(AlertDescription::CertificateRevoked));
    let (mut ends, mut stays) =
        (desk.connect(&host, &first).expect("in"), desk.connect(&host, &second).expect("in"));
    desk.write("intermediate.crl", desk.pki.authority(), &[1, 3], Duration::days(1));
    host.reload();
    wait::until("the open connection ends", || ends.get("/").is_err());
    assert_eq!(stays.get("/").expect("an answer").status(), 200);
    assert_eq!(desk.refusal(&host, &first), Some(AlertDescription::CertificateRevoked));
    let ended = || host.log().lines().filter(|line| line.contains("end connection")).count();
    wait::until("the log says so", || ended() > 0);
    let log = host.log();
    assert!(ended() == 1 && log.contains("reason=certificate-revoked"), "{log}");
}

/// The root's list is about the intermediate, and counts for everybody below.
#[test]
fn an_intermediate_is_asked_about_too() {
    let desk = Desk::new();
    let peer = desk.peer(1);
    let host = desk.start();
    let mut open = desk.connect(&host, &peer).expect("in");
    desk.name(&["intermediate.crl"]);
    host.reload();
    wait::until("the open connection ends", || open.get("/").is_err());
    wait::until("the log says so", || host.log().contains("revocation-unknown"));
    assert!(desk.refusal(&host, &peer).is_some());
}

#[test]
fn a_list_of_another_authority_covers_nobody() {
    let desk = Desk::new();
    let other = Authority::root("Another root").expect("a root");
    desk.write("intermediate.crl", &other, &[], Duration::days(1));
    let host = desk.start();
    assert_eq!(desk.refusal(&host, &desk.peer(1)), Some(AlertDescription::UnknownCA));
    wait::until("the log says so", || host.log().contains("revocation-unknown: "));
}

/// The name of the authority is on it, and not its signature.
#[test]
fn a_list_that_its_authority_did_not_sign_covers_nobody() {
    let desk = Desk::new();
    let impostor = Authority::root("Another root").and_then(|root| root.intermediate("Test intermediate"));
    desk.write("intermediate.crl", &impostor.expect("an authority"), &[], Duration::days(1));
    let host = desk.start();
    assert!(desk.refusal(&host, &desk.peer(1)).is_some());
}

#[test]
fn lists_that_cannot_be_asked_stop_the_start() {
    let desk = Desk::new();
    let authority = desk.pki.authority();
    let path = desk.pki.file("intermediate.crl").display().to_string();
    let good = fs::read(desk.pki.file("intermediate.crl")).expect("the list");
    desk.write("intermediate.crl", authority, &[], Duration::hours(-1));
    let said = desk.complaint();
    assert!(
        said.contains("`files.crls`")
            && said.contains(&path)
            && said.contains("is stale: its nextUpdate was 20"),
        "{said}"
    );

    // The second of a file is called so.
    let stale = fs::read(desk.pki.file("intermediate.crl")).expect("the list");
    fs::write(desk.pki.file("intermediate.crl"), [good, stale].concat()).expect("written");
    let said = desk.complaint();
    assert!(said.contains("revocation list 2 of") && said.contains("is stale"), "{said}");

    let coming = OffsetDateTime::now_utc() + Duration::hours(1);
    let coming = CertificateRevocationListParams { this_update: coming, ..list(&[], Duration::days(1)) };
    desk.write_list("intermediate.crl", authority, &coming);
    let said = desk.complaint();
    assert!(said.contains("is not yet valid: its thisUpdate is 20") && said.contains("clocks"), "{said}");

    for (content, message) in [
        (&b"nothing\n"[..], "has no revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "is malformed"),
        (b"-----BEGIN X509 CRL-----\n???\n-----END X509 CRL-----\n", "a character that base64 does not have"),
    ] {
        fs::write(desk.pki.file("intermediate.crl"), content).expect("written");
        let said = desk.complaint();
        assert!(said.contains(message) && said.contains(&path), "{said}");
    }
    fs::remove_file(desk.pki.file("intermediate.crl")).expect("removed");
    let said = desk.complaint();
    assert!(said.contains(&path), "{said}");
}

/// Nobody reads the files again: time alone makes a list stale.
#[test]
fn a_list_that_ends_lets_nobody_in_and_nobody_stay() {
    let desk = Desk::new();
    let peer = desk.peer(1);
    desk.write("intermediate.crl", desk.pki.authority(), &[], Duration::seconds(5));
    let host = desk.start();
    let mut open = desk.connect(&host, &peer).expect("in");
    wait::until("the open connection ends", || open.get("/").is_err());
    wait::until("the log says so", || host.log().contains("revocation-list-stale"));
    assert!(desk.refusal(&host, &peer).is_some());
    // The old list once more is no list; a new one is.
    host.reload();
    wait::until("the log says so", || host.log().contains("is stale: its nextUpdate was"));
    desk.write("intermediate.crl", desk.pki.authority(), &[], Duration::days(1));
    host.reload();
    wait::until("peers are admitted again", || desk.connect(&host, &peer).is_ok());
}

/// `openssl ca` writes lists too, in its own way.
#[test]
fn a_list_that_openssl_made_is_asked() {
    let desk = Desk::new();
    let (revoked, good) = (desk.peer(0x1234), desk.peer(0x1235));
    desk.write_by_openssl("");
    let host = desk.start();
    assert_eq!(desk.refusal(&host, &revoked), Some(AlertDescription::CertificateRevoked));
    desk.connect(&host, &good).expect("in");
}

/// Two lists of one authority with different distribution points, and a certificate that names none: the first list was
/// asked, whichever it was (RFC 5280, 6.3.3; OpenSSL calls it "different CRL scope").
#[test]
fn a_list_with_a_distribution_point_serves_only_certificates_that_name_it() {
    let desk = Desk::new();
    let (unnamed, here, revoked_here, elsewhere) = (
        desk.peer(1),
        desk.peer_listed_at(2, A),
        desk.peer_listed_at(3, A),
        desk.peer_listed_at(4, "http://crl.example/c"),
    );
    let authority = desk.pki.authority();
    desk.write_list("a.crl", authority, &scoped(A, &[3]));
    desk.write_list("b.crl", authority, &scoped(B, &[1]));
    for order in
        [&["root.crl", "a.crl", "b.crl"][..], &["b.crl", "a.crl", "root.crl"], &["a.crl", "root.crl"]]
    {
        desk.name(order);
        let host = desk.start();
        desk.connect(&host, &here).expect("a list that the certificate names");
        assert_eq!(
            desk.refusal(&host, &revoked_here),
            Some(AlertDescription::CertificateRevoked),
            "{order:?}"
        );
        for peer in [&unnamed, &elsewhere] {
            assert_eq!(desk.refusal(&host, peer), Some(AlertDescription::UnknownCA), "{order:?}");
        }
        wait::until("the log says so", || host.log().contains("issuingDistributionPoint"));
    }
    // With a list for all beside them everybody has one, and a certificate on any of its lists is revoked.
    desk.write("all.crl", authority, &[], Duration::days(1));
    desk.name(&["root.crl", "a.crl", "all.crl", "b.crl"]);
    let host = desk.start();
    for peer in [&unnamed, &here, &elsewhere] {
        desk.connect(&host, peer).expect("in");
    }
    assert_eq!(desk.refusal(&host, &revoked_here), Some(AlertDescription::CertificateRevoked));
}

/// Of lists about the same certificates the newest is asked, wherever it is.
#[test]
fn the_newest_list_is_asked_in_every_order() {
    let desk = Desk::new();
    let (first, second) = (desk.peer(1), desk.peer(2));
    let old = CertificateRevocationListParams {
        this_update: OffsetDateTime::now_utc() - Duration::days(9),
        ..list(&[1], Duration::days(1))
    };
    desk.write_list("old.crl", desk.pki.authority(), &old);
    desk.write("new.crl", desk.pki.authority(), &[2], Duration::days(1));
    let read = |name: &str| fs::read(desk.pki.file(name)).expect("a list");
    fs::write(desk.pki.file("both.crl"), [read("new.crl"), read("old.crl")].concat()).expect("written");
    fs::write(desk.pki.file("all.crl"), [read("old.crl"), read("root.crl"), read("new.crl")].concat())
        .expect("written");
    for order in [
        &["root.crl", "old.crl", "new.crl"][..],
        &["new.crl", "old.crl", "root.crl"],
        &["both.crl", "root.crl"],
        &["all.crl"],
    ] {
        desk.name(order);
        let host = desk.start();
        desk.connect(&host, &first).expect("in");
        assert_eq!(desk.refusal(&host, &second), Some(AlertDescription::CertificateRevoked), "{order:?}");
    }
}

/// After a key rollover an authority has two lists under one name, and each counts for what its key has signed.
#[test]
fn a_list_counts_for_certificates_of_the_same_key() {
    let desk = Desk::new();
    let renewed = desk.pki.root().intermediate("Test intermediate").expect("an authority");
    let issue = |number: u64| {
        let mut params = Leaf::new().cn("peer").to_params().expect("parameters");
        params.serial_number = Some(SerialNumber::from(number));
        desk.pki.store(renewed.issue_params(&params, Key::P256).expect("a certificate"))
    };
    let (of_old, of_new, revoked) = (desk.peer(1), issue(1), issue(2));
    desk.write("renewed.crl", &renewed, &[2], Duration::days(1));
    for order in [
        &["root.crl", "intermediate.crl", "renewed.crl"][..],
        &["renewed.crl", "intermediate.crl", "root.crl"],
    ] {
        desk.name(order);
        let host = desk.start();
        desk.connect(&host, &of_old).expect("in");
        desk.connect(&host, &of_new).expect("in");
        assert_eq!(desk.refusal(&host, &revoked), Some(AlertDescription::CertificateRevoked));
    }
    desk.name(&["root.crl", "renewed.crl"]);
    let host = desk.start();
    assert_eq!(desk.refusal(&host, &desk.peer(1)), Some(AlertDescription::UnknownCA));
    wait::until("the log says so", || host.log().contains("is signed with another key"));
}

/// The same rules after a reload.
#[test]
fn open_connections_end_where_the_new_lists_are_for_others() {
    let desk = Desk::new();
    let (unnamed, here) = (desk.peer(1), desk.peer_listed_at(2, A));
    let host = desk.start();
    let (mut ends, mut stays) =
        (desk.connect(&host, &unnamed).expect("in"), desk.connect(&host, &here).expect("in"));
    desk.write_list("intermediate.crl", desk.pki.authority(), &scoped(A, &[]));
    host.reload();
    wait::until("the open connection ends", || ends.get("/").is_err());
    assert_eq!(stays.get("/").expect("an answer").status(), 200);
    wait::until("the log says so", || host.log().contains("revocation-unknown"));
}

#[test]
fn lists_that_would_leave_somebody_out_are_refused() {
    let desk = Desk::new();
    for (extension, message) in [
        ("2.5.29.27 = critical, ASN1:INTEGER:1", "is a delta list; name the complete one"),
        ("issuingDistributionPoint = critical, @indirect", "is an indirect list"),
        ("issuingDistributionPoint = critical, @reasons", "is for some reasons only"),
    ] {
        desk.write_by_openssl(extension);
        let said = desk.complaint();
        assert!(said.contains(message) && said.contains("intermediate.crl"), "{said}");
    }
}

/// Where no authority is asked, neither are its lists.
#[test]
fn pinned_clients_are_told_that_lists_are_not_asked() {
    let desk = Desk::new();
    let client = desk.pki.store(
        desk.pki
            .authority()
            .issue_params(&Leaf::new().cn("client").to_params().expect("parameters"), Key::P256)
            .expect("a certificate"),
    );
    let mut policy = desk.pki.with_files(&json!({"data-plane": {"clients": [
        {"id": "c", "permissions": ["read"], "certificates": [{"file": client.chain}]},
    ]}}));
    policy["files"]["crls"] = json!([desk.pki.file("intermediate.crl")]);
    fs::write(&desk.policy, policy.to_string()).expect("the policy");
    let host = Start::endpoint("mtls", &desk.policy, desk.upstream.address).start();
    wait::until("the log says so", || host.log().contains("`files.crls` are not asked"));
    desk.connect(&host, &client).expect("in");
}
