//! Properties, named and encoded as Envoy's attributes: integers as eight bytes little-endian, booleans as one byte,
//! text as it is. What is not there is absent, never empty.

use std::sync::Arc;

use super::connection::Connection;
use super::context::{Context, MapType, Root};
use super::host::Host;

/// The name filters read as `plugin_name` and `plugin_vm_id`.
pub(super) const PLUGIN_NAME: &str = "peergate";

/// A property's value, owned or shared so that it outlives the borrow of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Flag(bool),
    Number([u8; 8]),
    Text(&'static str),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Value {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Flag(true) => &[1],
            Self::Flag(false) => &[0],
            Self::Number(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn number(value: u64) -> Self {
        Self::Number(value.to_le_bytes())
    }

    fn text(text: &str) -> Self {
        Self::Owned(text.as_bytes().to_vec())
    }
}

/// The property under a path of segments joined by NUL. The proxy's own names come first: a filter cannot store
/// something that looks like a peer's certificate.
pub(super) fn lookup(host: &Host, path: &[u8]) -> Option<Value> {
    let context = host.contexts.current()?;
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let (first, rest) = match path.iter().position(|byte| *byte == 0) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    };
    match (first, rest) {
        (b"plugin_name" | b"plugin_vm_id", None) => Some(Value::Text(PLUGIN_NAME)),
        (b"plugin_root_id", None) => {
            Some(Value::Text(if host.named_roots { context.root.name() } else { "" }))
        }
        // Envoy's TrafficDirection: INBOUND is 1.
        (b"listener_direction", None) => Some(Value::number(1)),
        (b"connection", Some(name)) => of_connection(context.connection.as_deref()?, name),
        (b"source", Some(name)) => of_address(context.connection.as_deref()?.source, name),
        (b"destination", Some(name)) => of_address(context.connection.as_deref()?.destination, name),
        (b"request", Some(name)) => of_request(context, name),
        (b"response", Some(name)) => of_response(context, name),
        (b"filter_state", Some(key)) => stored(context, key.strip_prefix(b"wasm.")?),
        _ => stored(context, path),
    }
}

/// What the filter stored itself: in this context, or (for a request) in the network gate of its connection.
fn stored(context: &Context, key: &[u8]) -> Option<Value> {
    if let Some(value) = context.stored.value(key) {
        return Some(Value::Shared(Arc::clone(value)));
    }
    // The network gate may judge a connection again and must not read its last answer, so only requests look there.
    if context.root != Root::Http {
        return None;
    }
    let state = context.connection.as_deref()?.filter_state.try_borrow().ok()?;
    state.value(key).map(|value| Value::Shared(Arc::clone(value)))
}

fn of_connection(connection: &Connection, name: &[u8]) -> Option<Value> {
    let tls = connection.tls.as_ref();
    let peer = tls.and_then(|tls| tls.peer.as_ref());
    match name {
        b"id" => Some(Value::number(connection.id)),
        b"mtls" => Some(Value::Flag(peer.is_some())),
        b"tls_version" => Some(Value::Text(tls?.version)),
        b"requested_server_name" => tls?.server_name.as_deref().map(Value::text),
        b"peer_certificate" => Some(Value::Shared(peer?.pem())),
        b"peer_certificate_valid" => tls.map(|tls| Value::Flag(tls.chain_verified && peer.is_some())),
        b"sha256_peer_certificate_digest" => Some(Value::Shared(peer?.digest())),
        b"subject_peer_certificate" => peer?.subject().map(Value::Shared),
        b"dns_san_peer_certificate" => peer?.dns_san().map(Value::Shared),
        b"uri_san_peer_certificate" => peer?.uri_san().map(Value::Shared),
        _ => None,
    }
}

fn of_address(address: std::net::SocketAddr, name: &[u8]) -> Option<Value> {
    match name {
        b"address" => Some(Value::Owned(address.to_string().into_bytes())),
        b"port" => Some(Value::number(address.port().into())),
        _ => None,
    }
}

fn of_request(context: &Context, name: &[u8]) -> Option<Value> {
    let headers = context.map(MapType::RequestHeaders)?;
    let field = |name: &[u8]| headers.first(name).map(|value| Value::Owned(value.to_vec()));
    match name {
        b"path" => field(b":path"),
        b"url_path" => headers.first(b":path").map(|path| Value::Owned(split_query(path).0.to_vec())),
        b"query" => Some(Value::Owned(split_query(headers.first(b":path")?).1?.to_vec())),
        b"host" => field(b":authority"),
        b"scheme" => field(b":scheme"),
        b"method" => field(b":method"),
        b"protocol" => Some(Value::Text(protocol(context.connection.as_deref()?))),
        b"id" => field(b"x-request-id"),
        b"referer" => field(b"referer"),
        b"useragent" => field(b"user-agent"),
        _ => headers.joined(name.strip_prefix(b"headers\0")?).map(Value::Owned),
    }
}

fn of_response(context: &Context, name: &[u8]) -> Option<Value> {
    let of = |kind, name: &[u8]| context.map(kind)?.joined(name).map(Value::Owned);
    if name == b"code" {
        let status = context.map(MapType::ResponseHeaders)?.first(b":status")?;
        return std::str::from_utf8(status).ok()?.parse().ok().map(Value::number);
    }
    match name.strip_prefix(b"headers\0") {
        Some(name) => of(MapType::ResponseHeaders, name),
        None => of(MapType::ResponseTrailers, name.strip_prefix(b"trailers\0")?),
    }
}

fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// HTTP/2 is spoken only where the handshake agreed on it.
fn protocol(connection: &Connection) -> &'static str {
    match connection.tls.as_ref().and_then(|tls| tls.alpn.as_deref()) {
        Some("h2") => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
