//! Who the peer is, told to a service that takes bytes (PROXY protocol version 2, HAProxy's `proxy-protocol.txt`).

use std::io;
use std::net::SocketAddr;

use peergate_policy::Certificate;
use ppp::v2::{Builder, Command, Protocol, Version};

use crate::proxy::socket::NO_ADDRESS;
use crate::wasm::Connection;

/// The header that goes before the first byte: the peer's and our address, and, where there was TLS, its version, the name
/// asked for (SNI), and of the peer's certificate the common name and the DER.
///
/// # Errors
/// A certificate that does not fit into a header (64 KiB).
pub(super) fn header(connection: &Connection) -> io::Result<Vec<u8>> {
    let (source, destination) = (connection.source, connection.destination);
    let version = Version::Two | Command::Proxy;
    let mut builder = if source == NO_ADDRESS {
        Builder::with_addresses(version, Protocol::Unspecified, ppp::v2::Addresses::Unspecified)
    } else {
        Builder::with_addresses(version, Protocol::Stream, same_family(source, destination))
    };
    if let Some(tls) = &connection.tls {
        if let Some(name) = &tls.server_name {
            builder = builder.write_tlv(AUTHORITY, name.as_bytes())?;
        }
        let der = tls.peer.as_ref().map(|peer| peer.der());
        builder = builder.write_tlv(SSL, ssl(tls.version, der)?.as_slice())?;
    }
    builder.build()
}

/// A peer by IPv4 on a socket of IPv6 has a mapped address.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    (plain(source), plain(destination))
}

/// What is nested in `PP2_TYPE_SSL`: flags, 0 for a verified certificate, and values of their own types.
fn ssl(version: &str, der: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let flags = OVER_TLS | if der.is_some() { CERTIFICATE_ON_CONNECTION | CERTIFICATE_IN_SESSION } else { 0 };
    let mut bytes = vec![flags, 0, 0, 0, u8::from(der.is_none())];
    let mut nested = |kind: u8, value: &[u8]| {
        let length = u16::try_from(value.len()).map_err(io::Error::other)?;
        bytes.push(kind);
        bytes.extend(length.to_be_bytes());
        bytes.extend(value);
        Ok::<_, io::Error>(())
    };
    nested(SSL_VERSION, version.as_bytes())?;
    if let Some(der) = der {
        if let Some(cn) = Certificate::from_der(der).ok().and_then(|it| it.identity.common_name) {
            nested(SSL_CN, cn.as_bytes())?;
        }
        nested(SSL_CLIENT_CERTIFICATE, der)?;
    }
    Ok(bytes)
}

const AUTHORITY: u8 = 0x02;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CLIENT_CERTIFICATE: u8 = 0x28;
const OVER_TLS: u8 = 0x01;
const CERTIFICATE_ON_CONNECTION: u8 = 0x02;
const CERTIFICATE_IN_SESSION: u8 = 0x04;
