//! PEM files (RFC 7468) into the DER objects that TLS needs.

use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::credentials::Fault;

/// Every certificate of a file, in order; other sections are skipped.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found = sections(pem, CertificateDer::from_pem)?;
    if found.is_empty() { Err(Fault::NoCertificate) } else { Ok(found) }
}

/// Every revocation list of a file.
pub(super) fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let found = sections(pem, CertificateRevocationListDer::from_pem)?;
    if found.is_empty() { Err(Fault::NoRevocationList) } else { Ok(found) }
}

/// The one private key of a file: PKCS#8, SEC1 or PKCS#1, never encrypted.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    if is_encrypted(pem) {
        return Err(Fault::EncryptedKey);
    }
    let mut found = sections(pem, PrivateKeyDer::from_pem)?;
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(Fault::NoPrivateKey),
        (Some(_), false) => Err(Fault::SeveralPrivateKeys),
        (Some(key), true) => Ok(key),
    }
}

/// PKCS#8 encryption (RFC 7468 section 11) and OpenSSL's older header inside a PKCS#1 or SEC1 section (RFC 1421).
fn is_encrypted(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).any(|line| {
        line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
            || (line.starts_with(b"Proc-Type:") && line.trim_ascii_end().ends_with(b"ENCRYPTED"))
    })
}

fn sections<T>(pem: &[u8], pick: fn(SectionKind, Vec<u8>) -> Option<T>) -> Result<Vec<T>, Fault> {
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        // The parser's own words quote the file's bytes, and the file may be a key.
        let (kind, der) = section.map_err(|_| Fault::NotPem)?;
        found.extend(pick(kind, der));
    }
    Ok(found)
}
