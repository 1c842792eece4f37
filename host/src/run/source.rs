//! Where the configuration comes from.

use std::path::PathBuf;

use super::RunError;
use crate::config::{ConfigError, Document};
use crate::files::{self, Audience};

/// The configuration, by file or by flags.
#[derive(Clone, Debug)]
pub enum Source {
    /// Read again at every reload.
    File(PathBuf),
    /// What the flags say.
    Flags(Box<Document>),
}

impl Source {
    /// The configuration as it is now.
    pub(super) fn read(&self) -> Result<Document, RunError> {
        match self {
            Self::Flags(document) => Ok(Document::clone(document)),
            Self::File(path) => {
                let bytes = files::read(path, Audience::Everybody).map_err(ConfigError::File);
                let text = bytes
                    .and_then(|it| String::from_utf8(it).map_err(|_| ConfigError::Encoding(path.clone())));
                text.and_then(|text| Document::parse(&text, path)).map_err(RunError::Config)
            }
        }
    }
}
