//! How a listener shakes hands, with clients or with servers.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::authentication::Authentication;
use crate::files::Expiry;

/// What is presented and what is asked of the other side. All parts are made together, so that what was asked is what is
/// expected.
#[derive(Clone, Debug)]
pub struct Terms {
    side: Side,
    authentication: Authentication,
    expiries: Vec<Expiry>,
}

/// Verifiers here are without the filter's say.
#[derive(Clone, Debug)]
enum Side {
    Server { config: Arc<ServerConfig>, verifier: Option<Arc<dyn ClientCertVerifier>> },
    Client { config: Arc<ClientConfig>, verifier: Arc<dyn ServerCertVerifier>, name: ServerName<'static> },
}

impl Terms {
    pub(super) fn server(
        config: ServerConfig,
        authentication: Authentication,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        expiries: Vec<Expiry>,
    ) -> Self {
        Self { side: Side::Server { config: Arc::new(config), verifier }, authentication, expiries }
    }

    /// Servers are always judged by their certificate.
    pub(super) fn client(
        config: ClientConfig,
        verifier: Arc<dyn ServerCertVerifier>,
        name: ServerName<'static>,
        expiries: Vec<Expiry>,
    ) -> Self {
        let side = Side::Client { config: Arc::new(config), verifier, name };
        Self { side, authentication: Authentication::Peer, expiries }
    }

    /// For handshakes with clients.
    pub(super) fn server_config(&self) -> Option<&Arc<ServerConfig>> {
        match &self.side {
            Side::Server { config, .. } => Some(config),
            Side::Client { .. } => None,
        }
    }

    /// For handshakes with the server of this name.
    pub(super) fn client_config(&self) -> Option<(&Arc<ClientConfig>, &ServerName<'static>)> {
        match &self.side {
            Side::Client { config, name, .. } => Some((config, name)),
            Side::Server { .. } => None,
        }
    }

    /// What servers are called on these terms.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.client_config().map(|(_, name)| name)
    }

    /// Whether a chain that was presented in an earlier handshake would pass now: its authority is still there, nothing
    /// of it is revoked or has expired. Where no authority is asked, all do.
    ///
    /// # Errors
    /// Why it would not.
    pub fn trust(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !self.authentication.verifies_chains() {
            return Ok(());
        }
        let [leaf, intermediates @ ..] = chain else { return Err(rustls::Error::NoCertificatesPresented) };
        let now = UnixTime::now();
        match &self.side {
            Side::Server { verifier: Some(verifier), .. } => {
                verifier.verify_client_cert(leaf, intermediates, now).map(drop)
            }
            Side::Server { verifier: None, .. } => Err(rustls::Error::NoCertificatesPresented),
            Side::Client { verifier, name, .. } => {
                verifier.verify_server_cert(leaf, intermediates, name, &[], now).map(drop)
            }
        }
    }

    /// When the files they come from end.
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// What the other side is asked for.
    pub fn authentication(&self) -> Authentication {
        self.authentication
    }
}
