//! Why a PEM file was refused, in words. None of them quotes the file: it may be a key.

use std::fmt;
use std::path::Path;

use super::label::{Label, Wanted};

/// A PEM text that was refused whole, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PemError {
    line: Option<usize>,
    kind: PemErrorKind,
}

/// What is wrong with a PEM text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PemErrorKind {
    /// White space only.
    Blank,
    /// No section of the kind that is wanted, and none of any other.
    Nothing(Wanted),
    /// UTF-16, which Windows writes.
    Utf16,
    /// Binary DER.
    Der(Wanted),
    /// A PKCS #12 store.
    Pkcs12(Wanted),
    /// Bytes that are no text.
    Binary,
    /// A whole PEM file encoded in base64 once more.
    PemInBase64,
    /// No END before the next BEGIN, or before the end of the file.
    BeginWithoutEnd,
    /// An END where no section is open.
    EndWithoutBegin,
    /// The END of another label.
    OtherEnd,
    /// A line that was meant to begin or end a section.
    ResemblesMark,
    /// Text on the line of an END.
    TextAfterEnd,
    /// The body of a section that has no BEGIN.
    StrayBase64,
    /// A character in a body that base64 does not have.
    NotBase64,
    /// `\n` in two characters, as JSON and shells write it.
    EscapedLineEnds,
    /// Base64 that goes on after `=`.
    AfterPadding,
    /// A number of characters that base64 never has.
    Incomplete,
    /// A section without content.
    EmptySection,
    /// A header where there is none.
    Header,
    /// A key with a passphrase.
    EncryptedKey,
    /// More than one key: which one is meant is a guess.
    SecondKey,
    /// A section that has no business in this file.
    Unexpected {
        /// What it is.
        found: Label,
        /// What belongs there.
        wanted: Wanted,
    },
}

impl PemError {
    /// About a line, from 1.
    pub fn at(line: usize, kind: PemErrorKind) -> Self {
        Self { line: Some(line), kind }
    }

    /// About the whole text.
    pub fn whole(kind: PemErrorKind) -> Self {
        Self { line: None, kind }
    }

    /// The line, from 1; `None` where it is about the whole text.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// What is wrong.
    pub fn kind(&self) -> PemErrorKind {
        self.kind
    }

    /// The error about a file: place, reason, remedy.
    pub fn in_file(&self, path: &Path) -> String {
        let path = path.display().to_string();
        let path = path.escape_debug();
        match self.line {
            Some(line) => format!("`{path}:{line}` {}", self.kind),
            None => format!("`{path}` {}", self.kind),
        }
    }
}

/// The error about a text that is in no file of its own.
impl fmt::Display for PemError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "line {line} of the PEM text {}", self.kind),
            None => write!(formatter, "the PEM text {}", self.kind),
        }
    }
}

impl std::error::Error for PemError {}

/// What is said about a file or a line.
impl fmt::Display for PemErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(wanted) => {
                let (one, label) = (wanted.one(), wanted.label());
                write!(formatter, "has no {one}; it needs a `BEGIN {label}` section")
            }
            Self::Der(wanted) => {
                let tool = wanted.tool();
                write!(formatter, "is DER; convert it to PEM: openssl {tool} -inform DER -in FILE -out GOOD")
            }
            Self::Pkcs12(wanted) => {
                let part = if *wanted == Wanted::PrivateKey { "-nocerts -noenc" } else { "-nokeys" };
                let one = wanted.one();
                write!(
                    formatter,
                    "is a PKCS #12 store; take the {one} out: openssl pkcs12 -in FILE {part} -out GOOD"
                )
            }
            Self::Unexpected { found, wanted } => {
                let (one, many, remedy) = (found.one(), wanted.many(), wanted.remedy(*found));
                write!(formatter, "is {one} where {many} are expected; {remedy}")
            }
            other => formatter.write_str(other.words()),
        }
    }
}

impl PemErrorKind {
    fn words(&self) -> &'static str {
        match self {
            Self::Blank => "is empty; write its content first",
            Self::Utf16 => "is UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > GOOD",
            Self::Binary => "is binary or UTF-16 where PEM is expected; convert it to PEM in UTF-8",
            Self::PemInBase64 => {
                "is PEM in base64, as in the `data` of a Secret; decode it: base64 -d FILE > GOOD"
            }
            Self::BeginWithoutEnd => "begins a section that has no END; the file was cut, so copy it again",
            Self::EndWithoutBegin => "ends a section that has no BEGIN; copy the file again",
            Self::OtherEnd => "ends a section with another label than it began with; copy the file again",
            Self::ResemblesMark => {
                "is almost a BEGIN or END line; such a line is five hyphens, BEGIN or END in capital letters, a label, five hyphens, and has nothing before it"
            }
            Self::TextAfterEnd => "has text after an END; put the text on a line of its own",
            Self::StrayBase64 => "has base64 outside of a section; put the BEGIN line back before it",
            Self::NotBase64 => "has a character that base64 does not have; copy the file again",
            Self::EscapedLineEnds => {
                "has `\\n` in place of line ends; write line ends: printf %b \"$TEXT\" > FILE"
            }
            Self::AfterPadding => {
                "goes on after the `=` that ends base64; two sections were mixed, so copy the file again"
            }
            Self::Incomplete => "begins a section whose base64 is incomplete; copy the file again",
            Self::EmptySection => "begins an empty section; remove it, or copy the file again",
            Self::Header => "has a header inside of a section; remove the header, or copy the file again",
            Self::EncryptedKey => {
                "is an encrypted private key; decrypt it with `openssl pkey -in KEY -out PLAIN-KEY`"
            }
            Self::SecondKey => "is a second private key; leave the one that is meant",
            // These have more to say, in `fmt`.
            Self::Nothing(_) | Self::Der(_) | Self::Pkcs12(_) | Self::Unexpected { .. } => "",
        }
    }
}

impl Wanted {
    fn one(self) -> &'static str {
        match self {
            Self::Certificates => "certificate",
            Self::RevocationLists => "revocation list",
            Self::PrivateKey => "private key",
        }
    }

    fn many(self) -> &'static str {
        match self {
            Self::Certificates => "only certificates",
            Self::RevocationLists => "only revocation lists",
            Self::PrivateKey => "only a private key and its certificates",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Certificates => "CERTIFICATE",
            Self::RevocationLists => "X509 CRL",
            Self::PrivateKey => "PRIVATE KEY",
        }
    }

    /// The command of OpenSSL.
    fn tool(self) -> &'static str {
        match self {
            Self::Certificates => "x509",
            Self::RevocationLists => "crl",
            Self::PrivateKey => "pkey",
        }
    }

    fn remedy(self, found: Label) -> &'static str {
        match (self, found) {
            (_, Label::Unknown) => "remove the section, or correct its label",
            (Self::Certificates, Label::TrustedCertificate) => {
                "its trust settings would not be obeyed; write it without them: openssl x509 -in FILE -out GOOD"
            }
            (Self::Certificates, Label::RevocationList) => "name it in `files.crls`",
            (Self::Certificates, Label::Request) => {
                "put the certificate there that the authority issued for it"
            }
            (Self::Certificates, Label::Pkcs7) => {
                "take the certificates out: openssl pkcs7 -print_certs -in FILE -out GOOD"
            }
            (Self::Certificates, found) if found.is_private_key() => {
                "such a file is not guarded as a key is; keep only its certificates: openssl crl2pkcs7 -nocrl -certfile FILE | openssl pkcs7 -print_certs -out GOOD"
            }
            (Self::RevocationLists, Label::Certificate) => "name authorities in `files.ca-certificates`",
            (Self::PrivateKey, Label::OtherPrivateKey) => {
                "TLS needs an ECDSA, Ed25519 or RSA key in PKCS #8; for one of OpenSSH: ssh-keygen -p -m PKCS8 -f KEY"
            }
            (Self::PrivateKey, _) => "keep only the key: openssl pkey -in FILE -out GOOD",
            _ => "remove the section",
        }
    }
}

impl Label {
    fn one(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate",
            Self::TrustedCertificate => "a TRUSTED CERTIFICATE of OpenSSL",
            Self::RevocationList => "a revocation list",
            Self::PrivateKey | Self::RsaPrivateKey | Self::EcPrivateKey => "a private key",
            Self::EncryptedPrivateKey => "an encrypted private key",
            Self::OtherPrivateKey => "a private key of a kind that TLS does not use",
            Self::EcParameters | Self::OtherParameters => "a set of parameters",
            Self::PublicKey => "a public key",
            Self::Request => "a certificate signing request",
            Self::Pkcs7 => "a PKCS #7 container",
            Self::Unknown => "a section with an unknown label",
        }
    }
}
