//! Why a policy document was refused, and where.

mod kind;

use std::fmt;
use std::path::Path;

pub use kind::{Hint, PolicyErrorKind};

use crate::json;

/// A policy document that cannot be read. The old policy, if any, stays in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyError {
    path: String,
    line: u32,
    column: u32,
    kind: PolicyErrorKind,
}

impl PolicyError {
    /// JSON path of the offending value, such as `authorized-peers[0].name`; empty for the document itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Line, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// What is wrong.
    pub fn kind(&self) -> &PolicyErrorKind {
        &self.kind
    }

    /// The error as compilers print theirs: `FILE:LINE:COLUMN: message`.
    pub fn in_file(&self, file: &Path) -> String {
        let Self { path, line, column, kind } = self;
        let file = file.display().to_string();
        let path = if path.is_empty() { String::new() } else { format!("{}: ", kind::Quoted(path)) };
        format!("{}:{line}:{column}: {path}{kind}", file.escape_debug())
    }

    /// The same error as seen from a document that has this one as its member `key`, at `line` and `column`.
    #[must_use]
    pub fn embedded(self, key: &str, line: u32, column: u32) -> Self {
        let first_line = self.line == 1;
        Self {
            path: if self.path.is_empty() { key.to_owned() } else { format!("{key}.{}", self.path) },
            line: self.line + line - 1,
            column: if first_line { self.column + column - 1 } else { self.column },
            kind: self.kind,
        }
    }

    /// The same error as seen from a document that was rewritten before it was read, and has this at `line` and `column`.
    #[must_use]
    pub fn at(self, line: u32, column: u32) -> Self {
        Self { line, column, ..self }
    }

    pub(crate) fn new(text: &str, fault: Fault) -> Self {
        let json::Place { path, line, column } = json::locate(text, fault.offset);
        Self { path, line, column, kind: fault.kind }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{} ", kind::Quoted(&self.path))?;
        }
        write!(formatter, "at line {} column {}: {}", self.line, self.column, self.kind)
    }
}

impl std::error::Error for PolicyError {}

/// A [`PolicyErrorKind`] at a byte of the document; its place is looked up once, when it leaves the parser.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) kind: PolicyErrorKind,
}
