use std::fs;
use std::sync::Arc;

use peergate_policy::{RequiredFiles, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, GeneralSubtree, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, RevokedCertParams, SerialNumber,
};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::authentication::Authentication;
use super::clients::Clients;
use super::config::{TlsError, server_config};
use super::gate::Gate;
use super::signatures::recalling;
use crate::chain::{Authorities, Chains, Fault, Purpose};
use crate::clock::now;
use crate::files::Credentials;
use crate::pki::{Authority, Leaf};
use crate::revocation::{Gap, RevocationList};

fn credentials() -> Credentials {
    let directory = TempDir::new().expect("a directory");
    let root = Authority::root("root").expect("a root");
    let leaf = root.issue(&Leaf::new().cn("node")).expect("a leaf");
    let (certificates, key) = leaf.write(directory.path(), "node").expect("written");
    let authorities = directory.path().join("ca.pem");
    fs::write(&authorities, root.pem()).expect("written");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let files = RequiredFiles {
        ca_certificates: Some(text(&authorities)),
        certificates: text(&certificates),
        private_key: text(&key),
        crls: Vec::new(),
    };
    Credentials::load(&files).expect("good files")
}

fn config(ciphers: &[&str], protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    server_config(credentials(), Authentication::Peer, &owned(ciphers), &owned(protocols), &[b"h2"])
        .map(|terms| Arc::clone(terms.server_config().expect("for clients")))
}

fn suites(ciphers: &[&str], protocols: &[&str]) -> Vec<String> {
    let config = config(ciphers, protocols).expect("a configuration");
    config.crypto_provider().cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect()
}

#[test]
fn the_time_of_a_handshake_is_ours() {
    let config = config(&[], &[]).expect("a configuration");
    // rustls' own panics if the clock reads before 1970.
    assert_eq!(format!("{:?}", config.time_provider), "SystemClock");
}

#[test]
fn nothing_is_resumed_and_nothing_comes_early() {
    for authentication in
        [Authentication::Peer, Authentication::Trusted, Authentication::Pinned, Authentication::Nothing]
    {
        let config = server_config(credentials(), authentication, &[], &[], &[]).expect("a configuration");
        let config = config.server_config().expect("for clients");
        assert!(!config.session_storage.can_cache(), "{authentication:?}");
        assert!(!config.ticketer.enabled());
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
    }
}

#[test]
fn ciphers_restrict_and_unknown_ones_are_skipped() {
    assert_eq!(suites(&[], &[]).len(), 9);
    let accepted =
        ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_NULL_MD5"];
    assert_eq!(suites(&accepted, &[]), ["TLS13_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert!(matches!(config(&["TLS_RSA_WITH_NULL_MD5"], &[]), Err(TlsError::NoCipher)));
}

#[test]
fn versions_restrict_and_must_suit_the_ciphers() {
    assert!(config(&[], &["TLSv1.2"]).is_ok());
    assert!(matches!(config(&[], &["TLSv1.1"]), Err(TlsError::NoProtocol)));
    let newer = ["TLS_AES_128_GCM_SHA256"];
    assert!(config(&newer, &["TLSv1.3"]).is_ok());
    assert!(matches!(config(&newer, &["TLSv1.2"]), Err(TlsError::Inconsistent)));
}

#[test]
fn a_good_certificate_outside_a_handshake_is_refused() {
    let root = Authority::root("root").expect("a root");
    let leaf = root.issue(&Leaf::new().cn("node")).expect("a leaf");
    let clients = Arc::new(Clients::new(chains(root.der(), None)));
    let now = rustls_pki_types::UnixTime::now();
    assert!(clients.verify_client_cert(leaf.leaf(), &[], now).is_ok());
    let refused = Gate::new(clients, Authentication::Peer).verify_client_cert(leaf.leaf(), &[], now);
    assert_eq!(
        refused.expect_err("no handshake"),
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
    );
}

#[test]
fn revoked_unknown_and_stale_are_refused() {
    let issuer = RevokingAuthority::new();
    let (good, revoked) = (issuer.issue(1), issuer.issue(2));
    let today = OffsetDateTime::now_utc();
    let verify = |certificate, list| {
        chains(&issuer.certificate, Some(list)).verify(certificate, &[], Purpose::Client, now())
    };
    let list = issuer.revoke(2, today + Duration::DAY);
    assert_eq!(verify(&good, list.clone()), Ok(()));
    assert_eq!(verify(&revoked, list), Err(Fault::Revoked));
    let stale = issuer.revoke(2, today - Duration::DAY);
    assert!(matches!(verify(&good, stale), Err(Fault::ListExpired { .. })));
    let other = RevokingAuthority::new().revoke(1, today + Duration::DAY);
    assert_eq!(verify(&good, other), Err(Fault::RevocationUnknown(Gap::NoList)));
}

/// A root with this name and key, which may be for some names only.
fn root_of(cn: &str, key: &KeyPair, only_for: Option<&str>) -> (CertificateParams, CertificateDer<'static>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, cn);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = only_for.map(|name| NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(name.to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let certificate = params.self_signed(key).expect("a root").der().clone();
    (params, certificate)
}

#[test]
fn a_signature_that_is_remembered_is_all_that_is_not_asked_again() {
    let [key, other_key] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
    let (params, root) = root_of("root", &key, None);
    let root_issuer = Issuer::new(params, key);
    let intermediate = |key: KeyPair| {
        let (params, _) = root_of("intermediate", &key, None);
        let certificate = params.signed_by(&key, &root_issuer).expect("an intermediate").der().clone();
        (Issuer::new(params, key), certificate)
    };
    let (issuer, middle) = intermediate(KeyPair::generate().expect("a key"));
    let (_, other_middle) = intermediate(KeyPair::generate().expect("a key"));
    let leaf = Leaf::new().cn("peer").dns("peer.example").to_params().expect("parameters");
    let leaf = leaf.signed_by(&KeyPair::generate().expect("a key"), &issuer).expect("a leaf").der().clone();
    let mut forged = leaf.to_vec();
    *forged.last_mut().expect("bytes") ^= 1;
    let forged = CertificateDer::from(forged);

    let now = now();
    let later = UnixTime::from_seconds(now.seconds() + 10 * 365 * 86_400);
    let verify = |root: &CertificateDer<'static>, leaf: &_, middle: &[CertificateDer<'static>], now| {
        chains(root, None).verify(leaf, middle, Purpose::Client, now)
    };
    let good = [middle.clone()];
    assert_eq!(verify(&root, &leaf, &good, now), Ok(()));
    recalling(|| {
        assert_eq!(verify(&root, &leaf, &good, now), Ok(()));
        let (_, renamed) = root_of("other", root_issuer.key(), None);
        let (_, replaced) = root_of("root", &other_key, None);
        let (_, permitting) = root_of("root", root_issuer.key(), Some("peer.example"));
        let (_, constrained) = root_of("root", root_issuer.key(), Some("elsewhere.example"));
        assert_eq!(verify(&permitting, &leaf, &good, now), Ok(()));
        for (what, root, leaf, middle, now) in [
            ("an authority of another name", &renamed, &leaf, &good[..], now),
            ("an authority with another key", &replaced, &leaf, &good[..], now),
            ("an authority for other names", &constrained, &leaf, &good[..], now),
            ("another intermediate", &root, &leaf, &[other_middle][..], now),
            ("no intermediate", &root, &leaf, &[][..], now),
            ("another signature", &root, &forged, &good[..], now),
            ("another time", &root, &leaf, &good[..], later),
        ] {
            assert!(verify(root, leaf, middle, now).is_err(), "{what}");
        }
        let list = revocation_list(&issuer, 1, OffsetDateTime::now_utc() + Duration::DAY);
        let verified = chains(&root, Some(list)).verify(&leaf, &good, Purpose::Client, now);
        assert_eq!(verified, Err(Fault::RevocationUnknown(Gap::NoList)), "no list for all");
    });
}

/// As endpoints verify.
fn chains(
    root: &CertificateDer<'static>,
    list: Option<CertificateRevocationListDer<'static>>,
) -> Arc<Chains> {
    let authorities = Authorities::new("ca.pem".as_ref(), std::slice::from_ref(root)).expect("a root");
    // Read when it was current: a stale one is not read at all.
    let then = peergate_policy::UnixTime::from_seconds(now().seconds() - 36 * 3600);
    let read = |der: &CertificateRevocationListDer<'_>| RevocationList::new(der, then).expect("a list");
    let lists = list.iter().map(read).collect();
    let provider = Arc::new(super::config::provider(&[]).expect("a provider"));
    Arc::new(Chains { authorities, lists, provider })
}

/// An authority that numbers its certificates.
struct RevokingAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl RevokingAuthority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let number = &key.public_key_raw()[1..9];
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{number:?}"));
        let certificate = params.self_signed(&key).expect("a root").der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, serial: u64) -> CertificateDer<'static> {
        let mut params = Leaf::new().cn("node").to_params().expect("parameters");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &self.issuer).expect("a leaf").der().clone()
    }

    fn revoke(&self, serial: u64, next_update: OffsetDateTime) -> CertificateRevocationListDer<'static> {
        revocation_list(&self.issuer, serial, next_update)
    }
}

fn revocation_list(
    issuer: &Issuer<'static, KeyPair>,
    serial: u64,
    next_update: OffsetDateTime,
) -> CertificateRevocationListDer<'static> {
    let this_update = OffsetDateTime::now_utc() - Duration::days(2);
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: this_update,
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update,
        next_update,
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).expect("a list").der().clone()
}
