//! Clients that are known by the authority that issued their certificate.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::gate::refused;
use super::possession::Possession;
use crate::chain::{Chains, Purpose};
use crate::clock::instant;

/// Requires a certificate of an authority, and proof of its key.
#[derive(Debug)]
pub(super) struct Clients {
    chains: Arc<Chains>,
    /// What may be asked for.
    hints: Vec<DistinguishedName>,
    possession: Possession,
}

impl Clients {
    pub(super) fn new(chains: Arc<Chains>) -> Self {
        let (hints, possession) = (chains.hints(), Possession::new(Arc::clone(&chains.provider)));
        Self { chains, hints, possession }
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chains.verify(end_entity, intermediates, Purpose::Client, instant(now));
        verified.map(|()| ClientCertVerified::assertion()).map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.possession.verify_tls12_signature(message, cert, signed).map_err(|error| named(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.possession.verify_tls13_signature(message, cert, signed).map_err(|error| named(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.possession.supported_verify_schemes()
    }
}

/// A signature is not verified by a key that is too short either, and that is what its owner must know.
fn named(error: Error, cert: &CertificateDer<'_>) -> Error {
    Chains::unsupported_key(cert, Purpose::Client).map_or(error, refused)
}
