//! Why a policy document was refused, and where.

use std::fmt;
use std::path::Path;

use crate::json;

/// A policy document that cannot be read. The old policy, if any, stays in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyError {
    path: String,
    line: u32,
    column: u32,
    kind: PolicyErrorKind,
}

impl PolicyError {
    /// JSON path of the offending value, such as `authorized-peers[0].name`; empty for the document itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Line, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// What is wrong.
    pub fn kind(&self) -> &PolicyErrorKind {
        &self.kind
    }

    /// The error as compilers print theirs: `FILE:LINE:COLUMN: message`.
    pub fn in_file(&self, file: &Path) -> String {
        let Self { path, line, column, kind } = self;
        let file = file.display().to_string();
        let path = if path.is_empty() { String::new() } else { format!("`{}`: ", path.escape_debug()) };
        format!("{}:{line}:{column}: {path}{kind}", file.escape_debug())
    }

    pub(crate) fn new(text: &str, fault: Fault) -> Self {
        let json::Place { path, line, column } = json::locate(text, fault.offset);
        Self { path, line, column, kind: fault.kind }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "`{}` ", self.path.escape_debug())?;
        }
        write!(formatter, "at line {} column {}: {}", self.line, self.column, self.kind)
    }
}

impl std::error::Error for PolicyError {}

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
    /// A certificate named by file where no file can be read.
    NotInlined,
    /// A data-plane client with neither certificates nor tokens, or with both.
    ClientCredentials,
    /// A token context that would make check hashes of fingerprints, or that is empty.
    TokenContext,
    /// A path that is not absolute.
    RelativePath {
        /// The path as written.
        path: String,
    },
    /// A policy that the endpoint cannot be judged by.
    EndpointNeeds {
        /// The kind of endpoint.
        endpoint: &'static str,
        /// The key it needs.
        key: &'static str,
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
            Self::DuplicateKey { key } => write!(formatter, "key `{}` stands twice", key.escape_debug()),
            Self::UnknownKey { key, hint } => write!(formatter, "unknown key `{}`{hint}", key.escape_debug()),
            Self::MissingKey { key } => write!(formatter, "`{key}` is missing"),
            Self::WrongType { expected, found: "null" } => {
                write!(formatter, "expected {expected}, found null; leave the key out instead")
            }
            Self::WrongType { expected, found } => write!(formatter, "expected {expected}, found {found}"),
            Self::EmptyArray { why } => write!(formatter, "empty array: {why}"),
            Self::EmptyString => write!(formatter, "empty string"),
            Self::UnknownValue { value, expected, nearest } => {
                write!(formatter, "unknown value `{}`", value.escape_debug())?;
                match nearest {
                    Some(nearest) => write!(formatter, "; did you mean `{nearest}`?"),
                    None => write!(formatter, "; expected one of {}", List(expected)),
                }
            }
            Self::NoneSupported { supported } => {
                write!(formatter, "none of these is supported; supported are {}", List(supported))
            }
            Self::DuplicateName { name } => {
                write!(
                    formatter,
                    "another peer has the name `{}` too; names must be unique",
                    name.escape_debug()
                )
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
            Self::NotAnAddress { value, canonical: Some(canonical) } => {
                write!(formatter, "`{}` is not in canonical form; write `{canonical}`", value.escape_debug())
            }
            Self::NotAnAddress { value, canonical: None } => write!(
                formatter,
                "`{}` is neither an IP address nor a CIDR block; SAN_IP takes no glob",
                value.escape_debug()
            ),
            Self::NotAPathPattern { value } => write!(
                formatter,
                "`{}` is no path pattern; it starts with `/`, and `**` is a whole segment",
                value.escape_debug()
            ),
            Self::NotHex { bytes } => write!(formatter, "expected {} hexadecimal digits", bytes * 2),
            Self::NotATime { value } => write!(
                formatter,
                "`{}` is no time; write `2026-12-20T00:00:00Z`, or `<none>` for no expiration",
                value.escape_debug()
            ),
            Self::NotACertificate => formatter.write_str("not a PEM certificate"),
            Self::NotInlined => formatter.write_str(
                "the filter reads no files; `peergate render` or the host puts the certificate's `sha256` here",
            ),
            Self::ClientCredentials => {
                formatter.write_str("a client has either `certificates` or `tokens`, as in Vespa")
            }
            Self::TokenContext => formatter.write_str(
                "clients with tokens need a `token-context` such as `Vespa Cloud tenant data plane:mytenant`",
            ),
            Self::RelativePath { path } => {
                write!(formatter, "`{}` is a relative path; write an absolute one", path.escape_debug())
            }
            Self::EndpointNeeds { endpoint, key } => {
                write!(formatter, "an endpoint of kind `{endpoint}` needs `{key}` in its policy")
            }
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

/// A [`PolicyErrorKind`] at a byte of the document; its place is looked up once, when it leaves the parser.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) kind: PolicyErrorKind,
}
