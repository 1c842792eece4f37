//! Where a file lies, which decides what can be done about its permissions: files of a Kubernetes volume cannot be
//! chmod-ed, because the kubelet writes them and the container has them read-only.

use std::io;
use std::path::{Component, Path};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::links;

/// What kind of place a file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// An ordinary file system.
    Writable,
    /// A volume that the kubelet fills: Secret, ConfigMap, projected, CSI.
    Kubernetes,
    /// Any other read-only mount, among them a single file of a Secret (`subPath`).
    ReadOnly,
}

impl Volume {
    /// Where `path` lies; [`Volume::Writable`] where that cannot be seen.
    pub(super) fn of(path: &Path) -> Self {
        let steps = links::steps(path).unwrap_or_default();
        if is_projected(path) || steps.iter().any(|step| is_projected(&step.entry)) {
            return Self::Kubernetes;
        }
        match is_mounted_read_only(path) {
            Ok(true) => Self::ReadOnly,
            _ => Self::Writable,
        }
    }

    /// How to keep others from a file, with `chmod` where that is possible.
    pub(super) fn keep_others_from(self, chmod: &'static str) -> &'static str {
        match self {
            Self::Writable => chmod,
            Self::Kubernetes => {
                "it is in a Kubernetes volume, so set `defaultMode: 0440` in the volume and `fsGroup` in the pod's `securityContext`"
            }
            Self::ReadOnly => {
                "it is on a read-only mount, so change its mode where the mount comes from: in a Kubernetes volume `defaultMode: 0440`, with `fsGroup` in the pod's `securityContext`"
            }
        }
    }

    /// How to let this process read a file.
    pub(super) fn let_us_read(self) -> String {
        let user = rustix::process::geteuid().as_raw();
        match self {
            Self::Writable => format!(
                "let user {user}, as whom this process runs, read the file and enter the directories above it"
            ),
            Self::Kubernetes | Self::ReadOnly => format!(
                "this process runs as user {user}: in a Kubernetes volume set `defaultMode: 0440`, and `fsGroup` in the pod's `securityContext`"
            ),
        }
    }

    /// How to keep others from a directory that they can write.
    pub(super) fn protect_directory(self) -> &'static str {
        match self {
            Self::Kubernetes => "mount the volume with `readOnly: true`",
            // An `emptyDir` is root's with mode 0777: only a read-only mount helps there.
            Self::Writable | Self::ReadOnly => "chmod o-w it, or mount it read-only",
        }
    }
}

/// The kubelet writes a volume into a directory `..2026_11_29_23_50_28.123`, to which the link `..data` leads (Kubernetes,
/// `pkg/volume/util/atomic_writer.go`).
fn is_projected(path: &Path) -> bool {
    path.components()
        .any(|it| matches!(it, Component::Normal(name) if name.as_encoded_bytes().starts_with(b"..")))
}

/// Whether nobody can change the directory or file through its mount.
pub(super) fn is_mounted_read_only(path: &Path) -> io::Result<bool> {
    Ok(statvfs(path)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_volume_of_the_kubelet_is_known_by_its_links() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("..2026_11_29")).expect("a directory");
        std::fs::write(at("..2026_11_29/tls.key"), "x").expect("written");
        symlink("..2026_11_29", at("..data")).expect("a link");
        symlink("..data/tls.key", at("tls.key")).expect("a link");
        symlink(at("tls.key"), at("elsewhere.key")).expect("a link");
        std::fs::write(at("plain.key"), "x").expect("written");
        for name in ["tls.key", "elsewhere.key", "..data/tls.key", "..2026_11_29/tls.key"] {
            assert_eq!(Volume::of(&at(name)), Volume::Kubernetes, "{name}");
        }
        for name in ["plain.key", "missing.key", "../plain.key"] {
            assert_eq!(Volume::of(&at(name)), Volume::Writable, "{name}");
        }
    }
}
