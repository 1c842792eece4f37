//! Certificates for development, the demo and the tests. Nothing here issues certificates for production.

mod authority;
mod development;
mod leaf;
mod throwaway;

use std::{error, fmt, io, path::PathBuf};

pub use authority::{Authority, Credential};
pub use development::DevelopmentPki;
pub use leaf::{Key, Leaf};
pub use throwaway::{fits_certificate, throwaway};

/// Why a certificate could not be made or stored.
#[derive(Debug)]
pub enum PkiError {
    /// The certificate could not be built, for example because a name is not ASCII.
    Certificate(rcgen::Error),
    /// A file or directory could not be read or written.
    File(PathBuf, io::Error),
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "cannot make a certificate: {error}"),
            Self::File(path, error) => write!(f, "`{}`: {error}", path.display()),
        }
    }
}

impl error::Error for PkiError {}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}
