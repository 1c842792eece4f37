//! Why a package was not imported.

use std::fmt;
use std::path::{Path, PathBuf};

use peergate_policy::PolicyError;
use peergate_policy::pem::PemError;

use super::services::Place;
use crate::clean::Clean;
use crate::files::FileError;

/// Why a package was not imported, and where.
#[derive(Debug)]
pub struct ImportError {
    path: PathBuf,
    place: Option<Place>,
    kind: ImportErrorKind,
}

/// Why a package was not imported.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportErrorKind {
    /// `services.xml` cannot be read.
    File(FileError),
    /// Not UTF-8.
    Encoding,
    /// Larger than is read.
    TooLarge,
    /// It defines entities or names a DTD.
    Dtd,
    /// Not XML.
    Syntax(String),
    /// Its root is another element.
    Root(String),
    /// An element that has no place here.
    UnexpectedElement {
        /// Its name.
        name: String,
        /// Where it stands.
        within: &'static str,
    },
    /// An attribute that must be there and is not, or is empty.
    MissingAttribute {
        /// The element.
        element: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// A second `clients` in a container, or a second container of an id.
    Twice(String),
    /// An id that starts with `_`.
    ReservedId(String),
    /// Two clients of one id.
    DuplicateClient(String),
    /// Neither `read` nor `write`.
    Permission(String),
    /// A client that nobody could be.
    NoCredentials(String),
    /// No client has a certificate.
    NoCertificateClient,
    /// All that have one vary by deployment.
    NothingLeft,
    /// A file outside of the application package.
    Outside(String),
    /// A certificate's file that is not there.
    MissingFile {
        /// The file as written.
        file: String,
        /// The client.
        client: String,
    },
    /// A certificate's file that cannot be used.
    CertificateFile(FileError),
    /// A file without certificates.
    NoCertificates(String),
    /// A file that is no PEM, or has something else in it.
    Pem {
        /// The file as written.
        file: String,
        /// What is wrong.
        error: PemError,
    },
    /// A certificate that does not parse.
    BadCertificate {
        /// The file as written.
        file: String,
        /// Which one, from 1.
        position: usize,
        /// Line of its section, from 1.
        line: usize,
    },
    /// One certificate in two places.
    DuplicateCertificate {
        /// The file as written.
        file: String,
        /// The other one, or the same.
        other: String,
    },
    /// No container, or none that can be taken.
    NoContainer,
    /// The only ones there are vary by deployment; this is the first.
    OnlyVarying(String),
    /// No container has this id.
    UnknownContainer {
        /// The id asked for.
        id: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Containers have different clients.
    Different(Vec<String>),
    /// No `clients`, and no `security/clients.pem`.
    NoClientsFile,
    /// There is nothing to pin where clients are listed.
    NothingToPin,
    /// The engine refuses the result.
    NotAPolicy(Box<PolicyError>),
}

impl ImportError {
    pub(super) fn whole(path: &Path, error: FileError) -> Self {
        Self { path: path.to_owned(), place: None, kind: ImportErrorKind::File(error) }
    }

    /// What is wrong.
    pub fn kind(&self) -> &ImportErrorKind {
        &self.kind
    }
}

impl ImportErrorKind {
    pub(super) fn at(self, place: Place) -> Fault {
        Fault { place: Some(place), kind: self }
    }

    pub(super) fn in_file(self, path: &Path) -> ImportError {
        ImportError { path: path.to_owned(), place: None, kind: self }
    }

    /// Whether it is a certificate of this file that stands twice.
    pub(super) fn is_about(&self, name: &str) -> bool {
        matches!(self, Self::DuplicateCertificate { file, other } if file == name || other == name)
    }
}

/// An error before its file is known.
#[derive(Debug)]
pub(super) struct Fault {
    place: Option<Place>,
    kind: ImportErrorKind,
}

impl Fault {
    pub(super) fn in_file(self, path: &Path) -> ImportError {
        ImportError { path: path.to_owned(), place: self.place, kind: self.kind }
    }
}

impl From<ImportErrorKind> for Fault {
    fn from(kind: ImportErrorKind) -> Self {
        Self { place: None, kind }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ImportErrorKind::File(error) = &self.kind {
            return error.fmt(formatter);
        }
        write!(formatter, "{}:", self.path.display().to_string().escape_debug())?;
        if let Some(place) = self.place {
            write!(formatter, "{place}:")?;
        }
        write!(formatter, " {}", self.kind)
    }
}

impl fmt::Display for ImportErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) | Self::CertificateFile(error) => error.fmt(formatter),
            Self::Encoding => formatter.write_str("not UTF-8; save it as UTF-8"),
            Self::TooLarge => formatter.write_str("too large for a services.xml"),
            Self::Dtd => {
                formatter.write_str("a DTD is not read, and neither are entities; write the text itself")
            }
            Self::Syntax(message) => write!(formatter, "not XML: {}", Clean(message)),
            Self::Root(name) => write!(formatter, "expected `services`, found `{}`", Clean(name)),
            Self::UnexpectedElement { name, within } => {
                write!(formatter, "`{}` has no place in `{within}`", Clean(name))
            }
            Self::MissingAttribute { element, attribute } => {
                write!(formatter, "`{element}` needs the attribute `{attribute}`")
            }
            Self::Twice(what) => write!(formatter, "{} stands twice", Clean(what)),
            Self::NoContainer => formatter.write_str("no `container` that could be imported"),
            Self::OnlyVarying(what) => {
                write!(formatter, "no container is the same in every deployment: {}", Clean(what))
            }
            Self::UnknownContainer { id, known } => {
                write!(formatter, "no container `{}`; there are `{}`", Clean(id), Clean(&known.join("`, `")))
            }
            Self::Different(ids) => write!(
                formatter,
                "the containers `{}` have different clients; choose one with `--container`",
                Clean(&ids.join("`, `"))
            ),
            Self::NoClientsFile => formatter.write_str(
                "no `clients`, and no `security/clients.pem` either, which Vespa Cloud then asks for",
            ),
            Self::NothingToPin => {
                formatter.write_str("the container lists its `clients`; `--pin` is for one that does not")
            }
            Self::NotAPolicy(error) => write!(formatter, "no policy can be made of it: {error}"),
            _ => self.fmt_client(formatter),
        }
    }
}

impl ImportErrorKind {
    /// What is wrong with clients and their certificates, in Vespa's words where it has some.
    fn fmt_client(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedId(id) => {
                write!(formatter, "invalid client id `{}`: an id cannot start with `_`", Clean(id))
            }
            Self::DuplicateClient(id) => write!(formatter, "duplicate client id `{}`", Clean(id)),
            Self::Permission(word) => {
                write!(formatter, "invalid permission `{}`; valid are `read` and `write`", Clean(word))
            }
            Self::NoCredentials(id) => {
                write!(formatter, "client `{}` has neither a `certificate` nor a `token`", Clean(id))
            }
            Self::NoCertificateClient => {
                formatter.write_str("at least one client must require a certificate")
            }
            Self::NothingLeft => formatter.write_str(
                "every client with a certificate varies by deployment; write services.xml as it is for the one you mean",
            ),
            Self::Outside(file) => {
                write!(formatter, "`{}` is outside of the application package", Clean(file))
            }
            Self::MissingFile { file, client } => write!(
                formatter,
                "certificate file `{}` for client `{}` does not exist",
                Clean(file),
                Clean(client)
            ),
            Self::NoCertificates(file) => {
                write!(formatter, "file `{}` does not contain any certificates", Clean(file))
            }
            Self::Pem { file, error } => {
                write!(formatter, "certificate file {}", error.in_file(Path::new(file)))
            }
            Self::BadCertificate { file, position, line } => write!(
                formatter,
                "file `{}` contains an invalid certificate, number {position}, on line {line}",
                Clean(file)
            ),
            Self::DuplicateCertificate { file, other } if file == other => {
                write!(formatter, "file `{}` contains a certificate twice", Clean(file))
            }
            Self::DuplicateCertificate { file, other } => write!(
                formatter,
                "`{}` contains a certificate of `{}`; certificates must be unique",
                Clean(file),
                Clean(other)
            ),
            // All others are written by `fmt`.
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ImportError {}
