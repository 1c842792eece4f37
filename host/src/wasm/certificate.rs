//! The peer's leaf certificate in the forms properties are asked in.

/// A leaf certificate; its text forms are made once, when first asked for.
#[derive(Debug)]
pub struct PeerCertificate {
    der: Vec<u8>,
}

impl PeerCertificate {
    /// Keeps the bytes as presented; they need not parse.
    pub fn from_der(der: &[u8]) -> Self {
        Self { der: der.to_vec() }
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}
