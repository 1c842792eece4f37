//! Where a message of HTTP/1 ends (RFC 9112 sections 6 and 7.1), in the strict forms that every parser reads alike.

use super::limits;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes. With none, the message is over.
    Length(u64),
    /// Chunks.
    Chunked { state: Chunk, lines: usize },
}

/// Where in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data(u64),
    DataLf,
    /// The beginning of a trailer, or of the empty line.
    Line,
    Trailer,
    TrailerEnd,
    End,
}

/// A chunked body that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoChunk;

impl Framing {
    pub(super) const OVER: Self = Self::Length(0);
    pub(super) const CHUNKED: Self =
        Self::Chunked { state: Chunk::Size { value: 0, digits: 0 }, lines: limits::REQUEST_HEAD_BYTES };

    pub(super) fn is_over(self) -> bool {
        self == Self::OVER
    }

    /// How many of `bytes` belong to this body; they are counted.
    ///
    /// # Errors
    /// They are no chunked body. Nothing more is to be read.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, NoChunk> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over() {
            match self {
                Self::Length(left) => at += skip(left, &bytes[at..]),
                Self::Chunked { state: Chunk::Data(left), .. } if *left > 0 => at += skip(left, &bytes[at..]),
                Self::Chunked { state, lines } => {
                    *lines = lines.checked_sub(state.weight()).ok_or(NoChunk)?;
                    match state.next(bytes[at])? {
                        Some(next) => *state = next,
                        None => *self = Self::OVER,
                    }
                    at += 1;
                }
            }
        }
        Ok(at)
    }
}

fn skip(left: &mut u64, bytes: &[u8]) -> usize {
    let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= count as u64;
    count
}

impl Chunk {
    /// Bytes of extensions and trailers are limited; those of sizes are few.
    fn weight(self) -> usize {
        usize::from(matches!(self, Self::Extension { .. } | Self::Line | Self::Trailer))
    }

    /// `None` at the end of the body. A line ends in CR LF and nothing else.
    fn next(self, byte: u8) -> Result<Option<Self>, NoChunk> {
        let next = match (self, byte) {
            (Self::Size { digits: 1.., value: size }, b'\r') => Self::SizeEnd { size },
            (Self::Size { digits: 1.., value: size }, b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Size { value, digits: digits @ ..SIZE_DIGITS }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(NoChunk)?;
                Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') | (Self::TrailerEnd, b'\n') => Self::Line,
            (Self::SizeEnd { size }, b'\n') => Self::Data(size),
            (Self::Data(_), b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::Line, b'\r') => Self::End,
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::Line | Self::Trailer, b'\t' | b' '..=b'~' | 0x80..) => Self::Trailer,
            (Self::End, b'\n') => return Ok(None),
            _ => return Err(NoChunk),
        };
        Ok(Some(next))
    }
}

/// Sixteen would be more bytes than there are.
const SIZE_DIGITS: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    const BODIES: [&[u8]; 5] = [
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"00a;name=\"x\"\r\n\r\n0\r\n\r\n0\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\nx-sum: 1\r\nx-other:\t\xff\r\n\r\n",
        b"F\r\n0123456789abcde\r\n0;last\r\n\r\n",
    ];

    #[test]
    fn a_chunked_body_ends_at_its_end_however_it_is_cut() {
        for body in BODIES {
            let all = [body, b"GET /next"].concat();
            let mut framing = Framing::CHUNKED;
            assert_eq!(framing.advance(&all), Ok(body.len()), "{body:?}");
            assert!(framing.is_over());
            let mut framing = Framing::CHUNKED;
            for byte in body {
                assert!(!framing.is_over());
                assert_eq!(framing.advance(&[*byte]), Ok(1));
            }
            assert!(framing.is_over(), "{body:?}");
            assert_eq!(framing.advance(b"GET"), Ok(0));
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_no_body() {
        for body in [
            &b"\r\n"[..],
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"0x3\r\nabc",
            b"+3\r\nabc",
            b" 3\r\nabc",
            b"3;a\nb\r\n",
            b"3;a\rb\r\n",
            b"3;\0\r\n",
            b"10000000000000000\r\n",
            b"0\r\nx: 1\n\r\n",
            b"0\r\nx: 1\r\r\n",
            b"0\r\n\n",
            b"0\n\r\n",
        ] {
            let mut framing = Framing::CHUNKED;
            assert_eq!(framing.advance(body), Err(NoChunk), "{:?}", body.escape_ascii().to_string());
        }
    }

    #[test]
    fn extensions_and_trailers_have_an_end() {
        for begin in [&b"1;"[..], b"0\r\n"] {
            let mut framing = Framing::CHUNKED;
            assert_eq!(framing.advance(begin), Ok(begin.len()));
            let endless = vec![b'x'; limits::REQUEST_HEAD_BYTES + 1];
            assert_eq!(framing.advance(&endless), Err(NoChunk));
        }
    }

    #[test]
    fn a_length_is_counted() {
        let mut framing = Framing::Length(5);
        assert_eq!(framing.advance(b"abc"), Ok(3));
        assert!(!framing.is_over());
        assert_eq!(framing.advance(b"deGET"), Ok(2));
        assert!(framing.is_over());
    }
}
