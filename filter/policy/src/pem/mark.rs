//! Lines that begin and end sections, and lines that somebody meant to.

use super::error::{PemError, PemErrorKind};
use super::label::{self, Wanted};
use crate::der::{self, Element};

/// A line that begins or ends a section, and what follows on that line.
pub(super) enum Mark<'a> {
    Begin { label: &'a [u8], rest: &'a [u8] },
    End { label: &'a [u8], rest: &'a [u8] },
}

const HYPHENS: &[u8] = b"-----";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'a> Mark<'a> {
    /// The mark that `text`, a line or the rest of one, starts with.
    pub(super) fn of(text: &'a [u8]) -> Option<Self> {
        let (begins, after) = match text.strip_prefix(BEGIN) {
            Some(after) => (true, after),
            None => (false, text.strip_prefix(END)?),
        };
        let end = find(after, HYPHENS)?;
        let (label, rest) = (&after[..end], &after[end + HYPHENS.len()..]);
        // A sixth hyphen, unless it begins the next mark.
        let uneven = rest.starts_with(b"-") && !rest.starts_with(BEGIN) && !rest.starts_with(END);
        let spaced = label.split(|byte| *byte == b' ').any(<[u8]>::is_empty);
        if uneven || spaced {
            return None;
        }
        Some(if begins { Self::Begin { label, rest } } else { Self::End { label, rest } })
    }
}

/// A line without the byte order mark that an editor put before it, here or in the file that was appended here; behind an
/// END also without white space.
pub(super) fn unmarked(line: &[u8], after_end: bool) -> &[u8] {
    let start = if after_end { line.trim_ascii_start() } else { line };
    start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start)
}

/// Whether a line outside of sections is only text.
pub(super) fn check_text(line: &[u8], after_end: bool) -> Result<(), PemErrorKind> {
    if line.contains(&0) {
        return Err(PemErrorKind::Binary);
    }
    if resembles(line) {
        return Err(PemErrorKind::ResemblesMark);
    }
    if line.starts_with(BEGIN_IN_BASE64) {
        return Err(PemErrorKind::PemInBase64);
    }
    if is_body(line) {
        return Err(PemErrorKind::StrayBase64);
    }
    if after_end && !line.trim_ascii().is_empty() {
        return Err(PemErrorKind::TextAfterEnd);
    }
    Ok(())
}

/// `-----BEGIN ` in base64: the `data` of a Kubernetes Secret, not decoded.
const BEGIN_IN_BASE64: &[u8] = b"LS0tLS1CRUdJTi";

/// Whether a line is the body of a section that has lost its BEGIN. RFC 7468 has 64 characters a line, RFC 1421 too, RFC 2045
/// 76. A digest in hexadecimal is none, and neither is a rule of one character.
fn is_body(line: &[u8]) -> bool {
    const SHORTEST: usize = 60;
    let text = line.trim_ascii();
    let has = |is: fn(&u8) -> bool| text.iter().any(is);
    text.len() >= SHORTEST
        && text.iter().all(|byte| is_base64(*byte) || *byte == b'=')
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && !text.iter().all(u8::is_ascii_hexdigit)
}

pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Whether somebody meant the line to begin or end a section: it has other dashes, another number of them, small letters, or
/// something before it.
pub(super) fn resembles(line: &[u8]) -> bool {
    if find(line, BEGIN).is_some() || find(line, END).is_some() {
        return true;
    }
    let (mut core, mut dashes) = (line, false);
    while let Some((rest, is_dash)) = cut(core, |text, part| text.strip_prefix(part)) {
        (core, dashes) = (rest, dashes || is_dash);
    }
    while let Some((rest, is_dash)) = cut(core, |text, part| text.strip_suffix(part)) {
        (core, dashes) = (rest, dashes || is_dash);
    }
    let word = core.iter().position(u8::is_ascii_whitespace).unwrap_or(core.len());
    let (word, label) = core.split_at(word);
    dashes
        && [&b"BEGIN"[..], b"END"].iter().any(|it| word.eq_ignore_ascii_case(it))
        && label::is_like_known(label)
}

/// A line without a dash or blank at one of its ends, and whether it was a dash.
fn cut(text: &[u8], strip: for<'a> fn(&'a [u8], &[u8]) -> Option<&'a [u8]>) -> Option<(&[u8], bool)> {
    let dash = DASHES.iter().find_map(|dash| strip(text, dash)).map(|rest| (rest, true));
    dash.or_else(|| BLANKS.iter().find_map(|blank| strip(text, blank)).map(|rest| (rest, false)))
}

/// Hyphens, and what word processors make of them: the hyphens and dashes of Unicode from U+2010 to U+2015, the soft hyphen, the
/// hyphen bullet, minus, the small and the wide hyphen, all in UTF-8, and both dashes of Windows-1252.
const DASHES: &[&[u8]] = &[
    b"-",
    b"\xe2\x80\x90",
    b"\xe2\x80\x91",
    b"\xe2\x80\x92",
    b"\xe2\x80\x93",
    b"\xe2\x80\x94",
    b"\xe2\x80\x95",
    b"\xc2\xad",
    b"\xe2\x81\x83",
    b"\xe2\x88\x92",
    b"\xef\xb9\x98",
    b"\xef\xb9\xa3",
    b"\xef\xbc\x8d",
    b"\x96",
    b"\x97",
];

/// White space, among it the no-break space in UTF-8, and the byte order mark.
const BLANKS: &[&[u8]] = &[b" ", b"\t", b"\x0b", b"\x0c", b"\xc2\xa0", BYTE_ORDER_MARK];

/// Refuses what is no PEM as a whole.
pub(super) fn check_encoding(text: &[u8], wanted: Wanted) -> Result<(), PemError> {
    let kind = if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        PemErrorKind::Utf16
    } else if find(text, HYPHENS).is_some() {
        return Ok(());
    } else if let Some(&[Element { identifier: SEQUENCE, content, .. }]) = der::elements(text).as_deref() {
        if is_pkcs12(content) { PemErrorKind::Pkcs12(wanted) } else { PemErrorKind::Der(wanted) }
    } else if is_utf16(text) {
        PemErrorKind::Utf16
    } else if text.contains(&0) {
        PemErrorKind::Binary
    } else {
        return Ok(());
    };
    Err(PemError::whole(kind))
}

/// ASCII in UTF-16 without a byte order mark: every other byte is 0.
fn is_utf16(text: &[u8]) -> bool {
    let zero = |first: usize| text.iter().skip(first).step_by(2).take(8).all(|byte| *byte == 0);
    text.len() >= 2 && (zero(0) || zero(1))
}

/// PFX (RFC 7292 section 4) begins with its version, 3; PKCS #8 and X.509 with others.
fn is_pkcs12(content: &[u8]) -> bool {
    content.starts_with(&[0x02, 0x01, 0x03])
}

/// What certificates, revocation lists, keys and stores are (ITU-T X.690, 8).
const SEQUENCE: u8 = 0x30;

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
