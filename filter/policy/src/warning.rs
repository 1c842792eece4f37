//! What a policy document says that is legal and probably not meant.

use std::fmt;
use std::path::Path;

/// One sentence, and its place in the document where it is about one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyWarning {
    place: Option<(u32, u32)>,
    message: String,
}

impl PolicyWarning {
    /// Line and column, both from 1, columns in characters.
    pub fn place(&self) -> Option<(u32, u32)> {
        self.place
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same warning at another place: the document was rewritten before it was read.
    #[must_use]
    pub fn at(self, line: u32, column: u32) -> Self {
        Self { place: Some((line, column)), ..self }
    }

    /// `FILE:LINE:COLUMN: message`, or the message alone where it is about the whole document.
    pub fn in_file(&self, file: &Path) -> String {
        match self.place {
            Some((line, column)) => {
                format!("{}:{line}:{column}: {}", file.display().to_string().escape_debug(), self.message)
            }
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for PolicyWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(formatter, "at line {line} column {column}: ")?;
        }
        formatter.write_str(&self.message)
    }
}

/// Warnings while a document is read: some are about a byte of it.
#[derive(Default)]
pub(crate) struct Warnings(Vec<(Option<usize>, String)>);

impl Warnings {
    pub(crate) fn push(&mut self, message: impl Into<String>) {
        self.0.push((None, message.into()));
    }

    pub(crate) fn push_at(&mut self, offset: usize, message: String) {
        self.0.push((Some(offset), message));
    }

    /// The warnings with their places in `text`. They come by object, and within one in order, so this walks over the text a
    /// few times, however many warnings there are.
    pub(crate) fn located(self, text: &str) -> Vec<PolicyWarning> {
        let (mut line, mut column, mut done) = (1, 1, 0);
        let mut place = |offset: usize| {
            if offset < done {
                (line, column, done) = (1, 1, 0);
            }
            for c in text.get(done..offset).unwrap_or_default().chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            done = offset;
            (line, column)
        };
        let located = |(offset, message): (Option<usize>, String)| PolicyWarning {
            place: offset.map(&mut place),
            message,
        };
        self.0.into_iter().map(located).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_any_order() {
        let text = "{\n \"é\": 1,\n \"b\": 2}";
        let mut warnings = Warnings::default();
        warnings.push("no place");
        let offset = |part: &str| text.find(part).expect("there");
        warnings.push_at(offset("2"), "two".into());
        warnings.push_at(offset("1"), "one".into());
        let found: Vec<String> = warnings.located(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["no place", "at line 3 column 7: two", "at line 2 column 7: one"]);
    }
}
