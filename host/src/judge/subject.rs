//! The peer that a question is about.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use peergate_policy::pem::PemError;
use peergate_policy::{Certificate, DenyReason, PeerIdentity};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use crate::{files, pki};

/// Who asks to be admitted.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A peer without a certificate.
    Nobody,
    /// A certificate, as a proxy would have verified it.
    Certificate(CertificateDer<'static>),
    /// The names of an already decoded certificate.
    Names(PeerIdentity),
}

impl Subject {
    /// Reads the first certificate of a PEM file; the others are its chain.
    ///
    /// # Errors
    /// The file is unreadable, has no certificate, or has something else.
    pub fn from_pem_file(path: &Path) -> Result<Self, SubjectError> {
        let text =
            fs::read(path).map_err(|error| SubjectError::Unreadable { path: path.to_owned(), error })?;
        let refused = |error| SubjectError::Pem { path: path.to_owned(), error };
        let leaf = files::certificates(&text).map_err(refused)?.into_iter().next();
        Ok(leaf.map_or(Self::Nobody, |found| Self::Certificate(found.item)))
    }

    /// Reads all certificates of a PEM file, leaf first.
    ///
    /// # Errors
    /// As [`Self::from_pem_file`].
    pub fn chain_from_pem_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, SubjectError> {
        let text =
            fs::read(path).map_err(|error| SubjectError::Unreadable { path: path.to_owned(), error })?;
        let refused = |error| SubjectError::Pem { path: path.to_owned(), error };
        Ok(files::certificates(&text).map_err(refused)?.into_iter().map(|found| found.item).collect())
    }

    /// The certificate that shows this peer to filter.wasm: its own, or a throwaway with its names. `None` where no
    /// certificate can carry them.
    pub(super) fn certificate(&self) -> Option<CertificateDer<'static>> {
        match self {
            Self::Nobody => None,
            Self::Certificate(der) => Some(der.clone()),
            Self::Names(identity) => pki::throwaway(identity),
        }
    }

    /// The names, as the engine reads them.
    pub(super) fn identity(&self) -> Result<PeerIdentity, DenyReason> {
        match self {
            Self::Nobody => Err(DenyReason::NoCertificate),
            Self::Certificate(der) => Certificate::from_der(der).map(|certificate| certificate.identity),
            Self::Names(identity) => Ok(identity.clone()),
        }
    }
}

/// An already decoded certificate, as JSON: `{"cn", "san_dns", "san_uri", "san_ip"}`, strings taken as given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerJson {
    cn: Option<String>,
    san_dns: Vec<String>,
    san_uri: Vec<String>,
    san_ip: Vec<IpAddr>,
}

impl From<PeerJson> for Subject {
    fn from(peer: PeerJson) -> Self {
        let PeerJson { cn, san_dns, san_uri, san_ip } = peer;
        Self::Names(PeerIdentity { common_name: cn, dns_names: san_dns, uris: san_uri, addresses: san_ip })
    }
}

/// A peer that cannot be read.
#[derive(Debug)]
pub enum SubjectError {
    /// The certificate's file.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// No PEM, or not of certificates.
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PemError,
    },
}

impl fmt::Display for SubjectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(formatter, "cannot read `{}`: {error}", path.display())
            }
            Self::Pem { path, error } => formatter.write_str(&error.in_file(path)),
        }
    }
}

impl std::error::Error for SubjectError {}
