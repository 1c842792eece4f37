use std::fs;
use std::sync::Arc;

use peergate_policy::RequiredFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::authentication::Authentication;
use super::config::{TlsError, server_config};
use super::gate::Gate;
use crate::files::Credentials;
use crate::pki::{Authority, Leaf};

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
    let chain = chain_verifier(root.der(), None);
    assert!(chain.verify_client_cert(leaf.leaf(), &[], UnixTime::now()).is_ok());
    let refused =
        Gate::new(chain, Authentication::Peer).verify_client_cert(leaf.leaf(), &[], UnixTime::now());
    assert_eq!(
        refused.expect_err("no handshake"),
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
    );
}

#[test]
fn revoked_unknown_and_stale_are_refused() {
    let issuer = RevokingAuthority::new();
    let (good, revoked) = (issuer.issue(1), issuer.issue(2));
    let now = OffsetDateTime::now_utc();
    let list = issuer.revoke(2, now + Duration::DAY);
    let verifier = chain_verifier(&issuer.certificate, Some(list));
    let verify = |certificate| verifier.verify_client_cert(certificate, &[], UnixTime::now()).map(|_| ());
    assert_eq!(verify(&good), Ok(()));
    assert_eq!(verify(&revoked), Err(Error::InvalidCertificate(CertificateError::Revoked)));
    let stale = issuer.revoke(2, now - Duration::DAY);
    let verifier = chain_verifier(&issuer.certificate, Some(stale));
    assert!(verifier.verify_client_cert(&good, &[], UnixTime::now()).is_err());
    let other = RevokingAuthority::new().revoke(1, now + Duration::DAY);
    let verifier = chain_verifier(&issuer.certificate, Some(other));
    assert!(verifier.verify_client_cert(&good, &[], UnixTime::now()).is_err());
}

fn chain_verifier(
    root: &CertificateDer<'static>,
    list: Option<CertificateRevocationListDer<'static>>,
) -> Arc<dyn ClientCertVerifier> {
    let mut authorities = rustls::RootCertStore::empty();
    authorities.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    super::config::chain_verifier(authorities, list.into_iter().collect(), provider).expect("a verifier")
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
        list.signed_by(&self.issuer).expect("a list").der().clone()
    }
}
