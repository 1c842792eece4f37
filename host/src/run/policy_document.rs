//! A policy as one kind of endpoint is judged by it, with the files it names.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use peergate_policy::{Configuration, Endpoint as Kind, Policy, PolicyError};
use rustls_pki_types::ServerName;

use super::RunError;
use super::modes::Modes;
use crate::clock;
use crate::files::{self, Audience, Credentials, Inlined};
use crate::tls::{self, Authentication, Terms};

/// A policy document that was read and understood.
#[derive(Debug)]
pub(super) struct PolicyDocument<'a> {
    path: &'a Path,
    inlined: Inlined<'a>,
    configuration: Configuration,
}

impl<'a> PolicyDocument<'a> {
    /// The content of a policy's file.
    pub(super) fn text(path: &Path) -> Result<String, RunError> {
        let bytes = files::read(path, Audience::Everybody).map_err(RunError::PolicyFile)?;
        String::from_utf8(bytes).map_err(|_| RunError::PolicyEncoding(path.to_owned()))
    }

    /// As an endpoint of this kind of the host.
    pub(super) fn parse(path: &'a Path, text: &'a str, kind: Kind) -> Result<Self, RunError> {
        Self::parse_for(path, text, Some(kind), true)
    }

    /// As an endpoint of this kind, or of the kind that it can be for; `for_host` puts in what it names by file.
    pub(super) fn parse_for(
        path: &'a Path,
        text: &'a str,
        kind: Option<Kind>,
        for_host: bool,
    ) -> Result<Self, RunError> {
        let unreadable =
            |error: files::InlineError| RunError::Certificate { path: path.to_owned(), error: error.into() };
        let inlined =
            if for_host { Inlined::of(text).map_err(unreadable)? } else { Inlined::as_written(text) };
        let refused = |error| RunError::Policy { path: path.to_owned(), error: inlined.original(error) };
        let kind = match kind {
            Some(kind) => kind,
            None => usable_kind(&Policy::parse(inlined.text()).map_err(refused)?),
        };
        let configuration = Configuration::of(kind, inlined.text()).map_err(refused)?;
        Ok(Self { path, inlined, configuration })
    }

    pub(super) fn policy(&self) -> &Policy {
        self.configuration.policy()
    }

    /// How the endpoint shakes hands, with the credentials of `files`.
    pub(super) fn terms(&self, alpn: &[&[u8]]) -> Result<Terms, RunError> {
        let authentication = Authentication::of(&self.configuration);
        let credentials = self.credentials(authentication)?;
        let (ciphers, protocols) = (self.policy().accepted_ciphers(), self.policy().accepted_protocols());
        tls::server_config(credentials, authentication, ciphers, protocols, alpn).map_err(RunError::Tls)
    }

    /// How a server of this name is shaken hands with.
    pub(super) fn client_terms(&self, name: ServerName<'static>, alpn: &[&[u8]]) -> Result<Terms, RunError> {
        let credentials = self.credentials(Authentication::Peer)?;
        let policy = self.policy();
        let (ciphers, protocols) = (policy.accepted_ciphers(), policy.accepted_protocols());
        let validates = !policy.disable_hostname_validation();
        tls::client_config(credentials, name, validates, ciphers, protocols, alpn).map_err(RunError::Tls)
    }

    fn credentials(&self, authentication: Authentication) -> Result<Credentials, RunError> {
        let (files, text) = (self.policy().files(), self.inlined.text());
        let required =
            if authentication.verifies_chains() { files.require(text) } else { files.require_identity(text) };
        Credentials::load(&required.map_err(|it| self.refused(it))?).map_err(RunError::Credentials)
    }

    /// The document goes to the filter as it was read, not as we understood it, with the modes of the environment.
    pub(super) fn configuration(
        &self,
        names: &[String],
        deprecated_names: &[String],
        plaintext: bool,
        modes: &Modes,
    ) -> Result<Arc<str>, RunError> {
        let policy = modes.applied(self.inlined.text()).map_err(RunError::Mode)?;
        let mut text = format!(r#"{{"endpoint":"{}""#, self.configuration.endpoint().as_str());
        for (key, names) in [("names", names), ("deprecated-names", deprecated_names)] {
            if !names.is_empty() {
                // Writing to a string does not fail.
                let _ = write!(text, r#","{key}":{}"#, serde_json::json!(names));
            }
        }
        if plaintext {
            text.push_str(r#","insecure-mixed-mode":true"#);
        }
        text.reserve_exact(policy.len() + r#","policy":}"#.len());
        for part in [r#","policy":"#, &policy, "}"] {
            text.push_str(part);
        }
        drop(policy);
        Ok(text.into())
    }

    /// What is allowed, and rarely meant, with its place.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.policy().warnings().iter();
        warnings.map(|it| self.inlined.original_warning(it).in_file(self.path)).collect()
    }

    /// As [`Self::warnings`], and what is rarely meant on a listener with these terms.
    pub(super) fn warnings_with(&self, terms: &Terms) -> Vec<String> {
        let mut warnings = self.warnings();
        let flaws = terms.flaws(clock::now());
        warnings.extend(
            flaws
                .iter()
                .map(|flaw| format!("an authority of `files.ca-certificates` vouches for nobody: {flaw}")),
        );
        if !terms.authentication().verifies_chains() && self.policy().files().names_crls() {
            warnings.push(
                "`files.crls` are not asked: no CA is, on this endpoint; remove revoked clients from the policy".into(),
            );
        }
        warnings
    }

    fn refused(&self, error: PolicyError) -> RunError {
        RunError::Policy { path: self.path.to_owned(), error: self.inlined.original(error) }
    }
}

/// The kind of endpoint that a policy can only be for, or `peer`.
fn usable_kind(policy: &Policy) -> Kind {
    if policy.data_plane().is_some() && policy.admits_any_authenticated() { Kind::Mtls } else { Kind::Peer }
}
