//! The rustls configuration of a listener.

use std::fmt;
use std::sync::Arc;

use peergate_policy::UnixTime;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;

use super::authentication::Authentication;
use super::clients::Clients;
use super::gate::Gate;
use super::possession::Possession;
use super::server_gate::{ServerGate, Servers};
use super::signatures;
use super::terms::{Ends, Terms};
use crate::chain::{Authorities, Chains, Fault};
use crate::clock::{self, SystemClock};
use crate::files::{Credentials, Trust};
use crate::revocation::RevocationList;

/// Why no TLS configuration comes of a policy and its credentials.
#[derive(Debug)]
pub enum TlsError {
    /// None of `accepted-ciphers` is supported.
    NoCipher,
    /// None of `accepted-protocols` is supported.
    NoProtocol,
    /// The accepted ciphers belong to versions that are not accepted.
    Inconsistent,
    /// No authority at all.
    NoAuthority,
    /// Authorities that vouch for nobody, and no other.
    NoUsableAuthority(Vec<Fault>),
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
            Self::NoAuthority => formatter.write_str("`files.ca-certificates` has no authority; add one"),
            Self::NoUsableAuthority(flaws) => {
                formatter.write_str("`files.ca-certificates` has no authority that vouches for anybody")?;
                flaws.iter().try_for_each(|flaw| write!(formatter, "; {flaw}"))
            }
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
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(SystemClock))
        .with_protocol_versions(&versions(accepted_protocols)?)
        .map_err(|_| TlsError::Inconsistent)?;
    let Credentials { identity, authorities, revocation_lists, expiries, trust } = credentials;
    let trust_ends = trust_ends(&authorities, &revocation_lists);
    let (verifier, chains): (Option<Arc<dyn ClientCertVerifier>>, _) = match authentication {
        Authentication::Peer | Authentication::Trusted => {
            check_authorities(&authorities)?;
            let chains = chains(authorities, revocation_lists, provider);
            (Some(Arc::new(Clients::new(Arc::clone(&chains)))), Some(chains))
        }
        Authentication::Pinned => (Some(Arc::new(Possession::new(provider))), None),
        Authentication::Nothing => (None, None),
    };
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(Gate::new(verifier, authentication))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    // INVARIANT: no resumption and no early data. A resumed session skips the verifier, and with it the filter.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Terms::server(config, authentication, chains, trust, Ends { files: expiries, trust: trust_ends }))
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
    let builder = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(SystemClock))
        .with_protocol_versions(&versions(accepted_protocols)?)
        .map_err(|_| TlsError::Inconsistent)?;
    let Credentials { identity, authorities, revocation_lists, expiries, trust } = credentials;
    let trust_ends = trust_ends(&authorities, &revocation_lists);
    check_authorities(&authorities)?;
    let chains = chains(authorities, revocation_lists, provider);
    let servers = Arc::new(Servers { chains, validates_hostname });
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerGate(Arc::clone(&servers))))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    // INVARIANT: as for servers; a resumed session skips the verifier.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Terms::client(config, servers, name, trust, Ends { files: expiries, trust: trust_ends }))
}

/// Verifies as a listener with this trust does, and no cipher suite restricted.
pub(crate) fn chains_of(trust: Trust) -> Result<Arc<Chains>, TlsError> {
    Ok(chains(trust.authorities, trust.revocation_lists, Arc::new(provider(&[])?)))
}

/// Verifies by these authorities. With revocation lists, what no current list covers is refused.
pub(super) fn chains(
    authorities: Authorities,
    lists: Vec<RevocationList>,
    provider: Arc<CryptoProvider>,
) -> Arc<Chains> {
    Arc::new(Chains { authorities, lists, provider })
}

/// Whether there is an authority that vouches for anybody.
fn check_authorities(authorities: &Authorities) -> Result<(), TlsError> {
    let flaws = authorities.flaws(clock::now());
    match authorities.len() {
        0 => Err(TlsError::NoAuthority),
        all if all == flaws.len() => Err(TlsError::NoUsableAuthority(flaws)),
        _ => Ok(()),
    }
}

/// When a chain that is good now may be good no longer, though nothing of it has ended.
fn trust_ends(authorities: &Authorities, revocation_lists: &[RevocationList]) -> Vec<UnixTime> {
    revocation_lists.iter().map(|list| list.next_update).chain(authorities.ends()).collect()
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
