//! The policy file, replaced as a whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::TokenError;
use super::secret::Secret;
use crate::files::{Audience, read};

/// How long another editor is waited for.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);

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
    /// It is a symbolic link, others can write it or its directory, it cannot be read, or somebody else edits it for
    /// longer than [`LOCK_PATIENCE`].
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        Self::open_within(path, LOCK_PATIENCE)
    }

    pub(super) fn open_within(path: &Path, patience: Duration) -> Result<Self, TokenError> {
        let directory = directory(path).to_owned();
        let failed = |error| TokenError::Unwritable { path: path.to_owned(), error };
        let lock = File::open(&directory).map_err(failed)?;
        if !locked(&lock, patience).map_err(failed)? {
            return Err(TokenError::Locked { path: path.to_owned(), directory });
        }
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
    /// The file stays as it was, but for [`TokenError::NotDurable`].
    pub fn replace(self, text: &str) -> Result<(), TokenError> {
        let failed = |error| TokenError::Unwritable { path: self.path.clone(), error };
        let is = fs::symlink_metadata(&self.path).map_err(failed)?;
        if !is.is_file() || fs::read(&self.path).map_err(failed)? != self.text.as_bytes() {
            return Err(TokenError::Changed(self.path));
        }
        let new = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        fill(new.as_file(), text, &is).map_err(failed)?;
        new.persist(&self.path).map_err(|error| failed(error.error))?;
        sync(&self.directory).map_err(|error| TokenError::NotDurable { path: self.path.clone(), error })
    }
}

/// Where the file stands.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Tries until the lock is ours. A wait in the kernel could not be given up.
fn locked(file: &File, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// A new name in a directory outlives a crash only when the directory was written too.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
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
        .and_then(|()| file.sync_all())
        .and_then(|()| sync(directory(path)));
    written.map_err(|error| {
        // What is left of it is no token.
        let _ = fs::remove_file(path);
        failed(error)
    })
}
