//! The rustls configuration of a listener.

use std::fmt;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateRevocationListDer, ServerName};

use super::authentication::Authentication;
use super::gate::Gate;
use super::possession::Possession;
use super::server_gate::{ServerGate, Servers};
use super::signatures;
use super::terms::{Ends, Terms};
use crate::files::Credentials;

/// Why no TLS configuration comes of a policy and its credentials.
#[derive(Debug)]
pub enum TlsError {
    /// None of `accepted-ciphers` is supported.
    NoCipher,
    /// None of `accepted-protocols` is supported.
    NoProtocol,
    /// The accepted ciphers belong to versions that are not accepted.
    Inconsistent,
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
            Self::Inconsistent => formatter.write_str(
                "`accepted-ciphers` has no cipher suite of a version in `accepted-protocols`; add one of TLSv1.2 or TLSv1.3",
            ),
            Self::Verifier(VerifierBuilderError::InvalidCrl(error)) => {
                write!(formatter, "`files.crls`: {error:?}; a list must be of version 2 with a number (RFC 5280)")
            }
            Self::Verifier(error) => write!(formatter, "`files.ca-certificates`: {error}; add an authority"),
        }
    }
}

impl std::error::Error for TlsError {}

/// TLS 1.2 and 1.3, and of the client what `authentication` says.
///
/// `accepted_ciphers` (IANA names) and `accepted_protocols` (`TLSv1.2`, `TLSv1.3`) restrict when they are not empty;
/// names that are not supported are skipped, as Vespa does, as long as one is left.
///
/// # Errors
/// Nothing supported is left, or the credentials cannot serve a listener.
pub fn server_config(
    credentials: Credentials,
    authentication: Authentication,
    accepted_ciphers: &[String],
    accepted_protocols: &[String],
    alpn: &[&[u8]],
) -> Result<Terms, TlsError> {
    let provider = Arc::new(provider(accepted_ciphers)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(accepted_protocols)?)
        .map_err(|_| TlsError::Inconsistent)?;
    let Credentials { identity, authorities, revocation_lists, expiries, trust } = credentials;
    let list_ends = revocation_lists.iter().map(|list| list.next_update).collect();
    let revocation_lists = revocation_lists.into_iter().map(|list| list.der).collect();
    let verifier = match authentication {
        Authentication::Peer | Authentication::Trusted => {
            Some(chain_verifier(authorities, revocation_lists, provider).map_err(TlsError::Verifier)?)
        }
        Authentication::Pinned => Some(Arc::new(Possession::new(provider)) as Arc<dyn ClientCertVerifier>),
        Authentication::Nothing => None,
    };
    let builder = match &verifier {
        Some(verifier) => {
            let gate = Gate::new(Arc::clone(verifier), authentication);
            builder.with_client_cert_verifier(Arc::new(gate))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    // INVARIANT: no resumption and no early data. A resumed session skips the verifier, and with it the filter.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Terms::server(config, authentication, verifier, trust, Ends { files: expiries, lists: list_ends }))
}

/// As [`server_config`], for connections to the server called `name`, which is sent to it (SNI) where it is a DNS name.
/// The server's certificate must be for that name if `validates_hostname`.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(
    credentials: Credentials,
    name: ServerName<'static>,
    validates_hostname: bool,
    accepted_ciphers: &[String],
    accepted_protocols: &[String],
    alpn: &[&[u8]],
) -> Result<Terms, TlsError> {
    let provider = Arc::new(provider(accepted_ciphers)?);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(accepted_protocols)?)
        .map_err(|_| TlsError::Inconsistent)?;
    let Credentials { identity, authorities, revocation_lists, expiries, trust } = credentials;
    let list_ends = revocation_lists.iter().map(|list| list.next_update).collect();
    let revocation_lists = revocation_lists.into_iter().map(|list| list.der);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider)
        .with_crls(revocation_lists)
        .enforce_revocation_expiration()
        .build()
        .map_err(TlsError::Verifier)?;
    let servers = Arc::new(Servers { verifier, validates_hostname });
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerGate(Arc::clone(&servers))))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    // INVARIANT: as for servers; a resumed session skips the verifier.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Terms::client(config, servers, name, trust, Ends { files: expiries, lists: list_ends }))
}

/// Certificate required, chain to an authority. With revocation lists, what no current list covers is refused.
pub(super) fn chain_verifier(
    authorities: RootCertStore,
    revocation_lists: Vec<CertificateRevocationListDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .with_crls(revocation_lists)
        .enforce_revocation_expiration()
        .build()
}

pub(super) fn provider(accepted: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    signatures::remember(&mut provider);
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
