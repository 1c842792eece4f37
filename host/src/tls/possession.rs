//! Clients that are known by the certificate itself, whoever signed it.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;

/// Requires a certificate and proof of its key, and asks no authority: pinned certificates are mostly self-signed, and
/// whether this one is known, and still valid, the filter says to each request (403, which clients do not try again).
///
/// Signatures are verified with the key alone, so that a certificate of any version serves: `openssl x509 -req` makes
/// version 1, and webpki reads version 3 only.
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

    /// A scheme of TLS 1.2 does not say of which curve the key is, so it has several algorithms (RFC 8446, 4.2.3).
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = public_key(cert)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| BAD_ENCODING)?;
        let known = self.provider.signature_verification_algorithms.mapping;
        let (_, algorithms) = known
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let verifies = |algorithm| key.verify_signature(algorithm, message, signed.signature()).is_ok();
        match algorithms.iter().any(|algorithm| verifies(*algorithm)) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &public_key(cert)?,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The key as the filter's own parser finds it, in a certificate with nothing after it.
fn public_key<'a>(cert: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    match parser.parse(cert) {
        Ok(([], certificate)) => Ok(certificate.tbs_certificate.subject_pki.raw.into()),
        _ => Err(BAD_ENCODING),
    }
}

const BAD_ENCODING: Error = Error::InvalidCertificate(CertificateError::BadEncoding);
