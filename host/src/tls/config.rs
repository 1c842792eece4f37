//! The rustls configuration of a listener.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::gate::Gate;
use crate::files::Credentials;

/// Why no TLS configuration comes of a policy and its credentials.
#[derive(Debug)]
pub enum TlsError {
    /// None of `accepted-ciphers` is supported.
    NoCipher,
    /// None of `accepted-protocols` is supported.
    NoProtocol,
    /// The accepted ciphers belong to versions that are not accepted, or no cipher suits the key.
    Inconsistent(rustls::Error),
    /// Authorities or revocation lists that no client could be checked against.
    Verifier(VerifierBuilderError),
}

impl fmt::Display for TlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCipher => {
                write!(formatter, "`accepted-ciphers`: none is supported; supported are {}", suite_names())
            }
            Self::NoProtocol => formatter
                .write_str("`accepted-protocols`: none is supported; supported are TLSv1.2 and TLSv1.3"),
            Self::Inconsistent(error) => write!(
                formatter,
                "`accepted-ciphers` and `accepted-protocols` leave nothing to agree on: {error}"
            ),
            Self::Verifier(error) => {
                write!(
                    formatter,
                    "`files`: clients cannot be verified: {error}; check `ca-certificates` and `crls`"
                )
            }
        }
    }
}

impl std::error::Error for TlsError {}

/// TLS 1.2 and 1.3, a client certificate required, the filter asked once its possession is proven.
///
/// `accepted_ciphers` (IANA names) and `accepted_protocols` (`TLSv1.2`, `TLSv1.3`) restrict when they are not empty;
/// names that are not supported are skipped, as Vespa does, as long as one is left.
///
/// # Errors
/// Nothing supported is left, or the credentials cannot serve a listener.
pub fn server_config(
    credentials: Credentials,
    accepted_ciphers: &[String],
    accepted_protocols: &[String],
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider(accepted_ciphers)?);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(credentials.authorities), Arc::clone(&provider))
            .with_crls(credentials.revocation_lists)
            .enforce_revocation_expiration()
            .build()
            .map_err(TlsError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(accepted_protocols)?)
        .map_err(TlsError::Inconsistent)?
        .with_client_cert_verifier(Arc::new(Gate::new(verifier)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.identity)));
    // INVARIANT: no resumption and no early data. A resumed session skips the verifier, and with it the filter.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn provider(accepted: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if !accepted.is_empty() {
        provider.cipher_suites.retain(|suite| accepted.contains(&iana_name(*suite)));
    }
    if provider.cipher_suites.is_empty() { Err(TlsError::NoCipher) } else { Ok(provider) }
}

fn versions(accepted: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let known: [(&str, &'static SupportedProtocolVersion); 2] = [("TLSv1.2", &TLS12), ("TLSv1.3", &TLS13)];
    let accepts = |name: &str| accepted.is_empty() || accepted.iter().any(|accepted| accepted == name);
    let versions: Vec<_> =
        known.into_iter().filter(|(name, _)| accepts(name)).map(|(_, version)| version).collect();
    if versions.is_empty() { Err(TlsError::NoProtocol) } else { Ok(versions) }
}

/// rustls says `TLS13_AES_128_GCM_SHA256` where IANA says `TLS_AES_128_GCM_SHA256`.
fn iana_name(suite: rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

fn suite_names() -> String {
    let suites = aws_lc_rs::default_provider().cipher_suites;
    suites.into_iter().map(iana_name).collect::<Vec<_>>().join(", ")
}
