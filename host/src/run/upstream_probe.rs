//! Whether an upstream speaks what is going to be sent to it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

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

/// `OPTIONS *` asks a server about itself and changes nothing (RFC 9110 section 9.3.7). Names are not looked up here: that
/// may take long.
fn answers_with_alert(address: &Address) -> io::Result<bool> {
    let Address::Tcp(text) = address else { return Ok(false) };
    let Ok(address) = text.replacen("localhost:", "127.0.0.1:", 1).parse::<SocketAddr>() else {
        return Ok(false);
    };
    let until = Instant::now() + PATIENCE;
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    // To its end, or the service would see its connection reset; but no longer than it is given.
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buffer) {
            Ok(count @ 1..) => answer.extend(&buffer[..count.min(ALERT.len().saturating_sub(answer.len()))]),
            Ok(0) | Err(_) => break,
        }
    }
    Ok(answer == ALERT)
}

/// The beginning of a record with an alert (RFC 8446 section 5.1).
const ALERT: [u8; 2] = [21, 3];
/// A local service answers within a millisecond, and the start is not to wait for one that does not.
const PATIENCE: Duration = Duration::from_millis(100);
