//! Bounds on what comes from outside. Each exists so that work and memory per decision are bounded too.

/// Largest policy document, in bytes. 100,000 rules of ordinary length fit.
pub const DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// Most entries of `authorized-peers`.
pub const RULES: usize = 100_000;

/// Longest `must-match`, in bytes. A DNS name has at most 253 (RFC 1035), a SPIFFE ID at most 2,048.
pub const PATTERN_BYTES: usize = 4096;

/// Largest certificate that is parsed, in bytes of DER. TLS stacks refuse handshake messages beyond 64 KiB.
pub const CERTIFICATE_BYTES: usize = 128 * 1024;

/// Most subject alternative names that are read from one certificate.
pub const NAMES: usize = 10_000;
