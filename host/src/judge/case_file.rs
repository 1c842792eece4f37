//! Policy test files: a policy, peers, and what must be decided about them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use peergate_policy::{CapabilitySet, Endpoint, Policy, PolicyError, PolicyWarning, UnixTime};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::case_error::{CaseFault, CaseFileError};
use super::engine::{Engine, EngineError, Question};
use super::judgement::Judgement;
use super::subject::{PeerJson, Subject};
use crate::wasm::HeaderPairs;

/// A file of cases, read and complete.
pub struct CaseFile {
    path: PathBuf,
    policy_path: PathBuf,
    /// Line and column of a policy that stands in the file itself.
    policy_place: Option<(u32, u32)>,
    policy: String,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    subject: Subject,
    request: Request,
    headers: HeaderPairs,
    now: UnixTime,
    expect: Expect,
}

/// What became of one case.
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// Its result.
    pub verdict: Verdict,
    /// Why filter.wasm was not asked, where it could not be.
    pub native_because: Option<&'static str>,
}

/// Whether the answer was the expected one.
pub enum Verdict {
    /// It was.
    Passed,
    /// It was not: what differs, and the full answer.
    Failed(Vec<String>, Box<Judgement>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFile<'a> {
    #[serde(borrow)]
    policy: Option<&'a RawValue>,
    policy_file: Option<PathBuf>,
    cases: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCase {
    name: String,
    #[serde(default, deserialize_with = "present")]
    peer: Option<Option<PeerJson>>,
    #[serde(default, deserialize_with = "present")]
    certificate: Option<Option<PathBuf>>,
    #[serde(default)]
    request: Request,
    token_file: Option<PathBuf>,
    now: Option<String>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    #[serde(deserialize_with = "endpoint")]
    endpoint: Endpoint,
    method: String,
    path: String,
    headers: BTreeMap<String, Values>,
}

/// One value, or a repeated field.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    decision: Option<Word>,
    status: Option<u16>,
    matched: Option<Vec<String>>,
    capabilities: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            endpoint: Endpoint::Peer,
            method: "GET".to_owned(),
            path: String::new(),
            headers: BTreeMap::new(),
        }
    }
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// `null` is a value here (no certificate), and not the absence of one.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl CaseFile {
    /// Reads a file and everything it names.
    ///
    /// # Errors
    /// The first thing that cannot be read; a file with a doubtful case proves nothing.
    pub fn read(path: &Path) -> Result<Self, CaseFileError> {
        let text = read(path)?;
        let syntax = |error| CaseFileError::Syntax { path: path.to_owned(), error };
        let raw: RawFile<'_> = serde_json::from_str(&text).map_err(syntax)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let invalid =
            |case: &str, fault| CaseFileError::Case { path: path.to_owned(), case: case.to_owned(), fault };
        let (policy_path, policy_place, policy) = match (raw.policy, raw.policy_file) {
            (Some(policy), None) => {
                (path.to_owned(), Some(place(&text, policy.get())), policy.get().to_owned())
            }
            (None, Some(file)) => (directory.join(&file), None, read(&directory.join(file))?),
            _ => return Err(CaseFileError::Policies(path.to_owned())),
        };
        if raw.cases.is_empty() {
            return Err(CaseFileError::NoCases(path.to_owned()));
        }
        let mut cases = Vec::with_capacity(raw.cases.len());
        for case in raw.cases {
            let name = case.name.clone();
            cases.push(Case::read(case, directory).map_err(|fault| invalid(&name, fault))?);
        }
        Ok(Self { path: path.to_owned(), policy_path, policy_place, policy, cases })
    }

    /// What in the policy is legal and probably not meant, with its place. A policy that cannot be read has none.
    pub fn warnings(&self) -> Vec<String> {
        let Ok(policy) = Policy::parse(&self.policy) else { return Vec::new() };
        let moved = |warning: &PolicyWarning| match (warning.place(), self.policy_place) {
            (Some((1, column)), Some((line, first))) => warning.clone().at(line, column + first - 1),
            (Some((line, column)), Some((first, _))) => warning.clone().at(line + first - 1, column),
            _ => warning.clone(),
        };
        policy.warnings().iter().map(|warning| moved(warning).in_file(&self.policy_path)).collect()
    }

    /// Asks `engine` every case.
    ///
    /// # Errors
    /// No answer: the policy cannot be read, or the filter fails.
    pub fn run(&self, engine: &Engine) -> Result<Vec<CaseReport>, CaseFileError> {
        self.cases.iter().map(|case| self.run_case(case, engine)).collect()
    }

    fn policy_error(&self, error: PolicyError) -> CaseFileError {
        let error = match self.policy_place {
            Some((line, column)) => error.embedded("policy", line, column),
            None => error,
        };
        CaseFileError::Policy { path: self.policy_path.clone(), error }
    }

    fn run_case(&self, case: &Case, engine: &Engine) -> Result<CaseReport, CaseFileError> {
        let question = Question {
            policy: &self.policy,
            endpoint: case.request.endpoint,
            subject: &case.subject,
            method: &case.request.method,
            path: &case.request.path,
            headers: case.headers.clone(),
            now: case.now,
        };
        let judgement = engine.judge(&question).map_err(|error| match error {
            EngineError::Policy(error) => self.policy_error(error),
            error => CaseFileError::Engine {
                path: self.path.clone(),
                case: case.name.clone(),
                error: Box::new(error),
            },
        })?;
        let native_because = judgement.native_because;
        let differences = case.expect.differences(&judgement);
        let verdict = match differences.is_empty() {
            true => Verdict::Passed,
            false => Verdict::Failed(differences, Box::new(judgement)),
        };
        Ok(CaseReport { name: case.name.clone(), verdict, native_because })
    }
}

impl Case {
    fn read(raw: RawCase, directory: &Path) -> Result<Self, CaseFault> {
        let mut headers = headers(&raw.request.headers);
        if let Some(file) = raw.token_file {
            headers.push(super::bearer(&directory.join(file)).map_err(CaseFault::Token)?);
        }
        let subject = match (raw.peer, raw.certificate) {
            (Some(Some(peer)), None) => Subject::from(peer),
            (Some(None), None) | (None, Some(None)) => Subject::Nobody,
            (None, Some(Some(path))) => {
                Subject::from_pem_file(&directory.join(path)).map_err(CaseFault::Subject)?
            }
            // On a token endpoint nobody has a certificate.
            (None, None) if matches!(raw.request.endpoint, Endpoint::Token) => Subject::Nobody,
            (Some(_), Some(_)) | (None, None) => return Err(CaseFault::Subjects),
        };
        let now = match raw.now {
            Some(text) => super::time(&text).ok_or(CaseFault::Time(text))?,
            None => super::now(),
        };
        raw.expect.check()?;
        Ok(Self { name: raw.name, subject, request: raw.request, headers, now, expect: raw.expect })
    }
}

impl Expect {
    fn check(&self) -> Result<(), CaseFault> {
        if self.decision.is_none()
            && self.status.is_none()
            && self.matched.is_none()
            && self.capabilities.is_none()
        {
            return Err(CaseFault::Nothing);
        }
        self.capabilities.iter().flatten().try_for_each(|name| capability(name).map(drop))
    }

    fn differences(&self, judgement: &Judgement) -> Vec<String> {
        let mut differences = Vec::new();
        if self.decision.is_some_and(|word| (word == Word::Allow) != judgement.allow) {
            differences.push(format!("decision is {}", judgement.word()));
        }
        if self.status.is_some_and(|status| status != judgement.status) {
            differences.push(format!("status is {}", judgement.status));
        }
        if self.matched.as_ref().is_some_and(|matched| *matched != judgement.matched) {
            differences.push(format!("matched is {:?}", judgement.matched));
        }
        let expected = self.capabilities.as_ref().map(|names| {
            names
                .iter()
                .filter_map(|name| capability(name).ok())
                .fold(CapabilitySet::EMPTY, CapabilitySet::union)
        });
        if expected.is_some_and(|expected| expected != judgement.capabilities) {
            differences.push(format!("capabilities are {:?}", judgement.capabilities));
        }
        differences
    }
}

/// A capability, a named set, or Vespa's word for all of them.
fn capability(name: &str) -> Result<CapabilitySet, CaseFault> {
    CapabilitySet::named(name).ok_or_else(|| CaseFault::Capability(name.to_owned()))
}

fn headers(fields: &BTreeMap<String, Values>) -> HeaderPairs {
    let mut pairs = Vec::new();
    for (name, values) in fields {
        let name = name.to_ascii_lowercase().into_bytes();
        match values {
            Values::One(value) => pairs.push((name, value.clone().into_bytes())),
            Values::Many(values) => {
                pairs.extend(values.iter().map(|value| (name.clone(), value.clone().into_bytes())));
            }
        }
    }
    pairs
}

/// Line and column, from 1, of `part`, which is a slice of `text`.
fn place(text: &str, part: &str) -> (u32, u32) {
    let before = &text[..part.as_ptr() as usize - text.as_ptr() as usize];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

fn read(path: &Path) -> Result<String, CaseFileError> {
    fs::read_to_string(path).map_err(|error| CaseFileError::Unreadable { path: path.to_owned(), error })
}
