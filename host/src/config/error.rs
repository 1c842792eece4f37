//! What is wrong with a configuration file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::files::FileError;

/// Why a configuration file is not used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file itself.
    File(FileError),
    /// It is no text.
    Encoding(PathBuf),
    /// Its content.
    Content {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn shape(path: &Path, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // serde_json ends its message with the place, which stands in front of ours.
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned();
        Self::Content { path: path.to_owned(), line: error.line(), column: error.column(), message }
    }

    /// About the value at `pointer` (RFC 6901), or the innermost one around it that is there.
    pub(super) fn meaning(path: &Path, text: &str, pointer: &str, message: String) -> Self {
        let before = &text[..offset(text, pointer)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        let key = pointer.trim_start_matches('/').replace('/', ".");
        let message = if key.is_empty() { message } else { format!("`{key}`: {message}") };
        Self::Content { path: path.to_owned(), line, column, message }
    }
}

/// Byte at which the value begins in a text that has parsed before.
fn offset(text: &str, pointer: &str) -> usize {
    let mut value = text.trim_start();
    for token in pointer.split('/').skip(1) {
        let member = match token.parse::<usize>() {
            Ok(index) => {
                serde_json::from_str::<Vec<&RawValue>>(value).ok().and_then(|it| it.get(index).copied())
            }
            Err(_) => serde_json::from_str::<std::collections::HashMap<String, &RawValue>>(value)
                .ok()
                .and_then(|it| it.get(token).copied()),
        };
        match member {
            Some(member) => value = member.get(),
            None => break,
        }
    }
    value.as_ptr() as usize - text.as_ptr() as usize
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(formatter, "configuration: {error}"),
            Self::Encoding(path) => write!(
                formatter,
                "configuration: `{}` is not UTF-8; save it as UTF-8",
                path.display().to_string().escape_debug()
            ),
            Self::Content { path, line, column, message } => {
                write!(formatter, "{}:{line}:{column}: {message}", path.display().to_string().escape_debug())
            }
        }
    }
}

impl std::error::Error for ConfigError {}
