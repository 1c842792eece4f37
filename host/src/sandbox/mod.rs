//! What the process may still do once it serves (Landlock, `no_new_privs`): read the directories of its files, listen and
//! connect where the configuration says, and nothing else. Whoever takes over a worker gets no further than that.

mod grants;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};

pub use grants::Grants;

use crate::files::Trail;

/// The sandbox this process is in. It cannot be left or widened: what it was granted at the start is all there is.
#[derive(Debug)]
pub struct Sandbox {
    grants: Grants,
    enforcement: Enforcement,
}

/// How much of the sandbox the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// All that was asked for.
    Full,
    /// What this kernel knows of it; ports need Linux 6.7, signals 6.12.
    Partial,
    /// Nothing but `no_new_privs`: Landlock is not in this kernel or not switched on (`lsm=landlock,...`).
    None,
}

/// A reload asked for something that was not granted at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotGranted {
    /// A file in a directory that held none of the files at the start.
    Path(PathBuf),
    /// A directory that was granted is gone, and another one has its name.
    Replaced(PathBuf),
    /// A port to connect to.
    Connect(u16),
    /// A port to listen on.
    Bind(u16),
}

impl fmt::Display for NotGranted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(
                formatter,
                "`{}`: the sandbox was not granted this directory when the host started",
                path.display().to_string().escape_debug()
            )?,
            Self::Replaced(path) => write!(
                formatter,
                "`{}`: its directory was replaced since the host started, and the sandbox was granted the old one",
                path.display().to_string().escape_debug()
            )?,
            Self::Connect(port) => {
                write!(
                    formatter,
                    "the sandbox was not granted to connect to port {port} when the host started"
                )?;
            }
            Self::Bind(port) => {
                write!(
                    formatter,
                    "the sandbox was not granted to listen on port {port} when the host started"
                )?;
            }
        }
        formatter.write_str("; restart the host, or start it with `--no-sandbox`")
    }
}

impl std::error::Error for NotGranted {}

impl Sandbox {
    /// Restricts this thread and all it starts from now on; where the kernel can (Linux 7.0), every thread there is.
    ///
    /// # Errors
    /// `no_new_privs` cannot be set, or the kernel refuses rules it says it knows.
    pub fn enter(mut grants: Grants) -> io::Result<Self> {
        grants.resolve();
        rustix::thread::set_no_new_privs(true)?;
        let enforcement = restrict(&grants).map_err(io::Error::other)?;
        Ok(Self { grants, enforcement })
    }

    /// How much of it the kernel enforces.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// What of `wanted` was not granted.
    pub fn missing(&self, wanted: &Grants) -> Option<NotGranted> {
        if self.enforcement == Enforcement::None {
            return None;
        }
        self.grants.missing(wanted)
    }

    /// The first of these files that cannot be read for the sandbox's sake, after reading them failed.
    pub fn unreadable(&self, trail: &Trail) -> Option<NotGranted> {
        if self.enforcement == Enforcement::None {
            return None;
        }
        trail.paths().find_map(|path| self.refuses(path))
    }

    fn refuses(&self, path: &Path) -> Option<NotGranted> {
        let denied =
            std::fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if !denied {
            return None;
        }
        // Resolving links needs no grant. What is denied although it was granted is another directory by now.
        let Ok(target) = path.canonicalize() else { return None };
        match self.grants.reads(&target) {
            false => Some(NotGranted::Path(path.to_owned())),
            true if self.grants.was_replaced(&target) => Some(NotGranted::Replaced(path.to_owned())),
            true => None,
        }
    }
}

fn restrict(grants: &Grants) -> Result<Enforcement, RulesetError> {
    let files = AccessFs::from_all(ABI_KNOWN);
    // A listener on port 0 gets a port nobody knows before, and all its workers listen on that.
    let any_port = grants.bound().any(|port| port == 0);
    let network = if any_port { AccessNet::ConnectTcp.into() } else { AccessNet::from_all(ABI_KNOWN) };
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)?
        .handle_access(network)?
        .scope(Scope::Signal)?
        .create()?;
    let ruleset = paths(ruleset, grants.readable(), AccessFs::ReadFile | AccessFs::ReadDir)?;
    let ruleset = paths(ruleset, grants.executable(), AccessFs::from_read(ABI_KNOWN))?;
    let ruleset = paths(ruleset, grants.writable(), files & !AccessFs::Execute)?;
    let ruleset = paths(ruleset, [PathBuf::from("/dev/null")], AccessFs::ReadFile | AccessFs::WriteFile)?;
    let ruleset = ruleset
        .add_rules(
            grants
                .bound()
                .filter(|_| !any_port)
                .map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::BindTcp))),
        )?
        .add_rules(
            grants.connected().map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp))),
        )?;
    // The unit tests' threads have a sandbox each.
    let status = ruleset.all_threads(!cfg!(test))?.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full,
        // What is missing is only that threads from before are restricted too.
        RulesetStatus::PartiallyEnforced if knows_all(status.landlock) => Enforcement::Full,
        RulesetStatus::PartiallyEnforced => Enforcement::Partial,
        RulesetStatus::NotEnforced => Enforcement::None,
    })
}

fn knows_all(landlock: LandlockStatus) -> bool {
    matches!(landlock, LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V6)
}

/// What does not exist needs no grant: it cannot be read either.
fn paths(
    ruleset: RulesetCreated,
    paths: impl IntoIterator<Item = PathBuf>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let rules = paths.into_iter().filter_map(|path| {
        let is_file = path.is_file() || !path.is_dir();
        let access = if is_file { access & AccessFs::from_file(ABI_KNOWN) } else { access };
        Some(Ok::<_, RulesetError>(PathBeneath::new(PathFd::new(path).ok()?, access)))
    });
    ruleset.add_rules(rules)
}

/// The rights that are known here; a newer kernel's further ones stay as they were. Of ABI 9, `ResolveUnix` would close
/// the way to the resolver's and systemd's own sockets.
const ABI_KNOWN: ABI = ABI::V7;

#[cfg(test)]
mod tests;
