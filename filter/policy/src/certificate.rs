//! From bytes to a [`Certificate`]. The bytes are the peer's: every failure is a reason to refuse it.

use std::net::IpAddr;

use x509_parser::asn1_rs::{Any, Tag, oid};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::extensions::{GeneralName, SubjectAlternativeName};
use x509_parser::nom::Parser as _;
use x509_parser::prelude::{FromDer, Pem, TbsCertificate};

use crate::decision::DenyReason;
use crate::identity::{Certificate, PeerIdentity, Validity, sha256};
use crate::limits;
use crate::unix_time::UnixTime;

impl Certificate {
    /// Parses one DER certificate (RFC 5280).
    ///
    /// # Errors
    /// [`DenyReason::MalformedCertificate`] for anything that is not one complete certificate, and
    /// [`DenyReason::MalformedName`] for a certificate with a name that implementations read differently: NUL in any
    /// name, an empty or undecodable DNS or URI name, an address that is neither 4 nor 16 bytes, a CN that is not
    /// text. One bad name refuses the certificate whole, as in Vespa's C++.
    pub fn from_der(der: &[u8]) -> Result<Self, DenyReason> {
        if der.len() > limits::CERTIFICATE_BYTES {
            return Err(DenyReason::MalformedCertificate);
        }
        // Extensions we do not read are not parsed: fewer lines of parser between an attacker and us.
        let (rest, certificate) = X509CertificateParser::new()
            .with_deep_parse_extensions(false)
            .parse(der)
            .map_err(|_| DenyReason::MalformedCertificate)?;
        if !rest.is_empty() {
            return Err(DenyReason::MalformedCertificate);
        }
        let mut identity =
            PeerIdentity { common_name: common_name(&certificate)?, ..PeerIdentity::default() };
        read_alternative_names(&certificate, &mut identity)?;
        let validity = Validity {
            not_before: UnixTime::from_seconds(certificate.validity().not_before.timestamp()),
            not_after: UnixTime::from_seconds(certificate.validity().not_after.timestamp()),
        };
        Ok(Self { identity, validity, digest: sha256(der) })
    }

    /// Parses the first certificate of PEM text (RFC 7468), as it is or URL-encoded: Envoy's attribute
    /// `connection.peer_certificate` is the one or the other by version, `%DOWNSTREAM_PEER_CERT%` always the latter.
    ///
    /// # Errors
    /// As [`Certificate::from_der`].
    pub fn from_pem(text: &[u8]) -> Result<Self, DenyReason> {
        if text.len() > limits::CERTIFICATE_BYTES * 2 {
            return Err(DenyReason::MalformedCertificate);
        }
        let decoded;
        let text = if text.contains(&b'%') {
            decoded = percent_decoded(text).ok_or(DenyReason::MalformedCertificate)?;
            &decoded
        } else {
            text
        };
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(text).map_err(|_| DenyReason::MalformedCertificate)?;
        let Pem { label, contents } = pem;
        if label != "CERTIFICATE" {
            return Err(DenyReason::MalformedCertificate);
        }
        Self::from_der(&contents)
    }
}

/// The last CN in certificate order, as both Vespa implementations; empty ones are skipped.
fn common_name(certificate: &TbsCertificate<'_>) -> Result<Option<String>, DenyReason> {
    let mut last = None;
    for attribute in certificate.subject().iter_common_name() {
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

fn read_alternative_names(
    certificate: &TbsCertificate<'_>,
    identity: &mut PeerIdentity,
) -> Result<(), DenyReason> {
    // A second subjectAltName extension is an error of this call (RFC 5280, 4.2).
    let extension =
        certificate.get_extension_unique(&oid!(2.5.29.17)).map_err(|_| DenyReason::MalformedCertificate)?;
    let Some(extension) = extension else { return Ok(()) };
    let (rest, names) =
        SubjectAlternativeName::from_der(extension.value).map_err(|_| DenyReason::MalformedCertificate)?;
    if !rest.is_empty() || names.general_names.len() > limits::NAMES {
        return Err(DenyReason::MalformedCertificate);
    }
    for name in &names.general_names {
        match name {
            GeneralName::DNSName(text) => identity.dns_names.push(checked(text)?),
            GeneralName::URI(text) => identity.uris.push(checked(text)?),
            GeneralName::IPAddress(bytes) => identity.addresses.push(address(bytes)?),
            GeneralName::Invalid(..) => return Err(DenyReason::MalformedName),
            // Names of other kinds never match anything, whatever they say (CVE-2022-21656).
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    Ok(())
}

/// IA5String is ASCII (ITU-T X.680), and the parser only checks UTF-8.
fn checked(text: &str) -> Result<String, DenyReason> {
    if text.is_empty() || text.contains('\0') || !text.is_ascii() {
        return Err(DenyReason::MalformedName);
    }
    Ok(text.to_owned())
}

fn address(bytes: &[u8]) -> Result<IpAddr, DenyReason> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| DenyReason::MalformedName)
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            other => *other,
        });
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
