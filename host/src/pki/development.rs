//! The directory that `make pki` writes.

use std::{
    fs::{self, DirBuilder, File},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::files;

use super::{Authority, Credential, Leaf, PkiError, authority::write_file};

/// A directory with everything a first mTLS set-up needs, and with the peers that must be refused.
#[derive(Clone, Debug)]
pub struct DevelopmentPki {
    directory: PathBuf,
}

impl DevelopmentPki {
    /// Every certificate that has a key next to it.
    pub const NAMES: [&str; 8] = [
        "server",
        "node",
        "monitor-us-east",
        "monitor-eu-west",
        "stranger",
        "expired-node",
        "rogue-node",
        "client",
    ];

    /// Keeps the PKI in `directory` if all its files are there and it is good for another week, else makes
    /// it anew. The second value tells whether it was made. Who comes while another one makes it waits for that.
    ///
    /// # Errors
    /// The directory or a file in it cannot be written.
    pub fn open_or_create(directory: &Path) -> Result<(Self, bool), PkiError> {
        let pki = Self { directory: directory.to_owned() };
        let failed = |error| PkiError::File(pki.directory.clone(), error);
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
        // Until the end of this function, or of the process.
        let lock = File::open(directory).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if pki.is_current() {
            return Ok((pki, false));
        }
        pki.create()?;
        Ok((pki, true))
    }

    /// The certificates to trust.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The certificate chain of one of [`Self::NAMES`].
    pub fn chain(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    /// The key of one of [`Self::NAMES`].
    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    fn is_current(&self) -> bool {
        let complete = Self::NAMES.iter().all(|name| self.chain(name).is_file() && self.key(name).is_file())
            && self.directory.join("intermediate.pem").is_file()
            && self.directory.join("rogue-ca.pem").is_file();
        let week_from_now = OffsetDateTime::now_utc() + Duration::WEEK;
        complete
            && ["ca", "server", "node", "client"]
                .iter()
                .all(|name| not_after(&self.chain(name)).is_some_and(|end| end > week_from_now))
    }

    fn create(&self) -> Result<(), PkiError> {
        let root = Authority::root("Peergate development root")?;
        let intermediate = root.intermediate("Peergate development intermediate")?;
        let rogue = Authority::root("Rogue root")?;
        for (name, text) in
            [("ca", root.pem()), ("intermediate", intermediate.pem()), ("rogue-ca", rogue.pem())]
        {
            write_file(&self.chain(name), &text, 0o644)?;
        }
        for name in Self::NAMES {
            let credential = match name {
                "rogue-node" => rogue.issue(&leaf(name))?,
                "client" => Credential::self_signed(&leaf(name))?,
                _ => intermediate.issue(&leaf(name))?,
            };
            credential.write(&self.directory, name)?;
        }
        Ok(())
    }
}

/// What each certificate says. The names are those of the example in Vespa's mTLS guide.
fn leaf(name: &str) -> Leaf {
    let monitor = |region: &str| {
        Leaf::new().cn("vespa-monitoring.example.com").dns(&format!("m1.{region}.monitor.example.com"))
    };
    let node = Leaf::new().cn("node1.mycluster.vespa.example.com").dns("node1.mycluster.vespa.example.com");
    match name {
        "server" => {
            // The endpoints of one port have names of their own. `test` is nobody's domain (RFC 6761).
            let own = Leaf::new().cn("localhost").dns("localhost").dns("*.peergate.test");
            own.ip(Ipv4Addr::LOCALHOST).ip(Ipv6Addr::LOCALHOST)
        }
        "monitor-us-east" => monitor("us-east-1a"),
        "monitor-eu-west" => monitor("eu-west-1a"),
        "stranger" => Leaf::new().cn("stranger").dns("stranger.other.example.com"),
        "expired-node" => node.expired(),
        // A data-plane client: pinned by its certificate, of no authority.
        "client" => Leaf::new().cn("client"),
        _ => node,
    }
}

fn not_after(path: &Path) -> Option<OffsetDateTime> {
    let found = files::certificates(&fs::read(path).ok()?).ok()?;
    let (_, certificate) = X509Certificate::from_der(&found.first()?.item).ok()?;
    OffsetDateTime::from_unix_timestamp(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_current_pki_is_kept_and_an_incomplete_one_is_made_anew() -> Result<(), PkiError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("pki");
        let (pki, made) = DevelopmentPki::open_or_create(&path)?;
        assert!(made);
        let first = fs::read(pki.chain("node")).expect("node.pem");
        assert!(!DevelopmentPki::open_or_create(&path)?.1);
        assert_eq!(fs::read(pki.chain("node")).expect("node.pem"), first);
        fs::remove_file(pki.key("stranger")).expect("stranger.key");
        assert!(DevelopmentPki::open_or_create(&path)?.1);
        assert_ne!(fs::read(pki.chain("node")).expect("node.pem"), first);
        Ok(())
    }

    /// Suites run side by side, and each begins with this.
    #[test]
    fn those_who_come_at_once_get_one_pki() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("pki");
        let made = || DevelopmentPki::open_or_create(&path).expect("a PKI").1;
        let made: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(made)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    }

    #[test]
    fn a_pki_that_ends_within_a_week_is_made_anew() -> Result<(), PkiError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (pki, _) = DevelopmentPki::open_or_create(directory.path())?;
        let now = OffsetDateTime::now_utc();
        let short = leaf("server").valid(now - Duration::DAY, now + Duration::days(6));
        Authority::root("x")?.issue(&short)?.write(directory.path(), "server")?;
        assert!(!pki.is_current());
        Ok(())
    }

    #[test]
    fn keys_are_for_their_owner_only() -> Result<(), PkiError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (pki, _) = DevelopmentPki::open_or_create(directory.path())?;
        for name in DevelopmentPki::NAMES {
            let mode = fs::metadata(pki.key(name)).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        Ok(())
    }
}
