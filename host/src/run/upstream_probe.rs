//! Whether an upstream speaks what is going to be sent to it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::{Address, Document, Protocol, UpstreamProtocol};

/// The first upstream of `document`, and not of `before`, that speaks TLS: the host sends plaintext, which such a service
/// answers with an alert. Services that are not there yet, or silent, pass.
pub(super) fn tls_service(document: &Document, before: Option<&Document>) -> Option<Address> {
    let is_known = |address: &Address| {
        before.is_some_and(|it| it.inbound.iter().any(|inbound| inbound.upstream.address == *address))
    };
    let asked = document.inbound.iter().filter(|inbound| {
        inbound.protocol == Protocol::Http && inbound.upstream.protocol == UpstreamProtocol::Http1
    });
    asked
        .map(|inbound| &inbound.upstream.address)
        .find(|address| !is_known(address) && answers_with_alert(address).unwrap_or(false))
        .cloned()
}

/// `OPTIONS *` asks a server about itself and changes nothing (RFC 9110 section 9.3.7).
fn answers_with_alert(address: &Address) -> io::Result<bool> {
    let Address::Tcp(text) = address else { return Ok(false) };
    let Some(address) = text.to_socket_addrs()?.next() else { return Ok(false) };
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 2];
    socket.read_exact(&mut answer)?;
    // To its end, or the service would see its connection reset. What goes wrong now is no matter.
    let _ = io::copy(&mut socket.take(ANSWER_BYTES), &mut io::sink());
    Ok(answer == ALERT)
}

/// The beginning of a record with an alert (RFC 8446 section 5.1).
const ALERT: [u8; 2] = [21, 3];
const ANSWER_BYTES: u64 = 64 * 1024;
/// A local service answers within a millisecond, and the start is not to wait for one that does not.
const PATIENCE: Duration = Duration::from_millis(100);
