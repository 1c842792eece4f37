//! The policy of a container.

use std::path::Path;

use peergate_policy::{Permission, UnixTime};
use serde::Serialize;

use super::certificates::{CLIENTS_FILE, Package, Pinned, normal};
use super::error::{Fault, ImportErrorKind};
use super::selection::Selection;
use super::services::{Client, Clients, Container};
use super::{LeftOut, Options};
use crate::clean::Clean;

/// What Vespa calls the client of a container without `clients`.
const LEGACY_CLIENT: &str = "default";
const EXAMPLE_CONTEXT: &str = "Vespa Cloud tenant data plane:TENANT";

/// A policy, and what is to be said of it.
pub(super) struct Made {
    pub(super) policy: String,
    pub(super) carried: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) remarks: Vec<String>,
}

pub(super) fn make(selection: &Selection, package: &Package, options: &Options<'_>) -> Result<Made, Fault> {
    let mut writer = Writer::new(package, options);
    let container = &selection.container;
    match &container.clients {
        Clients::Listed(_) if options.pin => return Err(ImportErrorKind::NothingToPin.into()),
        Clients::Listed(clients) => writer.listed(container, clients)?,
        Clients::Absent => writer.legacy(container)?,
    }
    writer.finish(selection)
}

struct Writer<'a> {
    package: &'a Package,
    options: &'a Options<'a>,
    data_plane: DataPlane<'a>,
    carried: Vec<String>,
    left_out: Vec<LeftOut>,
    remarks: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(package: &'a Package, options: &'a Options<'a>) -> Self {
        Self {
            package,
            options,
            data_plane: DataPlane {
                token_context: options.token_context,
                trusted_certificates: "clients",
                clients: Vec::new(),
            },
            carried: Vec::new(),
            left_out: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn listed(&mut self, container: &Container, clients: &[Client]) -> Result<(), Fault> {
        let mut tokens = false;
        for client in clients {
            if client.files.is_empty() {
                tokens = true;
                self.token_client(client);
                continue;
            }
            self.certificate_client(client)?;
        }
        if self.data_plane.clients.is_empty() {
            let varying = container.left_out.iter().any(|it| it.what.starts_with("client "));
            let kind =
                if varying { ImportErrorKind::NothingLeft } else { ImportErrorKind::NoCertificateClient };
            return Err(kind.at(container.place));
        }
        let files = || clients.iter().flat_map(|client| &client.files);
        self.package.unique(files().map(|it| it.value.as_str())).map_err(|kind| {
            // The later one of both; a file that no client names has no place.
            let place = files().filter(|it| kind.is_about(&normal(&it.value))).map(|it| it.place).max();
            kind.at(place.unwrap_or(container.place))
        })?;
        if tokens && self.options.token_context.is_none() {
            self.remarks.push(format!(
                "tokens need a `token-context` in the policy: give this command `--token-context '{EXAMPLE_CONTEXT}'`"
            ));
        }
        Ok(())
    }

    fn certificate_client(&mut self, client: &Client) -> Result<(), Fault> {
        let mut certificates = Vec::new();
        for file in &client.files {
            let pinned = self.package.certificates(&file.value, &client.id);
            let pinned = pinned.map_err(|kind| kind.at(file.place))?;
            self.mention_expired(&file.value, &pinned);
            certificates.extend(pinned.into_iter().map(|it| it.pem));
        }
        let files: Vec<&str> = client.files.iter().map(|it| it.value.as_str()).collect();
        self.carried.push(format!(
            "client `{}`: {}, {} of `{}`",
            Clean(&client.id),
            words(&client.permissions).join(" and "),
            counted(certificates.len()),
            Clean(&files.join("`, `"))
        ));
        for token in &client.tokens {
            let what = format!(
                "client `{}`: token `{}`: a client with certificates has no tokens, in Vespa neither",
                client.id, token.value
            );
            self.left_out.push(LeftOut { place: token.place, what });
        }
        self.add(&client.id, &client.permissions, certificates);
        Ok(())
    }

    /// Its ids are all that the package has of tokens. The client is made anew with the first of them.
    fn token_client(&mut self, client: &Client) {
        for token in &client.tokens {
            let what = format!(
                "client `{}`: token `{}`: the package does not hold what it is checked by; make a new one: peergate token \
                 new --policy {} --client {} --permissions {} --id {}",
                client.id,
                token.value,
                self.options.policy.map_or("FILE".to_owned(), |path| argument(&path.display().to_string())),
                argument(&client.id),
                words(&client.permissions).join(","),
                argument(&token.value)
            );
            self.left_out.push(LeftOut { place: token.place, what });
        }
    }

    /// Vespa's `legacyMode`: every certificate that those of the file have signed reads and writes.
    fn legacy(&mut self, container: &Container) -> Result<(), Fault> {
        let certificates = self.package.certificates(CLIENTS_FILE, LEGACY_CLIENT);
        let certificates = certificates.map_err(|kind| match kind {
            ImportErrorKind::MissingFile { .. } => ImportErrorKind::NoClientsFile.at(container.place),
            kind => kind.at(container.place),
        })?;
        self.mention_expired(CLIENTS_FILE, &certificates);
        let count = counted(certificates.len());
        if self.options.pin {
            let both = [Permission::Read, Permission::Write];
            self.carried
                .push(format!("client `{LEGACY_CLIENT}`: read and write, {count} of `{CLIENTS_FILE}`"));
            self.add(LEGACY_CLIENT, &both, certificates.into_iter().map(|it| it.pem).collect());
            return Ok(());
        }
        self.data_plane.trusted_certificates = "any";
        self.carried.push(format!(
            "no `clients`: every certificate that is signed by one of `{CLIENTS_FILE}` ({count}) reads and writes"
        ));
        self.remarks.push(format!(
            "the policy does not hold these authorities: name them as `files.ca-certificates`: {}",
            Clean(&absolute(&self.package.path(CLIENTS_FILE)))
        ));
        self.remarks.push(format!(
            "where `{CLIENTS_FILE}` holds the clients' own certificates, give this command `--pin`: one of `openssl req \
             -x509` is an authority too, and would admit whomever it signs"
        ));
        Ok(())
    }

    fn add(&mut self, id: &str, permissions: &[Permission], certificates: Vec<String>) {
        let permissions = words(permissions);
        self.data_plane.clients.push(PolicyClient { id: id.to_owned(), permissions, certificates });
    }

    fn mention_expired(&mut self, file: &str, certificates: &[Pinned]) {
        for (index, pinned) in certificates.iter().enumerate() {
            let end: UnixTime = pinned.certificate.validity.not_after;
            if end < self.options.now {
                self.remarks.push(format!(
                    "certificate {} of `{}` has expired at {end}: it is refused",
                    index + 1,
                    Clean(file)
                ));
            }
        }
    }

    fn finish(mut self, selection: &Selection) -> Result<Made, Fault> {
        let ids = selection.alike.join("`, `");
        self.carried.insert(
            0,
            match selection.alike.len() {
                1 => format!("container `{}`", Clean(&ids)),
                _ => format!("containers `{}`, which have the same clients", Clean(&ids)),
            },
        );
        self.remarks.push(
            "for `peergate run`, add the server's own `files`: `certificates` and `private-key`".to_owned(),
        );
        let document = Document { data_plane: self.data_plane };
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| ImportErrorKind::Syntax(error.to_string()))?;
        Ok(Made {
            policy: format!("{text}\n"),
            carried: self.carried,
            left_out: self.left_out,
            remarks: self.remarks,
        })
    }
}

fn words(permissions: &[Permission]) -> Vec<&'static str> {
    permissions.iter().map(|it| it.as_str()).collect()
}

/// The text as one word of a shell: it comes from the package, and people copy the line.
fn argument(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    match text.chars().all(plain) && !text.starts_with('-') {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A policy takes no other.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn counted(certificates: usize) -> String {
    format!("{certificates} certificate{}", if certificates == 1 { "" } else { "s" })
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    data_plane: DataPlane<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DataPlane<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token_context: Option<&'a str>,
    trusted_certificates: &'static str,
    clients: Vec<PolicyClient>,
}

#[derive(Serialize)]
struct PolicyClient {
    id: String,
    permissions: Vec<&'static str>,
    certificates: Vec<String>,
}
