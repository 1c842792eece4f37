//! An authority, and what it issues.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationList,
    CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::{Key, Leaf, PkiError};

/// A certificate authority whose key lives in memory only, so it cannot be stolen from a disk.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    /// What a peer sends after its own certificate: the intermediates, without the root.
    intermediates: Vec<Certificate>,
}

impl Authority {
    /// A self-signed root, valid for a year.
    ///
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn root(cn: &str) -> Result<Self, PkiError> {
        let key = Key::P256.generate()?;
        let params = authority_params(cn, BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, intermediates: Vec::new() })
    }

    /// An authority below this one that may only issue end-entity certificates.
    ///
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn intermediate(&self, cn: &str) -> Result<Self, PkiError> {
        let key = Key::P256.generate()?;
        let params = authority_params(cn, BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut intermediates = vec![certificate.clone()];
        intermediates.extend(self.intermediates.iter().cloned());
        Ok(Self { issuer: Issuer::new(params, key), certificate, intermediates })
    }

    /// Issues a certificate together with a new key.
    ///
    /// # Errors
    /// A name that no certificate can carry, or a failure of the key generator.
    pub fn issue(&self, leaf: &Leaf) -> Result<Credential, PkiError> {
        self.issue_params(&leaf.to_params()?, leaf.key)
    }

    /// Issues what `params` say, for certificates that [`Leaf`] cannot describe.
    ///
    /// # Errors
    /// The certificate or its key cannot be made.
    pub fn issue_params(&self, params: &CertificateParams, key: Key) -> Result<Credential, PkiError> {
        let key = key.generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(self.credential(certificate.der().clone(), certificate.pem(), &key))
    }

    /// Signs a list of revoked certificates.
    ///
    /// # Errors
    /// The list cannot be made.
    pub fn revoke(
        &self,
        list: &CertificateRevocationListParams,
    ) -> Result<CertificateRevocationList, PkiError> {
        Ok(list.signed_by(&self.issuer)?)
    }

    /// This authority's certificate, to trust or to send.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// This authority's certificate as DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// The key that signs, for tests that write certificates byte by byte.
    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    fn credential(&self, leaf: CertificateDer<'static>, leaf_pem: String, key: &KeyPair) -> Credential {
        let mut chain = vec![leaf];
        chain.extend(self.intermediates.iter().map(|certificate| certificate.der().clone()));
        let chain_pem = leaf_pem + &self.intermediates.iter().map(Certificate::pem).collect::<String>();
        Credential { chain, chain_pem, key: key.serialize_der(), key_pem: key.serialize_pem() }
    }
}

/// A certificate with what must be sent after it, and its key.
#[derive(Clone)]
pub struct Credential {
    /// The leaf, then the intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    pub chain_pem: String,
    key: Vec<u8>,
    key_pem: String,
}

impl Credential {
    /// A self-signed certificate: its own and only authority.
    ///
    /// # Errors
    /// A name that no certificate can carry, or a failure of the key generator.
    pub fn self_signed(leaf: &Leaf) -> Result<Self, PkiError> {
        let key = leaf.key.generate()?;
        let certificate = leaf.to_params()?.self_signed(&key)?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            chain_pem: certificate.pem(),
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        })
    }

    /// The leaf.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The key as PKCS#8.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// Takes the key of another credential, to make what a thief of a certificate has.
    pub fn replace_key(&mut self, other: &Self) {
        self.key.clone_from(&other.key);
        self.key_pem.clone_from(&other.key_pem);
    }

    /// Writes `NAME.pem` (leaf first) and `NAME.key` (PKCS#8, mode 0600) and returns both paths.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf), PkiError> {
        let (chain, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        write_file(&chain, &self.chain_pem, 0o644)?;
        write_file(&key, &self.key_pem, 0o600)?;
        Ok((chain, key))
    }
}

/// Writes a new file with exactly this mode; an existing one is removed first, since it would keep its own.
pub(super) fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let write = || {
        if path.exists() {
            fs::remove_file(path)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
    };
    write().map_err(|error| PkiError::File(path.to_owned(), error))
}

fn authority_params(cn: &str, constraints: BasicConstraints) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.not_before = now - Duration::days(3);
    params.not_after = now + Duration::days(365);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
