//! What a listener asks of its clients in the handshake.

use std::sync::Arc;

use peergate_policy::{CertificateTrust, Configuration, Endpoint};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::files::Expiry;

/// How clients are known before their first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// By a certificate of the policy's authorities; the filter is asked about the connection, and about each request.
    Peer,
    /// By a certificate of the policy's authorities; the filter is asked about each request.
    Trusted,
    /// By any certificate whose key they have, expired or unknown; the filter is asked about each request.
    Pinned,
    /// Not at all, no certificate is asked for: each request carries its own proof.
    Nothing,
}

impl Authentication {
    /// What the endpoint's kind and its policy call for.
    pub fn of(configuration: &Configuration) -> Self {
        let trust = configuration.policy().data_plane().map(|data_plane| data_plane.certificate_trust());
        match (configuration.endpoint(), trust) {
            (Endpoint::Peer, _) => Self::Peer,
            (Endpoint::Mtls, Some(CertificateTrust::Clients)) => Self::Pinned,
            // Without a data plane the configuration is refused; the stricter way is no loss.
            (Endpoint::Mtls, Some(CertificateTrust::Any) | None) => Self::Trusted,
            (Endpoint::Token, _) => Self::Nothing,
        }
    }

    /// Whether the policy's authorities and revocation lists are asked.
    pub fn verifies_chains(self) -> bool {
        matches!(self, Self::Peer | Self::Trusted)
    }
}

/// How a listener shakes hands. Both parts are made together, so that what was asked is what is expected.
#[derive(Clone, Debug)]
pub struct Terms {
    pub(super) config: Arc<ServerConfig>,
    pub(super) authentication: Authentication,
    /// Without the filter's say.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) expiries: Vec<Expiry>,
}

impl Terms {
    /// Whether a chain that was presented in an earlier handshake would pass now: its authority is still there, nothing
    /// of it is revoked or has expired. Where no authority is asked, all do.
    ///
    /// # Errors
    /// Why it would not.
    pub fn trust(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !self.authentication.verifies_chains() {
            return Ok(());
        }
        match (&self.verifier, chain) {
            (Some(verifier), [leaf, intermediates @ ..]) => {
                verifier.verify_client_cert(leaf, intermediates, UnixTime::now()).map(drop)
            }
            _ => Err(rustls::Error::NoCertificatesPresented),
        }
    }

    /// When the files they come from end.
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// What clients are asked for.
    pub fn authentication(&self) -> Authentication {
        self.authentication
    }
}
