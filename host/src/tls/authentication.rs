//! What a listener asks of its clients in the handshake.

use peergate_policy::{CertificateTrust, Configuration, Endpoint};

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
