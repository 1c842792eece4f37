//! HTTP/2 frame by frame (RFC 9113), so that a test sees GOAWAY and resets as they come.

use std::{io, net::SocketAddr};

use peergate_host::pki::Credential;
use rustls::pki_types::CertificateDer;

use crate::client::Client;

/// A client's connection.
pub struct Http2 {
    client: Client,
    next_stream: u32,
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// DATA is 0, HEADERS 1, RST_STREAM 3, GOAWAY 7.
    pub kind: u8,
    /// Bit 0 of DATA and HEADERS ends the stream.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// The end of one stream, by an error.
    pub const RST_STREAM: u8 = 3;
    /// No more streams.
    pub const GOAWAY: u8 = 7;

    /// The status of a response's head: 200 from the static table, or 403 or 503 spelt out (RFC 7541, by Huffman's code or
    /// plainly). Later heads of a connection refer to earlier ones.
    ///
    /// # Panics
    /// It is another one.
    pub fn status(&self) -> u16 {
        assert_eq!(self.kind, Self::HEADERS, "{self:?}");
        match self.payload.as_slice() {
            [0x88, ..] => 200,
            [0x48, 0x83, 0x68, 0x0c, 0xff, ..] | [0x48, 3, b'4', b'0', b'3', ..] => 403,
            [0x48, 0x83, 0x6c, 0x0c, 0xff, ..] | [0x48, 3, b'5', b'0', b'3', ..] => 503,
            _ => panic!("no status known here: {self:?}"),
        }
    }
}

impl Http2 {
    /// Connects, and opens HTTP/2.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
    ) -> io::Result<Self> {
        let mut client = Client::connect_alpn(address, ca, credential, b"h2")?;
        client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        client.write(&frame(SETTINGS, 0, 0, &[]))?;
        Ok(Self { client, next_stream: 1 })
    }

    /// Sends a request's head, and with `ends` no body. The answer is its stream.
    ///
    /// # Errors
    /// The connection fails.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        ends: bool,
    ) -> io::Result<u32> {
        let stream = self.next_stream;
        self.next_stream += 2;
        let pseudo =
            [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        let block = block(pseudo.iter().chain(fields));
        let flags = END_HEADERS | u8::from(ends);
        self.client.write(&frame(Frame::HEADERS, flags, stream, &block))?;
        Ok(stream)
    }

    /// Sends a piece of a body.
    ///
    /// # Errors
    /// The connection fails.
    pub fn data(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        self.client.write(&frame(Frame::DATA, 0, stream, bytes))
    }

    /// Ends a body.
    ///
    /// # Errors
    /// The connection fails.
    pub fn end(&mut self, stream: u32) -> io::Result<()> {
        self.client.write(&frame(Frame::DATA, END_STREAM, stream, &[]))
    }

    /// Ends a body with trailers.
    ///
    /// # Errors
    /// The connection fails.
    pub fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) -> io::Result<()> {
        let flags = END_HEADERS | END_STREAM;
        self.client.write(&frame(Frame::HEADERS, flags, stream, &block(fields.iter())))
    }

    /// The next frame of interest; SETTINGS and PING are answered.
    ///
    /// # Errors
    /// The connection fails or ends.
    pub fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.client.read_exact(&mut head)?;
            let number = |bytes: &[u8]| bytes.iter().fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
            let (length, kind, flags) = (number(&head[..3]), head[3], head[4]);
            let mut payload = vec![0; length as usize];
            self.client.read_exact(&mut payload)?;
            match kind {
                SETTINGS | PING if flags & ACK == 0 => {
                    let echoed = if kind == PING { payload.as_slice() } else { &[] };
                    self.client.write(&frame(kind, ACK, 0, echoed))?;
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Ok(Frame { kind, flags, stream: number(&head[5..]) & 0x7fff_ffff, payload }),
            }
        }
    }

    /// Frames up to the end of the connection.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame().ok()).collect()
    }

    /// Frames of one stream up to its end, by whichever side.
    ///
    /// # Errors
    /// The connection ends first.
    pub fn stream(&mut self, stream: u32) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame()?;
            if frame.stream != stream {
                continue;
            }
            let ends = frame.kind == Frame::RST_STREAM || frame.flags & END_STREAM != 0;
            frames.push(frame);
            if ends {
                return Ok(frames);
            }
        }
    }
}

/// A header block of literals without index (RFC 7541 section 6.2.2).
fn block<'a>(fields: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|it| *it < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
