//! Labels of sections, and which of them belong into which file.

use super::Section;
use super::error::{PemError, PemErrorKind};

/// What a section says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Label {
    /// `CERTIFICATE`, and `X509 CERTIFICATE`, which OpenSSL reads as the same.
    Certificate,
    /// A certificate with trust settings, which only OpenSSL knows.
    TrustedCertificate,
    /// `X509 CRL`
    RevocationList,
    /// PKCS #8.
    PrivateKey,
    /// PKCS #1.
    RsaPrivateKey,
    /// SEC 1 (RFC 5915).
    EcPrivateKey,
    /// PKCS #8, encrypted.
    EncryptedPrivateKey,
    /// OpenSSH's, DSA's.
    OtherPrivateKey,
    /// `EC PARAMETERS`: the curve of a key, which the key names as well.
    EcParameters,
    /// Of a key exchange or of DSA.
    OtherParameters,
    /// Any.
    PublicKey,
    /// PKCS #10.
    Request,
    /// PKCS #7 or CMS, which may hold certificates.
    Pkcs7,
    /// Not in the list.
    Unknown,
}

const LABELS: &[(&str, Label)] = &[
    ("CERTIFICATE", Label::Certificate),
    ("X509 CERTIFICATE", Label::Certificate),
    ("TRUSTED CERTIFICATE", Label::TrustedCertificate),
    ("X509 CRL", Label::RevocationList),
    ("PRIVATE KEY", Label::PrivateKey),
    ("RSA PRIVATE KEY", Label::RsaPrivateKey),
    ("EC PRIVATE KEY", Label::EcPrivateKey),
    ("ENCRYPTED PRIVATE KEY", Label::EncryptedPrivateKey),
    ("OPENSSH PRIVATE KEY", Label::OtherPrivateKey),
    ("DSA PRIVATE KEY", Label::OtherPrivateKey),
    ("ANY PRIVATE KEY", Label::OtherPrivateKey),
    ("EC PARAMETERS", Label::EcParameters),
    ("DH PARAMETERS", Label::OtherParameters),
    ("X9.42 DH PARAMETERS", Label::OtherParameters),
    ("DSA PARAMETERS", Label::OtherParameters),
    ("PUBLIC KEY", Label::PublicKey),
    ("RSA PUBLIC KEY", Label::PublicKey),
    ("EC PUBLIC KEY", Label::PublicKey),
    ("CERTIFICATE REQUEST", Label::Request),
    ("NEW CERTIFICATE REQUEST", Label::Request),
    ("PKCS7", Label::Pkcs7),
    ("PKCS #7 SIGNED DATA", Label::Pkcs7),
    ("CMS", Label::Pkcs7),
];

/// Whether a text is a label but for case and white space.
pub(super) fn is_like_known(text: &[u8]) -> bool {
    let words = |text: &[u8]| {
        let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.flat_map(|word| word.iter().chain(b" ")).map(u8::to_ascii_uppercase).collect::<Vec<u8>>()
    };
    let text = words(text);
    LABELS.iter().any(|(label, _)| words(label.as_bytes()) == text)
}

impl Label {
    pub(super) fn of(text: &[u8]) -> Self {
        LABELS.iter().find(|(known, _)| known.as_bytes() == text).map_or(Self::Unknown, |(_, label)| *label)
    }

    /// Whether the section has a private key, of whatever kind.
    pub fn is_private_key(self) -> bool {
        matches!(
            self,
            Self::PrivateKey
                | Self::RsaPrivateKey
                | Self::EcPrivateKey
                | Self::EncryptedPrivateKey
                | Self::OtherPrivateKey
        )
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// Certificates: of authorities, of the node, of clients.
    Certificates,
    /// Revocation lists.
    RevocationLists,
    /// The key of the node.
    PrivateKey,
}

impl Wanted {
    /// Whether a section of this label is what the file is for.
    pub(super) fn is_met_by(self, label: Label) -> bool {
        match self {
            Self::Certificates => label == Label::Certificate,
            Self::RevocationLists => label == Label::RevocationList,
            Self::PrivateKey => label.is_private_key(),
        }
    }

    pub(super) fn check(self, section: &Section) -> Result<(), PemError> {
        let kind = match (self, section.label) {
            (Self::Certificates, Label::Certificate)
            | (Self::RevocationLists, Label::RevocationList)
            | (Self::PrivateKey, Label::Certificate | Label::EcParameters) => return Ok(()),
            (Self::PrivateKey, Label::EncryptedPrivateKey) => PemErrorKind::EncryptedKey,
            (Self::PrivateKey, Label::PrivateKey | Label::RsaPrivateKey | Label::EcPrivateKey) => {
                if !section.encrypted {
                    return Ok(());
                }
                PemErrorKind::EncryptedKey
            }
            (wanted, found) => PemErrorKind::Unexpected { found, wanted },
        };
        Err(PemError::at(section.line, kind))
    }
}
