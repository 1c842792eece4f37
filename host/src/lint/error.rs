//! Why a file is not looked at.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::files::FileError;

/// A file that is not looked at.
#[derive(Debug)]
pub enum LintError {
    /// The file itself.
    File(FileError),
    /// It is no text.
    Encoding(PathBuf),
    /// It is gzip.
    Compressed(PathBuf),
    /// It is neither YAML nor JSON.
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<serde_saphyr::Error>,
        /// Line of the first `{{`, with which Helm and others begin what they fill in.
        template: Option<usize>,
    },
}

impl LintError {
    pub(super) fn content(path: &Path, text: &str, error: serde_saphyr::Error) -> Self {
        let template = text.lines().position(|line| line.contains("{{")).map(|index| index + 1);
        Self::Content { path: path.to_owned(), error: Box::new(error), template }
    }
}

impl fmt::Display for LintError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(formatter, "Envoy's configuration: {error}"),
            Self::Encoding(path) => write!(
                formatter,
                "Envoy's configuration: `{}` is not UTF-8 text (serialized protobuf, UTF-16?); give it as YAML or JSON \
                 in UTF-8",
                path.display().to_string().escape_debug()
            ),
            Self::Compressed(path) => write!(
                formatter,
                "Envoy's configuration: `{}` is compressed; unpack it (`gzip -d`)",
                path.display().to_string().escape_debug()
            ),
            Self::Content { path, template: Some(line), .. } => write!(
                formatter,
                "{}:{line}:1: a template, not what Envoy or Kubernetes gets; give its output (`helm template`)",
                path.display().to_string().escape_debug()
            ),
            Self::Content { path, error, .. } => {
                let place = error.location().map_or((1, 1), |it| (it.line(), it.column()));
                let text = error.without_snippet().to_string();
                let text = text.lines().next().unwrap_or_default();
                // The place stands in front.
                let message = text.rsplit_once(" at line ").map_or(text, |(message, _)| message);
                let path = path.display().to_string();
                write!(
                    formatter,
                    "{}:{}:{}: {message}; give YAML or JSON that Envoy or Kubernetes reads",
                    path.escape_debug(),
                    place.0,
                    place.1
                )
            }
        }
    }
}

impl std::error::Error for LintError {}
