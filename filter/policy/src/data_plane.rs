//! Data-plane clients: who they are by pinned certificate or by bearer token, and what they may do.
//!
//! Source: Vespa Cloud's `CloudDataPlaneFilter.java` and `CloudTokenDataPlaneFilter.java`.

use std::sync::Arc;

use crate::bearer::{self, BearerError};
use crate::decision::{Decision, DenyReason, Grant};
use crate::holders::{Holder, Holders};
use crate::identity::Digest;
use crate::permission::{Permission, PermissionRules, Permissions};
use crate::request::Request;
use crate::token::{Derivation, Fingerprint};
use crate::unix_time::UnixTime;

/// The policy key `data-plane`.
#[derive(Clone, Debug)]
pub struct DataPlane {
    pub(crate) token_context: String,
    pub(crate) trust: CertificateTrust,
    pub(crate) clients: Box<[Client]>,
    /// By SHA-256 of the leaf.
    pub(crate) certificates: Holders,
    /// By check hash.
    pub(crate) tokens: Holders,
    pub(crate) versions: Box<[TokenUse]>,
    pub(crate) permission_rules: PermissionRules,
}

/// Whose certificates are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateTrust {
    /// Those of `clients`, each pinned as a whole; no CA is asked.
    Clients,
    /// Vespa's legacy mode: every certificate of the CA reads and writes.
    Any,
}

/// An entry of `clients`.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: Arc<str>,
    pub(crate) permissions: Permissions,
}

/// One version of a token, the one behind a decision: all that may be known of it, and nothing that opens a door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenUse {
    /// The token's id.
    pub id: Arc<str>,
    /// Its public name.
    pub fingerprint: Fingerprint,
    /// The last instant at which it is valid; `None` for ever.
    pub expiration: Option<UnixTime>,
}

/// Who a data-plane request is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientGrant {
    /// Ids of all clients that hold the credential and the permission needed, in policy order.
    pub ids: Vec<Arc<str>>,
    /// All that these clients may do.
    pub permissions: Permissions,
    /// The token used.
    pub token: Option<Arc<TokenUse>>,
}

impl DataPlane {
    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whose certificates are taken.
    pub fn certificate_trust(&self) -> CertificateTrust {
        self.trust
    }

    /// Decides about a request on an `mtls` endpoint, from the leaf that the client has proven to possess. Where any
    /// certificate is taken ([`CertificateTrust::Any`]), the caller has verified its chain.
    pub fn judge_certificate(&self, leaf: &Digest, request: Request<'_>) -> Decision {
        let required = match self.permission_rules.required(request) {
            Ok(required) => required,
            Err(reason) => return Decision::deny(reason),
        };
        if self.trust == CertificateTrust::Any {
            return Decision::client(ClientGrant {
                ids: Vec::new(),
                permissions: Permissions::ALL,
                token: None,
            });
        }
        let mut clients = self.certificates.of(leaf).map(|holder| self.client(holder)).peekable();
        if clients.peek().is_none() {
            return Decision::deny(DenyReason::CertificateUnknown);
        }
        match union(clients.filter(|client| client.permissions.include(required))) {
            Some((ids, permissions)) => Decision::client(ClientGrant { ids, permissions, token: None }),
            None => Decision::deny(DenyReason::PermissionMissing),
        }
    }

    /// Decides about a request on a `token` endpoint, from its `Authorization` values.
    pub fn judge_token<'a>(
        &self,
        authorization: impl Iterator<Item = &'a [u8]>,
        request: Request<'_>,
        now: UnixTime,
    ) -> Decision {
        let token = match bearer::token(authorization) {
            Ok(token) => token,
            Err(error) => return Decision::deny(error.into()),
        };
        let required = match self.permission_rules.required(request) {
            Ok(required) => required,
            Err(reason) => return Decision::deny(reason),
        };
        let check_hash = Derivation::of(token).check_hash(&self.token_context);
        let holders = self.tokens.of(check_hash.bytes());
        let held: Vec<(&Client, &TokenUse)> =
            holders.map(|holder| (self.client(holder), self.version(holder))).collect();
        self.judge_holders(&held, required, now)
    }

    fn judge_holders(&self, held: &[(&Client, &TokenUse)], required: Permission, now: UnixTime) -> Decision {
        let Some((_, known)) = held.first() else { return Decision::deny(DenyReason::TokenUnknown) };
        let refused = |reason, token: &TokenUse| Decision::deny_token(reason, Arc::new(token.clone()));
        let permitted = || held.iter().filter(|(client, _)| client.permissions.include(required));
        let Some((_, wanted)) = permitted().next() else {
            return refused(DenyReason::PermissionMissing, known);
        };
        // At the instant itself a token is still valid.
        let valid = |token: &TokenUse| token.expiration.is_none_or(|expiration| now <= expiration);
        let usable = || permitted().filter(|(_, token)| valid(token));
        let Some((_, used)) = usable().next() else { return refused(DenyReason::TokenExpired, wanted) };
        if usable().any(|(_, other)| other != used) {
            return refused(DenyReason::TokenAmbiguous, used);
        }
        let (ids, permissions) = union(usable().map(|(client, _)| *client)).unwrap_or_default();
        Decision::client(ClientGrant { ids, permissions, token: Some(Arc::new((*used).clone())) })
    }

    /// INVARIANT: a holder is made together with the client it points to.
    fn client(&self, holder: &Holder) -> &Client {
        &self.clients[holder.client as usize]
    }

    /// INVARIANT: as for the client, where the credential is a token.
    fn version(&self, holder: &Holder) -> &TokenUse {
        &self.versions[holder.version as usize]
    }
}

/// Ids and permissions of all `clients`; `None` without one.
fn union<'a>(clients: impl Iterator<Item = &'a Client>) -> Option<(Vec<Arc<str>>, Permissions)> {
    let mut ids: Vec<Arc<str>> = Vec::new();
    let mut permissions = Permissions::default();
    for client in clients {
        if !ids.contains(&client.id) {
            ids.push(client.id.clone());
        }
        permissions = permissions.union(client.permissions);
    }
    (!ids.is_empty()).then_some((ids, permissions))
}

impl From<BearerError> for DenyReason {
    fn from(error: BearerError) -> Self {
        match error {
            BearerError::Missing => Self::TokenMissing,
            BearerError::Repeated => Self::TokenRepeated,
            BearerError::Malformed => Self::TokenMalformed,
        }
    }
}

impl Decision {
    fn client(client: ClientGrant) -> Self {
        Self::Allow(Grant::of_client(client))
    }
}

#[cfg(test)]
mod tests;
