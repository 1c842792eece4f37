//! From webpki's errors to ours.

use peergate_policy::UnixTime;
use rustls_pki_types::CertificateDer;
use webpki::Error;
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser as _;
use x509_parser::public_key::PublicKey;

use super::certificate::Certificate;
use super::fault::Fault;
use super::verify::Purpose;
use crate::certificate_version::{Holder, UnsupportedVersion};
use crate::clock::instant;

/// A chain that webpki refused.
pub(super) struct Refused<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) purpose: Purpose,
}

impl Refused<'_> {
    /// webpki does not say which certificate it means: the first one that it can be.
    pub(super) fn fault(&self, error: Error) -> Fault {
        match error {
            Error::CertExpired { not_after, .. } => {
                let not_after = instant(not_after);
                Fault::Expired { holder: self.holder(|it| it.not_after == not_after), not_after }
            }
            Error::CertNotValidYet { not_before, .. } => {
                let not_before = instant(not_before);
                Fault::NotYetValid { holder: self.holder(|it| it.not_before == not_before), not_before }
            }
            Error::InvalidCertValidity => {
                let is_empty = |it: &Certificate<'_>| it.not_before > it.not_after;
                let not_after = self.find(is_empty).map_or(UnixTime::from_seconds(0), |(_, end)| end);
                Fault::Expired { holder: self.holder(is_empty), not_after }
            }
            Error::UnknownIssuer => Fault::UnknownAuthority,
            Error::EndEntityUsedAsCa => Fault::IssuerCannotSign { why: NOT_CA },
            Error::PathLenConstraintViolated => Fault::PathLength,
            Error::MaximumPathDepthExceeded => Fault::TooLong,
            Error::MaximumNameConstraintComparisonsExceeded
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumSignatureChecksExceeded => Fault::TooCostly,
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Fault::ExtendedKeyUsage {
                holder: self.holder(|it| !it.is_for(self.purpose.identifier())),
                purpose: self.purpose.word(),
            },
            Error::NameConstraintViolation => Fault::NameConstraint(
                "a name is outside of what an authority above may name; ask for a certificate without it"
                    .to_owned(),
            ),
            Error::UnsupportedCriticalExtension => self.critical_extension(),
            Error::UnsupportedCertVersion => self.version(),
            Error::InvalidSignatureForPublicKey => self.signature(),
            Error::UnsupportedSignatureAlgorithmContext(context) => {
                Fault::UnsupportedSignature(algorithm(&context.signature_algorithm_id))
            }
            Error::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
                Fault::UnsupportedSignature(algorithm(&context.signature_algorithm_id))
            }
            Error::CertNotValidForName(context) => Fault::OtherName {
                expected: context.expected.to_str().into_owned(),
                presented: context.presented.iter().map(|name| plain(name)).collect(),
            },
            _ => Fault::Malformed(self.broken()),
        }
    }

    /// A certificate of the chain of which `is` holds: whose it is, and its end.
    fn find(&self, is: impl Fn(&Certificate<'_>) -> bool) -> Option<(Holder, UnixTime)> {
        let mut chain = std::iter::once((self.purpose.holder(), self.leaf))
            .chain(self.intermediates.iter().map(|der| (Holder::Authority, der)));
        chain.find_map(|(holder, der)| {
            let certificate = Certificate::of(der)?;
            is(&certificate).then_some((holder, certificate.not_after))
        })
    }

    fn holder(&self, is: impl Fn(&Certificate<'_>) -> bool) -> Holder {
        self.find(is).map_or(Holder::Authority, |(holder, _)| holder)
    }

    fn broken(&self) -> Holder {
        let is_broken =
            webpki::EndEntityCert::try_from(self.leaf).is_err() || Certificate::of(self.leaf).is_none();
        if is_broken { self.purpose.holder() } else { Holder::Authority }
    }

    fn version(&self) -> Fault {
        let intermediates = self.intermediates.iter().map(AsRef::as_ref);
        let found = UnsupportedVersion::in_chain(self.leaf, self.purpose.holder(), intermediates);
        found.map_or_else(|| Fault::Malformed(self.broken()), Fault::Version)
    }

    fn critical_extension(&self) -> Fault {
        let critical = |der: &CertificateDer<'_>| {
            let certificate = parsed(der)?;
            let mut extensions = certificate.extensions().iter();
            let unknown = extensions.find(|it| it.critical && !KNOWN.contains(&&*it.oid.to_id_string()))?;
            Some(named(unknown.oid.to_id_string()))
        };
        let found = critical(self.leaf).map(|extension| (self.purpose.holder(), extension));
        let found = found.or_else(|| {
            self.intermediates.iter().find_map(critical).map(|extension| (Holder::Authority, extension))
        });
        match found {
            Some((holder, extension)) => Fault::CriticalExtension { holder, extension },
            None => Fault::Malformed(self.broken()),
        }
    }

    /// webpki calls a signature bad also where the key is one that it does not verify by.
    fn signature(&self) -> Fault {
        let key = self.intermediates.iter().find_map(|der| unsupported_key(der));
        match key {
            Some(key) => Fault::UnsupportedKey { holder: Holder::Authority, key },
            None => Fault::BadSignature,
        }
    }
}

/// What its key is, if no signature of it is verified.
pub(super) fn unsupported_key(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = parsed(der)?;
    let key = certificate.public_key();
    match key.parsed().ok()? {
        PublicKey::RSA(rsa) if !(2048..=8192).contains(&rsa.key_size()) => {
            Some(format!("an RSA key of {} bits", rsa.key_size()))
        }
        PublicKey::RSA(_) | PublicKey::EC(_) | PublicKey::Unknown(_) => None,
        PublicKey::DSA(_) => Some("a DSA key".to_owned()),
        _ => Some("a key of another kind".to_owned()),
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    parser.parse(der.as_ref()).ok().map(|(_, certificate)| certificate)
}

/// webpki writes the names of a certificate as `DnsName("x")` and `IpAddress(x)`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

/// The name of a signature algorithm; `identifier` is the content of AlgorithmIdentifier or of its OID.
fn algorithm(identifier: &[u8]) -> String {
    let known: [(&[u8], &str); 6] = [
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], "RSA with MD5"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], "RSA with SHA-1"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10], "RSA-PSS with these parameters"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], "ECDSA with SHA-1"),
        (&[0x2b, 0x65, 0x71], "Ed448"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4], "DSA"),
    ];
    let found = known.iter().find(|(oid, _)| identifier.windows(oid.len()).any(|it| it == *oid));
    found
        .map_or("an algorithm that is not verified, or not by a key of that kind", |(_, name)| name)
        .to_owned()
}

/// An extension that people know by name.
fn named(identifier: String) -> String {
    let known = [("2.5.29.32", "certificatePolicies"), ("2.5.29.36", "policyConstraints")];
    match known.iter().find(|(it, _)| *it == identifier) {
        Some((_, name)) => format!("{name} ({identifier})"),
        None => identifier,
    }
}

/// What webpki reads.
const KNOWN: [&str; 6] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.37"];

pub(super) const NOT_CA: &str = "is no authority (basicConstraints without CA:TRUE)";
pub(super) const NO_CERT_SIGN: &str = "has a keyUsage without keyCertSign";
