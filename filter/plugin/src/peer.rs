//! What the proxy knows of the peer, read from properties. Never read in `on_new_connection`: Envoy would keep the
//! empty answer of that moment for the whole connection.

use peergate_policy::{Certificate, DenyReason, Digest};

use crate::envoy::{self, HostCallError};
use crate::verdict::{LISTED, escaped};

const CERTIFICATE: &[&str] = &["connection", "peer_certificate"];
const CHAIN_VERIFIED: &[&str] = &["connection", "peer_certificate_valid"];
const UPSTREAM: &[&str] = &["upstream", "address"];
const RESPONSE_DETAILS: &[&str] = &["response", "code_details"];
const RESPONSE_BYTES: &[&str] = &["response", "total_size"];
const ADDRESS: &[&str] = &["source", "address"];
const MUTUAL: &[&str] = &["connection", "mtls"];
const TLS_VERSION: &[&str] = &["connection", "tls_version"];
const SERVER_NAME: &[&str] = &["connection", "requested_server_name"];
const DIGEST: &[&str] = &["connection", "sha256_peer_certificate_digest"];
/// Written by Envoy's `set_filter_state` with `%DOWNSTREAM_PEER_CERT%`, where the attribute does not exist (< 1.39).
const FILTER_STATE: &[&str] = &["filter_state", "peergate.pem"];

/// Refuses where the proxy says that it did not verify the certificate on this connection: a resumed session, or
/// `ACCEPT_UNTRUSTED`. Asked each time. Envoy before 1.39 does not say.
pub(crate) fn check_chain() -> Result<(), DenyReason> {
    match envoy::property(CHAIN_VERIFIED) {
        Ok(None) => Ok(()),
        Ok(Some(value)) if value.first() == Some(&1) => Ok(()),
        // Nothing to verify is the plainer reason, where it is one.
        Ok(Some(_)) | Err(HostCallError) => pem().and(Err(DenyReason::ChainNotVerified)),
    }
}

/// Whether the connection certainly has no TLS. A certificate that is missing says nothing: the proxy must know the
/// connection (`mtls` is never absent then), and know of no TLS version, server name or digest.
pub(crate) fn is_plaintext() -> bool {
    let absent = |path| matches!(envoy::property(path), Ok(None));
    // Envoy's server name is empty where there is none.
    let nameless = || envoy::property(SERVER_NAME).is_ok_and(|name| name.is_none_or(|name| name.is_empty()));
    matches!(envoy::property(MUTUAL), Ok(Some(flag)) if flag == [0])
        && absent(TLS_VERSION)
        && absent(DIGEST)
        && nameless()
}

/// Whether a request that has ended reached an upstream, or bytes of an upstream the client of a connection.
pub(crate) fn was_forwarded() -> bool {
    let present = |path| matches!(envoy::property(path), Ok(Some(value)) if !value.is_empty());
    // A connection has no details, and may have an upstream without a byte.
    let heard =
        || matches!(envoy::property(RESPONSE_BYTES), Ok(Some(size)) if size.iter().any(|byte| *byte != 0));
    present(UPSTREAM) && (present(RESPONSE_DETAILS) || heard())
}

/// Whether the client presented a certificate, wherever it is.
pub(crate) fn presented() -> bool {
    matches!(envoy::property(MUTUAL), Ok(Some(flag)) if flag == [1])
}

/// Whether the proxy is one that says if it verified the certificate.
pub(crate) fn tells_chain() -> bool {
    !matches!(envoy::property(CHAIN_VERIFIED), Ok(None))
}

/// The SHA-256 of the leaf, if the proxy states it in the one form we trust as a cache key: 64 hex digits.
pub(crate) fn digest() -> Option<Digest> {
    let text = envoy::property(DIGEST).ok()??;
    peergate_policy::digest_from_hex(&text)
}

/// The leaf certificate.
pub(crate) fn certificate() -> Result<Certificate, DenyReason> {
    pem().and_then(|pem| Certificate::from_pem(&pem))
}

/// The leaf certificate, where its names do not matter.
pub(crate) fn unnamed_certificate() -> Result<Certificate, DenyReason> {
    pem().and_then(|pem| Certificate::unnamed_from_pem(&pem))
}

/// Address and names, for logs: `'10.0.0.7:1234' with [CN='..', SAN_DNS=[..], SAN_URI=[..]]`.
pub(crate) fn described() -> String {
    let address = envoy::property(ADDRESS).ok().flatten().and_then(|text| String::from_utf8(text).ok());
    let address = address.unwrap_or_default();
    let Ok(Certificate { identity, .. }) = certificate() else {
        return format!("'{address}' with <missing-certificate>");
    };
    let list =
        |names: &[String]| names.iter().take(LISTED).map(|name| escaped(name)).collect::<Vec<_>>().join(", ");
    let common_name = escaped(identity.common_name.as_deref().unwrap_or_default());
    let (dns, uris) = (list(&identity.dns_names), list(&identity.uris));
    format!("'{address}' with [CN='{common_name}', SAN_DNS=[{dns}], SAN_URI=[{uris}]]")
}

fn pem() -> Result<Vec<u8>, DenyReason> {
    for path in [CERTIFICATE, FILTER_STATE] {
        match envoy::property(path) {
            // `-` is how Envoy's formatter writes "no certificate".
            Ok(Some(pem)) if !pem.is_empty() && pem != b"-" => return Ok(pem),
            Ok(_) => {}
            Err(HostCallError) => return Err(DenyReason::NoCertificate),
        }
    }
    Err(DenyReason::NoCertificate)
}
