//! Why a token was not put into a policy, or not taken out of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use peergate_policy::PolicyError;

use super::policy_file::LOCK_PATIENCE;
use crate::clean::Clean;
use crate::files::FileError;

/// Nothing was changed, but for [`TokenError::NotDurable`].
#[derive(Debug)]
pub enum TokenError {
    /// The policy file is not to be trusted, or not readable.
    File(FileError),
    /// The operating system refused.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Its reason.
        error: io::Error,
    },
    /// Replacing a symbolic link would leave the file behind it as it was.
    NotTheFileItself(PathBuf),
    /// Somebody else edits a policy of this directory, and goes on.
    Locked {
        /// The policy file.
        path: PathBuf,
        /// What is locked.
        directory: PathBuf,
    },
    /// The file was changed, and nobody knows whether the change outlives a crash of the machine.
    NotDurable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The file changed while it was being edited.
    Changed(PathBuf),
    /// Not a policy: before the edit, or after it.
    Policy(PolicyError),
    /// Not even JSON text.
    Unreadable(String),
    /// The policy has no `data-plane` with clients.
    NoDataPlane,
    /// There is nothing to derive check hashes with.
    NoTokenContext,
    /// The client is new, and nobody said what it may do.
    NewClient(String),
    /// The client is known by certificates.
    ClientHasCertificates(String),
    /// The client may do something else than was said.
    OtherPermissions(String),
    /// No version of a token has this fingerprint.
    UnknownFingerprint,
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(formatter, "{error}"),
            Self::Unwritable { path, error } if error.kind() == io::ErrorKind::AlreadyExists => {
                write!(formatter, "{} exists; name a new file", quoted(path))
            }
            Self::Unwritable { path, error } => write!(formatter, "cannot write {}: {error}", quoted(path)),
            Self::NotTheFileItself(path) => {
                write!(formatter, "{} is a symbolic link; name the policy file itself", quoted(path))
            }
            Self::Locked { path, directory } => write!(
                formatter,
                "cannot edit {}: another program has held the lock on its directory {} for {} s; end it, or try again",
                quoted(path),
                quoted(directory),
                LOCK_PATIENCE.as_secs()
            ),
            Self::NotDurable { path, error } => write!(
                formatter,
                "{} was changed, and a crash of the machine could undo that: {error}",
                quoted(path)
            ),
            Self::Changed(path) => {
                write!(formatter, "{} was changed by somebody else meanwhile; try again", quoted(path))
            }
            Self::Policy(error) => write!(formatter, "{error}"),
            Self::Unreadable(error) => write!(formatter, "not a policy: {error}"),
            Self::NoDataPlane => formatter.write_str(
                "the policy has no `data-plane`; add `\"data-plane\": {\"token-context\": \"Vespa Cloud tenant data \
                 plane:mytenant\", \"clients\": []}`",
            ),
            Self::NoTokenContext => formatter.write_str(
                "`data-plane` has no `token-context`; add one such as `Vespa Cloud tenant data plane:mytenant`",
            ),
            Self::NewClient(id) => {
                write!(formatter, "`{}` is a new client; name its `--permissions`", Clean(id))
            }
            Self::ClientHasCertificates(id) => {
                write!(formatter, "client `{}` has certificates; give the token a client of its own", Clean(id))
            }
            Self::OtherPermissions(id) => write!(
                formatter,
                "client `{}` has other permissions; leave `--permissions` out, or name another client",
                Clean(id)
            ),
            Self::UnknownFingerprint => formatter.write_str(
                "no token of this policy has this fingerprint; see `peergate token list`",
            ),
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display().to_string().escape_debug())
}

impl std::error::Error for TokenError {}

impl From<FileError> for TokenError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}
