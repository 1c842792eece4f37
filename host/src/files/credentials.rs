//! Certificates, key, authorities and revocation lists: one generation.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peergate_policy::RequiredFiles;
use peergate_policy::pem::PemError;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::expiry::Expiry;
use super::guard::{Audience, FileError, quoted, quoted_line, read};
use super::pem;
use crate::certificate_version::{Holder, UnsupportedVersion};
use crate::chain::Authorities;
use crate::clock;
use crate::revocation::{ListFault, RevocationList};

/// What a listener needs besides the policy. Read together, so never half of the old and half of the new.
pub struct Credentials {
    pub(crate) identity: CertifiedKey,
    pub(crate) authorities: Authorities,
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
        let authorities = files.ca_certificates.as_ref().map(Path::new);
        let trust = Trust::load(authorities, files.crls.iter().map(Path::new))?;
        let identity = identity(Path::new(&files.certificates), Path::new(&files.private_key))?;
        let path = Path::new(&files.certificates);
        let own = Expiry::of_certificates(CERTIFICATES, path, &identity.cert);
        let expiries = trust.expiries.into_iter().chain(own).collect();
        let Trust { authorities, revocation_lists, digest, .. } = trust;
        Ok(Self { identity, authorities, revocation_lists, expiries, trust: digest })
    }
}

/// Whom a policy believes.
pub(crate) struct Trust {
    pub(crate) authorities: Authorities,
    pub(crate) revocation_lists: Vec<RevocationList>,
    expiries: Vec<Expiry>,
    digest: [u8; 32],
}

impl Trust {
    /// Reads authorities and revocation lists.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn load<'a>(
        ca_certificates: Option<&Path>,
        crls: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, CredentialsError> {
        let mut expiries = Vec::new();
        let mut digest = Sha256::new();
        let authorities = match ca_certificates {
            Some(path) => authorities(path, &mut expiries, &mut digest)?,
            None => Authorities::default(),
        };
        let mut revocation_lists = Vec::new();
        for path in crls {
            let pem = content(CRLS, path)?;
            digest.update(&pem);
            let found = pem::revocation_lists(&pem).map_err(|error| at(CRLS, path)(Fault::Pem(error)))?;
            expiries.extend(Expiry::of_revocation_lists(CRLS, path, found.iter().map(|found| &found.item)));
            for (index, found) in found.iter().enumerate() {
                let list = RevocationList::new(&found.item, clock::now());
                let (position, line) = (index + 1, found.line);
                let fault = |fault| at(CRLS, path)(Fault::RevocationList { position, line, fault });
                revocation_lists.push(list.map_err(fault)?);
            }
        }
        Ok(Self { authorities, revocation_lists, expiries, digest: digest.finalize().into() })
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
    /// PEM that cannot be read, or that has something else in it.
    Pem(PemError),
    /// A revocation list that cannot be used.
    RevocationList {
        /// Which of the file's, from 1.
        position: usize,
        /// Its line, from 1.
        line: usize,
        /// Why not.
        fault: ListFault,
    },
    /// A key of a kind that TLS has no signature scheme for.
    UnusableKey,
    /// A path that depends on where the process was started.
    RelativePath,
    /// The certificate on this line (from 1) does not parse.
    BadCertificate {
        /// Which certificate of the file, from 1.
        position: usize,
        /// Line of its section, from 1.
        line: usize,
    },
    /// The certificate is of a version of X.509 that is not read.
    CertificateVersion {
        /// Which certificate of the file, from 1.
        position: usize,
        /// Line of its section, from 1.
        line: usize,
        /// Its version.
        version: UnsupportedVersion,
    },
    /// A certificate beside the key that the file of the certificates does not have, so it would not be served.
    StrayCertificate {
        /// Line of its section, from 1.
        line: usize,
        /// The file of the certificates.
        certificates: PathBuf,
    },
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
            Fault::Pem(error) => formatter.write_str(&error.in_file(self.path)),
            Fault::RevocationList { position, line, fault } => {
                write!(formatter, "revocation list {position} of {} {fault}", quoted_line(self.path, *line))
            }
            Fault::UnusableKey => {
                write!(formatter, "{path} is no key that TLS can use; use ECDSA P-256, P-384, Ed25519 or RSA")
            }
            Fault::RelativePath => write!(formatter, "{path} is a relative path; write an absolute one"),
            Fault::BadCertificate { position, line } => {
                write!(
                    formatter,
                    "certificate {position} of {} cannot be used: it is broken, or has a name that readers disagree about",
                    quoted_line(self.path, *line)
                )
            }
            Fault::CertificateVersion { position, line, version } => {
                let place = quoted_line(self.path, *line);
                write!(formatter, "certificate {position} of {place} is {}", version.fault())
            }
            Fault::StrayCertificate { line, certificates } => write!(
                formatter,
                "{} is a certificate that {} does not have, so it would not be served; put it there, or keep only the key: openssl pkey -in FILE -out GOOD",
                quoted_line(self.path, *line),
                quoted(certificates)
            ),
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
) -> Result<Authorities, CredentialsError> {
    let (lines, found) = certificates(AUTHORITIES, path)?;
    expiries.extend(Expiry::of_certificates(AUTHORITIES, path, &found));
    found.iter().for_each(|certificate| trust.update(certificate));
    Authorities::new(path, &found).map_err(|index| {
        let fault = bad_certificate(index + 1, lines[index], &found[index], Holder::Authority);
        at(AUTHORITIES, path)(fault)
    })
}

/// Why the certificate at this position (from 1), in a section on this line, is of no use.
fn bad_certificate(position: usize, line: usize, der: &[u8], holder: Holder) -> Fault {
    match UnsupportedVersion::of(der, holder) {
        Some(version) => Fault::CertificateVersion { position, line, version },
        None => Fault::BadCertificate { position, line },
    }
}

fn identity(certificates_path: &Path, key_path: &Path) -> Result<CertifiedKey, CredentialsError> {
    let (lines, chain) = certificates(CERTIFICATES, certificates_path)?;
    let key = key(key_path, &chain, certificates_path).map_err(at(PRIVATE_KEY, key_path))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Ok(()) => Ok(identity),
        Err(rustls::Error::InvalidCertificate(_)) => {
            let leaf = identity.cert.first().map_or(&[][..], |leaf| leaf);
            let line = lines.first().copied().unwrap_or(1);
            Err(at(CERTIFICATES, certificates_path)(bad_certificate(1, line, leaf, Holder::Own)))
        }
        Err(_) => {
            let certificates = certificates_path.to_owned();
            Err(at(PRIVATE_KEY, key_path)(Fault::KeyMismatch { certificates }))
        }
    }
}

/// The key of the node. Certificates beside it are harmless where they are those that are served.
fn key(path: &Path, chain: &[CertificateDer<'_>], chain_path: &Path) -> Result<Arc<dyn SigningKey>, Fault> {
    let pem = Zeroizing::new(read(path, Audience::OwnerAndGroup).map_err(Fault::File)?);
    let file = pem::private_key(&pem).map_err(Fault::Pem)?;
    if let Some(stray) = file.certificates.iter().find(|found| !chain.contains(&found.item)) {
        return Err(Fault::StrayCertificate { line: stray.line, certificates: chain_path.to_owned() });
    }
    aws_lc_rs::sign::any_supported_type(&file.key).map_err(|_| Fault::UnusableKey)
}

/// Certificates, and the lines of their sections.
fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<(Vec<usize>, Vec<CertificateDer<'static>>), CredentialsError> {
    let pem = content(key, path)?;
    let found = pem::certificates(&pem).map_err(|error| at(key, path)(Fault::Pem(error)))?;
    Ok(found.into_iter().map(|found| (found.line, found.item)).unzip())
}

fn content(key: &'static str, path: &Path) -> Result<Vec<u8>, CredentialsError> {
    read(path, Audience::Everybody).map_err(|error| at(key, path)(Fault::File(error)))
}

fn at(key: &'static str, path: &Path) -> impl FnOnce(Fault) -> CredentialsError {
    move |fault| CredentialsError { key, path: path.to_owned(), fault }
}

const AUTHORITIES: &str = "ca-certificates";
const CERTIFICATES: &str = "certificates";
const PRIVATE_KEY: &str = "private-key";
const CRLS: &str = "crls";
