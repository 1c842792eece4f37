//! The authorities of a policy, with what webpki forgets of them.
//!
//! To webpki a trust anchor is a name, a key and name constraints. Envoy and openssl look at the certificate, too: one that
//! has ended or may not sign certificates vouches for nobody. What can be known beforehand is worked out here, once.

use std::path::Path;
use std::sync::Arc;

use peergate_policy::UnixTime;
use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::certificate::{Certificate, KeyNames};
use super::constraints::Violation;
use super::fault::Fault;
use super::name::Canonical;
use super::translation::{NO_CERT_SIGN, NOT_CA};

/// All that `files.ca-certificates` has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// One for each anchor.
    all: Vec<Authority>,
}

#[derive(Clone, Debug)]
struct Authority {
    der: CertificateDer<'static>,
    /// For messages.
    name: Arc<str>,
    /// As DER.
    subject: Vec<u8>,
    /// The subject, to be compared with what is written in another way.
    canonical: Option<Canonical>,
    /// What issued certificates name its key by: subjectKeyIdentifier, issuer and serial number.
    key_names: (Option<Vec<u8>>, Vec<u8>, Vec<u8>),
    constrains: bool,
    not_before: UnixTime,
    not_after: UnixTime,
    /// Why it vouches for nobody, whatever the time.
    flaw: Option<&'static str>,
    /// Where its own issuer is, if that is here too: Envoy goes up as far as it can, and so do we.
    issuer: Option<usize>,
}

impl Authorities {
    /// `file` is for messages.
    ///
    /// # Errors
    /// The position, from 0, of what is no certificate.
    pub(crate) fn new(file: &Path, certificates: &[CertificateDer<'static>]) -> Result<Self, usize> {
        let mut authorities = Self::default();
        for (index, der) in certificates.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(der).map_err(|_| index)?;
            // Constraints are ours to ask: webpki does not read all of them.
            authorities.anchors.push(TrustAnchor { name_constraints: None, ..anchor.to_owned() });
            authorities.all.push(Authority::new(der.clone(), file, index + 1));
        }
        for index in 0..authorities.all.len() {
            authorities.all[index].issuer = authorities.issuer_of(index);
        }
        Ok(authorities)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// What clients are told, to choose a certificate by.
    pub(super) fn hints(&self) -> Vec<DistinguishedName> {
        self.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect()
    }

    /// Their names, as DER and in the form that is compared.
    pub(super) fn names(&self) -> impl Iterator<Item = (&[u8], Option<&Canonical>)> {
        self.all.iter().map(|it| (it.subject.as_slice(), it.canonical.as_ref()))
    }

    /// Which of them `anchor`, one of ours, is.
    pub(super) fn position(&self, anchor: &TrustAnchor<'_>) -> Option<usize> {
        let address = std::ptr::from_ref(anchor).addr();
        self.anchors.iter().position(|it| std::ptr::from_ref(it).addr() == address)
    }

    /// The certificate itself, if it is one of them.
    pub(super) fn same(&self, leaf: &CertificateDer<'_>) -> Option<usize> {
        self.all.iter().position(|it| it.der.as_ref() == leaf.as_ref())
    }

    /// Whether its own issuer is here as well.
    pub(super) fn has_issuer(&self, index: usize) -> bool {
        self.all[index].issuer.is_some()
    }

    pub(super) fn der(&self, index: usize) -> &[u8] {
        &self.all[index].der
    }

    pub(super) fn key_names(&self, index: usize) -> KeyNames<'_> {
        let (key, issuer, serial) = &self.all[index].key_names;
        KeyNames { key: key.as_deref(), issuer, serial }
    }

    fn certificate(&self, index: usize) -> Option<Certificate<'_>> {
        Certificate::of(&self.all[index].der)
    }

    /// The authority and those above it, from below.
    pub(super) fn line(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        // Bounded, for a circle of cross-signed authorities.
        std::iter::successors(Some(index), |index| self.all[*index].issuer).take(self.all.len())
    }

    /// Whether the authority, and those above it, are valid at `now`.
    pub(super) fn is_valid(&self, index: usize, now: UnixTime) -> Result<(), Fault> {
        self.line(index).try_for_each(|index| self.all[index].is_valid(now))
    }

    /// Whether the authority may vouch for others at `now`.
    pub(super) fn vouches(&self, index: usize, now: UnixTime) -> Result<(), Fault> {
        self.line(index).try_for_each(|index| self.all[index].is_sound())?;
        self.is_valid(index, now)
    }

    /// Why those of them that vouch for nobody at `now` do not, in their order.
    pub(crate) fn flaws(&self, now: UnixTime) -> Vec<Fault> {
        (0..self.all.len()).filter_map(|index| self.vouches(index, now).err()).collect()
    }

    /// The moments from which one of them vouches for nobody.
    pub(crate) fn ends(&self) -> impl Iterator<Item = UnixTime> + '_ {
        self.all.iter().map(|it| UnixTime::from_seconds(it.not_after.seconds().saturating_add(1)))
    }

    /// Whether all names of `certificate` are such that the authority, and those above it, may give them; and whether they
    /// constrain any.
    pub(super) fn permit(&self, index: usize, certificate: &Certificate<'_>) -> Result<bool, Violation> {
        let mut constrain = false;
        for index in self.line(index).filter(|index| self.all[*index].constrains) {
            if let Some(constraints) = self.certificate(index).and_then(|it| it.constraints) {
                constraints.check(certificate)?;
                constrain = true;
            }
        }
        Ok(constrain)
    }

    fn issuer_of(&self, index: usize) -> Option<usize> {
        let certificate = self.certificate(index)?;
        if certificate.is_self_issued() && certificate.names_key_of(certificate.key_names()) {
            return None;
        }
        let name = Canonical::of(certificate.issuer)?;
        (0..self.all.len()).find(|above| {
            let issues = |above: Certificate<'_>| {
                above.may_sign_certificates() && certificate.names_key_of(above.key_names())
            };
            *above != index
                && self.all[*above].canonical.as_ref() == Some(&name)
                && self.certificate(*above).is_some_and(issues)
        })
    }
}

impl Authority {
    fn new(der: CertificateDer<'static>, file: &Path, position: usize) -> Self {
        let certificate = Certificate::of(&der);
        let subject = certificate.as_ref().map_or_else(Vec::new, |it| it.subject.to_vec());
        let text =
            X509Name::from_der(&subject).map_or_else(|_| String::new(), |(_, name)| format!(" ({name})"));
        let name = format!("certificate {position} of `{}`{text}", file.display());
        let key_names = certificate
            .as_ref()
            .map(|it| (it.subject_key.map(<[u8]>::to_vec), it.issuer.to_vec(), it.serial.to_vec()));
        let constrains = certificate.as_ref().is_some_and(|it| it.constraints.is_some());
        let (not_before, not_after, flaw) = match &certificate {
            Some(it) => (it.not_before, it.not_after, flaw(it)),
            None => (UnixTime::from_seconds(i64::MIN), UnixTime::from_seconds(i64::MIN), Some(BROKEN)),
        };
        Self {
            name: name.into(),
            canonical: Canonical::of(&subject),
            subject,
            key_names: key_names.unwrap_or_default(),
            constrains,
            not_before,
            not_after,
            flaw,
            issuer: None,
            der,
        }
    }

    fn is_sound(&self) -> Result<(), Fault> {
        self.flaw
            .map_or(Ok(()), |why| Err(Fault::AuthorityCannotSign { authority: Arc::clone(&self.name), why }))
    }

    fn is_valid(&self, now: UnixTime) -> Result<(), Fault> {
        let authority = || Arc::clone(&self.name);
        if self.not_after < now {
            return Err(Fault::AuthorityExpired { authority: authority(), not_after: self.not_after });
        }
        if now < self.not_before {
            return Err(Fault::AuthorityNotYetValid { authority: authority(), not_before: self.not_before });
        }
        Ok(())
    }
}

/// Old roots have no basicConstraints, but whoever was issued by another one is an authority only if that says so (RFC 5280,
/// 4.2.1.9). A peer's own certificate among the authorities must not vouch for others.
fn flaw(certificate: &Certificate<'_>) -> Option<&'static str> {
    if !certificate.may_sign_certificates() {
        return Some(NO_CERT_SIGN);
    }
    match certificate.is_authority {
        Some(true) => None,
        None if certificate.is_self_issued() => None,
        Some(false) | None => Some(NOT_CA),
    }
}

const BROKEN: &str = "is not read: an extension is broken or there twice";
