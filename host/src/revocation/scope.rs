//! Which certificates of its issuer a list is about (RFC 5280 section 5.2.5).

use std::collections::BTreeSet;

use peergate_policy::der::{Element, elements};

use super::fault::ListFault;
use super::subject::{Point, Subject};
use crate::chain::Canonical;

/// The extension issuingDistributionPoint; without one, a list is about all certificates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// The names of the distribution point, each the DER of a GeneralName. Only certificates that name one are covered.
    names: Option<BTreeSet<Vec<u8>>>,
    only: Only,
}

/// Whose certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Only {
    #[default]
    All,
    /// onlyContainsUserCerts
    Users,
    /// onlyContainsCACerts
    Authorities,
}

impl Scope {
    /// Reads the value of the extension.
    ///
    /// # Errors
    /// It is malformed, or the list is of a kind that leaves certificates out that nobody could name.
    pub(super) fn of(extension: &[u8]) -> Result<Self, ListFault> {
        const MALFORMED: ListFault = ListFault::Malformed("issuingDistributionPoint");
        let fields = match elements(extension).as_deref() {
            Some([point]) => point.children(SEQUENCE).ok_or(MALFORMED)?,
            _ => return Err(MALFORMED),
        };
        // An extension that says nothing is not allowed, and fields are in order, each at most once.
        let in_order = fields.is_sorted_by(|one, next| one.identifier & TAG < next.identifier & TAG);
        if fields.is_empty() || !in_order {
            return Err(MALFORMED);
        }
        let mut scope = Self::default();
        for field in fields {
            let is_true = match (field.identifier, field.content) {
                (DISTRIBUTION_POINT | ONLY_SOME_REASONS, _) | (_, [0xff]) => true,
                (_, [0]) => false,
                _ => return Err(MALFORMED),
            };
            match field.identifier {
                DISTRIBUTION_POINT => {
                    scope.names = Some(names(field)?.into_iter().map(<[u8]>::to_vec).collect());
                }
                ONLY_USERS | ONLY_AUTHORITIES if is_true && scope.only != Only::All => return Err(MALFORMED),
                ONLY_USERS if is_true => scope.only = Only::Users,
                ONLY_AUTHORITIES if is_true => scope.only = Only::Authorities,
                ONLY_SOME_REASONS => return Err(ListFault::SomeReasons),
                INDIRECT if is_true => return Err(ListFault::Indirect),
                ONLY_ATTRIBUTES if is_true => return Err(ListFault::OnlyAttributes),
                ONLY_USERS | ONLY_AUTHORITIES | INDIRECT | ONLY_ATTRIBUTES => {}
                _ => return Err(MALFORMED),
            }
        }
        Ok(scope)
    }

    /// How much the list says about `subject` (RFC 5280 section 6.3.3, b and d; as OpenSSL's `crl_crldp_check`).
    pub(super) fn coverage(&self, subject: &Subject<'_>, issuer: &Canonical) -> Coverage {
        match self.only {
            Only::Users if subject.is_authority => return Coverage::Nothing,
            Only::Authorities if !subject.is_authority => return Coverage::Nothing,
            Only::All | Only::Users | Only::Authorities => {}
        }
        let of_issuer = |point: &&Point<'_>| match &point.issuer {
            // A directoryName, which is a CHOICE and therefore tagged explicitly.
            Some(names) => names.iter().any(|it| {
                it.identifier == DIRECTORY_NAME && Canonical::of(it.content).as_ref() == Some(issuer)
            }),
            None => true,
        };
        let is_here = |point: &&Point<'_>| match &self.names {
            Some(names) => point.names.iter().any(|name| names.contains(*name)),
            None => true,
        };
        match subject.points.iter().find(|point| of_issuer(point) && is_here(point)) {
            Some(point) if point.is_for_some_reasons => Coverage::SomeReasons,
            None if self.names.is_some() => Coverage::Nothing,
            Some(_) | None => Coverage::All,
        }
    }
}

/// How much a list says about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// It is about others.
    Nothing,
    /// That it is revoked, if the reason is one of some.
    SomeReasons,
    /// Whether it is revoked.
    All,
}

/// The GeneralNames of a DistributionPointName.
pub(super) fn names(point: Element<'_>) -> Result<Vec<&[u8]>, ListFault> {
    const MALFORMED: ListFault = ListFault::Malformed("distribution point");
    let choice = elements(point.content).ok_or(MALFORMED)?;
    match choice[..] {
        [Element { identifier: FULL_NAME, content, .. }] => {
            let names = elements(content).filter(|names| !names.is_empty()).ok_or(MALFORMED)?;
            Ok(names.into_iter().map(|name| name.raw).collect())
        }
        [Element { identifier: RELATIVE_NAME, .. }] => Err(ListFault::RelativePoint),
        _ => Err(MALFORMED),
    }
}

const SEQUENCE: u8 = 0x30;
const TAG: u8 = 0x1f;
/// The fields of IssuingDistributionPoint.
const DISTRIBUTION_POINT: u8 = 0xa0;
const ONLY_USERS: u8 = 0x81;
const ONLY_AUTHORITIES: u8 = 0x82;
const ONLY_SOME_REASONS: u8 = 0x83;
const INDIRECT: u8 = 0x84;
const ONLY_ATTRIBUTES: u8 = 0x85;
/// The alternatives of DistributionPointName.
const FULL_NAME: u8 = 0xa0;
const RELATIVE_NAME: u8 = 0xa1;
/// An alternative of GeneralName.
const DIRECTORY_NAME: u8 = 0xa4;
