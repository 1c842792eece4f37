//! The filter's say about servers we connect to.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::gate::{REFUSED, ask_filter, current, refused};
use super::possession::Possession;
use crate::chain::{Chains, Fault, Purpose};
use crate::clock::instant;

/// Chain, revocation and, unless the policy disables it, the name that was dialled.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) chains: Arc<Chains>,
    /// Whether the certificate must be for the name (RFC 9525).
    pub(super) validates_hostname: bool,
}

impl Servers {
    /// # Errors
    /// Why it is not the server of this name.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: peergate_policy::UnixTime,
    ) -> Result<(), Fault> {
        self.chains.verify(leaf, intermediates, Purpose::Server, now)?;
        if self.validates_hostname { Chains::verify_name(leaf, name) } else { Ok(()) }
    }

    fn possession(&self) -> Possession {
        Possession::new(Arc::clone(&self.chains.provider))
    }
}

/// Verifies certificates as [`Servers`] does, then asks the filter, after the server proved that it has the key.
#[derive(Debug)]
pub(super) struct ServerGate(pub(super) Arc<Servers>);

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
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify(end_entity, intermediates, server_name, instant(now)).map_err(refused)?;
        let handshake = current().ok_or(REFUSED)?;
        handshake.verified.replace(Some(end_entity.to_vec()));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self
            .0
            .possession()
            .verify_tls12_signature(message, cert, signed)
            .map_err(|error| named(error, cert))?;
        self.possessed(cert, "TLSv1.2")?;
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self
            .0
            .possession()
            .verify_tls13_signature(message, cert, signed)
            .map_err(|error| named(error, cert))?;
        self.possessed(cert, "TLSv1.3")?;
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.possession().supported_verify_schemes()
    }
}

/// A signature is not verified by a key that is too short either, and that is what its owner must know.
fn named(error: Error, cert: &CertificateDer<'_>) -> Error {
    Chains::unsupported_key(cert, Purpose::Server).map_or(error, refused)
}
