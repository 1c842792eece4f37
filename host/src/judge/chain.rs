//! Whether the host would believe a certificate, before any rule is asked.

use std::path::Path;
use std::sync::Arc;

use peergate_policy::{Configuration, Endpoint, PolicyError, UnixTime};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::chain::{Chains, Fault, Purpose};
use crate::clean::Clean;
use crate::files::Trust;
use crate::tls::{self, Authentication};

/// What the policy's authorities say of a chain.
#[derive(Clone, Debug)]
pub enum Chain {
    /// One of them vouches for it.
    Verified,
    /// None does.
    Refused(Fault),
    /// They were not asked, and why.
    NotVerified(String),
}

impl Chain {
    /// Asks the authorities and revocation lists that `policy` names.
    ///
    /// # Errors
    /// The policy cannot be read.
    pub fn of(
        policy: &str,
        endpoint: Endpoint,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Self, PolicyError> {
        let configuration = Configuration::of(endpoint, policy)?;
        if !Authentication::of(&configuration).verifies_chains() {
            return Ok(Self::NotVerified("this kind of endpoint asks no authority".to_owned()));
        }
        let files = match configuration.policy().files().require(policy) {
            Ok(files) => files,
            Err(error) => return Ok(Self::NotVerified(error.to_string())),
        };
        let authorities = files.ca_certificates.as_deref().map(Path::new);
        let trust = match Trust::load(authorities, files.crls.iter().map(Path::new)) {
            Ok(trust) => trust,
            Err(error) => return Ok(Self::NotVerified(error.to_string())),
        };
        let [leaf, intermediates @ ..] = chain else { return Ok(Self::Refused(Fault::NoCertificate)) };
        Ok(match tls::chains_of(trust) {
            Ok(chains) => Self::by(&chains, leaf, intermediates, now),
            Err(error) => Self::NotVerified(error.to_string()),
        })
    }

    fn by(
        chains: &Arc<Chains>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Self {
        chains
            .verify(leaf, intermediates, Purpose::Client, now)
            .map_or_else(Self::Refused, |()| Self::Verified)
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Verified => json!({"verified": true}),
            Self::Refused(fault) => {
                json!({"verified": false, "failure": fault.word(), "reason": fault.to_string()})
            }
            Self::NotVerified(why) => json!({"verified": null, "reason": why}),
        }
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verified => formatter.write_str("verified"),
            Self::Refused(fault) => write!(formatter, "refused, {fault}"),
            Self::NotVerified(why) => write!(formatter, "not verified: {}", Clean(why)),
        }
    }
}
