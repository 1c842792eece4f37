//! Reading a file whose content decides who is trusted: only when nobody else can change it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::links::{self, Step};
use super::trail;
use super::volume::{self, Volume};

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
        /// What can be done where it is.
        volume: Volume,
    },
    /// A directory, socket, pipe or device.
    NotAFile(PathBuf),
    /// Nothing in it.
    Empty(PathBuf),
    /// Larger than [`FILE_BYTES`].
    TooLarge(PathBuf),
    /// Everybody on the machine can read a private key.
    WorldReadable {
        /// The file.
        path: PathBuf,
        /// What can be done where it is.
        volume: Volume,
    },
    /// Everybody on the machine can write the file.
    WorldWritable {
        /// The file.
        path: PathBuf,
        /// What can be done where it is.
        volume: Volume,
    },
    /// Somebody else can replace the file.
    Replaceable {
        /// The file.
        path: PathBuf,
        /// By what.
        way: Way,
        /// What can be done where it is.
        volume: Volume,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error, volume } => {
                let remedy = match error.kind() {
                    io::ErrorKind::PermissionDenied => volume.let_us_read(),
                    _ => "check the path and who may read it".to_owned(),
                };
                write!(formatter, "cannot read {}: {error}; {remedy}", quoted(path))
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
            Self::WorldReadable { path, volume } => write!(
                formatter,
                "{} is a private key that everybody can read; {}",
                quoted(path),
                volume.keep_others_from("chmod o-rwx it")
            ),
            Self::WorldWritable { path, volume } => write!(
                formatter,
                "{} is writable by everybody; {}",
                quoted(path),
                volume.keep_others_from("chmod o-w it")
            ),
            Self::Replaceable { path, way: Way::Directory(directory), volume } => write!(
                formatter,
                "everybody can replace {}: directory {} is writable by others; {}",
                quoted(path),
                quoted(directory),
                volume.protect_directory()
            ),
            Self::Replaceable { path, way: Way::Owner { of, uid }, .. } => write!(
                formatter,
                "user {uid} can replace {}, as the owner of {} in a sticky directory; chown it to root, or move the file",
                quoted(path),
                quoted(of)
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
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error, volume: Volume::of(path) };
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

/// As [`quoted`], with a line, from 1.
pub(super) fn quoted_line(path: &Path, line: usize) -> String {
    format!("`{}:{line}`", path.display().to_string().escape_debug())
}

fn check_mode(path: &Path, metadata: &Metadata, audience: Audience) -> Result<(), FileError> {
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(FileError::WorldWritable { path: path.to_owned(), volume: Volume::of(path) });
    }
    if audience == Audience::OwnerAndGroup && metadata.mode() & OTHERS_READ != 0 {
        return Err(FileError::WorldReadable { path: path.to_owned(), volume: Volume::of(path) });
    }
    Ok(())
}

/// The directory of the file, and that of every symbolic link on the way to it: whoever can replace a link chooses the
/// file.
fn check_directories(path: &Path) -> io::Result<Result<(), FileError>> {
    for Step { entry, directory } in links::steps(path)? {
        if let Some(way) = Way::to_replace(&entry, directory)? {
            let volume = Volume::of(path);
            return Ok(Err(FileError::Replaceable { path: path.to_owned(), way, volume }));
        }
    }
    Ok(Ok(()))
}

/// How somebody else can put another file in the place of one.
#[derive(Debug)]
pub enum Way {
    /// Everybody can write the directory.
    Directory(PathBuf),
    /// In a sticky directory that everybody can write, somebody else owns this entry, or the directory itself.
    Owner {
        /// The entry or the directory.
        of: PathBuf,
        /// Its owner.
        uid: u32,
    },
}

impl Way {
    /// In a sticky directory (`/tmp`, a secret's mount in Kubernetes) only the owner of an entry and of the directory can
    /// replace it: that must be root or us. Through a read-only mount nobody can: the kubelet makes the directory of a
    /// ConfigMap with mode 0777 (`pkg/volume/emptydir`) and mounts it read-only into containers.
    fn to_replace(entry: &Path, directory: PathBuf) -> io::Result<Option<Self>> {
        let around = directory.metadata()?;
        if around.mode() & OTHERS_WRITE == 0 || volume::is_mounted_read_only(&directory)? {
            return Ok(None);
        }
        if around.mode() & STICKY == 0 {
            return Ok(Some(Self::Directory(directory)));
        }
        let ours = rustix::process::geteuid().as_raw();
        let owners = [(directory, around.uid()), (entry.to_owned(), entry.symlink_metadata()?.uid())];
        let other = owners.into_iter().find(|(_, uid)| *uid != 0 && *uid != ours);
        Ok(other.map(|(of, uid)| Self::Owner { of, uid }))
    }
}

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// A policy may have 32 MiB; a CA bundle is far smaller.
const FILE_BYTES: u64 = 32 * 1024 * 1024;
