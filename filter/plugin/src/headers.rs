//! Identity headers: the client's copies out, ours in where the policy asks.

use peergate_policy::{Certificate, Grant, UpstreamHeaders, rfc2253};

use crate::envoy::{self, HostCallError, Map, Pair};

const PREFIX: &[u8] = b"x-peergate-";
const XFCC: &str = "x-forwarded-client-cert";

/// What has no place in trailers (RFC 9110, 6.5.1), where nobody judges it and a server may take it for a header: framing,
/// routing and credentials.
const HEADERS_ONLY: [&[u8]; 17] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// `x-forwarded-host` and the like, in trailers.
const FORWARDED: &[u8] = b"x-forwarded-";

/// Removes every header that could be taken for a statement of ours or of the proxy about the peer: `x-peergate-*` and
/// `x-forwarded-client-cert`, and of trailers what belongs in a head. In any case, also spelt with `_`, which some servers
/// read as `-`.
///
/// Returns what is left.
pub(crate) fn strip(map: Map) -> Result<Vec<Pair>, HostCallError> {
    let (removed, left): (Vec<Pair>, Vec<Pair>) =
        envoy::headers(map)?.into_iter().partition(|(name, _)| is_removed(map, name));
    for (name, _) in removed {
        envoy::remove_header(map, &name)?;
    }
    Ok(left)
}

fn is_removed(map: Map, name: &[u8]) -> bool {
    let folded: Vec<u8> =
        name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
    folded.starts_with(PREFIX)
        || folded == XFCC.as_bytes()
        || matches!(map, Map::RequestTrailers)
            && (folded.starts_with(FORWARDED) || HEADERS_ONLY.contains(&folded.as_slice()))
}

/// The headers the policy's `upstream-headers` asks for. Those that name the peer need its certificate.
pub(crate) fn about(
    asked: &UpstreamHeaders,
    grant: &Grant,
    certificate: Option<&Certificate>,
) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if asked.policy {
        headers.push(("x-peergate-policy", list(grant.matched().rules.iter().map(|rule| encoded(rule)))));
    }
    if asked.capabilities {
        headers.push(("x-peergate-capabilities", list(grant.capabilities().names().map(str::to_owned))));
    }
    if let Some(certificate) = certificate.filter(|_| asked.subject) {
        headers.push(("x-peergate-subject", subject(certificate)));
    }
    if let Some(certificate) = certificate.filter(|_| asked.xfcc) {
        headers.push((XFCC, xfcc(certificate)));
    }
    headers
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

/// `CN=...;DNS=...;URI=...;IP=...`, each value percent-encoded.
fn subject(certificate: &Certificate) -> String {
    let identity = &certificate.identity;
    let common_name = identity.common_name.iter().map(|name| format!("CN={}", encoded(name)));
    let dns = identity.dns_names.iter().map(|name| format!("DNS={}", encoded(name)));
    let uris = identity.uris.iter().map(|uri| format!("URI={}", encoded(uri)));
    let addresses = identity.addresses.iter().map(|address| format!("IP={address}"));
    common_name.chain(dns).chain(uris).chain(addresses).collect::<Vec<_>>().join(";")
}

/// One element in Envoy's format, with the subject as Envoy writes it. Envoy itself leaves URI and DNS values unescaped
/// (envoy#32945), which lets the holder of a certificate add elements; here they cannot contain `,`, `;`, `=` or `"`.
fn xfcc(certificate: &Certificate) -> String {
    let identity = &certificate.identity;
    let hash: String = certificate.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut element = format!("Hash={hash};Subject=\"{}\"", rfc2253(&certificate.subject));
    // As Envoy, which writes an empty URI where there is none.
    for uri in identity.uris.iter().map(String::as_str).chain(identity.uris.is_empty().then_some("")) {
        element += &format!(";URI={}", encoded(uri));
    }
    for name in &identity.dns_names {
        element += &format!(";DNS={}", encoded(name));
    }
    element
}

/// Percent-encoding (RFC 3986) of everything but unreserved characters and what names of hosts and SPIFFE IDs need.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'/'
            | b':'
            | b'@'
            | b'*'
            | b'['
            | b']' => encoded.push(byte.into()),
            other => encoded += &format!("%{other:02X}"),
        }
    }
    encoded
}
