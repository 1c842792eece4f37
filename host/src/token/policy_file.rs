//! The policy file, replaced as a whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::error::TokenError;
use super::secret::Secret;
use crate::files::{Audience, read};

/// A policy file that nobody else edits through this type meanwhile.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    directory: PathBuf,
    text: String,
    /// Locked until the value is dropped. The file itself is replaced, so its lock would be on what was.
    _lock: File,
}

impl PolicyFile {
    /// Reads a policy file in order to replace it.
    ///
    /// # Errors
    /// It is a symbolic link, others can write it or its directory, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let failed = |error| TokenError::Unwritable { path: path.to_owned(), error };
        let lock = File::open(&directory).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if fs::symlink_metadata(path).map_err(failed)?.is_symlink() {
            return Err(TokenError::NotTheFileItself(path.to_owned()));
        }
        let text = String::from_utf8(read(path, Audience::Everybody)?)
            .map_err(|_| TokenError::Unreadable("not UTF-8".to_owned()))?;
        Ok(Self { path: path.to_owned(), directory, text, _lock: lock })
    }

    /// The document.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts another document in its place, with the same owner and mode.
    ///
    /// # Errors
    /// The file stays as it was.
    pub fn replace(self, text: &str) -> Result<(), TokenError> {
        let failed = |error| TokenError::Unwritable { path: self.path.clone(), error };
        let is = fs::symlink_metadata(&self.path).map_err(failed)?;
        if !is.is_file() || fs::read(&self.path).map_err(failed)? != self.text.as_bytes() {
            return Err(TokenError::Changed(self.path));
        }
        let new = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        fill(new.as_file(), text, &is).map_err(failed)?;
        new.persist(&self.path).map_err(|error| failed(error.error))?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

fn fill(mut file: &File, text: &str, like: &Metadata) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    let is = file.metadata()?;
    if (is.uid(), is.gid()) != (like.uid(), like.gid()) {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(PermissionsExt::from_mode(like.mode() & 0o7777))?;
    file.sync_all()
}

/// Writes a token and a line end into a new file that only its owner can read.
///
/// # Errors
/// The file exists, be it as a link, or cannot be written; a half-written one is removed.
pub fn write_secret(path: &Path, secret: &Secret) -> Result<(), TokenError> {
    let failed = |error| TokenError::Unwritable { path: path.to_owned(), error };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file
        .write_all(secret.expose().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // What is left of it is no token.
        let _ = fs::remove_file(path);
        failed(error)
    })
}
