//! Globs, exactly as Vespa's (`GlobPattern.java`, `peer_policies.cpp`). Matching never tries anything twice: its time is
//! that of the value's length, times one more for every 64 characters of a part with `?`.
//!
//! | | separator | `*` | `?` |
//! |---|---|---|---|
//! | CN, SAN_DNS | `.` | zero or more characters other than `.` | exactly one character other than `.` |
//! | SAN_URI | `/` | zero or more characters other than `/` | an ordinary question mark |
//!
//! A pattern matches the whole value or nothing of it. There is no escape, no case folding and no normalisation;
//! `**` is the same as `*`; the empty pattern matches the empty value only. A character is a Unicode code point.
//! Wildcards of the *certificate* mean nothing: `*.example` in a certificate is plain text.
//!
//! ```
//! use peergate_policy::pattern::{Pattern, Separator};
//!
//! let pattern = Pattern::new("*.us-east-*.monitor.example.com", Separator::Dot);
//! assert!(pattern.matches("m1.us-east-1a.monitor.example.com"));
//! assert!(!pattern.matches("m1.rack2.us-east-1a.monitor.example.com"));
//! assert!(!Pattern::new("spiffe://td/*", Separator::Slash).matches("spiffe://td/ns/prod"));
//! ```

use crate::limits;

/// What `*` and `?` never match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Separator {
    /// CN and SAN_DNS: `.`; `?` is one character.
    Dot,
    /// SAN_URI: `/`; `?` is a question mark.
    Slash,
}

impl Separator {
    /// The character.
    pub fn as_char(self) -> char {
        match self {
            Self::Dot => '.',
            Self::Slash => '/',
        }
    }

    fn has_single_wildcard(self) -> bool {
        self == Self::Dot
    }
}

/// A compiled glob. No wildcard crosses a separator, so it is a fixed number of labels, each with a glob of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    separator: Separator,
    labels: Vec<Label>,
}

impl Pattern {
    /// Compiles any text: each is a legal pattern.
    pub fn new(text: &str, separator: Separator) -> Self {
        let single = separator.has_single_wildcard();
        Self {
            separator,
            labels: text.split(separator.as_char()).map(|label| Label::new(label, single)).collect(),
        }
    }

    /// Whether the whole `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        let mut values = value.split(self.separator.as_char());
        self.labels.iter().all(|label| values.next().is_some_and(|value| label.matches(value)))
            && values.next().is_none()
    }

    /// Whether this pattern costs more memory and time than any sensible one.
    pub(crate) fn is_excessive(&self) -> bool {
        let masked = |label: &Label| matches!(label, Label::Glob(glob) if glob.text.contains('?'));
        let longest = |label: &Label| matches!(label, Label::Glob(glob) if glob.text.len() > limits::MASKED_LABEL_BYTES);
        self.labels.len() > limits::PATTERN_LABELS
            || self.separator.has_single_wildcard()
                && self.labels.iter().any(|label| masked(label) && longest(label))
    }

    pub(crate) fn labels(&self) -> &[Label] {
        &self.labels
    }
}

/// The glob of one label: what stands between two separators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Label {
    Literal(Box<str>),
    Glob(Glob),
}

impl Label {
    pub(crate) fn new(text: &str, single: bool) -> Self {
        if !(text.contains('*') || single && text.contains('?')) {
            return Self::Literal(text.into());
        }
        Self::Glob(Glob::new(text, single))
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *value,
            Self::Glob(glob) => glob.matches(value),
        }
    }
}

/// `first * middle[0] * middle[1] * last`, or `first` alone where the label has `?` but no `*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Glob {
    text: Box<str>,
    first: Piece,
    middle: Vec<Piece>,
    last: Option<Piece>,
}

impl Glob {
    fn new(text: &str, single: bool) -> Self {
        let mut pieces = text.split('*');
        let first = Piece::new(pieces.next().unwrap_or_default(), single);
        let mut rest: Vec<Piece> = pieces.map(|piece| Piece::new(piece, single)).collect();
        let last = rest.pop();
        rest.retain(|piece| !piece.is_empty());
        Self { text: text.into(), first, middle: rest, last }
    }

    /// As written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The longest literal text that every match has somewhere between its ends.
    pub(crate) fn infix(&self) -> &str {
        self.middle.iter().map(Piece::longest_literal).max_by_key(|text| text.len()).unwrap_or_default()
    }

    /// How much work matching `value` is, in bytes looked at.
    pub(crate) fn cost(&self, value: &str) -> usize {
        (1 + value.len()) * (1 + self.text.len() / 64)
    }

    /// The literal text every match starts with.
    pub(crate) fn prefix(&self) -> &str {
        self.first.literal_start()
    }

    /// The literal text every match ends with.
    pub(crate) fn suffix(&self) -> &str {
        self.last.as_ref().map_or("", Piece::literal_end)
    }

    /// The leftmost match of each piece is as good as any later one, so nothing is ever tried twice.
    pub(crate) fn matches(&self, value: &str) -> bool {
        let Some(rest) = self.first.strip_start(value) else { return false };
        let Some(last) = &self.last else { return rest.is_empty() };
        let Some(mut rest) = last.strip_end(rest) else { return false };
        for piece in &self.middle {
            match piece.find_end(rest) {
                Some(end) => rest = &rest[end..],
                None => return false,
            }
        }
        true
    }
}

/// Text without `*`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(Box<str>),
    Masked(MaskedPiece),
}

impl Piece {
    fn new(text: &str, single: bool) -> Self {
        if single && text.contains('?') {
            Self::Masked(MaskedPiece::new(text))
        } else {
            Self::Literal(text.into())
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Literal(text) if text.is_empty())
    }

    fn literal_start(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Masked(piece) => piece.text.split('?').next().unwrap_or_default(),
        }
    }

    fn literal_end(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Masked(piece) => piece.text.rsplit('?').next().unwrap_or_default(),
        }
    }

    fn longest_literal(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Masked(piece) => piece.text.split('?').max_by_key(|text| text.len()).unwrap_or_default(),
        }
    }

    fn strip_start<'a>(&self, value: &'a str) -> Option<&'a str> {
        match self {
            Self::Literal(text) => value.strip_prefix(&**text),
            Self::Masked(piece) => {
                let end = byte_of_char(value, piece.length)?;
                piece.equals(&value[..end]).then(|| &value[end..])
            }
        }
    }

    fn strip_end<'a>(&self, value: &'a str) -> Option<&'a str> {
        match self {
            Self::Literal(text) => value.strip_suffix(&**text),
            Self::Masked(piece) => {
                let start = match piece.length {
                    0 => value.len(),
                    length => value.char_indices().rev().nth(length - 1)?.0,
                };
                piece.equals(&value[start..]).then(|| &value[..start])
            }
        }
    }

    /// The end, in bytes, of the leftmost match.
    fn find_end(&self, value: &str) -> Option<usize> {
        match self {
            Self::Literal(text) => value.find(&**text).map(|start| start + text.len()),
            Self::Masked(piece) => piece.find_end(value),
        }
    }
}

/// Text with `?`, searched by Shift-And: one step per character of the value and 64 characters of the pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
struct MaskedPiece {
    text: Box<str>,
    /// In characters.
    length: usize,
    /// For each distinct character, sorted: at which positions of the piece it may stand.
    positions: Vec<(char, Box<[u64]>)>,
    /// The positions of `?`: where any character may stand.
    any: Box<[u64]>,
}

impl MaskedPiece {
    fn new(text: &str) -> Self {
        let length = text.chars().count();
        let words = length.div_ceil(64);
        let mut any = vec![0; words].into_boxed_slice();
        for (index, _) in text.chars().enumerate().filter(|(_, c)| *c == '?') {
            set(&mut any, index);
        }
        let mut positions: Vec<(char, Box<[u64]>)> = Vec::new();
        for (index, character) in text.chars().enumerate().filter(|(_, c)| *c != '?') {
            let place = match positions.binary_search_by_key(&character, |(known, _)| *known) {
                Ok(place) => place,
                Err(place) => {
                    positions.insert(place, (character, any.clone()));
                    place
                }
            };
            set(&mut positions[place].1, index);
        }
        Self { text: text.into(), length, positions, any }
    }

    fn equals(&self, value: &str) -> bool {
        let mut characters = value.chars();
        self.text
            .chars()
            .all(|wanted| characters.next().is_some_and(|found| wanted == '?' || wanted == found))
            && characters.next().is_none()
    }

    fn find_end(&self, value: &str) -> Option<usize> {
        let mut state = vec![0_u64; self.any.len()];
        let (last_word, last_bit) = ((self.length - 1) / 64, (self.length - 1) % 64);
        for (start, character) in value.char_indices() {
            let mask = match self.positions.binary_search_by_key(&character, |(known, _)| *known) {
                Ok(index) => &self.positions[index].1,
                Err(_) => &self.any,
            };
            let mut carry = 1;
            for (word, mask) in state.iter_mut().zip(mask) {
                let out = *word >> 63;
                *word = ((*word << 1) | carry) & mask;
                carry = out;
            }
            if state[last_word] >> last_bit & 1 == 1 {
                return Some(start + character.len_utf8());
            }
        }
        None
    }
}

fn set(mask: &mut [u64], index: usize) {
    mask[index / 64] |= 1 << (index % 64);
}

/// The byte at which character number `count` starts, or the end of a value of exactly that many characters.
fn byte_of_char(value: &str, count: usize) -> Option<usize> {
    value.char_indices().map(|(byte, _)| byte).chain([value.len()]).nth(count)
}

#[cfg(test)]
mod tests;
