//! What revocation needs to know of a certificate.

use peergate_policy::der::{Element, elements};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_CRL_DISTRIBUTION_POINTS, OID_X509_EXT_KEY_USAGE, Oid,
};

use super::scope::names;
use crate::chain::Canonical;

/// A certificate of a verified chain.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// In the shortest form.
    pub(super) serial: &'a [u8],
    pub(super) issuer: Canonical,
    pub(super) name: Canonical,
    /// The DER of its SubjectPublicKeyInfo.
    pub(super) key: &'a [u8],
    pub(super) is_authority: bool,
    /// Whether it may sign lists: keyUsage has cRLSign, or is missing (RFC 5280 section 6.3.3, f).
    pub(super) signs_lists: bool,
    /// Where it says that its lists are.
    pub(super) points: Vec<Point<'a>>,
}

/// A DistributionPoint (RFC 5280 section 4.2.1.13).
#[derive(Debug)]
pub(super) struct Point<'a> {
    /// The DER of its names.
    pub(super) names: Vec<&'a [u8]>,
    pub(super) is_for_some_reasons: bool,
    /// Who issues the list, where it is not the issuer of the certificate.
    pub(super) issuer: Option<Vec<Element<'a>>>,
}

impl<'a> Subject<'a> {
    /// `None` where the certificate cannot be read, or has an extension twice.
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let ([], certificate) = parser.parse(der).ok()? else { return None };
        let constraints = extension(&certificate, &OID_X509_EXT_BASIC_CONSTRAINTS)?;
        let usage = extension(&certificate, &OID_X509_EXT_KEY_USAGE)?;
        let points = extension(&certificate, &OID_X509_EXT_CRL_DISTRIBUTION_POINTS)?;
        Some(Self {
            serial: shortest(certificate.raw_serial()),
            issuer: Canonical::of(certificate.tbs_certificate.issuer.as_raw())?,
            name: Canonical::of(certificate.tbs_certificate.subject.as_raw())?,
            key: certificate.tbs_certificate.subject_pki.raw,
            is_authority: constraints.map_or(Some(false), is_authority)?,
            signs_lists: usage.map_or(Some(true), has_crl_sign)?,
            points: points.map_or(Some(Vec::new()), distribution_points)?,
        })
    }
}

/// The value of an extension, if there is one.
fn extension<'a>(certificate: &X509Certificate<'a>, oid: &Oid<'_>) -> Option<Option<&'a [u8]>> {
    let mut found = certificate.tbs_certificate.extensions().iter().filter(|it| it.oid == *oid);
    let value = found.next().map(|extension| extension.value);
    found.next().is_none().then_some(value)
}

/// The shortest form of an INTEGER: authorities have been seen to write the same number in several.
pub(super) fn shortest(mut integer: &[u8]) -> &[u8] {
    while let [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] = integer {
        integer = &integer[1..];
    }
    integer
}

fn is_authority(constraints: &[u8]) -> Option<bool> {
    let constraints = elements(constraints)?;
    let [constraints] = constraints[..] else { return None };
    let first = constraints.children(SEQUENCE)?.into_iter().next();
    Some(first.is_some_and(|it| it.identifier == BOOLEAN && it.content != [0]))
}

/// Bit 6 of keyUsage; the first octet counts the unused bits at the end.
fn has_crl_sign(usage: &[u8]) -> Option<bool> {
    match elements(usage)?[..] {
        [Element { identifier: BIT_STRING, content: [_, bits @ ..], .. }] => {
            Some(bits.first().is_some_and(|bits| bits & 0b10 != 0))
        }
        _ => None,
    }
}

fn distribution_points(points: &[u8]) -> Option<Vec<Point<'_>>> {
    let points = elements(points)?;
    let [points] = points[..] else { return None };
    points.children(SEQUENCE)?.into_iter().map(distribution_point).collect()
}

fn distribution_point(point: Element<'_>) -> Option<Point<'_>> {
    let mut read = Point { names: Vec::new(), is_for_some_reasons: false, issuer: None };
    for field in point.children(SEQUENCE)? {
        match field.identifier {
            // A name relative to the issuer's is none that a list could be named by here.
            DISTRIBUTION_POINT => read.names = names(field).unwrap_or_default(),
            REASONS => read.is_for_some_reasons = true,
            CRL_ISSUER => read.issuer = Some(elements(field.content)?),
            _ => return None,
        }
    }
    Some(read)
}

const BOOLEAN: u8 = 0x01;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// The fields of DistributionPoint.
const DISTRIBUTION_POINT: u8 = 0xa0;
const REASONS: u8 = 0x81;
const CRL_ISSUER: u8 = 0xa2;
