//! The plugin configuration: a policy, and the kind of endpoint that it protects.

use std::path::{Path, PathBuf};

use peergate_policy::{CertificateTrust, Configuration, Endpoint, Policy};
use serde_json::Value;

use super::RenderError;
use crate::files::{Audience, Inlined, read};

/// What `filter.wasm` is configured with. The policy stands in it as it was written, with the certificates that it names by
/// file in their place.
#[derive(Clone, Debug)]
pub struct Plugin {
    path: PathBuf,
    policy_text: String,
    text: String,
    configuration: Configuration,
    warnings: Vec<String>,
}

impl Plugin {
    /// Reads the policy in `path` for an endpoint.
    ///
    /// # Errors
    /// The policy, or a certificate that it names, cannot be used, or is not for this kind of endpoint.
    pub fn read(
        path: &Path,
        endpoint: Endpoint,
        names: &[String],
        deprecated_names: &[String],
    ) -> Result<Self, RenderError> {
        let text = read_text(path)?;
        let inlined = inline(path, &text)?;
        let as_written = Configuration::of(endpoint, inlined.text())
            .map_err(|error| RenderError::Policy { path: path.to_owned(), error: inlined.original(error) })?;
        let warnings = as_written.policy().warnings().iter();
        let warnings = warnings.map(|it| inlined.original_warning(it).in_file(path)).collect();
        let text = text_of(endpoint, names, deprecated_names, inlined.text());
        let configuration = Configuration::parse(&text).map_err(RenderError::Plugin)?;
        Ok(Self {
            path: path.to_owned(),
            policy_text: inlined.text().to_owned(),
            text,
            configuration,
            warnings,
        })
    }

    /// The policy's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The policy document, with digests in the place of files.
    pub(super) fn policy_text(&self) -> &str {
        &self.policy_text
    }

    /// The JSON for the filter.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        self.configuration.policy()
    }

    /// What in the policy is legal and probably not meant, with its place in the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The kind of endpoint.
    pub fn endpoint(&self) -> Endpoint {
        self.configuration.endpoint()
    }

    /// What the listener must ask of its clients.
    pub fn authentication(&self) -> Authentication {
        Authentication::of(&self.configuration)
    }
}

/// The kind of endpoint that the policy in `path` can be for, or `peer`.
///
/// # Errors
/// The policy cannot be used.
pub(super) fn usable_endpoint(path: &Path) -> Result<Endpoint, RenderError> {
    let text = read_text(path)?;
    let inlined = inline(path, &text)?;
    let policy = Policy::parse(inlined.text())
        .map_err(|error| RenderError::Policy { path: path.to_owned(), error: inlined.original(error) })?;
    let data_plane_only = policy.data_plane().is_some() && policy.admits_any_authenticated();
    Ok(if data_plane_only { Endpoint::Mtls } else { Endpoint::Peer })
}

/// What a listener asks of its clients in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// A certificate that the authorities vouch for.
    Verified,
    /// Any certificate whose key the client has: the filter knows the certificate itself, and refuses others with 403.
    Pinned,
    /// No certificate: the filter looks at bearer tokens.
    Nothing,
}

impl Authentication {
    /// What a configuration needs.
    pub fn of(configuration: &Configuration) -> Self {
        let data_plane = configuration.policy().data_plane();
        let any = data_plane.is_some_and(|it| it.certificate_trust() == CertificateTrust::Any);
        Self::of_endpoint(configuration.endpoint(), any)
    }

    fn of_endpoint(endpoint: Endpoint, any_trusted: bool) -> Self {
        match endpoint {
            Endpoint::Token => Self::Nothing,
            Endpoint::Mtls if !any_trusted => Self::Pinned,
            Endpoint::Mtls | Endpoint::Peer => Self::Verified,
        }
    }

    /// What follows from a plugin configuration that only the filter will judge.
    pub fn of_configuration(configuration: &Value) -> Self {
        let any = configuration["policy"]["data-plane"]["trusted-certificates"] == "any";
        let endpoint = configuration["endpoint"].as_str().and_then(|word| word.parse().ok());
        Self::of_endpoint(endpoint.unwrap_or(Endpoint::Peer), any)
    }
}

fn read_text(path: &Path) -> Result<String, RenderError> {
    let bytes = read(path, Audience::Everybody).map_err(RenderError::File)?;
    String::from_utf8(bytes).map_err(|_| RenderError::Encoding(path.to_owned()))
}

fn inline<'a>(path: &Path, text: &'a str) -> Result<Inlined<'a>, RenderError> {
    Inlined::of(text)
        .map_err(|error| RenderError::Certificate { path: path.to_owned(), error: Box::new(error) })
}

/// Indented with the policy as it is: a string of JSON has no line break that this could change.
fn text_of(endpoint: Endpoint, names: &[String], deprecated_names: &[String], policy: &str) -> String {
    let list = |key: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("  \"{key}\": {},\n", Value::from(names)),
    };
    let policy: Vec<&str> = policy.trim().lines().map(str::trim_end).collect();
    format!(
        "{{\n  \"endpoint\": \"{}\",\n{}{}  \"policy\": {}\n}}\n",
        endpoint.as_str(),
        list("names", names),
        list("deprecated-names", deprecated_names),
        policy.join("\n  "),
    )
}
