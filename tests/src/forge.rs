//! Certificates as they are asked for, right or wrong (RFC 5280, 4.1): every field is given byte by byte.

use std::rc::Rc;

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::der::{BIT_STRING, CN, INTEGER, OID, SEQUENCE, UTF8, first, read, subject, tlv};

/// Somebody with a name, a key and a certificate.
#[derive(Clone)]
pub struct Holder {
    /// The subject, as DER.
    pub name: Vec<u8>,
    key: Rc<KeyPair>,
    /// The certificate.
    pub der: Vec<u8>,
}

/// A certificate to be.
#[derive(Clone)]
pub struct Draft {
    /// 1, 2 or 3.
    pub version: u8,
    /// Content of the INTEGER.
    pub serial: Vec<u8>,
    /// The subject, as DER.
    pub name: Vec<u8>,
    /// In place of the issuer's name.
    pub issuer: Option<Vec<u8>>,
    /// `notBefore` and `notAfter`, as DER.
    pub validity: [Vec<u8>; 2],
    /// The key; a new one of P-256 if there is none.
    pub key: Option<Rc<KeyPair>>,
    /// `issuerUniqueID` and `subjectUniqueID`, as DER.
    pub unique_ids: Vec<u8>,
    /// Each as DER.
    pub extensions: Vec<Vec<u8>>,
    /// Bytes after the end.
    pub after: Vec<u8>,
}

impl Holder {
    /// Its certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.der.clone().into()
    }

    /// Its key.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The same certificate under the signature of another one.
    #[must_use]
    pub fn with_signature_of(mut self, other: &Self) -> Self {
        let signed = |der: &[u8]| {
            let tbs = first(read(der).content);
            (tbs.to_vec(), read(der).content[tbs.len()..].to_vec())
        };
        self.der = tlv(SEQUENCE, &[signed(&self.der).0, signed(&other.der).1].concat());
        self
    }

    /// Its key, for other certificates.
    pub fn key(&self) -> Rc<KeyPair> {
        Rc::clone(&self.key)
    }
}

impl Draft {
    /// Valid from 2020 to 2045, without extensions.
    pub fn new(cn: &str) -> Self {
        Self {
            version: 3,
            serial: vec![0x5a, 1],
            name: name(cn),
            issuer: None,
            validity: [utc("200101000000Z"), utc("450101000000Z")],
            key: None,
            unique_ids: Vec::new(),
            extensions: Vec::new(),
            after: Vec::new(),
        }
    }

    /// An authority.
    pub fn authority(cn: &str) -> Self {
        Self::new(cn).with([basic_constraints(true, None), key_usage(KEY_CERT_SIGN | CRL_SIGN)])
    }

    /// A peer with this DNS name.
    pub fn peer(dns: &str) -> Self {
        Self::new("c").with([alternative_names(&[dns_name(dns)])])
    }

    /// With more extensions.
    #[must_use]
    pub fn with(mut self, extensions: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.extensions.extend(extensions);
        self
    }

    /// With only these extensions.
    #[must_use]
    pub fn only(mut self, extensions: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.extensions = extensions.into_iter().collect();
        self
    }

    /// Valid in other years, `YYMMDDHHMMSSZ`.
    #[must_use]
    pub fn valid(mut self, from: &str, until: &str) -> Self {
        self.validity = [utc(from), utc(until)];
        self
    }

    /// With the key of somebody else.
    #[must_use]
    pub fn key(mut self, key: Rc<KeyPair>) -> Self {
        self.key = Some(key);
        self
    }

    /// Signed by `issuer`.
    pub fn issue(self, issuer: &Holder) -> Holder {
        let key = self.own_key();
        let (name, der) = self.sign(&key, &issuer.name, &issuer.key);
        Holder { name, key, der }
    }

    /// Signed by itself.
    pub fn self_signed(self) -> Holder {
        let (key, own) = (self.own_key(), self.name.clone());
        let (name, der) = self.sign(&key, &own, &key);
        Holder { name, key, der }
    }

    fn own_key(&self) -> Rc<KeyPair> {
        self.key.clone().unwrap_or_else(|| Rc::new(KeyPair::generate().expect("a key")))
    }

    fn sign(self, key: &KeyPair, issuer: &[u8], issuer_key: &KeyPair) -> (Vec<u8>, Vec<u8>) {
        let algorithm = algorithm(issuer_key.algorithm());
        let version = match self.version {
            1 => Vec::new(),
            version => tlv(0xa0, &tlv(INTEGER, &[version - 1])),
        };
        let extensions = match &self.extensions[..] {
            [] => Vec::new(),
            extensions => tlv(0xa3, &tlv(SEQUENCE, &extensions.concat())),
        };
        let to_be_signed = tlv(
            SEQUENCE,
            &[
                version,
                tlv(INTEGER, &self.serial),
                algorithm.clone(),
                self.issuer.unwrap_or_else(|| issuer.to_vec()),
                tlv(SEQUENCE, &self.validity.concat()),
                self.name.clone(),
                key.subject_public_key_info(),
                self.unique_ids,
                extensions,
            ]
            .concat(),
        );
        let mut signature = vec![0]; // no unused bits
        signature.extend(issuer_key.sign(&to_be_signed).expect("a signature"));
        let parts = [to_be_signed, algorithm, tlv(BIT_STRING, &signature)].concat();
        (self.name, [tlv(SEQUENCE, &parts), self.after].concat())
    }
}

/// AlgorithmIdentifier of what `rcgen` signs by.
fn algorithm(algorithm: &SignatureAlgorithm) -> Vec<u8> {
    const NULL: &[u8] = &[5, 0];
    let known: [(&SignatureAlgorithm, &[u8], &[u8]); 7] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], &[]),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], &[]),
        (&rcgen::PKCS_ECDSA_P521_SHA512, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], &[]),
        (&rcgen::PKCS_ED25519, &[0x2b, 0x65, 0x70], &[]),
        (&rcgen::PKCS_RSA_SHA256, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], NULL),
        (&rcgen::PKCS_RSA_SHA384, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], NULL),
        (&rcgen::PKCS_RSA_SHA512, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], NULL),
    ];
    let (_, oid, parameters) =
        known.into_iter().find(|(it, ..)| *it == algorithm).expect("a known algorithm");
    tlv(SEQUENCE, &[&tlv(OID, oid), parameters].concat())
}

/// A name with a common name.
pub fn name(cn: &str) -> Vec<u8> {
    subject(&[&[(CN, UTF8, cn.as_bytes())]])
}

/// UTCTime, `YYMMDDHHMMSSZ`.
pub fn utc(time: &str) -> Vec<u8> {
    tlv(0x17, time.as_bytes())
}

/// GeneralizedTime, `YYYYMMDDHHMMSSZ`.
pub fn generalized(time: &str) -> Vec<u8> {
    tlv(0x18, time.as_bytes())
}

/// An extension.
pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { vec![1, 1, 0xff] } else { Vec::new() };
    tlv(SEQUENCE, &[tlv(OID, oid), critical, tlv(4, value)].concat())
}

/// An extension under 2.5.29, critical.
pub fn critical(number: u8, value: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, number], true, value)
}

/// An extension under 2.5.29, not critical.
pub fn uncritical(number: u8, value: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, number], false, value)
}

/// basicConstraints, critical.
pub fn basic_constraints(ca: bool, path_length: Option<u8>) -> Vec<u8> {
    critical(19, &basic_constraints_value(ca, path_length.as_ref().map(std::slice::from_ref)))
}

/// The value of basicConstraints.
pub fn basic_constraints_value(ca: bool, path_length: Option<&[u8]>) -> Vec<u8> {
    let ca = if ca { vec![1, 1, 0xff] } else { Vec::new() };
    let length = path_length.map_or(Vec::new(), |length| tlv(INTEGER, length));
    tlv(SEQUENCE, &[ca, length].concat())
}

/// Bits of keyUsage's first octet.
pub const DIGITAL_SIGNATURE: u8 = 0x80;
/// See [`DIGITAL_SIGNATURE`].
pub const KEY_ENCIPHERMENT: u8 = 0x20;
/// See [`DIGITAL_SIGNATURE`].
pub const KEY_AGREEMENT: u8 = 0x08;
/// See [`DIGITAL_SIGNATURE`].
pub const KEY_CERT_SIGN: u8 = 0x04;
/// See [`DIGITAL_SIGNATURE`].
pub const CRL_SIGN: u8 = 0x02;

/// keyUsage, critical.
pub fn key_usage(bits: u8) -> Vec<u8> {
    critical(15, &key_usage_value(bits))
}

/// The value of keyUsage.
pub fn key_usage_value(bits: u8) -> Vec<u8> {
    match bits {
        0 => tlv(BIT_STRING, &[0]),
        bits => tlv(BIT_STRING, &[u8::try_from(bits.trailing_zeros()).expect("a few"), bits]),
    }
}

/// extKeyUsage, not critical.
pub fn purposes(purposes: &[&[u8]]) -> Vec<u8> {
    uncritical(37, &tlv(SEQUENCE, &purposes.iter().map(|it| tlv(OID, it)).collect::<Vec<_>>().concat()))
}

/// 1.3.6.1.5.5.7.3.2
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// 1.3.6.1.5.5.7.3.1
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// 2.5.29.37.0
pub const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 37, 0];

/// subjectAltName, not critical.
pub fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    uncritical(17, &tlv(SEQUENCE, &names.concat()))
}

/// A GeneralName.
pub fn dns_name(name: &str) -> Vec<u8> {
    tlv(0x82, name.as_bytes())
}

/// A GeneralName.
pub fn mail(address: &str) -> Vec<u8> {
    tlv(0x81, address.as_bytes())
}

/// A GeneralName.
pub fn uri(uri: &str) -> Vec<u8> {
    tlv(0x86, uri.as_bytes())
}

/// A GeneralName: an address, or in constraints address and mask.
pub fn ip(bytes: &[u8]) -> Vec<u8> {
    tlv(0x87, bytes)
}

/// A GeneralName.
pub fn directory(name: &[u8]) -> Vec<u8> {
    tlv(0xa4, name)
}

/// The value of nameConstraints with permitted names.
pub fn constraints_value(permitted: &[Vec<u8>]) -> Vec<u8> {
    tlv(SEQUENCE, &tlv(0xa0, &permitted.iter().map(|name| tlv(SEQUENCE, name)).collect::<Vec<_>>().concat()))
}

/// nameConstraints, critical.
pub fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let subtrees = |tag, names: &[Vec<u8>]| match names {
        [] => Vec::new(),
        names => tlv(tag, &names.iter().map(|name| tlv(SEQUENCE, name)).collect::<Vec<_>>().concat()),
    };
    critical(30, &tlv(SEQUENCE, &[subtrees(0xa0, permitted), subtrees(0xa1, excluded)].concat()))
}

/// subjectKeyIdentifier.
pub fn subject_key(id: &[u8]) -> Vec<u8> {
    uncritical(14, &tlv(4, id))
}

/// authorityKeyIdentifier with a key.
pub fn authority_key(id: &[u8]) -> Vec<u8> {
    uncritical(35, &tlv(SEQUENCE, &tlv(0x80, id)))
}

/// authorityKeyIdentifier with name and serial number of the issuer's certificate.
pub fn authority_serial(issuer: &[u8], serial: &[u8]) -> Vec<u8> {
    let names = tlv(0xa1, &directory(issuer));
    uncritical(35, &tlv(SEQUENCE, &[names, tlv(0x82, serial)].concat()))
}

/// PEM (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let body: Vec<_> =
        base64(der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"))
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let shifted = group.iter().zip([16, 8, 0]).map(|(byte, shift)| usize::from(*byte) << shift);
        let number: usize = shifted.sum();
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            text.push(if index <= group.len() { char::from(DIGITS[number >> shift & 0x3f]) } else { '=' });
        }
    }
    text
}
