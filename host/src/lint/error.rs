//! Why a file is not looked at.

use std::fmt;
use std::path::PathBuf;

use crate::files::FileError;

/// A file that is not looked at.
#[derive(Debug)]
pub enum LintError {
    /// The file itself.
    File(FileError),
    /// It is no text.
    Encoding(PathBuf),
    /// It is neither YAML nor JSON.
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<serde_saphyr::Error>,
    },
}

impl fmt::Display for LintError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(formatter, "Envoy's configuration: {error}"),
            Self::Encoding(path) => write!(
                formatter,
                "Envoy's configuration: `{}` is not UTF-8; save it as UTF-8",
                path.display().to_string().escape_debug()
            ),
            Self::Content { path, error } => {
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
