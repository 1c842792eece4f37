//! `data-plane`: from JSON nodes to a [`DataPlane`].

use std::sync::Arc;

use super::rules;
use crate::certificate;
use crate::data_plane::{CertificateTrust, Client, DataPlane, TokenUse};
use crate::error::{Fault, PolicyErrorKind};
use crate::escape::from_hex;
use crate::holders::{Holder, Holders};
use crate::identity::{Certificate, Digest};
use crate::index::Texts;
use crate::json::Node;
use crate::pem::{self, Wanted};
use crate::permission::{Permission, PermissionRule, PermissionRules, Permissions};
use crate::schema::{self, CERTIFICATE, CLIENT, DATA_PLANE, Members, PERMISSION_RULE, TOKEN, VERSION};
use crate::token::{CheckHash, FINGERPRINT_CONTEXT};
use crate::unix_time::UnixTime;
use crate::warning::Warnings;

const TRUST_WORDS: &[&str] = &["clients", "any"];
const TRUST: &[CertificateTrust] = &[CertificateTrust::Clients, CertificateTrust::Any];
const NO_EXPIRATION: &str = "<none>";

pub(super) fn parse(node: Node<'_>, warnings: &mut Warnings) -> Result<DataPlane, Fault> {
    let members = DATA_PLANE.members(node)?;
    let context = members.find("token-context");
    let token_context = context.map_or(Ok("".into()), |node| node.string())?.into_owned();
    let trust = match members.find("trusted-certificates") {
        Some(word) => schema::choice(word, TRUST_WORDS, TRUST)?,
        None => CertificateTrust::Clients,
    };
    let permission_rules = permission_rules(&members)?;
    // An empty list is legal, and refuses everyone.
    let clients = Clients::read(members.require("clients")?.array()?)?;
    let data_plane = DataPlane {
        token_context,
        trust,
        clients: clients.clients.into(),
        certificates: Holders::new(clients.certificates),
        tokens: Holders::new(clients.tokens),
        versions: clients.versions.into(),
        permission_rules,
    };
    let unusable_context = matches!(data_plane.token_context.as_str(), "" | FINGERPRINT_CONTEXT);
    if unusable_context && (!data_plane.tokens.is_empty() || context.is_some()) {
        return Err(context.unwrap_or(node).fault(PolicyErrorKind::TokenContext));
    }
    if !data_plane.tokens.is_empty() && data_plane.certificates.is_empty() {
        warnings.push("`data-plane` has clients with tokens and none with a certificate; Vespa asks for one");
    }
    if data_plane.trust == CertificateTrust::Any && !data_plane.certificates.is_empty() {
        warnings.push(
            "`trusted-certificates` is `any`: every certificate of the CA reads and writes, the clients' own are not asked",
        );
    }
    Ok(data_plane)
}

fn permission_rules(members: &Members<'_>) -> Result<PermissionRules, Fault> {
    let Some(node) = members.find("permission-rules") else { return Ok(PermissionRules::new(Vec::new())) };
    let entries = node.filled_array("leave `permission-rules` out for the defaults")?;
    let rule = |node: Node<'_>| {
        let members = PERMISSION_RULE.members(node)?;
        let permission = members.require("permission")?;
        Ok(PermissionRule {
            methods: rules::methods(&members)?,
            paths: rules::paths(&members)?,
            permission: schema::choice(permission, Permission::WORDS, Permission::VALUES)?,
        })
    };
    Ok(PermissionRules::new(entries.into_iter().map(rule).collect::<Result<_, _>>()?))
}

/// What the entries of `clients` add up to.
#[derive(Default)]
struct Clients {
    clients: Vec<Client>,
    certificates: Vec<Holder>,
    tokens: Vec<Holder>,
    versions: Vec<TokenUse>,
    ids: Texts,
}

impl Clients {
    fn read(entries: Vec<Node<'_>>) -> Result<Self, Fault> {
        let mut clients = Self::default();
        // There may be a hundred thousand of them, in the memory of a VM: lists that grow would leave holes.
        clients.clients.reserve_exact(entries.len());
        for entry in entries {
            clients.client(entry)?;
        }
        Ok(clients)
    }

    fn client(&mut self, node: Node<'_>) -> Result<(), Fault> {
        let members = CLIENT.members(node)?;
        let id_node = members.require("id")?;
        let id: Arc<str> = id_node.string()?.into();
        if id.is_empty() {
            return Err(id_node.fault(PolicyErrorKind::EmptyString));
        }
        // Vespa's operators are client `_internal`.
        if id.starts_with('_') {
            return Err(id_node.fault(PolicyErrorKind::ReservedId));
        }
        if self.ids.insert(id.as_ref().into(), 0).is_some() {
            return Err(id_node.fault(PolicyErrorKind::DuplicateName { name: id.to_string() }));
        }
        let mut permissions = Permissions::default();
        for word in
            members.require("permissions")?.filled_array("a client without permissions could do nothing")?
        {
            permissions = permissions.with(schema::choice(word, Permission::WORDS, Permission::VALUES)?);
        }
        let index = number(&self.clients);
        self.clients.push(Client { id, permissions });
        match (members.find("certificates"), members.find("tokens")) {
            (Some(certificates), None) => self.certificates(index, certificates),
            (None, Some(tokens)) => self.tokens(index, tokens),
            _ => Err(node.fault(PolicyErrorKind::ClientCredentials)),
        }
    }

    fn certificates(&mut self, client: u32, node: Node<'_>) -> Result<(), Fault> {
        for entry in node.filled_array("a client without certificates could never connect")? {
            self.certificates.push(Holder { digest: digest(entry)?, client, version: 0 });
        }
        Ok(())
    }

    fn tokens(&mut self, client: u32, node: Node<'_>) -> Result<(), Fault> {
        for entry in node.filled_array("a client without tokens could never connect")? {
            let members = TOKEN.members(entry)?;
            let id_node = members.require("id")?;
            let id: Arc<str> = id_node.string()?.into();
            if id.is_empty() {
                return Err(id_node.fault(PolicyErrorKind::EmptyString));
            }
            for version in members.require("versions")?.array()? {
                self.version(client, &id, version)?;
            }
        }
        Ok(())
    }

    fn version(&mut self, client: u32, id: &Arc<str>, node: Node<'_>) -> Result<(), Fault> {
        let members = VERSION.members(node)?;
        let not_hex = |node: Node<'_>, bytes| node.fault(PolicyErrorKind::NotHex { bytes });
        let fingerprint_node = members.require("fingerprint")?;
        let fingerprint = fingerprint_node.string()?.parse().map_err(|_| not_hex(fingerprint_node, 16))?;
        let hash_node = members.require("check-access-hash")?;
        let check_hash: CheckHash = hash_node.string()?.parse().map_err(|_| not_hex(hash_node, 32))?;
        // Vespa reads a blank expiration as the epoch; here every version says what it means.
        let expiration = expiration(members.require("expiration")?)?;
        if self.versions.is_empty() {
            // Most clients with tokens have one.
            self.versions.reserve_exact(self.clients.capacity());
            self.tokens.reserve_exact(self.clients.capacity());
        }
        let version = number(&self.versions);
        self.versions.push(TokenUse { id: Arc::clone(id), fingerprint, expiration });
        self.tokens.push(Holder { digest: *check_hash.bytes(), client, version });
        Ok(())
    }
}

/// The place of the next one. Documents are too small for as many as a `u32` cannot count.
fn number<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn expiration(node: Node<'_>) -> Result<Option<UnixTime>, Fault> {
    let text = node.string()?;
    if text == NO_EXPIRATION {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| node.fault(PolicyErrorKind::NotATime { value: text.into_owned() }))
}

/// PEM text, or `{"sha256": hex of the DER}`; a host replaces `{"file": ...}` before the engine sees it.
fn digest(node: Node<'_>) -> Result<Digest, Fault> {
    if !node.is_object() {
        return digest_of_pem(&node.string()?).map_err(|kind| node.fault(kind));
    }
    let members = CERTIFICATE.members(node)?;
    if let Some(file) = members.find("file") {
        return Err(file.fault(PolicyErrorKind::NotInlined));
    }
    let sha256 = members.require("sha256")?;
    from_hex(sha256.string()?.as_bytes()).ok_or_else(|| sha256.fault(PolicyErrorKind::NotHex { bytes: 32 }))
}

fn digest_of_pem(text: &str) -> Result<Digest, PolicyErrorKind> {
    // White space around it is that of the JSON's author.
    let text = certificate::unescaped(text.trim().as_bytes()).ok_or(PolicyErrorKind::NotACertificate)?;
    let found = pem::read(&text, Wanted::Certificates).map_err(PolicyErrorKind::Pem)?;
    // Which of several would be the client's is a guess.
    let [section] = &found[..] else { return Err(PolicyErrorKind::SeveralCertificates) };
    let der = section.der().map_err(PolicyErrorKind::Pem)?;
    let certificate = Certificate::unnamed_from_der(&der).map_err(|_| PolicyErrorKind::NotACertificate)?;
    Ok(certificate.digest)
}

#[cfg(test)]
mod tests;
