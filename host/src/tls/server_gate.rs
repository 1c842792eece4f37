//! The filter's say about servers we connect to.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::gate::{REFUSED, ask_filter, current, unsupported};
use crate::certificate_version::Holder;

/// Chain, revocation and, unless the policy disables it, the name that was dialled.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) verifier: Arc<dyn ServerCertVerifier>,
    /// Whether the certificate must be for the name (RFC 9525).
    pub(super) validates_hostname: bool,
}

/// Verifies certificates as [`Servers`] does, then asks the filter, after the server proved that it has the key.
#[derive(Debug)]
pub(super) struct ServerGate(pub(super) Arc<Servers>);

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki asks for the name last: chain and revocation are verified then.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.validates_hostname => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ServerGate {
    /// Fails closed: no handshake laid down, another leaf than the verified one, and every verdict but "allow" refuse.
    fn possessed(&self, cert: &CertificateDer<'_>, version: &'static str) -> Result<(), Error> {
        let handshake = current().ok_or(REFUSED)?;
        if handshake.verified.borrow().as_deref() != Some(cert.as_ref()) {
            return Err(REFUSED);
        }
        ask_filter(&handshake, cert, version)
    }
}

impl ServerCertVerifier for ServerGate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| unsupported(error, Holder::Server, end_entity, intermediates))?;
        let handshake = current().ok_or(REFUSED)?;
        handshake.verified.replace(Some(end_entity.to_vec()));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.0.verify_tls12_signature(message, cert, signed)?;
        self.possessed(cert, "TLSv1.2")?;
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.0.verify_tls13_signature(message, cert, signed)?;
        self.possessed(cert, "TLSv1.3")?;
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
