//! How a listener shakes hands, with clients or with servers.

use std::sync::Arc;

use peergate_policy::UnixTime;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use super::authentication::Authentication;
use super::distrust::Distrust;
use super::server_gate::Servers;
use super::signatures::recalling;
use super::validity::ends;
use crate::chain::{Chains, Fault, Purpose};
use crate::files::Expiry;

/// What is presented and what is asked of the other side. All parts are made together, so that what was asked is what is
/// expected.
#[derive(Clone, Debug)]
pub struct Terms {
    side: Side,
    authentication: Authentication,
    /// Of authorities and revocation lists.
    trust: [u8; 32],
    ends: Ends,
}

/// When what they are made of ends.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) files: Vec<Expiry>,
    /// `nextUpdate` of each revocation list that is asked, and the ends of the authorities.
    pub(super) trust: Vec<UnixTime>,
}

/// What verifies here is without the filter's say.
#[derive(Clone, Debug)]
enum Side {
    Server {
        config: Arc<ServerConfig>,
        /// The same, without application protocols.
        without_alpn: Arc<ServerConfig>,
        chains: Option<Arc<Chains>>,
    },
    Client {
        config: Arc<ClientConfig>,
        servers: Arc<Servers>,
        name: ServerName<'static>,
    },
}

impl Terms {
    pub(super) fn server(
        config: ServerConfig,
        authentication: Authentication,
        chains: Option<Arc<Chains>>,
        trust: [u8; 32],
        ends: Ends,
    ) -> Self {
        let mut without_alpn = config.clone();
        without_alpn.alpn_protocols.clear();
        let (config, without_alpn) = (Arc::new(config), Arc::new(without_alpn));
        Self { side: Side::Server { config, without_alpn, chains }, authentication, trust, ends }
    }

    /// Servers are always judged by their certificate.
    pub(super) fn client(
        config: ClientConfig,
        servers: Arc<Servers>,
        name: ServerName<'static>,
        trust: [u8; 32],
        ends: Ends,
    ) -> Self {
        let side = Side::Client { config: Arc::new(config), servers, name };
        Self { side, authentication: Authentication::Peer, trust, ends }
    }

    /// For handshakes with clients.
    pub(super) fn server_config(&self) -> Option<&Arc<ServerConfig>> {
        match &self.side {
            Side::Server { config, .. } => Some(config),
            Side::Client { .. } => None,
        }
    }

    /// For handshakes with clients that offer no application protocol of ours. rustls would end them with the alert
    /// `no_application_protocol` (RFC 7301 section 3.2). Sidecars of a mesh offer only its own names (`istio`,
    /// `istio-peer-exchange`), and Envoy goes on as if they had offered nothing (istio/istio#6928).
    ///
    /// A strict server is safe from cross-protocol attacks (ALPACA): a browser cannot be made to send it what was meant for a
    /// server of another protocol with the same certificate. We give that up, as Envoy does: a client has to show a
    /// certificate or a token, and what is no HTTP is answered with 400.
    pub(super) fn server_config_without_alpn(&self) -> Option<&Arc<ServerConfig>> {
        match &self.side {
            Side::Server { without_alpn, .. } => Some(without_alpn),
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

    /// Whether a chain that was presented in an earlier handshake is good at `now`: its authority is still there, nothing
    /// of it is revoked or has expired. Where no authority is asked, only the leaf's own time counts.
    ///
    /// # Errors
    /// Why it is not.
    pub fn trust(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Distrust> {
        if !self.authentication.verifies_chains() {
            let is_over = chain.first().is_some_and(|leaf| ends([leaf]).iter().any(|end| *end <= now));
            return if is_over { Err(Distrust::Expired) } else { Ok(()) };
        }
        let [leaf, intermediates @ ..] = chain else {
            return Err(Fault::NoCertificate.into());
        };
        let trusted = recalling(|| match &self.side {
            Side::Server { chains: Some(chains), .. } => {
                chains.verify(leaf, intermediates, Purpose::Client, now)
            }
            Side::Server { chains: None, .. } => Err(Fault::NoCertificate),
            Side::Client { servers, name, .. } => servers.verify(leaf, intermediates, name, now),
        });
        trusted.map_err(Distrust::from)
    }

    /// Why authorities of the policy vouch for nobody at `now`, one by one.
    pub fn flaws(&self, now: UnixTime) -> Vec<Fault> {
        match &self.side {
            Side::Server { chains: Some(chains), .. } => chains.authorities.flaws(now),
            Side::Server { chains: None, .. } => Vec::new(),
            Side::Client { servers, .. } => servers.chains.authorities.flaws(now),
        }
    }

    /// Whether a client's chain that was good on `before` is good on these terms as long as it has not ended: the same
    /// authorities and revocation lists are asked. Of servers names are asked too, so theirs are verified again.
    pub fn trusts_as(&self, before: &Self) -> bool {
        let are_for_clients = self.server_config().is_some() && before.server_config().is_some();
        are_for_clients && self.authentication == before.authentication && self.trust == before.trust
    }

    /// The moments from which a revocation list says nothing more, or an authority vouches for nobody.
    pub fn trust_ends(&self) -> &[UnixTime] {
        match self.authentication.verifies_chains() {
            true => &self.ends.trust,
            false => &[],
        }
    }

    /// When the files they come from end.
    pub fn expiries(&self) -> &[Expiry] {
        &self.ends.files
    }

    /// What the other side is asked for.
    pub fn authentication(&self) -> Authentication {
        self.authentication
    }
}
