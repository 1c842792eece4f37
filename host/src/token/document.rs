//! Tokens in the text of a policy document.

use std::borrow::Cow;

use peergate_policy::token::{Derivation, FINGERPRINT_CONTEXT, Fingerprint};
use peergate_policy::{Permission, Policy, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::TokenError;
use super::layout;

const NO_EXPIRATION: &str = "<none>";

/// A new version of a token.
#[derive(Debug)]
pub struct Addition<'a> {
    /// The client that may use it; made if there is none.
    pub client: &'a str,
    /// What a new client may do.
    pub permissions: &'a [Permission],
    /// The token's id; made if the client has none such.
    pub token: &'a str,
    /// The last instant at which it is valid.
    pub expiration: Option<UnixTime>,
}

/// A version of a token, as a policy knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredVersion {
    /// The client's id.
    pub client: String,
    /// The token's id.
    pub token: String,
    /// Its public name.
    pub fingerprint: Fingerprint,
    /// The last instant at which it is valid.
    pub expiration: Option<UnixTime>,
}

/// The policy with one version more.
///
/// # Errors
/// The text is no policy, or would be none.
pub fn add(text: &str, addition: &Addition<'_>, secret: &Derivation) -> Result<String, TokenError> {
    check(text)?;
    let data_plane = data_plane(text)?;
    let context = data_plane.token_context.as_deref().ok_or(TokenError::NoTokenContext)?;
    if matches!(context, "" | FINGERPRINT_CONTEXT) {
        return Err(TokenError::NoTokenContext);
    }
    let version = NewVersion {
        fingerprint: secret.fingerprint().to_string(),
        check_access_hash: secret.check_hash(context).to_hex(),
        expiration: addition.expiration.map_or_else(|| NO_EXPIRATION.to_owned(), |time| time.to_string()),
    };
    let after = with_version(text, &data_plane, addition, version)?;
    check(&after)?;
    Ok(after)
}

/// The policy without any version of that fingerprint.
///
/// # Errors
/// There is none, or the text is no policy.
pub fn revoke(text: &str, fingerprint: Fingerprint) -> Result<String, TokenError> {
    check(text)?;
    let mut after = without_one(text, fingerprint)?.ok_or(TokenError::UnknownFingerprint)?;
    while let Some(next) = without_one(&after, fingerprint)? {
        after = next;
    }
    check(&after)?;
    Ok(after)
}

/// All versions of all tokens, in policy order.
///
/// # Errors
/// The text is no policy.
pub fn stored(text: &str) -> Result<Vec<StoredVersion>, TokenError> {
    check(text)?;
    let mut all = Vec::new();
    for client in clients(&data_plane(text)?)? {
        for token in tokens(&client)? {
            for version in array::<Version<'_>>(token.versions)? {
                all.push(StoredVersion {
                    client: client.id.to_string(),
                    token: token.id.to_string(),
                    fingerprint: version.fingerprint.parse().map_err(|_| unreadable("a fingerprint"))?,
                    expiration: match &*version.expiration {
                        NO_EXPIRATION => None,
                        time => Some(time.parse().map_err(|_| unreadable("an expiration"))?),
                    },
                });
            }
        }
    }
    Ok(all)
}

/// Whether the text is a policy. Certificates that are named by file are not read here.
fn check(text: &str) -> Result<(), TokenError> {
    let inlined = without_files(text).ok();
    let checked = Policy::parse(inlined.as_deref().unwrap_or(text));
    checked.map(|_| ()).map_err(TokenError::Policy)
}

/// The text with some digest in the place of each certificate's file.
fn without_files(text: &str) -> Result<String, TokenError> {
    let mut files = Vec::new();
    for client in clients(&data_plane(text)?)? {
        let certificates = client.certificates.map_or_else(|| Ok(Vec::new()), elements)?;
        files.extend(
            certificates
                .into_iter()
                .filter(|it| serde_json::from_str::<CertificateFile<'_>>(it.get()).is_ok()),
        );
    }
    Ok(layout::replaced(text, &files, &format!(r#"{{"sha256":"{}"}}"#, "0".repeat(64))))
}

fn with_version(
    text: &str,
    data_plane: &DataPlane<'_>,
    addition: &Addition<'_>,
    version: NewVersion,
) -> Result<String, TokenError> {
    let token = |version| NewToken { id: addition.token, versions: [version] };
    let known = clients(data_plane)?.into_iter().find(|client| client.id == addition.client);
    let Some(client) = known else {
        if addition.permissions.is_empty() {
            return Err(TokenError::NewClient(addition.client.to_owned()));
        }
        let client = NewClient {
            id: addition.client,
            permissions: addition.permissions.iter().map(|permission| permission.as_str()).collect(),
            tokens: [token(version)],
        };
        return append(text, data_plane.clients, &client);
    };
    let Some(tokens) = client.tokens else {
        return Err(TokenError::ClientHasCertificates(addition.client.to_owned()));
    };
    if !addition.permissions.is_empty() && !client.may_exactly(addition.permissions) {
        return Err(TokenError::OtherPermissions(addition.client.to_owned()));
    }
    match array::<Token<'_>>(tokens)?.into_iter().find(|token| token.id == addition.token) {
        Some(known) => append(text, known.versions, &version),
        None => append(text, tokens, &token(version)),
    }
}

fn without_one(text: &str, fingerprint: Fingerprint) -> Result<Option<String>, TokenError> {
    for client in clients(&data_plane(text)?)? {
        for token in tokens(&client)? {
            let versions = array::<Version<'_>>(token.versions)?;
            if let Some(index) = versions.iter().position(|it| it.fingerprint.parse() == Ok(fingerprint)) {
                return Ok(Some(layout::removed(text, token.versions, &elements(token.versions)?, index)));
            }
        }
    }
    Ok(None)
}

fn append(text: &str, array: &RawValue, element: &impl Serialize) -> Result<String, TokenError> {
    layout::appended(text, array, &elements(array)?, element).map_err(not_json)
}

fn data_plane(text: &str) -> Result<DataPlane<'_>, TokenError> {
    let document: Document<'_> = serde_json::from_str(text).map_err(not_json)?;
    let raw = document.data_plane.ok_or(TokenError::NoDataPlane)?;
    serde_json::from_str(raw.get()).map_err(not_json)
}

fn clients<'a>(data_plane: &DataPlane<'a>) -> Result<Vec<Client<'a>>, TokenError> {
    array(data_plane.clients)
}

fn tokens<'a>(client: &Client<'a>) -> Result<Vec<Token<'a>>, TokenError> {
    client.tokens.map_or_else(|| Ok(Vec::new()), array)
}

fn elements(raw: &RawValue) -> Result<Vec<&RawValue>, TokenError> {
    array(raw)
}

fn array<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<Vec<T>, TokenError> {
    serde_json::from_str(raw.get()).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> TokenError {
    TokenError::Unreadable(error.to_string())
}

fn unreadable(what: &str) -> TokenError {
    TokenError::Unreadable(format!("{what} cannot be read"))
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, rename = "data-plane")]
    data_plane: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DataPlane<'a> {
    #[serde(borrow)]
    token_context: Option<Cow<'a, str>>,
    #[serde(borrow)]
    clients: &'a RawValue,
}

#[derive(Deserialize)]
struct Client<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(borrow)]
    certificates: Option<&'a RawValue>,
    #[serde(borrow)]
    tokens: Option<&'a RawValue>,
}

impl Client<'_> {
    fn may_exactly(&self, permissions: &[Permission]) -> bool {
        let named = |word: &str| permissions.iter().any(|permission| permission.as_str() == word);
        self.permissions.iter().all(|word| named(word))
            && permissions
                .iter()
                .all(|permission| self.permissions.iter().any(|it| it == permission.as_str()))
    }
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    versions: &'a RawValue,
}

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    fingerprint: Cow<'a, str>,
    #[serde(borrow)]
    expiration: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateFile<'a> {
    #[serde(borrow, rename = "file")]
    _file: Cow<'a, str>,
}

/// The order of the keys is the one people write.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct NewVersion {
    fingerprint: String,
    check_access_hash: String,
    expiration: String,
}

#[derive(Serialize)]
struct NewToken<'a> {
    id: &'a str,
    versions: [NewVersion; 1],
}

#[derive(Serialize)]
struct NewClient<'a> {
    id: &'a str,
    permissions: Vec<&'static str>,
    tokens: [NewToken<'a>; 1],
}
