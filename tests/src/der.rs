//! Certificates that no well-meaning library writes: subjects given byte by byte, and versions of X.509.

use peergate_host::pki::{Authority, Leaf};
use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::CertificateDer;

/// UTF8String.
pub const UTF8: u8 = 0x0c;
/// PrintableString.
pub const PRINTABLE: u8 = 0x13;
/// BMPString: UTF-16, big-endian.
pub const BMP: u8 = 0x1e;

/// The attribute types used here, as encoded object identifiers.
pub const CN: &[u8] = &[0x55, 4, 3];
/// Organisation.
pub const O: &[u8] = &[0x55, 4, 10];

/// Type, string tag and bytes of an attribute.
pub type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

/// The DER of a subject: a list of relative names, each with one attribute or more.
pub fn subject(names: &[&[Attribute<'_>]]) -> Vec<u8> {
    let sets: Vec<u8> = names.iter().flat_map(|attributes| relative_name(attributes)).collect();
    tlv(SEQUENCE, &sets)
}

/// A certificate as `leaf` says, but with this subject, signed by `authority`. The key of the certificate is the
/// credential's.
///
/// # Panics
/// The certificate cannot be made.
pub fn with_subject(authority: &Authority, leaf: &Leaf, subject: &[u8]) -> peergate_host::pki::Credential {
    let mut credential = authority.issue(leaf).expect("a certificate");
    credential.chain[0] = signed_again(authority.key(), credential.leaf(), |tbs| {
        let (before, rest) = skip(tbs, SUBJECT_INDEX);
        [before, subject, read(rest).rest].concat()
    });
    credential
}

/// A certificate of version 1 made one of version 2, which no tool writes, and signed by `key` again.
///
/// # Panics
/// There is no signature.
pub fn of_version_2(key: &KeyPair, certificate: &[u8]) -> CertificateDer<'static> {
    signed_again(key, certificate, |tbs| [&[VERSION, 3, INTEGER, 1, 1], tbs].concat())
}

/// With the content of its TBSCertificate changed.
fn signed_again(
    key: &KeyPair,
    certificate: &[u8],
    change: impl FnOnce(&[u8]) -> Vec<u8>,
) -> CertificateDer<'static> {
    let tbs = read(read(certificate).content);
    let tbs_der = tlv(SEQUENCE, &change(tbs.content));
    let algorithm = &tbs.rest[..tbs.rest.len() - read(tbs.rest).rest.len()];
    let mut signature = vec![0]; // no unused bits
    signature.extend(key.sign(&tbs_der).expect("a signature"));
    tlv(SEQUENCE, &[&tbs_der, algorithm, &tlv(BIT_STRING, &signature)].concat()).into()
}

/// version, serialNumber, signature, issuer and validity come before the subject (RFC 5280, 4.1).
const SUBJECT_INDEX: usize = 5;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// The field `version` of TBSCertificate.
const VERSION: u8 = 0xa0;
/// SET.
pub const SET: u8 = 0x31;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;

fn relative_name(attributes: &[Attribute<'_>]) -> Vec<u8> {
    let mut encoded: Vec<_> = attributes
        .iter()
        .map(|(kind, tag, value)| tlv(SEQUENCE, &[tlv(OID, kind), tlv(*tag, value)].concat()))
        .collect();
    encoded.sort(); // DER: the elements of a SET OF are in order
    tlv(SET, &encoded.concat())
}

pub(crate) struct Element<'a> {
    pub(crate) content: &'a [u8],
    rest: &'a [u8],
}

pub(crate) fn read(der: &[u8]) -> Element<'_> {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let bytes = &der[2..2 + usize::from(long & 0x7f)];
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 2 + bytes.len())
        }
    };
    Element { content: &der[start..start + length], rest: &der[start + length..] }
}

/// The first element, whole.
pub(crate) fn first(der: &[u8]) -> &[u8] {
    skip(der, 1).0
}

fn skip(der: &[u8], count: usize) -> (&[u8], &[u8]) {
    let rest = (0..count).fold(der, |rest, _| read(rest).rest);
    der.split_at(der.len() - rest.len())
}

/// An element: tag, length and content.
///
/// # Panics
/// The content is longer than 4 GiB.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a short element");
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => der.push(short),
        _ => der.extend([&[0x84][..], &length.to_be_bytes()].concat()),
    }
    // DER demands the shortest form of the length.
    if let [_, 0x84, leading @ ..] = der.clone().as_slice() {
        let zeros = leading.iter().take_while(|byte| **byte == 0).count();
        der = [&[tag, 0x84 - u8::try_from(zeros).expect("at most three")], &leading[zeros..]].concat();
    }
    der.extend_from_slice(content);
    der
}
