//! What the configuration needs, as directories and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::NotGranted;
use crate::files::Trail;

/// What a generation needs of the system.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Directories (a file where that is `/`), and which one it was.
    read: BTreeMap<PathBuf, Option<(u64, u64)>>,
    write: BTreeSet<PathBuf>,
    execute: BTreeSet<PathBuf>,
    bind: BTreeSet<u16>,
    connect: BTreeSet<u16>,
}

impl Grants {
    /// Reading these files, and whatever else is or will be in their directories: a rotated certificate has a new name.
    pub fn read(&mut self, trail: &Trail) {
        for path in trail.paths() {
            for directory in Trail::directories_of(path) {
                let whole = directory == Path::new("/");
                self.read.insert(if whole { path.to_owned() } else { directory }, None);
            }
        }
    }

    /// Making and replacing files in the directory of this one: a log that is rotated, a Unix socket.
    pub fn write_beside(&mut self, path: &Path) {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.write.insert(directory.unwrap_or(Path::new(".")).to_owned());
    }

    /// Listening on a TCP port; 0 is any free one, which later cannot be told from the others.
    pub fn bind(&mut self, port: u16) {
        self.bind.insert(port);
    }

    /// Connecting to a TCP port.
    pub fn connect(&mut self, port: u16) {
        self.connect.insert(port);
    }

    /// Looking names up: the resolver's configuration and libraries, and DNS over TCP.
    pub fn resolve_names(&mut self) {
        // `/etc` as a whole: `resolv.conf` is replaced by renaming, and is often a link into `/run`.
        for path in ["/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"]
            .into_iter()
            .chain(LIBRARIES)
        {
            self.read.insert(path.into(), None);
        }
        self.connect(53);
    }

    /// Compiling another filter in a child process at a reload.
    pub fn compile(&mut self) {
        self.execute.extend(std::env::current_exe());
        self.execute.extend(LIBRARIES.map(PathBuf::from));
        self.write.insert(std::env::temp_dir());
    }

    /// Links resolved, and which directories they are.
    pub(super) fn resolve(&mut self) {
        let read = std::mem::take(&mut self.read).into_keys();
        self.read = read.filter_map(|path| Some((path.canonicalize().ok()?, None))).collect();
        for (path, identity) in &mut self.read {
            *identity = identity_of(path);
        }
    }

    pub(super) fn missing(&self, wanted: &Self) -> Option<NotGranted> {
        let any = self.bind.contains(&0);
        let bind = wanted.bind.difference(&self.bind).find(|_| !any).map(|port| NotGranted::Bind(*port));
        bind.or_else(|| {
            wanted.connect.difference(&self.connect).next().map(|port| NotGranted::Connect(*port))
        })
        .or_else(|| wanted.write.difference(&self.write).next().cloned().map(NotGranted::Path))
    }

    /// Whether a resolved path is within what was granted, by its name.
    pub(super) fn reads(&self, target: &Path) -> bool {
        self.granted(target).is_some()
    }

    /// Whether the directory that was granted under this name is not the one that has the name now.
    pub(super) fn was_replaced(&self, target: &Path) -> bool {
        self.granted(target).is_some_and(|(path, identity)| *identity != identity_of(path))
    }

    fn granted(&self, target: &Path) -> Option<(&PathBuf, &Option<(u64, u64)>)> {
        self.read.iter().find(|(path, _)| target.starts_with(path))
    }

    pub(super) fn readable(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.read.keys().cloned()
    }

    pub(super) fn writable(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.write.iter().cloned()
    }

    pub(super) fn executable(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.execute.iter().cloned()
    }

    pub(super) fn bound(&self) -> impl Iterator<Item = u16> + '_ {
        self.bind.iter().copied()
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = u16> + '_ {
        self.connect.iter().copied()
    }
}

/// Device and inode.
fn identity_of(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Where the C library finds its parts (`nsswitch.conf(5)`), and a program its libraries.
const LIBRARIES: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];
