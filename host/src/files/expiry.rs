//! When files end by themselves.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// A file of the policy's `files`, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// The key in `files`.
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// The first end of a certificate in it, or the first time a revocation list in it is due to be replaced; seconds since
    /// 1970.
    pub not_after: i64,
}

impl Expiry {
    /// Of certificates that were read; what does not parse has no end, and is refused elsewhere.
    pub(super) fn of_certificates(
        key: &'static str,
        path: &Path,
        found: &[CertificateDer<'_>],
    ) -> Option<Self> {
        let end = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(certificate.validity().not_after.timestamp())
        };
        Self::first(key, path, found.iter().filter_map(end))
    }

    /// Of revocation lists that were read.
    pub(super) fn of_revocation_lists<'a>(
        key: &'static str,
        path: &Path,
        found: impl Iterator<Item = &'a CertificateRevocationListDer<'a>>,
    ) -> Option<Self> {
        let end = |der: &CertificateRevocationListDer<'_>| {
            let (_, list) = CertificateRevocationList::from_der(der).ok()?;
            list.next_update().map(|time| time.timestamp())
        };
        Self::first(key, path, found.filter_map(end))
    }

    fn first(key: &'static str, path: &Path, ends: impl Iterator<Item = i64>) -> Option<Self> {
        Some(Self { key, path: path.to_owned(), not_after: ends.min()? })
    }
}
