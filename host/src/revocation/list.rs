//! Revocation lists (RFC 5280 section 5), as they are read from a file.

use std::collections::HashSet;
use std::sync::OnceLock;

use peergate_policy::UnixTime;
use peergate_policy::der::{Element, elements, is_well_formed};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::fault::ListFault;
use super::scope::{Coverage, Scope};
use super::subject::{Subject, shortest};
use crate::chain::Canonical;

/// A list that can be asked: complete, current when it was read, and of its own authority.
#[derive(Debug)]
pub(crate) struct RevocationList {
    issuer: Canonical,
    pub(super) scope: Scope,
    pub(super) this_update: UnixTime,
    /// From here on it says nothing more, and everybody it covers is refused.
    pub(crate) next_update: UnixTime,
    revoked: HashSet<Box<[u8]>>,
    /// The DER of tbsCertList.
    signed: Vec<u8>,
    /// The content of signatureAlgorithm.
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    /// The key that has signed it, once one is known.
    signer: OnceLock<Vec<u8>>,
}

impl RevocationList {
    /// # Errors
    /// The list is malformed, not current at `now`, or of a kind that would leave certificates unasked.
    pub(crate) fn new(der: &[u8], now: UnixTime) -> Result<Self, ListFault> {
        let list = Fields::of(der).ok_or(ListFault::Malformed("DER"))?;
        match (list.version, list.extensions) {
            (None | Some([0]), None) => return Err(ListFault::Version1),
            (Some([1]), _) => {}
            _ => return Err(ListFault::Malformed("version")),
        }
        let is_known =
            |known: &&dyn SignatureVerificationAlgorithm| *known.signature_alg_id() == *list.algorithm;
        if !aws_lc_rs::default_provider().signature_verification_algorithms.all.iter().any(is_known) {
            return Err(ListFault::Algorithm(algorithm_name(list.algorithm)));
        }
        let scope = list.extensions.map_or(Ok(Scope::default()), scope)?;
        let next_update = list.next_update.ok_or(ListFault::Endless)?;
        if next_update <= now {
            return Err(ListFault::Stale(next_update));
        }
        if list.this_update > now {
            return Err(ListFault::NotYetValid(list.this_update));
        }
        Ok(Self {
            issuer: Canonical::of(list.issuer).ok_or(ListFault::Malformed("issuer"))?,
            scope,
            this_update: list.this_update,
            next_update,
            revoked: revoked(list.entries)?,
            signed: list.signed.to_vec(),
            algorithm: list.algorithm.to_vec(),
            signature: list.signature.to_vec(),
            signer: OnceLock::new(),
        })
    }

    /// Whether it is of the authority with this name.
    pub(super) fn is_issued_by(&self, name: &Canonical) -> bool {
        self.issuer == *name
    }

    /// How much it says about `subject`, a certificate of its issuer.
    pub(super) fn coverage(&self, subject: &Subject<'_>) -> Coverage {
        self.scope.coverage(subject, &self.issuer)
    }

    pub(super) fn has(&self, subject: &Subject<'_>) -> bool {
        self.revoked.contains(subject.serial)
    }

    pub(super) fn is_current(&self, now: UnixTime) -> bool {
        self.this_update <= now && now < self.next_update
    }

    /// Whether `key` (SubjectPublicKeyInfo) has signed it. A long list takes long to verify, so its signer is remembered.
    pub(super) fn is_signed_by(
        &self,
        key: &[u8],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        if self.signer.get().is_some_and(|signer| signer == key) {
            return true;
        }
        let spki = SubjectPublicKeyInfoDer::from(key);
        let Ok(entity) = RawPublicKeyEntity::try_from(&spki) else { return false };
        // An algorithm of signatures does not say of which curve the key is, so there may be several.
        let is_signed = algorithms
            .iter()
            .filter(|algorithm| *algorithm.signature_alg_id() == *self.algorithm)
            .any(|algorithm| entity.verify_signature(*algorithm, &self.signed, &self.signature).is_ok());
        if is_signed {
            let _ = self.signer.set(key.to_vec());
        }
        is_signed
    }
}

/// CertificateList and TBSCertList (RFC 5280 section 5.1).
struct Fields<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    version: Option<&'a [u8]>,
    issuer: &'a [u8],
    this_update: UnixTime,
    next_update: Option<UnixTime>,
    entries: Vec<Element<'a>>,
    extensions: Option<Element<'a>>,
}

impl<'a> Fields<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        if !is_well_formed(der) {
            return None;
        }
        let list = elements(der)?.into_iter().next()?.children(SEQUENCE)?;
        let [signed, algorithm, signature] = list[..] else { return None };
        let [0, signature @ ..] = signature.content_of(BIT_STRING)? else { return None };
        let mut parts = signed.children(SEQUENCE)?.into_iter().peekable();
        let version = parts.next_if(|part| part.identifier == INTEGER).map(|part| part.content);
        let inner_algorithm = parts.next()?;
        let issuer = parts.next().filter(|part| part.identifier == SEQUENCE)?;
        let this_update = time(parts.next()?)?;
        let is_time = |part: &Element<'_>| matches!(part.identifier, UTC_TIME | GENERALIZED_TIME);
        let next_update = parts.next_if(is_time).map(time);
        let entries = parts.next_if(|part| part.identifier == SEQUENCE);
        let extensions = parts.next_if(|part| part.identifier == EXTENSIONS);
        let is_whole = parts.next().is_none() && inner_algorithm.raw == algorithm.raw;
        is_whole.then_some(Self {
            signed: signed.raw,
            algorithm: algorithm.content_of(SEQUENCE)?,
            signature,
            version,
            issuer: issuer.raw,
            this_update,
            next_update: match next_update {
                Some(time) => Some(time?),
                None => None,
            },
            entries: entries.map_or(Some(Vec::new()), |entries| entries.children(SEQUENCE))?,
            extensions,
        })
    }
}

fn time(element: Element<'_>) -> Option<UnixTime> {
    let ([], time) = ASN1Time::from_der(element.raw).ok()? else { return None };
    Some(UnixTime::from_seconds(time.timestamp()))
}

/// What the extensions leave of the issuer's certificates. Critical ones that are not obeyed are refused, and so is what
/// OpenSSL does not expect to be critical.
fn scope(extensions: Element<'_>) -> Result<Scope, ListFault> {
    const MALFORMED: ListFault = ListFault::Malformed("crlExtensions");
    let list = extensions.children(EXTENSIONS).ok_or(MALFORMED)?;
    let [list] = list[..] else { return Err(MALFORMED) };
    let mut scope = Scope::default();
    for extension in read(list).ok_or(MALFORMED)? {
        match extension.kind {
            DELTA_INDICATOR => return Err(ListFault::Delta),
            ISSUING_DISTRIBUTION_POINT => scope = Scope::of(extension.value)?,
            AUTHORITY_KEY_IDENTIFIER => {}
            other if extension.is_critical => return Err(ListFault::Critical(name(other))),
            _ => {}
        }
    }
    Ok(scope)
}

/// The serial numbers of the entries.
fn revoked(entries: Vec<Element<'_>>) -> Result<HashSet<Box<[u8]>>, ListFault> {
    let serial = |(index, entry): (usize, Element<'_>)| {
        let position = index + 1;
        let fields = entry.children(SEQUENCE).unwrap_or_default();
        let (serial, date, extensions) = match fields[..] {
            [serial, date] => (serial, date, None),
            [serial, date, extensions] => (serial, date, Some(extensions)),
            _ => return Err(ListFault::MalformedEntry(position)),
        };
        let number = serial.content_of(INTEGER).filter(|number| !number.is_empty() && time(date).is_some());
        let number = number.ok_or(ListFault::MalformedEntry(position))?;
        if let Some(extensions) = extensions {
            check_entry(position, extensions)?;
        }
        Ok(shortest(number).into())
    };
    entries.into_iter().enumerate().map(serial).collect()
}

fn check_entry(position: usize, extensions: Element<'_>) -> Result<(), ListFault> {
    for extension in read(extensions).ok_or(ListFault::MalformedEntry(position))? {
        match (extension.kind, extension.value) {
            (CERTIFICATE_ISSUER, _) => return Err(ListFault::IndirectEntry(position)),
            (other, _) if extension.is_critical => {
                return Err(ListFault::CriticalEntry(position, name(other)));
            }
            (REASON_CODE, REMOVE_FROM_CRL) => return Err(ListFault::RemovedEntry(position)),
            (REASON_CODE, [ENUMERATED, 1, _]) => {}
            (REASON_CODE, _) => return Err(ListFault::MalformedEntry(position)),
            _ => {}
        }
    }
    Ok(())
}

struct Extension<'a> {
    kind: &'a [u8],
    is_critical: bool,
    value: &'a [u8],
}

/// Extensions; `None` where they are malformed, or one is there twice (RFC 5280 section 4.2).
fn read(list: Element<'_>) -> Option<Vec<Extension<'_>>> {
    let mut read: Vec<Extension<'_>> = Vec::new();
    for extension in list.children(SEQUENCE)? {
        let parts = extension.children(SEQUENCE)?;
        let (kind, is_critical, value) = match parts[..] {
            [kind, value] => (kind, false, value),
            [kind, Element { identifier: BOOLEAN, content: [critical], .. }, value] => {
                (kind, *critical != 0, value)
            }
            _ => return None,
        };
        let (kind, value) = (kind.content_of(OBJECT_IDENTIFIER)?, value.content_of(OCTET_STRING)?);
        if read.iter().any(|it| it.kind == kind) {
            return None;
        }
        read.push(Extension { kind, is_critical, value });
    }
    Some(read)
}

fn name(oid: &[u8]) -> String {
    Oid::new(oid.into()).to_id_string()
}

/// The object identifier of an AlgorithmIdentifier.
fn algorithm_name(algorithm: &[u8]) -> String {
    let parts = elements(algorithm).unwrap_or_default();
    let oid = parts.first().and_then(|part| part.content_of(OBJECT_IDENTIFIER));
    oid.map_or_else(|| "?".to_owned(), name)
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The field crlExtensions.
const EXTENSIONS: u8 = 0xa0;

/// Extensions of lists (RFC 5280 section 5.2) below 2.5.29.
const DELTA_INDICATOR: &[u8] = &[0x55, 0x1d, 27];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];

/// Extensions of entries (section 5.3).
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
/// The DER of a reason that only delta lists may have.
const REMOVE_FROM_CRL: &[u8] = &[ENUMERATED, 1, 8];
