//! Where a proxy finds its own certificate, its key and the authorities.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::RenderError;
use super::plugin::{Authentication, Plugin};

/// PEM files. What the command line does not name is what the policy's `files` name; a policy without `files` leaves those
/// that cert-manager makes.
#[derive(Clone, Debug, Default)]
pub struct ServerFiles {
    /// The chain, leaf first.
    pub certificate: Option<PathBuf>,
    /// The key.
    pub private_key: Option<PathBuf>,
    /// The trusted authorities.
    pub ca_certificates: Option<PathBuf>,
}

/// What one chain of filters uses.
#[derive(Clone, Debug)]
pub(super) struct ChosenFiles {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
    pub(super) ca_certificates: PathBuf,
    pub(super) revocation_list: Option<PathBuf>,
}

impl ServerFiles {
    pub(super) fn chosen(&self, plugin: &Plugin) -> Result<ChosenFiles, RenderError> {
        let Self { certificate, private_key, ca_certificates } = self.clone();
        let mut chosen = ChosenFiles {
            certificate: "/etc/tls/tls.crt".into(),
            private_key: "/etc/tls/tls.key".into(),
            ca_certificates: "/etc/tls/ca.crt".into(),
            revocation_list: None,
        };
        if has_files(plugin.policy_text()) {
            let files = plugin.policy().files();
            let required = match plugin.authentication() {
                Authentication::Verified => files.require(plugin.policy_text()),
                Authentication::Pinned | Authentication::Nothing => {
                    files.require_identity(plugin.policy_text())
                }
            };
            let path = plugin.path().to_owned();
            let required = required.map_err(|error| RenderError::Policy { path, error })?;
            chosen.certificate = required.certificates.into();
            chosen.private_key = required.private_key.into();
            if let Some(authorities) = required.ca_certificates {
                chosen.ca_certificates = authorities.into();
            }
            chosen.revocation_list = one(&required.crls, plugin.path())?;
        }
        Ok(ChosenFiles {
            certificate: certificate.unwrap_or(chosen.certificate),
            private_key: private_key.unwrap_or(chosen.private_key),
            ca_certificates: ca_certificates.unwrap_or(chosen.ca_certificates),
            revocation_list: chosen.revocation_list,
        })
    }
}

fn has_files(policy: &str) -> bool {
    serde_json::from_str::<Value>(policy).is_ok_and(|policy| policy.get("files").is_some())
}

fn one(lists: &[String], policy: &Path) -> Result<Option<PathBuf>, RenderError> {
    match lists {
        [] => Ok(None),
        [one] => Ok(Some(one.into())),
        _ => Err(RenderError::SeveralRevocationLists(policy.to_owned())),
    }
}
