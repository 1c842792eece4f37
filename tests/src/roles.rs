//! Five data-plane clients, each with a certificate and with a token.

use peergate_host::pki::{Credential, Leaf};
use peergate_policy::{sha256, token::Derivation};
use serde_json::{Value, json};

use crate::pki::{Peer, Pki};

const TOKEN_CONTEXT: &str = "Vespa Cloud tenant data plane:tests";

/// Somebody with a self-signed certificate and a token.
pub struct Role {
    /// `reader`, `writer`, `both`, `unknown` or `expired`.
    pub name: &'static str,
    /// Whether reading is to succeed.
    pub reads: bool,
    /// Whether writing is to succeed.
    pub writes: bool,
    /// The certificate.
    pub peer: Peer,
    /// The token.
    pub token: String,
}

/// What a listener knows its clients by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The very certificate: endpoint `mtls`.
    Certificate,
    /// A bearer token: endpoint `token`.
    Token,
}

/// All five.
pub fn all(pki: &Pki) -> [Role; 5] {
    [
        Role::new(pki, "reader", true, false),
        Role::new(pki, "writer", false, true),
        Role::new(pki, "both", true, true),
        Role::new(pki, "unknown", false, false),
        Role::new(pki, "expired", false, false),
    ]
}

/// The policy that knows all of them but `unknown`.
pub fn policy(roles: &[Role]) -> Value {
    let known = roles.iter().filter(|role| role.name != "unknown");
    let clients: Vec<_> = known.flat_map(Role::clients).collect();
    json!({"data-plane": {"token-context": TOKEN_CONTEXT, "clients": clients}})
}

impl Role {
    fn new(pki: &Pki, name: &'static str, reads: bool, writes: bool) -> Self {
        let leaf = Leaf::new().cn(name);
        let leaf = if name == "expired" { leaf.expired() } else { leaf };
        let credential = Credential::self_signed(&leaf).expect("a certificate");
        // As random as the key.
        let secret = sha256(credential.key().secret_der());
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, reads, writes, peer: pki.store(credential), token: format!("vespa_cloud_{secret}") }
    }

    /// One client by certificate, one by token.
    fn clients(&self) -> [Value; 2] {
        let expired = self.name == "expired";
        let permissions = match (self.reads || expired, self.writes || expired) {
            (true, true) => vec!["read", "write"],
            (true, false) => vec!["read"],
            _ => vec!["write"],
        };
        let derivation = Derivation::of(&self.token);
        let version = json!({
            "fingerprint": derivation.fingerprint().to_string(),
            "check-access-hash": derivation.check_hash(TOKEN_CONTEXT).to_hex(),
            "expiration": if expired { "2020-01-01T00:00:00Z" } else { "<none>" },
        });
        let token = json!({"id": format!("{}-token", self.name), "versions": [version]});
        let certificate = &self.peer.credential.chain_pem;
        [
            json!({"id": self.name, "permissions": permissions, "certificates": [certificate]}),
            json!({"id": format!("{}-by-token", self.name), "permissions": permissions, "tokens": [token]}),
        ]
    }
}
