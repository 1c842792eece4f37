//! HTTP/1.1 messages, read and written byte by byte, so that no library cleans up what a test wants to see.

use std::io::{self, BufRead, Read};

/// A request or a response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The request line or status line.
    pub start: String,
    /// Header fields in order, names as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without chunking.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Message {
    /// Reads one message; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream fails or ends within the message.
    pub fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        Self::read_then(stream, |_| Ok(()))
    }

    /// Like [`Self::read`]; calls `after_head` before the body, which a client may hold back until then.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_then<S: BufRead>(
        stream: &mut S,
        after_head: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<Option<Self>> {
        let Some(start) = line(stream)? else { return Ok(None) };
        let start = String::from_utf8_lossy(&start).into_owned();
        let mut message = Self { start, headers: fields(stream)?, ..Self::default() };
        after_head(&message)?;
        let chunked =
            message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        let length = message.header("content-length").map(decimal).transpose()?;
        if chunked {
            message.read_chunks(stream)?;
        } else if let Some(length) = length {
            message.body.resize(length, 0);
            stream.read_exact(&mut message.body)?;
        } else if message.start.starts_with("HTTP/") {
            stream.read_to_end(&mut message.body)?;
        }
        Ok(Some(message))
    }

    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The status of a response.
    ///
    /// # Panics
    /// This is no response.
    pub fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status in `{}`", self.start))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn read_chunks(&mut self, stream: &mut impl BufRead) -> io::Result<()> {
        loop {
            let size = line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size =
                usize::from_str_radix(&String::from_utf8_lossy(&size), 16).map_err(io::Error::other)?;
            if size == 0 {
                self.trailers = fields(stream)?;
                return Ok(());
            }
            let start = self.body.len();
            self.body.resize(start + size, 0);
            stream.read_exact(&mut self.body[start..])?;
            line(stream)?;
        }
    }
}

fn fields(stream: &mut impl BufRead) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(io::ErrorKind::InvalidData)?;
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
}

/// A line without its end, `None` at the end of the stream.
fn line(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(1 << 20).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(line.trim_ascii_end().to_vec()))
}

fn decimal(value: &[u8]) -> io::Result<usize> {
    String::from_utf8_lossy(value).parse().map_err(io::Error::other)
}
