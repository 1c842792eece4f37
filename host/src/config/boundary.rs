//! Which of Vespa's variables names a policy.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// A trust boundary, with certificates and authorities of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Boundary {
    /// Among the nodes of a cluster: $VESPA_TLS_CONFIG_FILE
    #[default]
    Node,
    /// Towards its clients, at port 4443 by convention: $VESPA_TLS_CONFIG_FILE_INGRESS
    Ingress,
}

impl Boundary {
    /// The variable that names the policy.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Node => "VESPA_TLS_CONFIG_FILE",
            Self::Ingress => "VESPA_TLS_CONFIG_FILE_INGRESS",
        }
    }

    /// The policy it names; an empty value is no value, as in Vespa.
    pub fn policy(self) -> Option<PathBuf> {
        std::env::var_os(self.variable()).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}
