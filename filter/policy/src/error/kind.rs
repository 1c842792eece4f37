//! What can be wrong with a policy document, in words.

use std::fmt;

use crate::pem::PemError;

/// What is wrong with a policy document.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PolicyErrorKind {
    /// Not JSON (RFC 8259).
    Syntax {
        /// What the parser met.
        message: String,
    },
    /// Larger than [`crate::limits::DOCUMENT_BYTES`].
    TooLarge,
    /// The same key twice in one object.
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that has no meaning here.
    UnknownKey {
        /// The key as written.
        key: String,
        /// What was probably meant.
        hint: Hint,
    },
    /// A key that must be there and is not.
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A value of another JSON type, `null` included.
    WrongType {
        /// The type that is right here.
        expected: &'static str,
        /// The type found.
        found: &'static str,
    },
    /// An array that must not be empty.
    EmptyArray {
        /// What to do instead.
        why: &'static str,
    },
    /// A string that must not be empty.
    EmptyString,
    /// A value outside its fixed list.
    UnknownValue {
        /// The value as written.
        value: String,
        /// The list.
        expected: &'static [&'static str],
        /// The nearest of the list, if one is near.
        nearest: Option<&'static str>,
    },
    /// No supported value is left of a list that restricts (ciphers, protocols).
    NoneSupported {
        /// What is supported.
        supported: &'static [&'static str],
    },
    /// Two peers with one name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A `must-match` longer than [`crate::limits::PATTERN_BYTES`].
    PatternTooLong,
    /// A `must-match` with more labels than [`crate::limits::PATTERN_LABELS`], or with `?` in a label longer than
    /// [`crate::limits::MASKED_LABEL_BYTES`].
    PatternExcessive,
    /// More peers than [`crate::limits::RULES`].
    TooManyRules,
    /// A SAN_IP `must-match` that is neither an address nor a CIDR block in canonical text.
    NotAnAddress {
        /// The text as written.
        value: String,
        /// The canonical text, if there is one.
        canonical: Option<String>,
    },
    /// A path glob that is none.
    NotAPathPattern {
        /// The text as written.
        value: String,
    },
    /// Not the hexadecimal text of so many bytes.
    NotHex {
        /// How many bytes.
        bytes: usize,
    },
    /// Neither a time (RFC 3339) nor `<none>`.
    NotATime {
        /// The text as written.
        value: String,
    },
    /// A certificate that the engine cannot read.
    NotACertificate,
    /// PEM text that cannot be read.
    Pem(PemError),
    /// PEM text with more than one certificate.
    SeveralCertificates,
    /// A certificate named by file where no file can be read.
    NotInlined,
    /// A data-plane client with neither certificates nor tokens, or with both.
    ClientCredentials,
    /// A data-plane client's id that starts with `_`.
    ReservedId,
    /// A token context that would make check hashes of fingerprints, or that is empty.
    TokenContext,
    /// A path that is not absolute.
    RelativePath {
        /// The path as written.
        path: String,
    },
    /// An entry of `names` that no authority could match, or that an empty one would.
    NotAHostName {
        /// The text as written.
        value: String,
    },
    /// A policy that the endpoint cannot be judged by.
    EndpointNeeds {
        /// The kind of endpoint.
        endpoint: &'static str,
        /// The key it needs.
        key: &'static str,
    },
    /// Plaintext for an endpoint whose clients are known by a credential.
    EndpointForbids {
        /// The kind of endpoint.
        endpoint: &'static str,
    },
}

/// What a misspelt or misplaced key probably meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hint {
    /// A key of this object is spelt almost the same.
    Misspelt(&'static str),
    /// The key belongs into another object, named here.
    Misplaced(&'static str),
    /// Nothing near; these keys are known here.
    Known(&'static [&'static str]),
}

impl fmt::Display for PolicyErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { message } => write!(formatter, "not JSON: {message}"),
            Self::TooLarge => {
                write!(formatter, "document is larger than {} bytes", crate::limits::DOCUMENT_BYTES)
            }
            Self::DuplicateKey { key } => write!(formatter, "key {} stands twice", Quoted(key)),
            Self::UnknownKey { key, hint } => write!(formatter, "unknown key {}{hint}", Quoted(key)),
            Self::MissingKey { key } => write!(formatter, "`{key}` is missing"),
            Self::WrongType { expected, found: "null" } => {
                write!(formatter, "expected {expected}, found null; leave the key out instead")
            }
            Self::WrongType { expected, found } => write!(formatter, "expected {expected}, found {found}"),
            Self::EmptyArray { why } => write!(formatter, "empty array: {why}"),
            Self::EmptyString => write!(formatter, "empty string"),
            Self::UnknownValue { value, expected, nearest } => {
                write!(formatter, "unknown value {}", Quoted(value))?;
                match nearest {
                    Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
                    None => write!(formatter, "; expected one of {}", List(expected)),
                }
            }
            Self::NoneSupported { supported } => {
                write!(formatter, "none of these is supported; supported are {}", List(supported))
            }
            Self::DuplicateName { name } => {
                write!(formatter, "{} is here twice; names must be unique", Quoted(name))
            }
            Self::PatternTooLong => {
                write!(formatter, "pattern is longer than {} bytes", crate::limits::PATTERN_BYTES)
            }
            Self::PatternExcessive => write!(
                formatter,
                "pattern has more than {} labels, or `?` in a label of more than {} bytes",
                crate::limits::PATTERN_LABELS,
                crate::limits::MASKED_LABEL_BYTES
            ),
            Self::TooManyRules => write!(formatter, "more than {} peers", crate::limits::RULES),
            Self::NotAnAddress { .. }
            | Self::NotAPathPattern { .. }
            | Self::NotHex { .. }
            | Self::NotATime { .. }
            | Self::NotACertificate
            | Self::Pem(_)
            | Self::SeveralCertificates
            | Self::NotInlined
            | Self::ClientCredentials
            | Self::ReservedId
            | Self::TokenContext
            | Self::RelativePath { .. }
            | Self::NotAHostName { .. }
            | Self::EndpointNeeds { .. }
            | Self::EndpointForbids { .. } => self.fmt_value(formatter),
        }
    }
}

impl PolicyErrorKind {
    /// Values of the right type that mean nothing.
    fn fmt_value(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress { value, canonical: Some(canonical) } => {
                write!(formatter, "{} is not in canonical form; write `{canonical}`", Quoted(value))
            }
            Self::NotAnAddress { value, canonical: None } => write!(
                formatter,
                "{} is neither an IP address nor a CIDR block; SAN_IP takes no glob", Quoted(value)
            ),
            Self::NotAPathPattern { value } => write!(
                formatter,
                "{} is no path pattern; it starts with `/`, and `**` is a whole segment", Quoted(value)
            ),
            Self::NotHex { bytes } => write!(formatter, "expected {} hexadecimal digits", bytes * 2),
            Self::NotATime { value } => write!(
                formatter,
                "{} is no time; write `2026-12-20T00:00:00Z`, or `<none>` for no expiration", Quoted(value)
            ),
            Self::NotACertificate => formatter.write_str("not a PEM certificate"),
            Self::Pem(error) => write!(formatter, "not a PEM certificate: {error}"),
            Self::SeveralCertificates => {
                formatter.write_str("more than one certificate; give each an entry of its own")
            }
            Self::NotInlined => formatter.write_str(
                "the filter reads no files; `peergate render` or the host puts the certificate's `sha256` here",
            ),
            Self::ClientCredentials => {
                formatter.write_str("a client has either `certificates` or `tokens`, as in Vespa")
            }
            Self::ReservedId => formatter.write_str("a client's id cannot start with `_`, as in Vespa"),
            Self::TokenContext => formatter.write_str(
                "clients with tokens need a `token-context` such as `Vespa Cloud tenant data plane:mytenant`",
            ),
            Self::RelativePath { path } => {
                write!(formatter, "{} is a relative path; write an absolute one", Quoted(path))
            }
            Self::NotAHostName { value } => {
                write!(formatter, "{} is no host name; write it without a port", Quoted(value))
            }
            Self::EndpointNeeds { endpoint, key } => {
                write!(formatter, "an endpoint of kind `{endpoint}` needs `{key}` in its policy")
            }
            Self::EndpointForbids { endpoint } => {
                write!(formatter, "only an endpoint of kind `peer` takes plaintext, this is `{endpoint}`")
            }
            // All others are written by `fmt`.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misspelt(key) => write!(formatter, "; did you mean `{key}`?"),
            Self::Misplaced(place) => {
                write!(formatter, "; it belongs into {place}, here it would do nothing")
            }
            Self::Known(keys) => write!(formatter, "; known here are {}", List(keys)),
        }
    }
}

struct List<'a>(&'a [&'static str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(", ")?;
            }
            write!(formatter, "`{item}`")?;
        }
        Ok(())
    }
}

/// The user's own text in backticks, on one line and no longer than anyone would read.
pub(super) struct Quoted<'a>(pub(super) &'a str);

/// In characters.
const QUOTED: usize = 160;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, more) = match self.0.char_indices().nth(QUOTED) {
            Some((end, _)) => (&self.0[..end], "..."),
            None => (self.0, ""),
        };
        write!(formatter, "`{}{more}`", text.escape_debug())
    }
}
