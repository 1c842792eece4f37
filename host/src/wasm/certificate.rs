//! The peer's leaf certificate in the forms properties are asked in.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::subject::rfc2253;

/// A leaf certificate. Each other form is made once, when first asked for, and serves every request of a connection.
#[derive(Debug)]
pub struct PeerCertificate {
    der: Vec<u8>,
    pem: OnceCell<Arc<[u8]>>,
    digest: OnceCell<Arc<[u8]>>,
    names: OnceCell<Names>,
}

/// What Envoy prints of a certificate; each is absent where the certificate does not carry it or does not parse.
#[derive(Debug, Default)]
struct Names {
    subject: Option<Arc<[u8]>>,
    dns_san: Option<Arc<[u8]>>,
    uri_san: Option<Arc<[u8]>>,
}

impl PeerCertificate {
    /// Keeps the bytes as presented; they need not parse.
    pub fn from_der(der: &[u8]) -> Self {
        Self { der: der.to_vec(), pem: OnceCell::new(), digest: OnceCell::new(), names: OnceCell::new() }
    }

    /// As from a proxy that states the digest of `other` for it.
    #[cfg(test)]
    pub(super) fn stating(self, other: &Self) -> Self {
        Self { digest: other.digest().into(), ..self }
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER, 64 lower-case hex digits.
    pub fn sha256(&self) -> String {
        String::from_utf8_lossy(&self.digest()).into_owned()
    }

    /// The subject (RFC 2253), if the certificate parses.
    pub fn subject_text(&self) -> Option<String> {
        self.subject().map(|subject| String::from_utf8_lossy(&subject).into_owned())
    }

    /// `connection.peer_certificate`: PEM with line feeds, ending in one.
    pub(super) fn pem(&self) -> Arc<[u8]> {
        Arc::clone(self.pem.get_or_init(|| {
            let block = pem::Pem::new("CERTIFICATE", self.der.as_slice());
            let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
            pem::encode_config(&block, lines).into_bytes().into()
        }))
    }

    /// `connection.sha256_peer_certificate_digest`: SHA-256 of the DER as 64 lower-case hex digits.
    pub(super) fn digest(&self) -> Arc<[u8]> {
        Arc::clone(self.digest.get_or_init(|| {
            let mut hex = String::with_capacity(64);
            for byte in Sha256::digest(&self.der) {
                // Writing to a string does not fail.
                let _ = write!(hex, "{byte:02x}");
            }
            hex.into_bytes().into()
        }))
    }

    /// `connection.subject_peer_certificate`: the subject as RFC 2253 text.
    pub(super) fn subject(&self) -> Option<Arc<[u8]>> {
        self.names().subject.clone()
    }

    /// `connection.dns_san_peer_certificate`: the first DNS name, as Envoy.
    pub(super) fn dns_san(&self) -> Option<Arc<[u8]>> {
        self.names().dns_san.clone()
    }

    /// `connection.uri_san_peer_certificate`: the first URI, as Envoy.
    pub(super) fn uri_san(&self) -> Option<Arc<[u8]>> {
        self.names().uri_san.clone()
    }

    fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::read(&self.der).unwrap_or_default())
    }
}

impl Names {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let sans = certificate
            .subject_alternative_name()
            .ok()?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let first = |pick: fn(&GeneralName<'_>) -> Option<Arc<[u8]>>| sans.iter().find_map(pick);
        Some(Self {
            subject: Some(rfc2253(certificate.subject()).into_bytes().into()),
            dns_san: first(|name| match name {
                GeneralName::DNSName(text) => Some(text.as_bytes().into()),
                _ => None,
            }),
            uri_san: first(|name| match name {
                GeneralName::URI(text) => Some(text.as_bytes().into()),
                _ => None,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> PeerCertificate {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into(), "b.example".into()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/x".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "x,CN=admin");
        params.distinguished_name.push(rcgen::DnType::CommonName, "peer");
        let key = rcgen::KeyPair::generate().unwrap();
        PeerCertificate::from_der(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn pem_and_digest_are_the_ones_of_the_der() {
        let peer = certificate();
        let pem = String::from_utf8(peer.pem().to_vec()).unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
        assert!(pem.ends_with("-----END CERTIFICATE-----\n"), "{pem}");
        assert!(!pem.contains('\r'));
        assert_eq!(pem::parse(&pem).unwrap().contents(), peer.der());
        // `printf abc | openssl dgst -sha256`
        let abc = PeerCertificate::from_der(b"abc").digest();
        assert_eq!(&*abc, b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".as_slice());
    }

    #[test]
    fn names_are_the_ones_envoy_prints() {
        let peer = certificate();
        assert_eq!(peer.subject().as_deref(), Some(&br"CN=peer,O=x\,CN=admin"[..]));
        assert_eq!(peer.dns_san().as_deref(), Some(&b"a.example"[..]));
        assert_eq!(peer.uri_san().as_deref(), Some(&b"spiffe://td/x"[..]));
    }

    #[test]
    fn bytes_that_do_not_parse_have_no_names() {
        let peer = PeerCertificate::from_der(b"\x30\x03abc");
        assert!(peer.subject().is_none() && peer.dns_san().is_none() && peer.uri_san().is_none());
    }
}
