//! A request head of HTTP/1 as it came, before hyper reads it.
//!
//! hyper takes line ends without CR, forgets `Content-Length` beside `Transfer-Encoding`, and answers what it cannot read by
//! itself. So each head is looked at before: who is refused is told by us, with the reason in the log, and what passes has one
//! meaning only, for whoever reads it.

use http::Uri;
use httparse::{EMPTY_HEADER, Header};

use super::framing::Framing;
use super::limits;
use super::request::{BadRequest, Refused};

/// A head on its way in.
#[derive(Debug, Default)]
pub(super) struct RawHead {
    bytes: Vec<u8>,
}

/// A head that hyper reads as we do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Examined {
    /// As hyper gets it.
    pub(super) bytes: Vec<u8>,
    /// The body that follows.
    pub(super) body: Framing,
}

impl RawHead {
    /// Takes bytes up to the end of the head; how many, and what it is once it is whole, or can only be refused.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, Option<Result<Examined, Box<Refused>>>) {
        for (index, byte) in bytes.iter().enumerate() {
            let follows_cr = self.bytes.last() == Some(&b'\r');
            self.bytes.push(*byte);
            if follows_cr != (*byte == b'\n') {
                return (index + 1, Some(Err(self.refused(BadRequest::LineEnd))));
            }
            if self.bytes == b"\r\n" {
                // Before a request line (RFC 9112 section 2.2).
                self.bytes.clear();
            } else if self.bytes.ends_with(b"\r\n\r\n") {
                return (index + 1, Some(self.examine()));
            } else if self.bytes.len() >= limits::REQUEST_HEAD_BYTES {
                return (index + 1, Some(Err(self.refused(BadRequest::HeadTooLarge))));
            }
        }
        (bytes.len(), None)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn examine(&mut self) -> Result<Examined, Box<Refused>> {
        match examine(&self.bytes) {
            Ok((target, body)) => {
                let mut bytes = std::mem::take(&mut self.bytes);
                if let Some((range, target)) = target {
                    bytes.splice(range, target);
                }
                Ok(Examined { bytes, body })
            }
            Err(why) => Err(self.refused(why)),
        }
    }

    /// With as much of the request line as there is.
    fn refused(&mut self, why: BadRequest) -> Box<Refused> {
        let bytes = std::mem::take(&mut self.bytes);
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (method, path) = if is_method(method) { (method, told(target)) } else { Default::default() };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Box::new(Refused { why, method: text(method), path: text(path) })
    }
}

/// Whether this may be told as a method: where a head should be, a field or a body may stand, and secrets in it.
fn is_method(word: &[u8]) -> bool {
    let is_plain = word.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'-'));
    is_plain && (1..=METHOD_BYTES).contains(&word.len())
}

/// The path in a target, which may be told; none of an authority with user information, of a query, or of what is no target.
fn told(target: &[u8]) -> &[u8] {
    let target = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let scheme = target.split(|byte| *byte == b':').next().unwrap_or_default();
    let has_path = target.starts_with(b"/") || scheme.iter().all(u8::is_ascii_alphabetic);
    if has_path { &target[path_of(target)..] } else { &[] }
}

/// The longest registered method has 17 (`UPDATEREDIRECTREF`).
const METHOD_BYTES: usize = 20;

/// A target in another form, and where it stood.
type Rewritten = (std::ops::Range<usize>, Vec<u8>);

fn examine(head: &[u8]) -> Result<(Option<Rewritten>, Framing), BadRequest> {
    let line = head.windows(2).position(|pair| pair == b"\r\n").ok_or(BadRequest::RequestLine)?;
    let words: Vec<&[u8]> = head[..line].split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err(BadRequest::RequestLine) };
    if http::Method::from_bytes(method).is_err() {
        return Err(BadRequest::RequestLine);
    }
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(BadRequest::Version),
    };
    let encoded = encoded(target)?;
    let fits = Uri::try_from(encoded.as_deref().unwrap_or(target));
    fits.map_err(|_| BadRequest::Target)?;
    let mut fields = [EMPTY_HEADER; limits::REQUEST_FIELDS];
    let fields = match httparse::parse_headers(&head[line + 2..], &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) => return Err(BadRequest::Field),
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::TooManyFields),
        Err(_) => return Err(BadRequest::Field),
    };
    let body = framing(fields, is_http10)?;
    let start = method.len() + 1;
    Ok((encoded.map(|encoded| (start..start + target.len(), encoded)), body))
}

/// One of two ways to say where the body ends, in its plain form (RFC 9112 section 6.3): all else is how requests are
/// smuggled.
fn framing(fields: &[Header<'_>], is_http10: bool) -> Result<Framing, BadRequest> {
    let values = |name: &str| {
        let named = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii()).collect::<Vec<_>>()
    };
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::OVER),
        ([length], []) => length_of(length).map(Framing::Length).ok_or(BadRequest::Length),
        ([], [coding]) if is_http10 || coding.is_empty() => Err(BadRequest::Framing),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::CHUNKED),
        ([], [..]) => Err(BadRequest::Coding),
        ([..], []) => Err(BadRequest::Length),
        ([..], [..]) => Err(BadRequest::Framing),
    }
}

fn length_of(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok();
    length.filter(|length| *length <= LONGEST)
}

/// hyper takes the largest numbers for no length.
const LONGEST: u64 = i64::MAX as u64;

/// A target with what no URI may hold percent-encoded, if it has any of that.
///
/// Browsers, `curl -g` and scripts send `"`, `<` and `>` as they are, and Envoy and nginx pass them on (hyperium/http#693).
/// hyper's URIs cannot hold them. Percent-encoded they are the same request: whatever reads a URI decodes these octets, and none
/// of them separates anything (RFC 3986 section 2.4, and the WHATWG's percent-encode sets, by which browsers encode them).
/// The filter judges this form, and the service gets it.
fn encoded(target: &[u8]) -> Result<Option<Vec<u8>>, BadRequest> {
    if target.iter().any(|byte| *byte <= b' ' || matches!(byte, 0x7f | b'#')) {
        return Err(BadRequest::Target);
    }
    let is_text = std::str::from_utf8(target).is_ok();
    let path = path_of(target);
    let query = target[path..].iter().position(|byte| *byte == b'?').map_or(target.len(), |at| path + at);
    // The two sets of the `http` crate; what it takes stays as it is.
    let is_odd = |(index, byte): (usize, &u8)| match byte {
        b'<' | b'>' => index >= path,
        b'`' => (path..query).contains(&index),
        b'"' => index >= query,
        _ => *byte >= 0x80 && !is_text,
    };
    if !target.iter().enumerate().any(is_odd) {
        return Ok(None);
    }
    let mut encoded = Vec::with_capacity(target.len() + 32);
    for (index, byte) in target.iter().enumerate() {
        match is_odd((index, byte)) {
            true => encoded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            false => encoded.push(*byte),
        }
    }
    Ok(Some(encoded))
}

/// Where the path begins: in absolute form behind the authority, whose octets are not ours to change.
fn path_of(target: &[u8]) -> usize {
    let authority = match target.windows(3).position(|three| three == b"://") {
        Some(scheme) if !target.starts_with(b"/") => scheme + 3,
        _ => return if target.starts_with(b"/") { 0 } else { target.len() },
    };
    let rest = target[authority..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    rest.map_or(target.len(), |path| authority + path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(head: &[u8]) -> Result<Examined, BadRequest> {
        let (mut raw, mut whole) = (RawHead::default(), RawHead::default());
        let (count, all) = whole.take(head);
        // Byte by byte it is the same.
        let mut single = None;
        for byte in &head[..count] {
            assert!(single.is_none(), "decided too early: {}", head.escape_ascii());
            single = raw.take(&[*byte]).1;
        }
        let plain = |it: Option<Result<Examined, Box<Refused>>>| it.expect("decided").map_err(|it| it.why);
        let (all, single) = (plain(all), plain(single));
        assert_eq!(all, single);
        all
    }

    fn with(fields: &str) -> Result<Framing, BadRequest> {
        taken(format!("POST /a HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n").as_bytes()).map(|it| it.body)
    }

    #[test]
    fn one_framing_in_its_plain_form_is_taken() {
        for (fields, body) in [
            ("x: 1", Framing::OVER),
            ("content-length: 0", Framing::OVER),
            ("Content-Length:\t5 ", Framing::Length(5)),
            ("content-length: 9223372036854775807", Framing::Length(LONGEST)),
            ("Transfer-Encoding: Chunked", Framing::CHUNKED),
        ] {
            assert_eq!(with(fields), Ok(body), "{fields}");
        }
        for (fields, why) in [
            ("content-length: 5\r\ntransfer-encoding: chunked", BadRequest::Framing),
            ("transfer-encoding: chunked\r\ncontent-length: 5", BadRequest::Framing),
            ("transfer-encoding: \r\ncontent-length: 5", BadRequest::Framing),
            ("transfer-encoding: ", BadRequest::Framing),
            ("content-length: 5\r\ncontent-length: 5", BadRequest::Length),
            ("content-length: 5, 5", BadRequest::Length),
            ("content-length: +5", BadRequest::Length),
            ("content-length: 0x5", BadRequest::Length),
            ("content-length: ", BadRequest::Length),
            ("content-length: 99999999999999999999", BadRequest::Length),
            ("content-length: 18446744073709551615", BadRequest::Length),
            ("content-length: 9223372036854775808", BadRequest::Length),
            ("transfer-encoding: gzip, chunked", BadRequest::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", BadRequest::Coding),
            ("transfer-encoding: identity", BadRequest::Coding),
            ("transfer-encoding : chunked", BadRequest::Field),
            (" transfer-encoding: chunked", BadRequest::Field),
            ("x: 1\r\n transfer-encoding: chunked", BadRequest::Field),
            ("x: \0", BadRequest::Field),
            ("x", BadRequest::Field),
        ] {
            assert_eq!(with(fields), Err(why), "{fields}");
        }
    }

    #[test]
    fn lines_end_in_cr_lf() {
        for head in [
            &b"GET / HTTP/1.1\nhost: a\n\n"[..],
            b"GET / HTTP/1.1\r\nhost: a\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n\n",
            b"GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
            b"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"\r\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            assert_eq!(taken(head), Err(BadRequest::LineEnd), "{}", head.escape_ascii());
        }
        assert!(taken(b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").is_ok());
    }

    #[test]
    fn what_no_uri_may_hold_is_percent_encoded_in_path_and_query() {
        let target = |target: &str| {
            let head = taken(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())?.bytes;
            let line = String::from_utf8(head).expect("text");
            Ok::<_, BadRequest>(line.split(' ').nth(1).expect("a target").to_owned())
        };
        for (sent, passed) in [
            ("/?a=[\"x\"]", "/?a=[%22x%22]"),
            ("/?a=b<5&c>d", "/?a=b%3C5&c%3Ed"),
            ("/a<b>`c`\"?`", "/a%3Cb%3E%60c%60\"?`"),
            ("http://a.example/?\"", "http://a.example/?%22"),
            ("http://a.example?<", "http://a.example?%3C"),
            ("/?u=http://x/<", "/?u=http://x/%3C"),
            ("/?a={b|c}^\\[]%22", "/?a={b|c}^\\[]%22"),
            ("/bl\u{e5}b\u{e6}r?\u{e5}", "/bl\u{e5}b\u{e6}r?\u{e5}"),
            ("*", "*"),
        ] {
            assert_eq!(target(sent).as_deref(), Ok(passed), "{sent}");
        }
        for sent in ["/a#b", "/\u{1}", "/\u{7f}", "/\t", "http://a<b/", "a\"b", ""] {
            assert!(target(sent).is_err(), "{sent:?}");
        }
        let latin = taken(b"GET /bl\xe5?\xe5=\xe6 HTTP/1.1\r\nhost: a\r\n\r\n").expect("a head").bytes;
        assert!(latin.starts_with(b"GET /bl%E5?%E5=%E6 HTTP/1.1\r\n"));
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        for (line, why) in [
            ("GET  / HTTP/1.1", BadRequest::RequestLine),
            ("GET / x HTTP/1.1", BadRequest::RequestLine),
            ("GET /", BadRequest::RequestLine),
            ("G(T / HTTP/1.1", BadRequest::RequestLine),
            ("GET / HTTP/2.0", BadRequest::Version),
            ("GET / HTTP/1.2", BadRequest::Version),
            ("GET / http/1.1", BadRequest::Version),
        ] {
            assert_eq!(taken(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()), Err(why), "{line}");
        }
        let old = |fields: &str| taken(format!("POST / HTTP/1.0\r\n{fields}\r\n").as_bytes());
        assert!(old("content-length: 3\r\n").is_ok() && old("").is_ok());
        assert_eq!(old("transfer-encoding: chunked\r\n"), Err(BadRequest::Framing));
    }

    #[test]
    fn fields_and_bytes_are_limited() {
        let fields = |count| "x: 1\r\n".repeat(count);
        let head = |fields: String| taken(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert!(head(fields(limits::REQUEST_FIELDS)).is_ok());
        assert_eq!(head(fields(limits::REQUEST_FIELDS + 1)), Err(BadRequest::TooManyFields));
        assert_eq!(head(format!("x: {}\r\n", "x".repeat(70_000))), Err(BadRequest::HeadTooLarge));
    }

    #[test]
    fn a_refusal_says_what_was_asked_for_and_no_query() {
        for (head, method, path) in [
            ("GET /path?secret HTTP/1.1\r\nhost: a\nx", "GET", "/path"),
            ("VERSION-CONTROL /path#secret\n", "VERSION-CONTROL", "/path"),
            ("GET http://user:secret@a/path?secret\n", "GET", "/path"),
            ("GET HTTP://user:secret@a?secret\n", "GET", ""),
            ("GET http://a#secret/secret\n", "GET", ""),
            ("CONNECT user:secret@a:443\n", "CONNECT", ""),
            ("GET secret\n", "GET", ""),
            ("GET token=secret://a/secret\n", "GET", ""),
            ("GET secret?x=http://a/secret\n", "GET", ""),
            ("/path?secret HTTP/1.1\n", "", ""),
            ("Authorization:Basic secret\n", "", ""),
            ("secret /secret\n", "", ""),
            ("SECRETSECRETSECRETSECRET /secret\n", "", ""),
            ("a=b&password=secret /secret\n", "", ""),
            (" /secret\n", "", ""),
        ] {
            let (_, refused) = RawHead::default().take(head.as_bytes());
            let refused = refused.expect("decided").expect_err("a bare LF");
            assert_eq!((refused.method.as_str(), refused.path.as_str()), (method, path), "{head:?}");
        }
    }
}
