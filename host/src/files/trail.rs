//! Which files a generation was read from, and what was found in them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::guard::{Audience, FileError, read_unseen};
use super::links;

/// The files that were read, with a digest of what each gave: its content, or why it could not be used. A file whose
/// permissions were refused is therefore another one once they are right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(BTreeMap<(PathBuf, Audience), [u8; 32]>);

/// Runs `work` and tells which files it read on this thread, however it ended.
pub fn recorded<T>(work: impl FnOnce() -> T) -> (T, Trail) {
    let outer = RECORDING.replace(Some(Trail::default()));
    let _restore = Restore(outer);
    let result = work();
    let trail = RECORDING.with_borrow_mut(|trail| trail.take()).unwrap_or_default();
    (result, trail)
}

/// Notes what reading a file gave, when somebody records.
pub(super) fn note(path: &Path, audience: Audience, found: &Result<Vec<u8>, FileError>) {
    RECORDING.with_borrow_mut(|trail| {
        if let Some(Trail(files)) = trail {
            files.insert((path.to_owned(), audience), digest(found));
        }
    });
}

impl Trail {
    /// The same files as they are now.
    #[must_use]
    pub fn look_again(&self) -> Self {
        let look = |(path, audience): &(PathBuf, Audience)| {
            let found = read_unseen(path, *audience).map(Zeroizing::new);
            ((path.clone(), *audience), digest(&found))
        };
        Self(self.0.keys().map(look).collect())
    }

    /// The files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(|(path, _)| path.as_path())
    }

    /// The directories in which a name decides which file is read: that of each file and of each symbolic link to it.
    /// Of a file that is not there, the one it should be in.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> = self.paths().flat_map(Self::directories_of).collect();
        directories.sort();
        directories.dedup();
        directories
    }

    /// As [`Self::directories`], of one file.
    pub fn directories_of(path: &Path) -> Vec<PathBuf> {
        match links::steps(path) {
            Ok(steps) => steps.into_iter().map(|step| step.directory).collect(),
            Err(_) => path.parent().map(Path::to_owned).into_iter().collect(),
        }
    }
}

fn digest(found: &Result<impl AsRef<[u8]>, FileError>) -> [u8; 32] {
    match found {
        Ok(content) => Sha256::digest(content.as_ref()).into(),
        // No content hashes to this but by 2^-256: the prefix is not what a message begins with.
        Err(error) => Sha256::digest(format!("unreadable\0{error}")).into(),
    }
}

/// Gives an outer recording its place back, also after a panic.
struct Restore(Option<Trail>);

impl Drop for Restore {
    fn drop(&mut self) {
        RECORDING.set(self.0.take());
    }
}

thread_local! {
    static RECORDING: RefCell<Option<Trail>> = const { RefCell::new(None) };
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::files::read;

    #[test]
    fn what_was_read_is_recorded_also_when_it_could_not_be() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs::write(&one, "1").expect("written");
        let read_both = || (read(&one, Audience::Everybody), read(&two, Audience::Everybody));
        let (_, trail) = recorded(read_both);
        assert_eq!(trail.paths().collect::<Vec<_>>(), [one.as_path(), two.as_path()]);
        assert_eq!(trail.look_again(), trail);
        fs::write(&two, "2").expect("written");
        assert_ne!(trail.look_again(), trail);
        assert_eq!(trail.look_again(), recorded(read_both).1);
        assert!(trail.directories().contains(&directory.path().to_owned()));
    }

    #[test]
    fn permissions_that_were_corrected_are_a_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = directory.path().join("key");
        fs::write(&key, "secret").expect("written");
        let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("a mode");
        mode(0o644);
        let (refused, trail) = recorded(|| read(&key, Audience::OwnerAndGroup));
        assert!(refused.is_err());
        mode(0o640);
        assert_ne!(trail.look_again(), trail);
    }

    #[test]
    fn nothing_is_recorded_outside() {
        let (_, trail) = recorded(|| ());
        assert_eq!(trail, Trail::default());
        RECORDING.with_borrow(|trail| assert!(trail.is_none()));
    }
}
