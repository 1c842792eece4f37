//! What an end-entity certificate shall say.

use std::net::IpAddr;

use peergate_policy::PeerIdentity;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use time::{Duration, OffsetDateTime};

use super::PkiError;

/// The kind of key a certificate is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// ECDSA with P-256.
    #[default]
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

impl Key {
    pub(super) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
    }
}

/// What an end-entity certificate shall say. Without further calls: valid from an hour ago for 90 days, for
/// client and server use, with an EC key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The names it carries.
    pub names: PeerIdentity,
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
    /// Extended key usages; empty leaves the extension out.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// The kind of its key.
    pub key: Key,
}

impl Leaf {
    /// A certificate without any name.
    pub fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            names: PeerIdentity::default(),
            not_before: now - Duration::HOUR,
            not_after: now + Duration::days(90),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            key: Key::P256,
        }
    }

    /// Sets the common name.
    #[must_use]
    pub fn cn(mut self, cn: &str) -> Self {
        self.names.common_name = Some(cn.to_owned());
        self
    }

    /// Adds a DNS name.
    #[must_use]
    pub fn dns(mut self, name: &str) -> Self {
        self.names.dns_names.push(name.to_owned());
        self
    }

    /// Adds a URI.
    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.names.uris.push(uri.to_owned());
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn ip(mut self, address: impl Into<IpAddr>) -> Self {
        self.names.addresses.push(address.into());
        self
    }

    /// Sets the validity.
    #[must_use]
    pub fn valid(mut self, not_before: OffsetDateTime, not_after: OffsetDateTime) -> Self {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }

    /// Was valid for a day and is no longer.
    #[must_use]
    pub fn expired(self) -> Self {
        let now = OffsetDateTime::now_utc();
        self.valid(now - Duration::days(2), now - Duration::DAY)
    }

    /// Sets the kind of key.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// The certificate parameters, for callers that need to change what this type cannot say.
    ///
    /// # Errors
    /// A DNS or URI name that is not ASCII: both are IA5String (RFC 5280, 4.2.1.6).
    pub fn to_params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(cn) = &self.names.common_name {
            params.distinguished_name.push(DnType::CommonName, cn.as_str());
        }
        for name in &self.names.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        for uri in &self.names.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.names.addresses.iter().copied().map(SanType::IpAddress));
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl Default for Leaf {
    fn default() -> Self {
        Self::new()
    }
}
