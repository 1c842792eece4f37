//! Clients that are known by the certificate itself, whoever signed it.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;

/// Requires a certificate and proof of its key, and asks no authority: pinned certificates are mostly self-signed, and
/// whether this one is known, and still valid, the filter says to each request (403, which clients do not try again).
#[derive(Debug)]
pub(super) struct Possession {
    provider: Arc<CryptoProvider>,
}

impl Possession {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ClientCertVerifier for Possession {
    /// None: the client shall present what it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    /// webpki reads the certificate here, and X.509 version 3 only: others fail as `UnsupportedCertVersion`.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    /// The key alone, so that a certificate of any version serves: `openssl x509 -req` makes version 1.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = public_key(cert).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        verify_tls13_signature_with_raw_key(
            message,
            &key,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The key as the filter's own parser finds it, in a certificate with nothing after it.
fn public_key<'a>(cert: &'a CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'a>> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    match parser.parse(cert) {
        Ok(([], certificate)) => Some(certificate.tbs_certificate.subject_pki.raw.into()),
        _ => None,
    }
}
