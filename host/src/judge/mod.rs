//! One question to the engine, as `peergate explain` and `peergate test` ask it: would this peer be admitted?

mod case_error;
mod case_file;
mod chain;
mod engine;
mod judgement;
mod subject;

pub use case_error::{CaseFault, CaseFileError};
pub use case_file::{CaseFile, CaseReport, Verdict};
pub use chain::Chain;
pub use engine::{Engine, EngineError, Question};
pub use judgement::Judgement;
pub use subject::{PeerJson, Subject, SubjectError};

use std::fs;
use std::io;
use std::path::Path;

use peergate_policy::UnixTime;
use time::OffsetDateTime;

/// Reads a token from a file, or from standard input for `-`, as the `authorization` header that carries it.
///
/// # Errors
/// The file cannot be read, or has no token.
pub fn bearer(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let text =
        if path == Path::new("-") { io::read_to_string(io::stdin())? } else { fs::read_to_string(path)? };
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(io::Error::other("the file of the token is empty")),
        token => Ok((b"authorization".to_vec(), format!("Bearer {token}").into_bytes())),
    }
}

/// Reads a time that proxies can tell a filter: not before 1970, not after 2554.
pub fn time(text: &str) -> Option<UnixTime> {
    let time: UnixTime = text.parse().ok()?;
    (0..=18_446_744_072).contains(&time.seconds()).then_some(time)
}

/// The wall clock.
pub fn now() -> UnixTime {
    let now = OffsetDateTime::now_utc();
    UnixTime::new(now.unix_timestamp(), now.nanosecond())
}
