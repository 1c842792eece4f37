//! Certificates as webpki can read them.
//!
//! webpki refuses what it does not know. Of some of that we know what it means, and ask it ourselves: constraints on other
//! names than DNS names, policies that no one requires, a leaf that may be an authority besides, unique identifiers, times
//! before 1970, names in another encoding. Of such a certificate webpki is shown a plain form without them. Signatures are
//! verified over the certificate as it is.

use std::cell::OnceCell;

use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
};

use super::authority::Authorities;
use super::certificate::Certificate;
use super::der::{Element, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, constructed, tagged, write};
use super::name::Canonical;

/// A chain as it was presented, and as webpki is shown it.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    /// Leaf first.
    plain: Vec<CertificateDer<'a>>,
    /// What was presented, in the same order; `None` where it is not read.
    read: Vec<Option<Certificate<'a>>>,
}

impl<'a> Shown<'a> {
    /// `intermediates` are few: the caller has a limit.
    pub(super) fn new(
        leaf: &'a CertificateDer<'a>,
        intermediates: &'a [CertificateDer<'a>],
        authorities: &Authorities,
    ) -> Self {
        let presented = || std::iter::once(leaf).chain(intermediates);
        let read: Vec<_> = presented().map(|der| Certificate::of(der)).collect();
        let subjects = read.iter().skip(1).flatten().map(|it| it.subject).collect();
        let names = Names { authorities, subjects, canonical: OnceCell::new() };
        let plain = presented().zip(&read).enumerate().map(|(index, (der, read))| {
            let plain = read.as_ref().and_then(|read| plain(der, read, index == 0, &names));
            plain.map_or_else(|| CertificateDer::from(der.as_ref()), CertificateDer::from)
        });
        Self { leaf, intermediates, plain: plain.collect(), read }
    }

    pub(super) fn leaf(&self) -> &CertificateDer<'a> {
        &self.plain[0]
    }

    pub(super) fn intermediates(&self) -> &[CertificateDer<'a>] {
        &self.plain[1..]
    }

    /// What was presented in the place of a certificate that webpki was shown; only one of ours is found.
    pub(super) fn presented(&self, shown: &[u8]) -> Option<&Certificate<'a>> {
        let index = self.plain.iter().position(|plain| std::ptr::eq(plain.as_ref(), shown))?;
        self.read[index].as_ref()
    }

    /// Its bytes, as they were presented.
    pub(super) fn der(&self, shown: &[u8]) -> Option<&'a [u8]> {
        let index = self.plain.iter().position(|plain| std::ptr::eq(plain.as_ref(), shown))?;
        Some(self.at(index))
    }

    fn at(&self, index: usize) -> &'a CertificateDer<'a> {
        index.checked_sub(1).map_or(self.leaf, |index| &self.intermediates[index])
    }

    /// Algorithms that verify what was presented where webpki asks about what it was shown.
    pub(super) fn algorithms<'s>(
        &'s self,
        all: &'s [&'s dyn SignatureVerificationAlgorithm],
    ) -> Vec<Original<'s>> {
        all.iter().map(|algorithm| Original { algorithm: *algorithm, shown: self }).collect()
    }

    /// The signed part of what was presented in the place of `message`, a part of what was shown.
    ///
    /// INVARIANT: by where it is, not by what it says. Somebody may present a plain form as a certificate of its own.
    fn signed(&self, message: &[u8]) -> Option<&'a [u8]> {
        let index = self.plain.iter().position(|plain| plain.as_ptr_range().contains(&message.as_ptr()))?;
        let certificate = Element::only(self.at(index), SEQUENCE)?;
        certificate.children().take(SEQUENCE).map(|signed| signed.raw)
    }
}

/// Verifies signatures over certificates as they were presented.
#[derive(Debug)]
pub(super) struct Original<'s> {
    algorithm: &'s dyn SignatureVerificationAlgorithm,
    shown: &'s Shown<'s>,
}

impl SignatureVerificationAlgorithm for Original<'_> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        // What is not of a certificate is of a revocation list.
        let message = self.shown.signed(message).unwrap_or(message);
        self.algorithm.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

/// The plain form, if it is another one.
fn plain(der: &[u8], certificate: &Certificate<'_>, is_leaf: bool, names: &Names<'_>) -> Option<Vec<u8>> {
    let drops_authority = is_leaf && certificate.is_authority == Some(true);
    let drops_constraints = certificate.constraints.as_ref().is_some_and(|it| !it.are_of_dns());
    let issuer = names.other_encoding(certificate.issuer);
    let begins_early = certificate.not_before.seconds() < 0;
    if !(drops_authority || drops_constraints || begins_early || certificate.is_unusual || issuer.is_some()) {
        return None;
    }
    let mut parts = Element::only(der, SEQUENCE)?.children();
    let mut fields = parts.take(SEQUENCE)?.children();
    let mut signed = Vec::new();
    signed.extend(fields.take_if(constructed(0)).map_or(&[][..], |version| version.raw));
    signed.extend(fields.take(INTEGER)?.raw);
    signed.extend(fields.take(SEQUENCE)?.raw);
    let own = fields.take(SEQUENCE)?.raw;
    signed.extend(issuer.unwrap_or(own));
    let mut validity = fields.take(SEQUENCE)?.children();
    let not_before = validity.any()?.raw;
    let not_before = if begins_early { &EPOCH } else { not_before };
    signed.extend(write(SEQUENCE, &[not_before, validity.0].concat()));
    while !fields.is_at_end() {
        let field = fields.any()?;
        if field.identifier == constructed(3) {
            let list = Element::only(field.content, SEQUENCE)?.children();
            let list = extensions(list, drops_authority, drops_constraints)?;
            signed.extend(write(constructed(3), &write(SEQUENCE, &list)));
        } else if ![tagged(1), tagged(2)].contains(&field.identifier) {
            signed.extend(field.raw);
        }
    }
    Some(write(SEQUENCE, &[&write(SEQUENCE, &signed), parts.0].concat()))
}

/// 1970, as UTCTime.
const EPOCH: [u8; 15] = *b"\x17\x0d700101000000Z";

/// The names that issuers may have.
struct Names<'a> {
    authorities: &'a Authorities,
    /// Of the intermediates, as DER.
    subjects: Vec<&'a [u8]>,
    /// The same, in the form that is compared. Nobody has vouched for them yet, so they are worked out once at most.
    canonical: OnceCell<Vec<Option<Canonical>>>,
}

impl Names<'_> {
    /// The one that is the same as `name`, where none is it byte by byte.
    fn other_encoding(&self, name: &[u8]) -> Option<&[u8]> {
        if self.authorities.names().any(|(it, _)| it == name) || self.subjects.contains(&name) {
            return None;
        }
        let name = Canonical::of(name)?;
        let known = self.authorities.names().find(|(_, canonical)| *canonical == Some(&name));
        known.map(|(it, _)| it).or_else(|| {
            let canonical = || self.subjects.iter().map(|it| Canonical::of(it)).collect();
            let found = self.canonical.get_or_init(canonical).iter();
            found
                .zip(&self.subjects)
                .find_map(|(it, subject)| (it.as_ref() == Some(&name)).then_some(*subject))
        })
    }
}

fn extensions(mut list: Reader<'_>, drops_authority: bool, drops_constraints: bool) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    while !list.is_at_end() {
        let extension = list.take(SEQUENCE)?;
        let mut parts = extension.children();
        let drops = match parts.take(OBJECT_IDENTIFIER)?.content {
            // basicConstraints, nameConstraints, certificatePolicies, policyMappings, inhibitAnyPolicy
            [0x55, 0x1d, 19] => drops_authority,
            [0x55, 0x1d, 30] => drops_constraints,
            [0x55, 0x1d, 32 | 33 | 54] => true,
            _ => false,
        };
        if !drops {
            kept.extend(extension.raw);
        }
    }
    Some(kept)
}
