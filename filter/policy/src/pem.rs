//! The one reader of PEM text (RFC 7468; encrypted keys also have the headers of RFC 1421).
//!
//! Every line is accounted for. It belongs to a section, or it is text that cannot be taken for one, or the whole file is
//! refused: a section that a reader passes over is an authority, a client or a revocation that silently does not count.
//! More is read than OpenSSL reads where there is only one meaning: a byte order mark, CR alone as the line end, sections
//! that were glued without a line end, a section on one line (RFC 7468 section 3, the lax grammar).

mod error;
mod label;
mod mark;

use data_encoding::BASE64;

pub use error::{PemError, PemErrorKind};
pub use label::{Label, Wanted};

use mark::Mark;

/// One section: what it says it is, where it begins, and its base64.
#[derive(Clone, Eq, PartialEq)]
pub struct Section {
    label: Label,
    line: usize,
    encrypted: bool,
    base64: Vec<u8>,
    padding: usize,
}

/// Without content, which may be a key.
impl std::fmt::Debug for Section {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, line, .. } = self;
        formatter.debug_struct("Section").field("label", label).field("line", line).finish_non_exhaustive()
    }
}

impl Section {
    fn new(label: Label, line: usize) -> Self {
        Self { label, line, encrypted: false, base64: Vec::new(), padding: 0 }
    }

    /// What the BEGIN line says.
    pub fn label(&self) -> Label {
        self.label
    }

    /// The line of BEGIN, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The content in base64 (RFC 4648 section 4), padded and without white space.
    pub fn base64(&self) -> &[u8] {
        &self.base64
    }

    /// The content.
    ///
    /// # Errors
    /// [`PemErrorKind::Incomplete`]: characters are missing.
    pub fn der(&self) -> Result<Vec<u8>, PemError> {
        BASE64.decode(&self.base64).map_err(|_| PemError::at(self.line, PemErrorKind::Incomplete))
    }

    /// Takes a piece of the body.
    fn push(&mut self, text: &[u8]) -> Result<(), PemErrorKind> {
        for byte in text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'=' if self.padding < 2 => self.padding += 1,
                _ if mark::is_base64(byte) && self.padding == 0 => {}
                _ if byte == b'=' || mark::is_base64(byte) => return Err(PemErrorKind::AfterPadding),
                b'\\' => return Err(PemErrorKind::EscapedLineEnds),
                _ => return Err(PemErrorKind::NotBase64),
            }
            self.base64.push(byte);
        }
        Ok(())
    }

    /// Takes a header of RFC 1421, which only encrypted keys have.
    fn header(&mut self, line: &[u8]) -> Result<(), PemErrorKind> {
        let is = |name: &[u8]| line.trim_ascii_start().starts_with(name);
        match self.label.is_private_key() {
            true if is(b"Proc-Type:") => {
                self.encrypted |= line.trim_ascii_end().ends_with(b"ENCRYPTED");
                Ok(())
            }
            true if is(b"DEK-Info:") => Ok(()),
            _ => Err(PemErrorKind::Header),
        }
    }

    fn end(&self) -> Result<(), PemError> {
        match self.base64.len() {
            0 => Err(PemError::at(self.line, PemErrorKind::EmptySection)),
            length if length % 4 != 0 => Err(PemError::at(self.line, PemErrorKind::Incomplete)),
            _ => Ok(()),
        }
    }
}

/// The sections of a file, which must all be of the kind that is wanted. A file for a private key has one key. It may also
/// have the curve of the key (`openssl ecparam -genkey` writes it), which is left out here, and certificates (as HAProxy
/// and cert-manager's combined files), which are not: the caller knows whether they are the right ones.
///
/// # Errors
/// The first thing in the file that cannot be read or has no business there, or that there is nothing.
pub fn read(text: &[u8], wanted: Wanted) -> Result<Vec<Section>, PemError> {
    mark::check_encoding(text, wanted)?;
    let mut found = Vec::new();
    for section in sections(text) {
        let section = section?;
        wanted.check(&section)?;
        if section.label != Label::EcParameters {
            found.push(section);
        }
    }
    if text.trim_ascii().is_empty() {
        return Err(PemError::whole(PemErrorKind::Blank));
    }
    let keys = found.iter().filter(|section| section.label.is_private_key());
    match (wanted, keys.map(Section::line).nth(1)) {
        (Wanted::PrivateKey, Some(second)) => Err(PemError::at(second, PemErrorKind::SecondKey)),
        _ if !found.iter().any(|section| wanted.is_met_by(section.label)) => {
            Err(PemError::whole(PemErrorKind::Nothing(wanted)))
        }
        _ => Ok(found),
    }
}

/// All sections of a text. The first error ends the list.
pub fn sections(text: &[u8]) -> Sections<'_> {
    Sections { ahead: text, rest: b"", line: 0, after_end: false }
}

/// See [`sections`].
#[derive(Debug)]
pub struct Sections<'a> {
    /// Lines that were not looked at.
    ahead: &'a [u8],
    /// What is left of the current line.
    rest: &'a [u8],
    /// Its number.
    line: usize,
    /// Whether a section ended on this line: text must not follow there.
    after_end: bool,
}

impl Iterator for Sections<'_> {
    type Item = Result<Section, PemError>;

    fn next(&mut self) -> Option<Self::Item> {
        let section = self.section();
        if section.is_err() {
            (self.ahead, self.rest) = (b"", b"");
        }
        section.transpose()
    }
}

impl<'a> Sections<'a> {
    fn section(&mut self) -> Result<Option<Section>, PemError> {
        let Some(label) = self.begin()? else { return Ok(None) };
        let mut section = Section::new(Label::of(label), self.line);
        self.body(&mut section, label)?;
        section.end()?;
        Ok(Some(section))
    }

    /// Goes on behind the next BEGIN, and tells its label. Text before it is left out.
    fn begin(&mut self) -> Result<Option<&'a [u8]>, PemError> {
        loop {
            let start = mark::unmarked(self.rest, self.after_end);
            match Mark::of(start) {
                Some(Mark::Begin { label, rest }) => {
                    self.rest = rest;
                    return Ok(Some(label));
                }
                Some(Mark::End { .. }) => return Err(self.error(PemErrorKind::EndWithoutBegin)),
                None => mark::check_text(start, self.after_end).map_err(|kind| self.error(kind))?,
            }
            if !self.next_line() {
                return Ok(None);
            }
        }
    }

    /// Goes on behind the END of a section.
    fn body(&mut self, section: &mut Section, label: &[u8]) -> Result<(), PemError> {
        let without_end = PemError::at(section.line, PemErrorKind::BeginWithoutEnd);
        loop {
            let hyphen = self.rest.iter().position(|byte| *byte == b'-').unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at(hyphen);
            match Mark::of(rest) {
                Some(Mark::Begin { .. }) => return Err(without_end),
                Some(Mark::End { label: ended, rest }) => {
                    section.push(text).map_err(|kind| self.error(kind))?;
                    (self.rest, self.after_end) = (rest, true);
                    return if ended == label { Ok(()) } else { Err(self.error(PemErrorKind::OtherEnd)) };
                }
                None => self.body_line(section)?,
            }
            if !self.next_line() {
                return Err(without_end);
            }
        }
    }

    fn body_line(&self, section: &mut Section) -> Result<(), PemError> {
        let taken = match self.rest.contains(&b':') && section.base64.is_empty() {
            true => section.header(self.rest),
            false => section.push(self.rest),
        };
        taken.map_err(|kind| {
            self.error(if mark::resembles(self.rest) { PemErrorKind::ResemblesMark } else { kind })
        })
    }

    /// Lines end with LF, CR LF or CR.
    fn next_line(&mut self) -> bool {
        if self.ahead.is_empty() {
            return false;
        }
        let end = self.ahead.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, rest) = self.ahead.split_at(end.unwrap_or(self.ahead.len()));
        let line_end = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        (self.rest, self.ahead) = (line, &rest[line_end..]);
        self.line += 1;
        self.after_end = false;
        true
    }

    fn error(&self, kind: PemErrorKind) -> PemError {
        PemError::at(self.line, kind)
    }
}

#[cfg(test)]
mod tests;
