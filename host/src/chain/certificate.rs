//! What a certificate says about its holder's part in a chain (RFC 5280, 4.1 and 4.2).

use peergate_policy::UnixTime;
use x509_parser::certificate::Validity;
use x509_parser::prelude::FromDer;

use super::constraints::Constraints;
use super::der::{
    BIT_STRING, BOOLEAN, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, constructed,
    tagged,
};

/// What webpki does not say of a certificate, or does not ask for.
#[derive(Clone, Debug)]
pub(crate) struct Certificate<'a> {
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// `cA` of basicConstraints; `None` without the extension.
    pub(super) is_authority: Option<bool>,
    pub(super) key_usage: Option<KeyUsage>,
    /// The purposes of extKeyUsage, as object identifiers.
    pub(super) purposes: Option<Reader<'a>>,
    pub(super) subject_key: Option<&'a [u8]>,
    pub(super) authority_key: AuthorityKey<'a>,
    pub(super) alternative_names: Option<Reader<'a>>,
    pub(super) constraints: Option<Constraints<'a>>,
    /// It has policies, or unique identifiers, which decide nothing.
    pub(super) is_unusual: bool,
    /// policyConstraints: paths that have no policy may be refused.
    pub(super) requires_policies: bool,
    /// cRLDistributionPoints is critical, which BoringSSL does not know.
    pub(super) critical_points: bool,
}

/// The first octet of keyUsage: the other one has `decipherOnly` alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyUsage(u8);

impl KeyUsage {
    pub(super) fn signs(self) -> bool {
        self.0 & 0x80 != 0
    }

    pub(super) fn signs_certificates(self) -> bool {
        self.0 & 0x04 != 0
    }
}

/// authorityKeyIdentifier: which certificate of the issuer is meant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AuthorityKey<'a> {
    key: Option<&'a [u8]>,
    /// The name of the issuer's issuer.
    issuer: Option<&'a [u8]>,
    serial: Option<&'a [u8]>,
}

impl<'a> Certificate<'a> {
    /// `None` of what is no certificate, and where an extension that decides is malformed or there twice.
    pub(crate) fn of(der: &'a [u8]) -> Option<Self> {
        let mut fields = Element::only(der, SEQUENCE)?.children().take(SEQUENCE)?.children();
        fields.take_if(constructed(0)); // version
        let serial = fields.take(INTEGER)?.content;
        // DER has one form of each number.
        if matches!(serial, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..]) {
            return None;
        }
        fields.take(SEQUENCE)?; // signature
        let issuer = fields.take(SEQUENCE)?.raw;
        let (_, validity) = Validity::from_der(fields.take(SEQUENCE)?.raw).ok()?;
        let subject = fields.take(SEQUENCE)?.raw;
        fields.take(SEQUENCE)?; // subjectPublicKeyInfo
        // issuerUniqueID and subjectUniqueID
        let unique_ids = [fields.take_if(tagged(1)), fields.take_if(tagged(2))];
        let mut certificate = Self {
            serial,
            issuer,
            subject,
            not_before: UnixTime::from_seconds(validity.not_before.timestamp()),
            not_after: UnixTime::from_seconds(validity.not_after.timestamp()),
            is_authority: None,
            key_usage: None,
            purposes: None,
            subject_key: None,
            authority_key: AuthorityKey::default(),
            alternative_names: None,
            constraints: None,
            is_unusual: unique_ids.iter().any(Option::is_some),
            requires_policies: false,
            critical_points: false,
        };
        if let Some(extensions) = fields.take_if(constructed(3)) {
            certificate.read(Element::only(extensions.content, SEQUENCE)?.children())?;
        }
        fields.is_at_end().then_some(certificate)
    }

    fn read(&mut self, mut extensions: Reader<'a>) -> Option<()> {
        let mut seen = 0_u8;
        while !extensions.is_at_end() {
            let mut parts = extensions.take(SEQUENCE)?.children();
            let kind = parts.take(OBJECT_IDENTIFIER)?.content;
            let is_critical = match parts.take_if(BOOLEAN) {
                Some(element) => boolean(element)?,
                None => false,
            };
            let value = parts.take(OCTET_STRING)?.content;
            let bit = match kind {
                [0x55, 0x1d, 14] => 0,
                [0x55, 0x1d, 15] => 1,
                [0x55, 0x1d, 17] => 2,
                [0x55, 0x1d, 19] => 3,
                [0x55, 0x1d, 30] => 4,
                [0x55, 0x1d, 35] => 5,
                [0x55, 0x1d, 36] => 6,
                [0x55, 0x1d, 37] => 7,
                [0x55, 0x1d, 31] => {
                    self.critical_points |= is_critical;
                    continue;
                }
                // Policies; webpki asks about other extensions that are critical.
                [0x55, 0x1d, 32] => {
                    self.is_unusual |= is_critical;
                    check_policies(value)?;
                    continue;
                }
                [0x55, 0x1d, 33 | 54] => {
                    self.is_unusual |= is_critical;
                    continue;
                }
                _ => continue,
            };
            // A second one may say something else (RFC 5280, 4.2).
            if seen & 1 << bit != 0 {
                return None;
            }
            seen |= 1 << bit;
            match bit {
                0 => self.subject_key = Some(Element::only(value, OCTET_STRING)?.content),
                1 => self.key_usage = Some(key_usage(value)?),
                2 => self.alternative_names = Some(Element::only(value, SEQUENCE)?.children()),
                3 => self.is_authority = Some(basic_constraints(value)?),
                4 => self.constraints = Some(Constraints::of(value)?),
                5 => self.authority_key = AuthorityKey::of(value)?,
                6 => self.requires_policies = true,
                _ => self.purposes = Some(Element::only(value, SEQUENCE)?.children()),
            }
        }
        Some(())
    }

    /// Whether keyUsage lets its key sign in a TLS handshake (RFC 8446, 4.4.2.2).
    pub(super) fn may_sign(&self) -> bool {
        self.key_usage.is_none_or(KeyUsage::signs)
    }

    /// Whether keyUsage lets its key sign certificates.
    pub(super) fn may_sign_certificates(&self) -> bool {
        self.key_usage.is_none_or(KeyUsage::signs_certificates)
    }

    /// An extension that would have to be obeyed, and that webpki does not refuse.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        // Which policies a path has we do not work out.
        let policies = self.requires_policies.then_some("policyConstraints (2.5.29.36)");
        policies.or(self.critical_points.then_some("cRLDistributionPoints (2.5.29.31)"))
    }

    /// Whether issuer and subject are one.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether extKeyUsage lets it be for `purpose`. `anyExtendedKeyUsage` alone does not (RFC 5280, 4.2.1.12 leaves that open).
    pub(super) fn is_for(&self, purpose: &[u8]) -> bool {
        let Some(mut purposes) = self.purposes else { return true };
        std::iter::from_fn(|| purposes.take(OBJECT_IDENTIFIER)).any(|it| it.content == purpose)
    }

    /// What an authorityKeyIdentifier may name it by.
    pub(super) fn key_names(&self) -> KeyNames<'a> {
        KeyNames { key: self.subject_key, issuer: self.issuer, serial: self.serial }
    }

    /// Whether authorityKeyIdentifier lets the issuer be the one with these names (RFC 5280, 4.2.1.1).
    pub(super) fn names_key_of(&self, issuer: KeyNames<'_>) -> bool {
        let AuthorityKey { key, issuer: above, serial } = self.authority_key;
        let is_key = match (key, issuer.key) {
            (Some(named), Some(key)) => named == key,
            _ => true,
        };
        let is_serial = serial.is_none_or(|serial| serial == issuer.serial);
        is_key && is_serial && above.is_none_or(|it| it == issuer.issuer)
    }
}

/// What tells a key of an authority from its other ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyNames<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) issuer: &'a [u8],
    pub(super) serial: &'a [u8],
}

fn boolean(element: Element<'_>) -> Option<bool> {
    match element.content {
        [0] => Some(false),
        [0xff] => Some(true),
        _ => None,
    }
}

/// At least one, and none twice (RFC 5280, 4.2.1.4).
fn check_policies(value: &[u8]) -> Option<()> {
    let policies = Element::only(value, SEQUENCE)?.children().all()?;
    let policy = |it: &Element<'_>| {
        Reader(it.raw).take(SEQUENCE)?.children().take(OBJECT_IDENTIFIER).map(|it| it.raw.to_vec())
    };
    let mut policies = policies.iter().map(policy).collect::<Option<Vec<_>>>()?;
    let all = policies.len();
    policies.sort();
    policies.dedup();
    (all > 0 && policies.len() == all).then_some(())
}

fn key_usage(value: &[u8]) -> Option<KeyUsage> {
    match Element::only(value, BIT_STRING)?.content {
        [0..=7, first, ..] => Some(KeyUsage(*first)),
        [0] => Some(KeyUsage(0)),
        _ => None,
    }
}

/// Only an authority has a path length, and none below zero.
fn basic_constraints(value: &[u8]) -> Option<bool> {
    let mut parts = Element::only(value, SEQUENCE)?.children();
    let is_authority = match parts.take_if(BOOLEAN) {
        Some(element) => boolean(element)?,
        None => false,
    };
    let is_sound = match parts.take_if(INTEGER) {
        Some(length) => is_authority && matches!(length.content, [0..=0x7f, ..]),
        None => true,
    };
    (is_sound && parts.is_at_end()).then_some(is_authority)
}

impl<'a> AuthorityKey<'a> {
    fn of(value: &'a [u8]) -> Option<Self> {
        let mut parts = Element::only(value, SEQUENCE)?.children();
        let key = parts.take_if(tagged(0)).map(|it| it.content);
        let issuer = match parts.take_if(constructed(1)) {
            Some(names) => {
                let names = names.children().all()?;
                let directory = names.into_iter().find(|name| name.identifier == constructed(4));
                directory.map(|name| name.content)
            }
            None => None,
        };
        let serial = parts.take_if(tagged(2)).map(|it| it.content);
        parts.is_at_end().then_some(Self { key, issuer, serial })
    }
}
