//! From bytes to a [`Certificate`]. The bytes are the peer's: every failure is a reason to refuse it.

use std::net::IpAddr;

use data_encoding::BASE64;
use x509_parser::asn1_rs::{Any, Tag, oid};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;
use x509_parser::prelude::TbsCertificate;

use crate::decision::DenyReason;
use crate::der;
use crate::escape::percent_decoded;
use crate::identity::{Certificate, PeerIdentity, Validity, sha256};
use crate::limits;
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
        if der.len() > limits::CERTIFICATE_BYTES {
            return Err(DenyReason::MalformedCertificate);
        }
        if !der::is_well_formed(der) {
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
        let contents = first_certificate(text).ok_or(DenyReason::MalformedCertificate)?;
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
    // GeneralNames is a SEQUENCE of implicitly tagged elements (RFC 5280, 4.2.1.6).
    let names = match &der::elements(extension.value).unwrap_or_default()[..] {
        [names] if names.identifier == SEQUENCE && der::is_well_formed(extension.value) => names.content,
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

const SEQUENCE: u8 = 0x30;

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

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The DER of the first certificate in PEM text.
fn first_certificate(text: &[u8]) -> Option<Vec<u8>> {
    let find = |text: &[u8], mark: &[u8]| text.windows(mark.len()).position(|window| window == mark);
    let body = &text[find(text, BEGIN)? + BEGIN.len()..];
    let mut base64 = body[..find(body, END)?].to_vec();
    base64.retain(|byte| !byte.is_ascii_whitespace());
    BASE64.decode(&base64).ok()
}

#[cfg(test)]
mod tests;
