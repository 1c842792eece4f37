//! The way to a file: every symbolic link on it can be replaced, and then names another file.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// A name that decides which file a path is: a symbolic link, or the file itself at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The link or the file.
    pub(super) entry: PathBuf,
    /// Where that name lies; it holds no link itself.
    pub(super) directory: PathBuf,
}

/// Every symbolic link on the way to `path`, then the file. Kubernetes mounts a secret as links into a dated directory.
///
/// # Errors
/// Something on the way does not exist or cannot be looked at.
pub(super) fn steps(path: &Path) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut directory = PathBuf::from(".");
    let mut ahead: VecDeque<OsString> = path.iter().map(OsString::from).collect();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        // An absolute name replaces what is before it. `..` stays: `directory` has no links, so it is what it says.
        let entry = directory.join(&name);
        let is_link = entry.symlink_metadata()?.is_symlink();
        if is_link || ahead.is_empty() {
            steps.push(Step { entry: entry.clone(), directory: directory.clone() });
        }
        if !is_link {
            directory = entry;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        entry.read_link()?.iter().rev().for_each(|name| ahead.push_front(name.into()));
    }
    Ok(steps)
}

/// As many links as Linux follows in one path.
const LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_secret_of_kubernetes_has_three_steps() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("..2026")).expect("a directory");
        std::fs::write(at("..2026/tls.crt"), "x").expect("written");
        symlink("..2026", at("..data")).expect("a link");
        symlink("..data/tls.crt", at("tls.crt")).expect("a link");
        let steps = steps(&at("tls.crt")).expect("steps");
        let entries: Vec<_> = steps.iter().map(|step| step.entry.clone()).collect();
        assert_eq!(entries, [at("tls.crt"), at("..data"), at("..2026/tls.crt")]);
        assert_eq!(steps[1].directory, root.path());
        assert_eq!(steps[2].directory, at("..2026"));
    }

    #[test]
    fn a_link_to_itself_ends() {
        let root = tempfile::tempdir().expect("a directory");
        let link = root.path().join("loop");
        symlink("loop", &link).expect("a link");
        assert!(steps(&link).is_err());
        assert!(steps(&root.path().join("missing")).is_err());
    }
}
