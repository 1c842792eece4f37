//! Why a revocation list cannot be used.

use std::fmt;

use peergate_policy::UnixTime;

/// What is wrong with a list. Its text says what would be right, and the line of OpenSSL that makes it.
#[derive(Debug, PartialEq, Eq)]
pub enum ListFault {
    /// Which part is malformed.
    Malformed(&'static str),
    /// The entry at this position, from 1, is malformed.
    MalformedEntry(usize),
    /// It has no extensions, so it could not say what it is about.
    Version1,
    /// It has only what changed since another one.
    Delta,
    /// It has certificates of other authorities.
    Indirect,
    /// The entry at this position, from 1, names the issuer of its certificate.
    IndirectEntry(usize),
    /// It is for some reasons of revocation only.
    SomeReasons,
    /// It is about attribute certificates, which TLS does not know.
    OnlyAttributes,
    /// Its distribution point has a name relative to the issuer's.
    RelativePoint,
    /// A critical extension that is not known here.
    Critical(String),
    /// As before, of the entry at this position, from 1.
    CriticalEntry(usize, String),
    /// The entry at this position, from 1, takes a revocation back (removeFromCRL).
    RemovedEntry(usize),
    /// It is signed in a way that is not verified here.
    Algorithm(String),
    /// It has no nextUpdate.
    Endless,
    /// It has ended: whether its authority has revoked a certificate since, nobody knows.
    Stale(UnixTime),
    /// It begins later.
    NotYetValid(UnixTime),
}

impl fmt::Display for ListFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(part) => write!(formatter, "is malformed ({part}); {GENERATE}"),
            Self::MalformedEntry(entry) => write!(formatter, "is malformed (entry {entry}); {GENERATE}"),
            Self::Version1 => write!(
                formatter,
                "is of version 1, and only version 2 can say what it is about; \
                 write `crlnumber = FILE` into the section of the CA in CA.cnf, then {GENERATE}"
            ),
            Self::Delta => write!(
                formatter,
                "is a delta list; name the complete one: without the extension deltaCRL in `crl_extensions`, {GENERATE}"
            ),
            Self::Indirect => write!(
                formatter,
                "is an indirect list; name the list of each authority: without `indirectCRL`, {GENERATE}"
            ),
            Self::IndirectEntry(entry) => write!(
                formatter,
                "is an indirect list (entry {entry} has certificateIssuer); name the list of each authority: {GENERATE}"
            ),
            Self::SomeReasons => write!(
                formatter,
                "is for some reasons only; name a list for all: without `onlysomereasons`, {GENERATE}"
            ),
            Self::OnlyAttributes => write!(
                formatter,
                "is for attribute certificates only, which TLS does not use: without `onlyAA`, {GENERATE}"
            ),
            Self::RelativePoint => write!(
                formatter,
                "has a distribution point with a name relative to its issuer; \
                 write `fullname = URI:http://...` in place of `relativename`, then {GENERATE}"
            ),
            Self::Critical(oid) => write!(
                formatter,
                "has the critical extension {oid}, which is not known here; without it in `crl_extensions`, {GENERATE}"
            ),
            Self::CriticalEntry(entry, oid) => write!(
                formatter,
                "has the critical extension {oid} in entry {entry}, which is not known here; without it, {GENERATE}"
            ),
            Self::RemovedEntry(entry) => write!(
                formatter,
                "takes a revocation back (entry {entry} has removeFromCRL), as only delta lists may; {GENERATE}"
            ),
            Self::Algorithm(oid) => write!(
                formatter,
                "is signed with the algorithm {oid}, which is not verified here; with SHA-256, {GENERATE} -md sha256"
            ),
            Self::Endless => {
                write!(formatter, "has no nextUpdate, so nobody could tell when it is stale; {GENERATE}")
            }
            Self::Stale(next_update) => write!(
                formatter,
                "is stale: its nextUpdate was {next_update}; fetch the authority's current list, or {GENERATE}"
            ),
            Self::NotYetValid(this_update) => write!(
                formatter,
                "is not yet valid: its thisUpdate is {this_update}; compare the clocks of this machine and of the \
                 authority, or {GENERATE}"
            ),
        }
    }
}

/// A list that can be used.
const GENERATE: &str = "run: openssl ca -gencrl -config CA.cnf -crldays 7 -out LIST.pem";
