//! How long certificates are valid.

use peergate_policy::UnixTime;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// For each certificate the first second at which it is no longer valid (RFC 5280 section 4.1.2.5: `notAfter` itself still
/// counts). What cannot be read was refused before, or is not asked.
pub(crate) fn ends<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Vec<UnixTime> {
    let ends = chain.into_iter().filter_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(UnixTime::from_seconds(certificate.validity().not_after.timestamp().saturating_add(1)))
    });
    ends.collect()
}
