//! Certificates, key, authorities and revocation lists: one generation.

use std::fmt;
use std::path::{Path, PathBuf};

use peergate_policy::{RequiredFiles, UnixTime};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::expiry::Expiry;
use super::guard::{Audience, FileError, quoted, read};
use super::pem;
use super::revocation_list::{self, RevocationList};
use crate::certificate_version::{Holder, UnsupportedVersion};
use crate::clock;

/// What a listener needs besides the policy. Read together, so never half of the old and half of the new.
pub struct Credentials {
    pub(crate) identity: CertifiedKey,
    pub(crate) authorities: RootCertStore,
    pub(crate) revocation_lists: Vec<RevocationList>,
    /// When each of the files ends.
    pub(crate) expiries: Vec<Expiry>,
    /// SHA-256 of authorities and revocation lists: with the same ones the same chains are good.
    pub(crate) trust: [u8; 32],
}

impl Credentials {
    /// Reads and checks everything `files` names.
    ///
    /// # Errors
    /// The first entry that cannot be used: a file that is unreadable, no PEM or open to others, a
    /// key that is encrypted or does not belong to the certificate, an authority that is no certificate.
    pub fn load(files: &RequiredFiles) -> Result<Self, CredentialsError> {
        let mut expiries = Vec::new();
        let mut trust = Sha256::new();
        let authorities = match &files.ca_certificates {
            Some(path) => authorities(Path::new(path), &mut expiries, &mut trust)?,
            None => RootCertStore::empty(),
        };
        let identity = identity(Path::new(&files.certificates), Path::new(&files.private_key))?;
        expiries.extend(Expiry::of_certificates(
            CERTIFICATES,
            Path::new(&files.certificates),
            &identity.cert,
        ));
        let mut revocation_lists = Vec::new();
        for path in files.crls.iter().map(Path::new) {
            let pem = content(CRLS, path, Audience::Everybody)?;
            trust.update(&pem);
            let lists = pem::revocation_lists(&pem).map_err(at(CRLS, path))?;
            expiries.extend(Expiry::of_revocation_lists(CRLS, path, &lists));
            revocation_list::append(&mut revocation_lists, lists, clock::now()).map_err(at(CRLS, path))?;
        }
        Ok(Self { identity, authorities, revocation_lists, expiries, trust: trust.finalize().into() })
    }
}

impl fmt::Debug for Credentials {
    /// Counts only: the key must not reach a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("certificates", &self.identity.cert.len())
            .field("authorities", &self.authorities.len())
            .field("revocation_lists", &self.revocation_lists.len())
            .finish_non_exhaustive()
    }
}

/// Which entry of `files` cannot be used, and why.
#[derive(Debug)]
pub struct CredentialsError {
    key: &'static str,
    path: PathBuf,
    fault: Fault,
}

impl CredentialsError {
    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// What is wrong with an entry of `files`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The file itself.
    File(FileError),
    /// Broken PEM armour.
    NotPem,
    /// PEM without a certificate.
    NoCertificate,
    /// PEM without a revocation list.
    NoRevocationList,
    /// A revocation list that has ended. Whether its authority has revoked a certificate since, nobody knows.
    StaleRevocationList {
        /// When it should have been replaced.
        next_update: UnixTime,
    },
    /// A revocation list of a kind that is not supported; the text says which and what would be right.
    RevocationList(&'static str),
    /// Two revocation lists about the same certificates.
    TwoRevocationLists,
    /// PEM without a private key.
    NoPrivateKey,
    /// More than one private key: which one is meant is a guess.
    SeveralPrivateKeys,
    /// A key that needs a passphrase.
    EncryptedKey,
    /// A key of a kind that TLS has no signature scheme for.
    UnusableKey,
    /// A path that depends on where the process was started.
    RelativePath,
    /// The certificate at this position (from 1) does not parse.
    BadCertificate(usize),
    /// The certificate at this position (from 1) is of a version of X.509 that is not read.
    CertificateVersion(usize, UnsupportedVersion),
    /// The key belongs to another certificate.
    KeyMismatch {
        /// The file of the certificate.
        certificates: PathBuf,
    },
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`files.{}`: {}", self.key, self.fault.about(&self.path))
    }
}

impl std::error::Error for CredentialsError {}

impl Fault {
    /// The fault of a file, in words.
    pub(super) fn about<'a>(&'a self, path: &'a Path) -> impl fmt::Display + 'a {
        About { fault: self, path }
    }
}

struct About<'a> {
    fault: &'a Fault,
    path: &'a Path,
}

impl fmt::Display for About<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = quoted(self.path);
        match self.fault {
            Fault::File(error) => error.fmt(formatter),
            Fault::NotPem => write!(formatter, "{path} is not valid PEM; export it again"),
            Fault::NoCertificate => {
                write!(formatter, "{path} has no certificate; it needs a `BEGIN CERTIFICATE` section")
            }
            Fault::NoRevocationList => {
                write!(formatter, "{path} has no revocation list; it needs a `BEGIN X509 CRL` section")
            }
            Fault::StaleRevocationList { next_update } => write!(
                formatter,
                "the revocation list in {path} is stale: its nextUpdate was {next_update}; fetch the authority's current list"
            ),
            Fault::RevocationList(why) => {
                write!(formatter, "the revocation list in {path} cannot be used: {why}")
            }
            Fault::TwoRevocationLists => write!(
                formatter,
                "{path} has a revocation list of an authority that has one already, and only one is asked; leave the newest"
            ),
            Fault::NoPrivateKey => {
                write!(formatter, "{path} has no private key; it needs a `BEGIN PRIVATE KEY` section")
            }
            Fault::SeveralPrivateKeys => {
                write!(formatter, "{path} has more than one private key; leave the one that is meant")
            }
            Fault::EncryptedKey => write!(
                formatter,
                "{path} is an encrypted private key; decrypt it with `openssl pkey -in KEY -out PLAIN-KEY`"
            ),
            Fault::UnusableKey => {
                write!(formatter, "{path} is no key that TLS can use; use ECDSA P-256, P-384, Ed25519 or RSA")
            }
            Fault::RelativePath => write!(formatter, "{path} is a relative path; write an absolute one"),
            Fault::BadCertificate(position) => {
                write!(
                    formatter,
                    "certificate {position} of {path} cannot be used: it is broken, or has a name that readers disagree about"
                )
            }
            Fault::CertificateVersion(position, version) => {
                write!(formatter, "certificate {position} of {path} is {}", version.fault())
            }
            Fault::KeyMismatch { certificates } => write!(
                formatter,
                "{path} is not the key of the first certificate in {}; the leaf must come first",
                quoted(certificates)
            ),
        }
    }
}

fn authorities(
    path: &Path,
    expiries: &mut Vec<Expiry>,
    trust: &mut Sha256,
) -> Result<RootCertStore, CredentialsError> {
    let mut store = RootCertStore::empty();
    let found = certificates(AUTHORITIES, path)?;
    expiries.extend(Expiry::of_certificates(AUTHORITIES, path, &found));
    for (index, certificate) in found.into_iter().enumerate() {
        trust.update(&certificate);
        store.add(certificate.clone()).map_err(|_| {
            at(AUTHORITIES, path)(bad_certificate(index + 1, &certificate, Holder::Authority))
        })?;
    }
    Ok(store)
}

/// Why the certificate at this position (from 1) is of no use.
fn bad_certificate(position: usize, der: &[u8], holder: Holder) -> Fault {
    match UnsupportedVersion::of(der, holder) {
        Some(version) => Fault::CertificateVersion(position, version),
        None => Fault::BadCertificate(position),
    }
}

fn identity(certificates_path: &Path, key_path: &Path) -> Result<CertifiedKey, CredentialsError> {
    let chain = certificates(CERTIFICATES, certificates_path)?;
    let pem = content(PRIVATE_KEY, key_path, Audience::OwnerAndGroup)?;
    let key = pem::private_key(&pem).map_err(at(PRIVATE_KEY, key_path))?;
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| at(PRIVATE_KEY, key_path)(Fault::UnusableKey))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Ok(()) => Ok(identity),
        Err(rustls::Error::InvalidCertificate(_)) => {
            let leaf = identity.cert.first().map_or(&[][..], |leaf| leaf);
            Err(at(CERTIFICATES, certificates_path)(bad_certificate(1, leaf, Holder::Own)))
        }
        Err(_) => {
            let certificates = certificates_path.to_owned();
            Err(at(PRIVATE_KEY, key_path)(Fault::KeyMismatch { certificates }))
        }
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    pem::certificates(&content(key, path, Audience::Everybody)?).map_err(at(key, path))
}

fn content(key: &'static str, path: &Path, audience: Audience) -> Result<Vec<u8>, CredentialsError> {
    read(path, audience).map_err(|error| at(key, path)(Fault::File(error)))
}

fn at(key: &'static str, path: &Path) -> impl FnOnce(Fault) -> CredentialsError {
    move |fault| CredentialsError { key, path: path.to_owned(), fault }
}

const AUTHORITIES: &str = "ca-certificates";
const CERTIFICATES: &str = "certificates";
const PRIVATE_KEY: &str = "private-key";
const CRLS: &str = "crls";
