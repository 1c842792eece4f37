//! From bytes to a [`Certificate`]. The bytes are the peer's: every failure is a reason to refuse it.

use std::borrow::Cow;
use std::net::IpAddr;

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use crate::decision::DenyReason;
use crate::der::{self, Element};
use crate::escape::percent_decoded;
use crate::identity::{Certificate, PeerIdentity, Validity, sha256};
use crate::limits;
use crate::pem::{self, Label};
use crate::unix_time::UnixTime;

impl Certificate {
    /// Parses one DER certificate (RFC 5280).
    ///
    /// # Errors
    /// [`DenyReason::MalformedCertificate`] for anything that is not one complete certificate, and
    /// [`DenyReason::MalformedName`] for a certificate with a name that implementations read differently: NUL in CN, DNS
    /// or URI name, an empty or undecodable DNS or URI name, an address that is neither 4 nor 16 bytes, a CN that is not
    /// text. One bad name refuses the certificate whole, as in Vespa's C++.
    pub fn from_der(der: &[u8]) -> Result<Self, DenyReason> {
        let fields = fields(der)?;
        let mut identity = PeerIdentity { common_name: common_name(&fields)?, ..PeerIdentity::default() };
        if let Some(names) = fields.alternative_names {
            read_alternative_names(names, &mut identity)?;
        }
        let subject = fields.subject.as_raw().to_vec();
        Ok(Self { identity, subject, validity: fields.validity, digest: sha256(der) })
    }

    /// As [`Certificate::from_der`] for a certificate that is known as a whole: its names are not read, however malformed they
    /// are; `identity` and `subject` are empty.
    ///
    /// # Errors
    /// [`DenyReason::MalformedCertificate`].
    pub fn unnamed_from_der(der: &[u8]) -> Result<Self, DenyReason> {
        let Fields { validity, .. } = fields(der)?;
        let (identity, subject) = (PeerIdentity::default(), Vec::new());
        Ok(Self { identity, subject, validity, digest: sha256(der) })
    }

    /// Parses the first certificate of PEM text (RFC 7468), as it is or URL-encoded: Envoy's attribute
    /// `connection.peer_certificate` is the one or the other by version, `%DOWNSTREAM_PEER_CERT%` always the latter.
    ///
    /// # Errors
    /// As [`Certificate::from_der`].
    pub fn from_pem(text: &[u8]) -> Result<Self, DenyReason> {
        decoded(text).and_then(|der| Self::from_der(&der))
    }

    /// As [`Certificate::from_pem`] for a certificate that is known as a whole.
    ///
    /// # Errors
    /// As [`Certificate::unnamed_from_der`].
    pub fn unnamed_from_pem(text: &[u8]) -> Result<Self, DenyReason> {
        decoded(text).and_then(|der| Self::unnamed_from_der(&der))
    }
}

/// The DER of the first certificate in PEM text.
fn decoded(text: &[u8]) -> Result<Vec<u8>, DenyReason> {
    if text.len() > limits::CERTIFICATE_BYTES * 2 {
        return Err(DenyReason::MalformedCertificate);
    }
    let text = unescaped(text).ok_or(DenyReason::MalformedCertificate)?;
    first_certificate(&text).ok_or(DenyReason::MalformedCertificate)
}

/// PEM text that may be URL-encoded; `None` where that is broken.
pub(crate) fn unescaped(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if text.contains(&b'%') { percent_decoded(text).map(Cow::Owned) } else { Some(Cow::Borrowed(text)) }
}

/// What decides of a certificate.
struct Fields<'a> {
    validity: Validity,
    subject: X509Name<'a>,
    /// The value of the extension subjectAltName.
    alternative_names: Option<&'a [u8]>,
}

fn fields(der: &[u8]) -> Result<Fields<'_>, DenyReason> {
    if der.len() > limits::CERTIFICATE_BYTES || !der::is_well_formed(der) {
        return Err(DenyReason::MalformedCertificate);
    }
    certificate_fields(der).ok_or(DenyReason::MalformedCertificate)
}

/// Certificate and TBSCertificate (RFC 5280, 4.1). Extensions we do not read are not parsed: fewer lines of parser between
/// an attacker and us.
fn certificate_fields(der: &[u8]) -> Option<Fields<'_>> {
    let certificate = der::elements(der)?;
    let [certificate] = certificate[..] else { return None };
    let parts = certificate.children(SEQUENCE)?;
    let [to_be_signed, algorithm, signature] = parts[..] else { return None };
    let mut fields = to_be_signed.children(SEQUENCE)?.into_iter().peekable();
    if let Some(version) = fields.next_if(|field| field.identifier == VERSION) {
        let number = version.children(VERSION)?;
        let known = matches!(number[..], [Element { identifier: INTEGER, content: [0..=2], .. }]);
        known.then_some(())?;
    }
    let serial_number = fields.next()?;
    let inner_algorithm = fields.next()?;
    let issuer = name(fields.next()?);
    let validity = validity(fields.next()?);
    let subject = name(fields.next()?);
    let key = fields.next()?.children(SEQUENCE)?;
    let [key_algorithm, key] = key[..] else { return None };
    fields.next_if(|field| field.identifier == ISSUER_UNIQUE_ID);
    fields.next_if(|field| field.identifier == SUBJECT_UNIQUE_ID);
    let extensions = fields.next_if(|field| field.identifier == EXTENSIONS);
    let sound = fields.next().is_none()
        && serial_number.identifier == INTEGER
        && !serial_number.content.is_empty()
        && [algorithm, inner_algorithm, key_algorithm].into_iter().all(is_algorithm)
        && [signature, key].into_iter().all(is_bit_string);
    (sound && issuer.is_some()).then_some(Fields {
        validity: validity?,
        subject: subject?,
        alternative_names: extensions.map_or(Some(None), alternative_names)?,
    })
}

fn is_algorithm(element: Element<'_>) -> bool {
    let parts = element.children(SEQUENCE).unwrap_or_default();
    parts.len() <= 2 && parts.first().is_some_and(|first| first.identifier == OBJECT_IDENTIFIER)
}

/// Keys and signatures are whole octets: no bit of the last one is unused.
fn is_bit_string(element: Element<'_>) -> bool {
    element.identifier == BIT_STRING && matches!(element.content, [0, ..])
}

fn name(element: Element<'_>) -> Option<X509Name<'_>> {
    X509Name::from_der(element.raw).ok().map(|(_, name)| name)
}

fn validity(element: Element<'_>) -> Option<Validity> {
    let (_, validity) = x509_parser::certificate::Validity::from_der(element.raw).ok()?;
    Some(Validity {
        not_before: UnixTime::from_seconds(validity.not_before.timestamp()),
        not_after: UnixTime::from_seconds(validity.not_after.timestamp()),
    })
}

/// The value of subjectAltName; `None` where the extensions are malformed, or have it twice (RFC 5280, 4.2).
fn alternative_names(extensions: Element<'_>) -> Option<Option<&[u8]>> {
    let list = extensions.children(EXTENSIONS)?;
    let [list] = list[..] else { return None };
    let mut found = None;
    for extension in list.children(SEQUENCE)? {
        let parts = extension.children(SEQUENCE)?;
        let (kind, value) = match parts[..] {
            [kind, value] => (kind, value),
            [kind, Element { identifier: BOOLEAN, content: [_], .. }, value] => (kind, value),
            _ => return None,
        };
        if kind.identifier != OBJECT_IDENTIFIER || value.identifier != OCTET_STRING {
            return None;
        }
        if kind.content == SUBJECT_ALT_NAME && found.replace(value.content).is_some() {
            return None;
        }
    }
    Some(found)
}

/// The last CN in certificate order, as both Vespa implementations; empty ones are skipped.
fn common_name(fields: &Fields<'_>) -> Result<Option<String>, DenyReason> {
    let mut last = None;
    for attribute in fields.subject.iter_common_name() {
        let text = text_of(attribute.attr_value())?;
        if text.contains('\0') {
            return Err(DenyReason::MalformedName);
        }
        if !text.is_empty() {
            last = Some(text.to_owned());
        }
    }
    Ok(last)
}

/// The string types whose bytes are their text. Vespa's C++ matches the raw bytes of a CN and its Java the decoded
/// text; BMPString, UniversalString and TeletexString beyond ASCII differ there, so nobody can be admitted by them.
fn text_of<'a>(value: &Any<'a>) -> Result<&'a str, DenyReason> {
    let text = std::str::from_utf8(value.data).map_err(|_| DenyReason::MalformedName)?;
    match value.tag() {
        Tag::Utf8String => Ok(text),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString | Tag::T61String
            if text.is_ascii() =>
        {
            Ok(text)
        }
        _ => Err(DenyReason::MalformedName),
    }
}

fn read_alternative_names(names: &[u8], identity: &mut PeerIdentity) -> Result<(), DenyReason> {
    // GeneralNames is a SEQUENCE of implicitly tagged elements (RFC 5280, 4.2.1.6).
    let names = match &der::elements(names).unwrap_or_default()[..] {
        [list] if list.identifier == SEQUENCE && der::is_well_formed(names) => list.content,
        _ => return Err(DenyReason::MalformedCertificate),
    };
    let names = der::elements(names).ok_or(DenyReason::MalformedCertificate)?;
    if names.len() > limits::NAMES {
        return Err(DenyReason::MalformedCertificate);
    }
    for name in names {
        match name.identifier {
            DNS_NAME => identity.dns_names.push(checked(name.content)?),
            URI => identity.uris.push(checked(name.content)?),
            IP_ADDRESS => identity.addresses.push(address(name.content)?),
            // Names of other kinds never match anything, whatever they say (CVE-2022-21656).
            OTHER_NAME | X400_ADDRESS | DIRECTORY_NAME | EDI_PARTY_NAME | RFC822_NAME | REGISTERED_ID => {}
            // Among them the string names with the constructed bit, which other readers join or refuse.
            _ => return Err(DenyReason::MalformedName),
        }
    }
    Ok(())
}

/// Identifiers of universal types (ITU-T X.690, 8).
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// Identifiers of TBSCertificate's tagged fields.
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Identifiers of GeneralName's alternatives: context-specific, constructed where the type is.
const OTHER_NAME: u8 = 0xa0;
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const X400_ADDRESS: u8 = 0xa3;
const DIRECTORY_NAME: u8 = 0xa4;
const EDI_PARTY_NAME: u8 = 0xa5;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;
const REGISTERED_ID: u8 = 0x88;

/// IA5String is ASCII (ITU-T X.680).
fn checked(bytes: &[u8]) -> Result<String, DenyReason> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.is_ascii() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(DenyReason::MalformedName),
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, DenyReason> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| DenyReason::MalformedName)
}

/// The DER of the first section, which must be a certificate.
fn first_certificate(text: &[u8]) -> Option<Vec<u8>> {
    let section = pem::sections(text).next()?.ok()?;
    if section.label() == Label::Certificate { section.der().ok() } else { None }
}

#[cfg(test)]
mod tests;
