//! The one container that a policy is made for.

use super::LeftOut;
use super::error::{Fault, ImportErrorKind};
use super::services::{Client, Clients, Container, Reference, Services};

/// A container, and what of its surroundings was left out.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) container: Container,
    /// Ids of all containers with the same clients.
    pub(super) alike: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Selection {
    /// The container of this id, or the first where all have the same clients.
    ///
    /// # Errors
    /// There is none, or they differ and none was chosen.
    pub(super) fn of(services: Services, id: Option<&str>) -> Result<Self, Fault> {
        let Services { mut containers, left_out } = services;
        let ids = || containers.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
        let Some(first) = containers.first() else { return Err(no_container(&left_out)) };
        let Some(id) = id else {
            let alike = ids();
            if containers.iter().any(|it| !same(&it.clients, &first.clients)) {
                return Err(ImportErrorKind::Different(alike).into());
            }
            return Ok(Self { container: containers.swap_remove(0), alike, left_out });
        };
        let Some(index) = containers.iter().position(|it| it.id == id) else {
            return Err(ImportErrorKind::UnknownContainer { id: id.to_owned(), known: ids() }.into());
        };
        Ok(Self { container: containers.swap_remove(index), alike: vec![id.to_owned()], left_out })
    }
}

/// With the place of what was left out, if that is why.
fn no_container(left_out: &[LeftOut]) -> Fault {
    match left_out.iter().min_by_key(|it| it.place) {
        Some(first) => ImportErrorKind::OnlyVarying(first.what.clone()).at(first.place),
        None => ImportErrorKind::NoContainer.into(),
    }
}

fn same(one: &Clients, other: &Clients) -> bool {
    let value = |it: &Reference| it.value.clone();
    let key = |client: &Client| {
        let files: Vec<String> = client.files.iter().map(value).collect();
        let tokens: Vec<String> = client.tokens.iter().map(value).collect();
        (client.id.clone(), client.permissions.clone(), files, tokens)
    };
    match (one, other) {
        (Clients::Listed(one), Clients::Listed(other)) => {
            one.iter().map(key).collect::<Vec<_>>() == other.iter().map(key).collect::<Vec<_>>()
        }
        (Clients::Absent, Clients::Absent) => true,
        _ => false,
    }
}
