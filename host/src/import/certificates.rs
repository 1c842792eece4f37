//! The certificate files of an application package.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use peergate_policy::pem::{PemErrorKind, Wanted};
use peergate_policy::{Certificate, Digest};
use rustls_pki_types::CertificateDer;

use super::error::ImportErrorKind;
use crate::files::{self, Audience, FileError, Found, read};

/// Where Vespa Cloud looks for certificates, and which it takes where no client is listed.
const DIRECTORY: &str = "security";
pub(super) const CLIENTS_FILE: &str = "security/clients.pem";

/// The directory of `services.xml`.
#[derive(Debug)]
pub(super) struct Package {
    directory: PathBuf,
}

/// A certificate of a file.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    /// One PEM section.
    pub(super) pem: String,
    pub(super) certificate: Certificate,
}

impl Package {
    pub(super) fn beside(services: &Path) -> Self {
        Self { directory: services.parent().unwrap_or(Path::new("")).to_owned() }
    }

    /// Where a file of the package is.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// All certificates of a file.
    ///
    /// # Errors
    /// It is outside of the package, not there, not to be trusted, without certificates, or one of them is broken.
    pub(super) fn certificates(&self, file: &str, client: &str) -> Result<Vec<Pinned>, ImportErrorKind> {
        let inside =
            Path::new(file).components().all(|it| matches!(it, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(ImportErrorKind::Outside(file.to_owned()));
        }
        let content = read(&self.path(file), Audience::Everybody).map_err(|error| match error {
            FileError::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                ImportErrorKind::MissingFile { file: file.to_owned(), client: client.to_owned() }
            }
            FileError::Empty(_) => ImportErrorKind::NoCertificates(file.to_owned()),
            error => ImportErrorKind::CertificateFile(error),
        })?;
        parse(&content, file)
    }

    /// The first certificate that stands twice in these files and those of `security/*.pem`.
    ///
    /// # Errors
    /// It, with both files; or the directory cannot be listed.
    pub(super) fn unique<'a>(&self, files: impl Iterator<Item = &'a str>) -> Result<(), ImportErrorKind> {
        let mut seen: BTreeMap<Digest, String> = BTreeMap::new();
        let mut names: Vec<String> = files.map(normal).collect();
        names.extend(self.others());
        names.sort_unstable();
        names.dedup();
        for name in names {
            // What no client names may be anything.
            let content = read(&self.path(&name), Audience::Everybody).unwrap_or_default();
            for pinned in parse(&content, &name).unwrap_or_default() {
                if let Some(other) = seen.insert(pinned.certificate.digest, name.clone()) {
                    return Err(ImportErrorKind::DuplicateCertificate { file: name, other });
                }
            }
        }
        Ok(())
    }

    fn others(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join(DIRECTORY)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".pem")).map(|name| format!("{DIRECTORY}/{name}")).collect()
    }
}

/// `./security//x.pem` is `security/x.pem`.
pub(super) fn normal(file: &str) -> String {
    let parts = Path::new(file).components().filter(|it| matches!(it, Component::Normal(_)));
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Every certificate of a file.
fn parse(content: &[u8], file: &str) -> Result<Vec<Pinned>, ImportErrorKind> {
    let found = files::certificates(content).map_err(|error| match error.kind() {
        PemErrorKind::Blank | PemErrorKind::Nothing(Wanted::Certificates) => {
            ImportErrorKind::NoCertificates(file.to_owned())
        }
        _ => ImportErrorKind::Pem { file: file.to_owned(), error },
    })?;
    let bad = |position, line| ImportErrorKind::BadCertificate { file: file.to_owned(), position, line };
    let pinned = |(index, Found { line, item: der }): (usize, Found<CertificateDer<'static>>)| {
        let certificate = Certificate::from_der(&der).map_err(|_| bad(index + 1, line))?;
        let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let pem = pem::encode_config(&pem::Pem::new("CERTIFICATE", &*der), lines);
        Ok(Pinned { pem, certificate })
    };
    found.into_iter().enumerate().map(pinned).collect()
}
