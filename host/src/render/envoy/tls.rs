//! The server side of TLS.

use std::path::{Path, PathBuf};

use peergate_policy::Policy;
use serde_json::{Value, json};

use super::Protocol;

/// The certificates of a listener, and what it asks of its clients.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM key.
    pub private_key: PathBuf,
    /// What clients must have.
    pub clients: Clients,
    /// Restrictions, if the policy has some.
    pub parameters: TlsParameters,
}

/// What clients must have. There is no way to verify certificates without authorities.
#[derive(Clone, Debug)]
pub enum Clients {
    /// A certificate that these authorities vouch for.
    Verified {
        /// PEM bundle.
        ca_certificates: PathBuf,
        /// PEM, one or more lists.
        revocation_list: Option<PathBuf>,
    },
    /// Any certificate whose key they have: the filter knows the certificates themselves.
    Pinned,
    /// Nothing: the filter looks at bearer tokens.
    Nothing,
}

/// TLS versions and cipher suites. Empty: what Envoy takes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsParameters {
    version: Option<&'static str>,
    cipher_suites: Vec<&'static str>,
}

impl Tls {
    pub(super) fn transport_socket(&self, protocol: Protocol) -> Value {
        let mut common = json!({"tls_certificates": [{
            "certificate_chain": file(&self.certificate),
            "private_key": file(&self.private_key),
        }]});
        if let Some(validation) = self.clients.validation() {
            common["validation_context"] = validation;
        }
        if protocol == Protocol::Http {
            common["alpn_protocols"] = json!(["h2", "http/1.1"]);
        }
        if let Some(parameters) = self.parameters.to_json() {
            common["tls_params"] = parameters;
        }
        super::typed(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            json!({
                "require_client_certificate": !matches!(self.clients, Clients::Nothing),
                // A resumed session skips the verification of the certificate.
                "disable_stateless_session_resumption": true,
                "disable_stateful_session_resumption": true,
                "common_tls_context": common,
            }),
        )
    }
}

impl Clients {
    fn validation(&self) -> Option<Value> {
        match self {
            Self::Verified { ca_certificates, revocation_list } => {
                let mut validation = json!({"trusted_ca": file(ca_certificates)});
                if let Some(list) = revocation_list {
                    validation["crl"] = file(list);
                }
                Some(validation)
            }
            // Without authorities: Envoy would name them to its clients, and Go's then hold back every certificate that
            // is not of one of them. With no certificate at all the handshake succeeds, and the filter refuses.
            Self::Pinned => Some(json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"})),
            Self::Nothing => None,
        }
    }
}

impl TlsParameters {
    /// What a policy accepts; `None` where Envoy cannot be restricted to that.
    pub fn of(policy: &Policy) -> Option<Self> {
        let (ciphers, protocols) = (policy.accepted_ciphers(), policy.accepted_protocols());
        let accepts = |name: &str| protocols.is_empty() || protocols.iter().any(|it| it == name);
        let suites: Vec<&'static str> = SUITES_12
            .iter()
            .filter(|(iana, _)| ciphers.iter().any(|it| it == iana))
            .map(|(_, openssl)| *openssl)
            .collect();
        let newer = SUITES_13.iter().filter(|name| ciphers.iter().any(|it| it == *name)).count();
        let tls12 = accepts("TLSv1.2") && (ciphers.is_empty() || !suites.is_empty());
        let tls13 = accepts("TLSv1.3") && (ciphers.is_empty() || newer > 0);
        // BoringSSL has no switch for the cipher suites of TLS 1.3.
        if (tls13 && newer != 0 && newer != SUITES_13.len()) || !(tls12 || tls13) {
            return None;
        }
        let version = match (tls12, tls13) {
            (true, true) => None,
            (true, false) => Some("TLSv1_2"),
            (false, _) => Some("TLSv1_3"),
        };
        Some(Self { version, cipher_suites: if tls12 { suites } else { Vec::new() } })
    }

    fn to_json(&self) -> Option<Value> {
        let mut parameters = json!({});
        if let Some(version) = self.version {
            parameters["tls_minimum_protocol_version"] = version.into();
            parameters["tls_maximum_protocol_version"] = version.into();
        }
        if !self.cipher_suites.is_empty() {
            parameters["cipher_suites"] = json!(self.cipher_suites);
        }
        (parameters != json!({})).then_some(parameters)
    }
}

fn file(path: &Path) -> Value {
    json!({"filename": path})
}

const SUITES_13: [&str; 3] =
    ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];

/// The names of IANA and those of BoringSSL.
const SUITES_12: [(&str, &str); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(policy: &Value) -> Option<Value> {
        let policy = Policy::parse(&policy.to_string()).expect("a policy");
        TlsParameters::of(&policy).map(|parameters| parameters.to_json().unwrap_or(Value::Null))
    }

    #[test]
    fn what_a_policy_accepts_is_what_envoy_offers_or_nothing_is_rendered() {
        let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
        let only = |version: &str| json!({"tls_minimum_protocol_version": version, "tls_maximum_protocol_version": version});
        let mut restricted = only("TLSv1_2");
        restricted["cipher_suites"] = json!(["ECDHE-ECDSA-AES256-GCM-SHA384"]);
        let all_of_13 = json!(SUITES_13);
        for (policy, expected) in [
            (json!({}), Some(Value::Null)),
            (json!({"accepted-protocols": ["TLSv1.3"]}), Some(only("TLSv1_3"))),
            (json!({"accepted-protocols": ["TLSv1.2"]}), Some(only("TLSv1_2"))),
            (json!({"accepted-protocols": ["TLSv1.2", "TLSv1.3"]}), Some(Value::Null)),
            (json!({"accepted-ciphers": [suite]}), Some(restricted)),
            (json!({"accepted-ciphers": all_of_13}), Some(only("TLSv1_3"))),
            (json!({"accepted-ciphers": [SUITES_13[0]]}), None),
            (json!({"accepted-ciphers": [SUITES_13[0]], "accepted-protocols": ["TLSv1.2"]}), None),
            (json!({"accepted-ciphers": [suite], "accepted-protocols": ["TLSv1.3"]}), None),
        ] {
            assert_eq!(parameters(&policy), expected, "{policy}");
        }
    }
}
