//! Certificates that a policy names by file, put into it by digest: the filter reads no files.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use peergate_policy::{Certificate, PolicyError, PolicyWarning};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::credentials::Fault;
use super::guard::{Audience, read};
use super::pem::{self, Found};

/// The policy as the filter takes it: each `{"file": "..."}` of a data-plane client replaced by `{"sha256": "..."}`, the
/// first certificate of the file in its place and further ones at the end of the list.
///
/// What is not of the expected shape stays as it is, for [`peergate_policy`] to refuse.
///
/// # Errors
/// The first file that cannot be used.
pub fn inline(policy: &str) -> Result<String, InlineError> {
    Inlined::of(policy).map(|inlined| inlined.text.into_owned())
}

/// A policy with certificates by digest, and what it was made from.
#[derive(Debug)]
pub struct Inlined<'a> {
    original: &'a str,
    text: Cow<'a, str>,
    /// In the order of the document, none within another.
    splices: Vec<Splice>,
}

/// A piece of the original and what stands in its place.
#[derive(Debug)]
struct Splice {
    original: Range<usize>,
    text: String,
}

impl<'a> Inlined<'a> {
    /// As [`inline`].
    ///
    /// # Errors
    /// As [`inline`].
    pub fn of(policy: &'a str) -> Result<Self, InlineError> {
        let splices = splices(policy)?;
        if splices.is_empty() {
            return Ok(Self::as_written(policy));
        }
        let mut text =
            String::with_capacity(policy.len() + splices.iter().map(|it| it.text.len()).sum::<usize>());
        let mut copied = 0;
        for splice in &splices {
            text.push_str(&policy[copied..splice.original.start]);
            text.push_str(&splice.text);
            copied = splice.original.end;
        }
        text.push_str(&policy[copied..]);
        Ok(Self { original: policy, text: text.into(), splices })
    }

    /// The policy with nothing replaced, for proxies that read no files either.
    pub fn as_written(policy: &'a str) -> Self {
        Self { original: policy, text: policy.into(), splices: Vec::new() }
    }

    /// The policy with digests.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error about [`Self::text`], at the place where the original has what it is about.
    #[must_use]
    pub fn original(&self, error: PolicyError) -> PolicyError {
        let (line, column) = self.original_place(error.line(), error.column());
        error.at(line, column)
    }

    /// A warning about [`Self::text`], likewise.
    pub fn original_warning(&self, warning: &PolicyWarning) -> PolicyWarning {
        let warning = warning.clone();
        match warning.place().map(|(line, column)| self.original_place(line, column)) {
            Some((line, column)) => warning.at(line, column),
            None => warning,
        }
    }

    fn original_place(&self, line: u32, column: u32) -> (u32, u32) {
        place(self.original, self.original_offset(offset(&self.text, line, column)))
    }

    fn original_offset(&self, offset: usize) -> usize {
        let (mut old, mut new) = (0, 0);
        for splice in &self.splices {
            let start = new + (splice.original.start - old);
            if offset < start {
                break;
            }
            if offset < start + splice.text.len() {
                return splice.original.start;
            }
            (old, new) = (splice.original.end, start + splice.text.len());
        }
        old + (offset - new)
    }
}

/// A certificate's file that cannot be used.
#[derive(Debug)]
pub struct InlineError {
    key: String,
    line: u32,
    column: u32,
    path: PathBuf,
    fault: Fault,
}

impl InlineError {
    /// The error as compilers print theirs: `FILE:LINE:COLUMN: message`, for the policy in `file`.
    pub fn in_file(&self, file: &Path) -> String {
        format!("{}:{}:{}: {self}", file.display().to_string().escape_debug(), self.line, self.column)
    }
}

impl fmt::Display for InlineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.key, self.fault.about(&self.path))
    }
}

impl std::error::Error for InlineError {}

#[derive(Deserialize)]
struct Policy<'a> {
    #[serde(borrow, rename = "data-plane")]
    data_plane: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct DataPlane<'a> {
    #[serde(borrow)]
    clients: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Client<'a> {
    #[serde(borrow)]
    certificates: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    file: String,
}

/// `None` where the text has another shape.
fn shaped<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn splices(policy: &str) -> Result<Vec<Splice>, InlineError> {
    let mut splices = Vec::new();
    let clients = shaped::<Policy<'_>>(policy)
        .and_then(|policy| policy.data_plane)
        .and_then(|raw| shaped::<DataPlane<'_>>(raw.get()))
        .and_then(|data_plane| data_plane.clients)
        .unwrap_or_default();
    for (index, client) in clients.into_iter().enumerate() {
        if let Some(list) = shaped::<Client<'_>>(client.get()).and_then(|client| client.certificates) {
            of_list(policy, index, list, &mut splices)?;
        }
    }
    Ok(splices)
}

/// Further certificates of a file go to the end of the list, so that the others keep their index.
fn of_list(
    policy: &str,
    client: usize,
    list: &RawValue,
    splices: &mut Vec<Splice>,
) -> Result<(), InlineError> {
    let mut further = String::new();
    for (index, node) in shaped::<Vec<&RawValue>>(list.get()).unwrap_or_default().into_iter().enumerate() {
        let Some(Entry { file }) = shaped(node.get()) else { continue };
        let original = range(policy, node.get());
        let digests = digests(Path::new(&file)).map_err(|fault| {
            let key = format!("data-plane.clients[{client}].certificates[{index}].file");
            let (line, column) = place(policy, original.start);
            InlineError { key, line, column, path: file.into(), fault }
        })?;
        let mut entries = digests.iter().map(|digest| format!(r#"{{"sha256":"{digest}"}}"#));
        splices.push(Splice { original, text: entries.next().unwrap_or_default() });
        entries.for_each(|entry| further.extend([",", &entry]));
    }
    if !further.is_empty() {
        let end = range(policy, list.get()).end - 1;
        splices.push(Splice { original: end..end, text: further });
    }
    Ok(())
}

/// SHA-256 of every certificate in the file, at least one.
fn digests(path: &Path) -> Result<Vec<String>, Fault> {
    if !path.is_absolute() {
        return Err(Fault::RelativePath);
    }
    let pem = read(path, Audience::Everybody).map_err(Fault::File)?;
    let certificates = pem::certificates(&pem).map_err(Fault::Pem)?.into_iter().enumerate();
    certificates
        .map(|(index, Found { line, item })| match Certificate::unnamed_from_der(&item) {
            Ok(certificate) => Ok(certificate.digest.iter().map(|byte| format!("{byte:02x}")).collect()),
            Err(_) => Err(Fault::BadCertificate { position: index + 1, line }),
        })
        .collect()
}

/// Where `part`, a slice of `whole`, stands in it.
fn range(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// The byte at a line and column, both from 1.
fn offset(text: &str, line: u32, column: u32) -> usize {
    let lines = (line as usize).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let characters = text[start..].char_indices();
    let column = characters.map(|(at, _)| at).nth((column as usize).saturating_sub(1));
    start + column.unwrap_or(text.len() - start)
}

/// Line and column of a byte, both from 1, columns in characters.
fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (count(before.matches('\n').count() + 1), count(before[line_start..].chars().count() + 1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use peergate_policy::{Policy, sha256};
    use tempfile::TempDir;

    use super::*;
    use crate::pki::{Credential, Leaf};

    fn hex(der: &[u8]) -> String {
        sha256(der).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A directory with `one.pem` and `two.pem`, the latter with two certificates; and the digests of all three.
    fn files() -> (TempDir, [String; 3]) {
        let directory = tempfile::tempdir().expect("a directory");
        let [one, two, three] =
            ["a", "b", "c"].map(|cn| Credential::self_signed(&Leaf::new().cn(cn)).expect("a certificate"));
        fs::write(directory.path().join("one.pem"), &one.chain_pem).expect("written");
        let both = format!("text\n{}{}", two.chain_pem, three.chain_pem);
        fs::write(directory.path().join("two.pem"), both).expect("written");
        (directory, [one, two, three].map(|credential| hex(credential.leaf())))
    }

    fn policy(directory: &TempDir, certificates: &str, after: &str) -> String {
        let certificates = certificates.replace("DIR", directory.path().to_str().expect("text"));
        format!(
            "{{\"data-plane\": {{\n \"clients\": [{{\"id\": \"é\", \"permissions\": [\"read\"], \"certificates\": \
             [{certificates}]}}{after}]}}}}"
        )
    }

    #[test]
    fn every_certificate_of_a_file_is_put_in_and_places_stay() {
        let (directory, [one, two, three]) = files();
        let zero = "0".repeat(64);
        let text = policy(
            &directory,
            &format!(r#"{{"file": "DIR/two.pem"}}, {{"sha256": "{zero}"}}, {{"f\u0069le":"DIR/one.pem"}} "#),
            "",
        );
        let inlined = inline(&text).expect("good files");
        let list = format!(
            r#"[{{"sha256":"{two}"}}, {{"sha256": "{zero}"}}, {{"sha256":"{one}"}} ,{{"sha256":"{three}"}}]"#
        );
        assert!(inlined.contains(&list), "{inlined}");
        assert!(Policy::parse(&inlined).is_ok());
    }

    #[test]
    fn other_documents_stay_as_they_are() {
        for text in [
            "",
            "[]",
            "{",
            r#"{"data-plane": 1}"#,
            r#"{"data-plane": {"clients": [{"certificates": {"file": "/x"}}, 1]}}"#,
            r#"{"data-plane": {"clients": [{"certificates": [{"file": 1}, {"file": "/x", "file": "/y"}]}]}}"#,
            r#"{"data-plane": {"clients": [{"certificates": [{"file": "/x", "sha256": ""}]}]}}"#,
            r#"{"authorized-peers": [{"certificates": [{"file": "/x"}]}]}"#,
        ] {
            assert_eq!(inline(text).expect(text), text);
        }
    }

    #[test]
    fn errors_after_a_replacement_have_their_place_in_the_original() {
        let (directory, _) = files();
        let after = r#", {"id": "x", "permissions": ["all"]}"#;
        let text = policy(&directory, r#"{"file": "DIR/two.pem"}, {"file": "DIR/one.pem"}"#, after);
        let inlined = Inlined::of(&text).expect("good files");
        let error = inlined.original(Policy::parse(inlined.text()).expect_err("no such permission"));
        let column = text.lines().nth(1).and_then(|line| line.find("\"all\"")).expect("there");
        // `é` is one character of two bytes, and columns count from 1.
        assert_eq!((error.line(), error.column() as usize), (2, column));
        assert_eq!(error.path(), "data-plane.clients[1].permissions[0]");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_place() {
        let (directory, _) = files();
        fs::write(
            directory.path().join("key.pem"),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .expect("written");
        fs::write(
            directory.path().join("bad.pem"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .expect("written");
        fs::write(directory.path().join("text.pem"), "subject=CN = a\n").expect("written");
        for (file, message) in [
            ("one.pem", "`one.pem` is a relative path; write an absolute one"),
            ("DIR/none.pem", "check the path and who may read it"),
            ("DIR/key.pem", "key.pem:1` is a private key where only certificates are expected"),
            ("DIR/bad.pem", "bad.pem:1` cannot be used"),
            ("DIR/text.pem", "text.pem` has no certificate; it needs a `BEGIN CERTIFICATE` section"),
        ] {
            let text = policy(&directory, &format!(r#"{{"file": "DIR/one.pem"}}, {{"file": "{file}"}}"#), "");
            let error = inline(&text).expect_err(file).in_file(Path::new("policy.json"));
            let column = text.lines().nth(1).and_then(|line| line.rfind("{\"file")).expect("there");
            let place = format!("policy.json:2:{column}: `data-plane.clients[0].certificates[1].file`: ");
            assert!(error.starts_with(&place) && error.contains(message), "{error}\n{place}");
        }
    }
}
