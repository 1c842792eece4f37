//! TLS or plaintext, told apart by the first bytes of a connection (mixed mode).

use std::io;

use tokio::io::AsyncReadExt;

use crate::proxy::Socket;

/// What a client begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum First {
    /// A handshake record with a ClientHello, or its beginning.
    Tls,
    /// Anything else.
    Plaintext,
}

/// Looks at the first bytes, which stay to be read. How long it may take is the caller's business.
///
/// # Errors
/// The client ends before it could be told.
pub async fn sniff(socket: &mut Socket) -> io::Result<First> {
    let mut seen = Vec::with_capacity(RECORD_BYTES);
    loop {
        if let Some(first) = told_by(&seen) {
            socket.unread(seen);
            return Ok(first);
        }
        let byte = socket.read_u8().await?;
        seen.push(byte);
    }
}

/// A record header (RFC 8446 section 5.1) and the first byte of the handshake message in it. Unlike Vespa, which also
/// compares the lengths of record and message, this takes a ClientHello that is large or spread over several records for
/// what it is: it must not be answered in plaintext.
fn told_by(seen: &[u8]) -> Option<First> {
    let is_expected = |(index, byte): (usize, &u8)| match index {
        0 => *byte == HANDSHAKE,
        1 => *byte == MAJOR,
        5 => *byte == CLIENT_HELLO,
        _ => true,
    };
    let length = seen.get(3..5).map(|length| u16::from_be_bytes([length[0], length[1]]));
    if !seen.iter().enumerate().all(is_expected) || length.is_some_and(|length| !RECORD.contains(&length)) {
        return Some(First::Plaintext);
    }
    (seen.len() >= RECORD_BYTES).then_some(First::Tls)
}

const HANDSHAKE: u8 = 22;
const MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;
/// Lengths of a record that is neither empty nor too long (RFC 5246 section 6.2.3, and as Vespa has it).
const RECORD: std::ops::RangeInclusive<u16> = 1..=16384 + 2048;
const RECORD_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hello_is_tls_however_it_is_cut() {
        for (bytes, first) in [
            (&[22, 3, 1, 0, 200, 1][..], Some(First::Tls)),
            (&[22, 3, 3, 72, 0, 1], Some(First::Tls)),
            // Of one byte, the rest in further records; and one that goes on in the next record.
            (&[22, 3, 1, 0, 1, 1], Some(First::Tls)),
            (&[22, 3, 1, 64, 0, 1, 1, 0, 0], Some(First::Tls)),
            (&[22, 3, 1, 0, 200], None),
            (&[22], None),
            (&[], None),
            (&[22, 3, 1, 0, 200, 2], Some(First::Plaintext)),
            (&[22, 3, 1, 72, 1], Some(First::Plaintext)),
            (&[22, 3, 1, 0, 0], Some(First::Plaintext)),
            // The minor version says nothing (RFC 8446 section 5.1).
            (&[22, 3, 2], None),
            (&[22, 3, 4, 0, 200, 1], Some(First::Tls)),
            (&[22, 2], Some(First::Plaintext)),
            (b"G", Some(First::Plaintext)),
        ] {
            assert_eq!(told_by(bytes), first, "{bytes:?}");
        }
    }
}
