//! Reading a file whose content decides who is trusted: only when nobody else can change it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::links::{self, Step};
use super::trail;

/// Who may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Certificates and policies: everybody.
    Everybody,
    /// Private keys: owner and group. cert-manager and Kubernetes' `fsGroup` hand keys over by group.
    OwnerAndGroup,
}

/// Why a file is not used.
#[derive(Debug)]
pub enum FileError {
    /// The operating system refused.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Its reason.
        error: io::Error,
    },
    /// A directory, socket, pipe or device.
    NotAFile(PathBuf),
    /// Nothing in it.
    Empty(PathBuf),
    /// Larger than [`FILE_BYTES`].
    TooLarge(PathBuf),
    /// Everybody on the machine can read a private key.
    WorldReadable(PathBuf),
    /// Everybody on the machine can write the file.
    WorldWritable(PathBuf),
    /// Everybody on the machine can replace the file.
    DirectoryWorldWritable {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(formatter, "cannot read {}: {error}; check the path and who may read it", quoted(path))
            }
            Self::NotAFile(path) => {
                write!(formatter, "{} is not a regular file; name the file itself", quoted(path))
            }
            Self::Empty(path) => write!(formatter, "{} is empty; write its content first", quoted(path)),
            Self::TooLarge(path) => {
                write!(
                    formatter,
                    "{} is larger than {FILE_BYTES} bytes; split it or name another",
                    quoted(path)
                )
            }
            Self::WorldReadable(path) => {
                write!(formatter, "{} is a private key that everybody can read; chmod o-rwx it", quoted(path))
            }
            Self::WorldWritable(path) => {
                write!(formatter, "{} is writable by everybody; chmod o-w it", quoted(path))
            }
            Self::DirectoryWorldWritable { path, directory } => write!(
                formatter,
                "everybody can replace {}: directory {} is writable by others; chmod o-w it",
                quoted(path),
                quoted(directory)
            ),
        }
    }
}

impl std::error::Error for FileError {}

/// Reads a whole file, and notes it where somebody asks what was read ([`trail::recorded`]). Permissions are those of the
/// opened file, so a swap in between changes nothing.
pub fn read(path: &Path, audience: Audience) -> Result<Vec<u8>, FileError> {
    let found = read_unseen(path, audience);
    trail::note(path, audience, &found);
    found
}

/// As [`read`], without a note.
pub(super) fn read_unseen(path: &Path, audience: Audience) -> Result<Vec<u8>, FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    // Opening a pipe waits for its writer: look before.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    check_mode(path, &file.metadata().map_err(unreadable)?, audience)?;
    check_directories(path).map_err(unreadable)??;
    let mut content = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > FILE_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    if content.is_empty() {
        return Err(FileError::Empty(path.to_owned()));
    }
    Ok(content)
}

/// A path as it appears in a message: one line whatever it contains.
pub(super) fn quoted(path: &Path) -> String {
    format!("`{}`", path.display().to_string().escape_debug())
}

fn check_mode(path: &Path, metadata: &Metadata, audience: Audience) -> Result<(), FileError> {
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(FileError::WorldWritable(path.to_owned()));
    }
    if audience == Audience::OwnerAndGroup && metadata.mode() & OTHERS_READ != 0 {
        return Err(FileError::WorldReadable(path.to_owned()));
    }
    Ok(())
}

/// The directory of the file, and that of every symbolic link on the way to it: whoever can replace a link chooses the
/// file.
fn check_directories(path: &Path) -> io::Result<Result<(), FileError>> {
    for Step { entry, directory } in links::steps(path)? {
        if replaceable(&entry, &directory)? {
            return Ok(Err(FileError::DirectoryWorldWritable { path: path.to_owned(), directory }));
        }
    }
    Ok(Ok(()))
}

/// Whether somebody else can put another file in the place of `entry`. In a sticky directory (`/tmp`, a secret's
/// mount in Kubernetes) only the owner of an entry and of the directory can: that must be root or us. Through a
/// read-only mount nobody can: the kubelet makes the directory of a ConfigMap with mode 0777 (`pkg/volume/emptydir`) and
/// mounts it read-only into containers.
fn replaceable(entry: &Path, directory: &Path) -> io::Result<bool> {
    let around = directory.metadata()?;
    if around.mode() & OTHERS_WRITE == 0 || is_mounted_read_only(directory)? {
        return Ok(false);
    }
    let ours = rustix::process::geteuid().as_raw();
    let trusted = |owner: u32| owner == 0 || owner == ours;
    let sticky = around.mode() & STICKY != 0;
    Ok(!(sticky && trusted(around.uid()) && trusted(entry.symlink_metadata()?.uid())))
}

fn is_mounted_read_only(directory: &Path) -> io::Result<bool> {
    Ok(statvfs(directory)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// A policy may have 32 MiB; a CA bundle is far smaller.
const FILE_BYTES: u64 = 32 * 1024 * 1024;
