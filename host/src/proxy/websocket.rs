//! The opening handshake of a WebSocket, on both sides of this hop: RFC 6455 section 4, and RFC 8441 for clients over
//! HTTP/2.

use std::rc::Rc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use tokio::time::timeout;

use super::headers::RequestHead;
use super::slot::Slot;
use super::upstream::{Far, Outgoing, Upstream, UpstreamError};
use super::{hop, limits};
use crate::capacity::{Limit, Permit};
use crate::wasm::HeaderPairs;

/// A client's wish to go on as a WebSocket.
#[derive(Debug)]
pub(super) enum Wish {
    /// Its connection becomes the tunnel.
    Http1,
    /// A stream of its connection does.
    Http2(OnUpgrade),
}

impl Wish {
    /// The wish of a request, which is from now on the GET that it stands for. Whatever is not exactly the handshake of RFC
    /// 6455 section 4.1 is no wish: such a request is answered as any other, without the upgrade. One with a body is none
    /// either, because where a body ends is where a second request could hide.
    pub(super) fn of(request: &mut Request<Incoming>) -> Option<Self> {
        match request.version() {
            Version::HTTP_11 if is_handshake(request) => Some(Self::Http1),
            Version::HTTP_2 if is_extended_connect(request) => {
                // Over HTTP/2 there is none (RFC 8441 section 5), but the service wants one.
                let key = fresh_key()?;
                request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
                *request.method_mut() = Method::GET;
                Some(Self::Http2(hyper::upgrade::on(request)))
            }
            _ => None,
        }
    }

    /// A stream that becomes a tunnel counts as one more connection of its client.
    ///
    /// # Errors
    /// The client has too many, or all have.
    pub(super) fn permit(&self, slot: &Slot) -> Result<Option<Permit>, Limit> {
        match self {
            Self::Http1 => Ok(None),
            Self::Http2(_) => slot.connection().map(Some),
        }
    }

    /// The head of the answer that grants it.
    pub(super) fn granted(&self, mut headers: HeaderMap) -> Response<()> {
        let mut response = Response::new(());
        match self {
            Self::Http1 => {
                mark(&mut headers);
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            }
            Self::Http2(_) => drop(headers.remove(SEC_WEBSOCKET_ACCEPT)),
        }
        *response.headers_mut() = headers;
        response
    }
}

/// Whether a client would take an ordinary answer of this status for a switch of protocols: over HTTP/2 any success is one
/// (RFC 8441 section 5), and a 101 nobody asked for.
pub(super) fn is_misleading(wish: &Option<Wish>, status: StatusCode) -> bool {
    let is_http2 = matches!(wish, Some(Wish::Http2(_)));
    status == StatusCode::SWITCHING_PROTOCOLS || (is_http2 && status.is_success())
}

/// Marks a head as the upgrade, for the next hop or for the filter.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Whether the filter left the upgrade in the request.
pub(super) fn is_marked(pairs: &HeaderPairs) -> bool {
    let has = |name: &[u8], value: &[u8]| {
        pairs.iter().any(|(key, it)| key == name && it.eq_ignore_ascii_case(value))
    };
    has(b":method", b"GET") && has(b"connection", b"upgrade") && has(b"upgrade", WEBSOCKET.as_bytes())
}

/// What the service answered.
pub(super) enum Answered {
    /// It speaks WebSocket from now on. These fields of its answer go to the client.
    Switched(HeaderMap, Far),
    /// An ordinary answer.
    Plain(Response<Incoming>),
}

/// Offers the upgrade to the service, on a connection of its own.
///
/// # Errors
/// It cannot be reached, does not answer within [`limits::UPGRADE`], or says that it switches without having understood.
pub(super) async fn offer(
    upstream: &Rc<Upstream>,
    mut head: RequestHead,
    body: Outgoing,
) -> Result<Answered, UpstreamError> {
    let key = single(&head.headers, &SEC_WEBSOCKET_KEY).and_then(valid_key);
    let accept = key.map(|key| accept_of(&key)).ok_or(UpstreamError::Upgrade("the filter left no key"))?;
    // There is no body; what HTTP/2 lets pass as a length of nothing would be read by others.
    head.headers.remove(CONTENT_LENGTH);
    mark(&mut head.headers);
    let answered = timeout(limits::UPGRADE, upstream.upgrade(head, body)).await;
    let (mut response, far) = answered.map_err(|_| UpstreamError::Silent)??;
    let Some(far) = far else { return Ok(Answered::Plain(response)) };
    if response.version() != Version::HTTP_11 {
        return Err(UpstreamError::Upgrade("it is not HTTP/1.1"));
    }
    is_switch(response.headers(), &accept).map_err(UpstreamError::Upgrade)?;
    hop::strip(response.headers_mut());
    response.headers_mut().remove(CONTENT_LENGTH);
    Ok(Answered::Switched(std::mem::take(response.headers_mut()), far))
}

fn is_handshake(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let named = hop::named(headers);
    request.method() == Method::GET
        && request.body().is_end_stream()
        && !headers.contains_key(TRANSFER_ENCODING)
        && is_websocket(headers)
        && named.contains(&UPGRADE)
        && !named.contains(&SEC_WEBSOCKET_KEY)
        && has_version(headers)
        && single(headers, &SEC_WEBSOCKET_KEY).and_then(valid_key).is_some()
}

fn is_extended_connect(request: &Request<Incoming>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case(WEBSOCKET))
        && has_version(request.headers())
}

/// Whether an upstream's 101 is the answer to this key (RFC 6455 section 4.1, the client's checks).
fn is_switch(headers: &HeaderMap, accept: &str) -> Result<(), &'static str> {
    if !is_websocket(headers) {
        return Err("it does not switch to `websocket`");
    }
    if !hop::named(headers).contains(&UPGRADE) {
        return Err("no `Connection: Upgrade`");
    }
    match single(headers, &SEC_WEBSOCKET_ACCEPT) {
        Some(value) if value.as_bytes().trim_ascii() == accept.as_bytes() => Ok(()),
        _ => Err("`Sec-WebSocket-Accept` is not that of the key"),
    }
}

/// One `Upgrade`, to nothing but WebSocket.
fn is_websocket(headers: &HeaderMap) -> bool {
    single(headers, &UPGRADE)
        .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
}

fn has_version(headers: &HeaderMap) -> bool {
    single(headers, &SEC_WEBSOCKET_VERSION).is_some_and(|value| value == "13")
}

/// The value of a field that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// 16 bytes in base64 (RFC 6455 section 4.1).
fn valid_key(value: &HeaderValue) -> Option<String> {
    let key = value.to_str().ok()?;
    let is_key = BASE64.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    is_key.then(|| key.to_owned())
}

fn fresh_key() -> Option<HeaderValue> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    HeaderValue::try_from(BASE64.encode(&bytes)).ok()
}

/// `Sec-WebSocket-Accept` (RFC 6455 section 4.2.2): shows that the key was understood, and keeps nothing secret.
fn accept_of(key: &str) -> String {
    let seen = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, seen.as_bytes()).as_ref())
}

const WEBSOCKET: &str = "websocket";
const KEY_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and answer of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("a value"))
        };
        pairs.iter().map(field).collect()
    }

    fn appended(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_answer_to_the_key_is_that_of_the_rfc() {
        assert_eq!(accept_of(KEY), ACCEPT);
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        let is_key = |key: &str| valid_key(&HeaderValue::try_from(key).expect("a value")).is_some();
        assert!(is_key(KEY));
        for other in
            ["", "dGhlIHNhbXBsZSBub25jZQ", "AAAA", "dGhlIHNhbXBsZSBub25jZSE=", "dGhl IHNhbXBsZSBub25jZQ=="]
        {
            assert!(!is_key(other), "{other}");
        }
        assert_ne!(fresh_key(), fresh_key());
        assert!(valid_key(&fresh_key().expect("a key")).is_some());
    }

    #[test]
    fn a_service_that_switches_says_all_three_things() {
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", ACCEPT),
        ];
        assert_eq!(is_switch(&fields(&good), ACCEPT), Ok(()));
        for (index, wrong) in ["h2c", "close", "s3pPLMBiTxaQ9kYGzzhZRbK+xOp="].into_iter().enumerate() {
            let mut changed = good;
            changed[index].1 = wrong;
            assert!(is_switch(&fields(&changed), ACCEPT).is_err(), "{wrong}");
            let missing: Vec<_> =
                good.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, it)| *it).collect();
            assert!(is_switch(&fields(&missing), ACCEPT).is_err(), "{missing:?}");
        }
        let twice = [good[0], good[1], good[2], good[2]];
        assert!(is_switch(&appended(&twice), ACCEPT).is_err());
        let both = [good[0], ("upgrade", "h2c"), good[1], good[2]];
        assert!(is_switch(&appended(&both), ACCEPT).is_err());
    }

    #[test]
    fn a_filter_that_takes_the_upgrade_away_has_a_plain_request() {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let whole = vec![pair(":method", "GET"), pair("connection", "Upgrade"), pair("upgrade", "websocket")];
        assert!(is_marked(&whole));
        for index in 0..whole.len() {
            let mut rest = whole.clone();
            rest.remove(index);
            assert!(!is_marked(&rest), "{rest:?}");
        }
        let mut post = whole;
        post[0] = pair(":method", "POST");
        assert!(!is_marked(&post));
    }
}
