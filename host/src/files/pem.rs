//! PEM files into the DER objects that TLS needs. The reader is [`peergate_policy::pem`], here and everywhere.

use peergate_policy::pem::{self, Label, PemError, PemErrorKind, Section, Wanted};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// What a section of a file holds.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    /// Line of the section, from 1.
    pub(crate) line: usize,
    pub(crate) item: T,
}

/// Every certificate of a file, in order, at least one.
///
/// # Errors
/// Something in the file is no certificate, or there is none.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<Found<CertificateDer<'static>>>, PemError> {
    pem::read(pem, Wanted::Certificates)?.iter().map(of).collect()
}

/// Every revocation list of a file, in order, at least one.
pub(super) fn revocation_lists(
    pem: &[u8],
) -> Result<Vec<Found<CertificateRevocationListDer<'static>>>, PemError> {
    pem::read(pem, Wanted::RevocationLists)?.iter().map(of).collect()
}

/// What a file for a private key holds.
pub(crate) struct KeyFile {
    /// PKCS #8, SEC 1 or PKCS #1, never encrypted.
    pub(crate) key: PrivateKeyDer<'static>,
    /// Certificates beside it.
    pub(super) certificates: Vec<Found<CertificateDer<'static>>>,
}

/// The one private key of a file.
pub(crate) fn private_key(pem: &[u8]) -> Result<KeyFile, PemError> {
    let sections = pem::read(pem, Wanted::PrivateKey)?;
    let (keys, others): (Vec<_>, Vec<_>) =
        sections.iter().partition(|section| section.label().is_private_key());
    let key = keys.first().ok_or(PemError::whole(PemErrorKind::Nothing(Wanted::PrivateKey)))?;
    Ok(KeyFile { key: key_of(key)?, certificates: others.into_iter().map(of).collect::<Result<_, _>>()? })
}

fn of<T: From<Vec<u8>>>(section: &Section) -> Result<Found<T>, PemError> {
    Ok(Found { line: section.line(), item: section.der()?.into() })
}

/// Decoded by rustls, in constant time.
fn key_of(section: &Section) -> Result<PrivateKeyDer<'static>, PemError> {
    let label: &[u8] = match section.label() {
        Label::RsaPrivateKey => b"RSA PRIVATE KEY-----\n",
        Label::EcPrivateKey => b"EC PRIVATE KEY-----\n",
        _ => b"PRIVATE KEY-----\n",
    };
    let parts = [b"-----BEGIN ", label, section.base64(), b"\n-----END ", label];
    let mut text = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| text.extend_from_slice(part));
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| PemError::at(section.line(), PemErrorKind::Incomplete))
}
