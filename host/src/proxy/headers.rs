//! Between hyper's messages and the header maps a filter sees.

use std::fmt;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode};

use super::hop;
use crate::wasm::HeaderPairs;

/// What of a request is forwarded: the filter's last word.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) authority: Authority,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
}

/// A header map from a filter that makes no HTTP message: a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadersError {
    /// A name outside RFC 9110's `token`, or an unknown pseudo-header.
    Name,
    /// A value with a control character.
    Value,
    /// More fields than a message can have.
    TooMany,
    /// A pseudo-header that is missing, doubled or malformed.
    Pseudo(&'static str),
}

impl fmt::Display for HeadersError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => formatter.write_str("the filter left a malformed header name"),
            Self::Value => formatter.write_str("the filter left a malformed header value"),
            Self::TooMany => formatter.write_str("the filter left too many header fields"),
            Self::Pseudo(name) => write!(formatter, "the filter left no valid `{name}`"),
        }
    }
}

impl std::error::Error for HeadersError {}

impl RequestHead {
    /// The header map of this request in Envoy's order and names: pseudo-headers first, no `host`. `scheme` is that of the
    /// connection, whatever the client says: Envoy leaves an HTTP/2 client its `:scheme`, and tells the truth in
    /// `x-forwarded-proto`.
    pub(super) fn to_pairs(&self, scheme: &str) -> HeaderPairs {
        let mut pairs = Vec::with_capacity(self.headers.len() + 4);
        pairs.push(pair(":authority", self.authority.as_str()));
        pairs.push(pair(":path", self.path.as_str()));
        pairs.push(pair(":method", self.method.as_str()));
        pairs.push(pair(":scheme", scheme));
        append(&mut pairs, &self.headers);
        pairs
    }

    /// Reads the filter's header map back. Framing is the host's: `length` is the client's `Content-Length`.
    pub(super) fn from_pairs(pairs: HeaderPairs, length: Option<HeaderValue>) -> Result<Self, HeadersError> {
        let (pseudo, mut headers) = split(pairs)?;
        let head = Self {
            method: pseudo.parse(":method", |value| Method::from_bytes(value).ok())?,
            authority: pseudo.parse(":authority", |value| Authority::try_from(value).ok())?,
            path: pseudo.parse(":path", |value| PathAndQuery::try_from(value).ok())?,
            headers: HeaderMap::new(),
        };
        pseudo.allow(&[":authority", ":path", ":method", ":scheme"])?;
        headers.remove(HOST);
        // hyper answered it: a client that waits for 100 gets it when its body is first read.
        headers.remove(EXPECT);
        frame(&mut headers, length);
        Ok(Self { headers, ..head })
    }
}

/// The header map of a response.
pub(super) fn response_to_pairs(status: StatusCode, headers: &HeaderMap) -> HeaderPairs {
    let mut pairs = Vec::with_capacity(headers.len() + 1);
    pairs.push(pair(":status", status.as_str()));
    append(&mut pairs, headers);
    pairs
}

/// Reads a response's header map back; `length` is the upstream's `Content-Length`.
pub(super) fn response_from_pairs(
    pairs: HeaderPairs,
    length: Option<HeaderValue>,
) -> Result<(StatusCode, HeaderMap), HeadersError> {
    let (pseudo, mut headers) = split(pairs)?;
    let status = pseudo.parse(":status", |value| StatusCode::from_bytes(value).ok())?;
    pseudo.allow(&[":status"])?;
    frame(&mut headers, length);
    Ok((status, headers))
}

/// The status in a response's header map, if there is one.
pub(super) fn status_in(pairs: &HeaderPairs) -> Option<StatusCode> {
    let (_, value) = pairs.iter().find(|(name, _)| name == b":status")?;
    StatusCode::from_bytes(value).ok()
}

/// The header map of trailers.
pub(super) fn trailers_to_pairs(trailers: &HeaderMap) -> HeaderPairs {
    let mut pairs = Vec::with_capacity(trailers.len());
    append(&mut pairs, trailers);
    pairs
}

/// Reads a map without pseudo-headers back: trailers, or the fields of a local reply.
pub(super) fn plain_from_pairs(pairs: HeaderPairs) -> Result<HeaderMap, HeadersError> {
    let (pseudo, mut headers) = split(pairs)?;
    pseudo.allow(&[])?;
    frame(&mut headers, None);
    Ok(headers)
}

fn pair(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

fn append(pairs: &mut HeaderPairs, headers: &HeaderMap) {
    let fields = headers.iter();
    pairs.extend(fields.map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())));
}

/// No filter frames a message: what it says about length and connection is ours to say.
fn frame(headers: &mut HeaderMap, length: Option<HeaderValue>) {
    let trailers = headers.get("te").is_some_and(|value| value == "trailers");
    hop::strip_known(headers);
    if trailers {
        headers.insert("te", HeaderValue::from_static("trailers"));
    }
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// The fields whose names begin with a colon.
struct Pseudo(HeaderPairs);

impl Pseudo {
    fn parse<T>(&self, name: &'static str, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T, HeadersError> {
        let mut values = self.0.iter().filter(|(found, _)| found == name.as_bytes());
        match (values.next(), values.next()) {
            (Some((_, value)), None) => parse(value).ok_or(HeadersError::Pseudo(name)),
            _ => Err(HeadersError::Pseudo(name)),
        }
    }

    fn allow(&self, names: &[&str]) -> Result<(), HeadersError> {
        let known = |found: &[u8]| names.iter().any(|name| name.as_bytes() == found);
        if self.0.iter().all(|(name, _)| known(name)) { Ok(()) } else { Err(HeadersError::Name) }
    }
}

fn split(pairs: HeaderPairs) -> Result<(Pseudo, HeaderMap), HeadersError> {
    let (pseudo, fields): (HeaderPairs, HeaderPairs) =
        pairs.into_iter().partition(|(name, _)| name.starts_with(b":"));
    let mut headers = HeaderMap::try_with_capacity(fields.len()).map_err(|_| HeadersError::TooMany)?;
    for (name, value) in fields {
        let name = HeaderName::from_bytes(&name).map_err(|_| HeadersError::Name)?;
        let value = HeaderValue::try_from(value).map_err(|_| HeadersError::Value)?;
        headers.try_append(name, value).map_err(|_| HeadersError::TooMany)?;
    }
    Ok((Pseudo(pseudo), headers))
}

#[cfg(test)]
mod tests;
