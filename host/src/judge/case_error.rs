//! What is wrong with a policy test file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use peergate_policy::PolicyError;

use super::engine::EngineError;
use super::subject::SubjectError;
use crate::clean::Clean;

/// A file of cases that proves nothing.
#[derive(Debug)]
pub enum CaseFileError {
    /// It, or the policy file it names, cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// It is no JSON of the right shape.
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
    /// Not exactly one of `policy` and `policy-file`.
    Policies(PathBuf),
    /// No cases.
    NoCases(PathBuf),
    /// A case that cannot be asked.
    Case {
        /// The file.
        path: PathBuf,
        /// The case's name.
        case: String,
        /// What is wrong.
        fault: CaseFault,
    },
    /// The policy cannot be read.
    Policy {
        /// Its file.
        path: PathBuf,
        /// What is wrong, and where.
        error: PolicyError,
    },
    /// The engine has no answer.
    Engine {
        /// The file.
        path: PathBuf,
        /// The case's name.
        case: String,
        /// Why.
        error: Box<EngineError>,
    },
}

/// What is wrong with a case.
#[derive(Debug)]
pub enum CaseFault {
    /// Not exactly one of `peer` and `certificate`.
    Subjects,
    /// The certificate.
    Subject(SubjectError),
    /// The file of the token.
    Token(io::Error),
    /// `now` is no RFC 3339 time.
    Time(String),
    /// `expect` is empty.
    Nothing,
    /// No capability of that name.
    Capability(String),
}

impl fmt::Display for CaseFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(formatter, "cannot read `{}`: {error}", path.display())
            }
            Self::Syntax { path, error } => {
                // serde appends the place that stands in front already.
                let text = error.to_string();
                let text = text.split(" at line ").next().unwrap_or_default();
                write!(formatter, "{}:{}:{}: {}", path.display(), error.line(), error.column(), Clean(text))
            }
            Self::Policies(path) => {
                write!(formatter, "{}: give exactly one of `policy` and `policy-file`", path.display())
            }
            Self::NoCases(path) => write!(formatter, "{}: `cases` is empty", path.display()),
            Self::Case { path, case, fault } => {
                write!(formatter, "{}: case `{}`: {fault}", path.display(), case.escape_debug())
            }
            Self::Policy { path, error } => formatter.write_str(&error.in_file(path)),
            Self::Engine { path, case, error } => {
                write!(formatter, "{}: case `{}`: {error}", path.display(), case.escape_debug())
            }
        }
    }
}

impl fmt::Display for CaseFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subjects => formatter.write_str("give exactly one of `peer` and `certificate`"),
            Self::Subject(error) => error.fmt(formatter),
            Self::Token(error) => write!(formatter, "`token-file`: {error}"),
            Self::Time(text) => {
                write!(
                    formatter,
                    "`now`: `{}` is no time between 1970 and 2554 such as `2026-01-01T00:00:00Z`",
                    text.escape_debug()
                )
            }
            Self::Nothing => formatter.write_str("`expect` is empty, so the case could not fail"),
            Self::Capability(name) => write!(formatter, "unknown capability `{}`", name.escape_debug()),
        }
    }
}

impl std::error::Error for CaseFileError {}
