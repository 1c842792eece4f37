//! Whether an upstream speaks what is going to be sent to it.

use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket, Type};

use crate::config::{Address, Document, Protocol, Upstream, UpstreamProtocol};

/// The first upstream of `document`, and not of `before`, that speaks TLS: the host sends plaintext, which such a service
/// answers with an alert. All are asked at once; those that are not there yet, silent, or slow, pass.
///
/// Services that take bytes (`tcp`) are not asked. One that speaks first says nothing about TLS, one that waits can only be
/// asked by bytes, which it may take for something, and one that speaks TLS itself may be meant so: what is forwarded is the
/// client's.
pub(super) fn tls_service(document: &Document, before: Option<&Document>) -> Option<Address> {
    let mut asked: Vec<&Upstream> = Vec::new();
    for inbound in document.inbound.iter().filter(|inbound| inbound.protocol == Protocol::Http) {
        let is_here = |upstream: &Upstream| upstream.address == inbound.upstream.address;
        let is_known = before.is_some_and(|it| it.inbound.iter().any(|inbound| is_here(&inbound.upstream)));
        if !is_known && !asked.iter().any(|upstream| is_here(upstream)) {
            asked.push(&inbound.upstream);
        }
    }
    let until = Instant::now() + PATIENCE;
    let answers: Vec<_> = asked.iter().map(|upstream| ask((*upstream).clone(), until)).collect();
    let has_alerted = |answer: mpsc::Receiver<bool>| answer.recv_timeout(left(until)).unwrap_or(false);
    // All of them are waited for, so that it is the first one that is named.
    let alerted: Vec<bool> = answers.into_iter().map(has_alerted).collect();
    let (first, _) = asked.iter().zip(alerted).find(|(_, alerted)| *alerted)?;
    Some(first.address.clone())
}

/// Asks in a thread of its own: to look a name up takes as long as it takes.
fn ask(upstream: Upstream, until: Instant) -> mpsc::Receiver<bool> {
    let (answer, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Who does not answer, or not in time, passes: nobody waits for that then.
        let _ = probe(&upstream, until, |alerted| {
            let _ = answer.send(alerted);
        });
    });
    receiver
}

/// Says as soon as it is known whether the answer is an alert, and then reads on: a service whose answer is not taken to its
/// end would see its connection reset.
fn probe(upstream: &Upstream, until: Instant, tell: impl FnOnce(bool)) -> io::Result<()> {
    let mut socket = connect(&upstream.address, until)?;
    socket.set_write_timeout(Some(left(until)))?;
    socket.write_all(match upstream.protocol {
        UpstreamProtocol::Http1 => HTTP1,
        UpstreamProtocol::H2c => H2C,
    })?;
    let (mut seen, mut tell, mut buffer) = (Vec::<u8>::new(), Some(tell), [0; 4096]);
    loop {
        // Each read gets what is left of the whole time: who drips gets no more than who is silent.
        socket.set_read_timeout(Some(left(until)))?;
        let count = socket.read(&mut buffer)?;
        seen.extend(&buffer[..count.min(ALERT.len() - seen.len())]);
        if count == 0 || seen.len() == ALERT.len() {
            tell.take().into_iter().for_each(|tell| tell(seen == ALERT));
        }
        if count == 0 || left(until) <= INSTANT {
            return Ok(());
        }
    }
}

fn connect(address: &Address, until: Instant) -> io::Result<Socket> {
    let targets = match address {
        Address::Tcp(text) => text.to_socket_addrs()?.map(SockAddr::from).collect(),
        Address::Unix(path) => vec![SockAddr::unix(path)?],
        Address::Systemd(_) => Vec::new(),
    };
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    for target in targets {
        let socket = Socket::new(target.domain(), Type::STREAM, None)?;
        match socket.connect_timeout(&target, left(until)) {
            Ok(()) => return Ok(socket),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// What is left of the time; never nothing, which to a socket is "no limit".
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(INSTANT)
}

/// `OPTIONS *` asks a server about itself and changes nothing (RFC 9110 section 9.3.7).
const HTTP1: &[u8] = b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
/// A connection without a request: the preface, SETTINGS, and GOAWAY, no stream, no error (RFC 9113 sections 3.4 and 6.8).
const H2C: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\0\x04\0\0\0\0\0\
    \0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The beginning of a record with an alert (RFC 8446 section 5.1).
const ALERT: [u8; 2] = [21, 3];
/// A local service answers within a millisecond, also on a busy machine; the start waits so long only for one that is silent.
const PATIENCE: Duration = Duration::from_millis(300);
const INSTANT: Duration = Duration::from_millis(1);
