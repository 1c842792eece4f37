//! Bounds on what comes from outside. Each exists so that work and memory per decision are bounded too.

/// Largest policy document, in bytes. What fits into the 64 MiB of a VM of the host is the narrower limit: about 40,000
/// rules of ordinary length, or 100,000 clients with a token each.
pub const DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// Most entries of `authorized-peers`.
pub const RULES: usize = 100_000;

/// Longest `must-match`, in bytes. A DNS name has at most 253 (RFC 1035), a SPIFFE ID at most 2,048.
pub const PATTERN_BYTES: usize = 2048;

/// Most labels of a `must-match`. A DNS name has at most 127.
pub const PATTERN_LABELS: usize = 128;

/// Longest label with `?`, in bytes. A label of a DNS name has at most 63.
pub const MASKED_LABEL_BYTES: usize = 256;

/// Most work of finding the rules that match one peer, in bytes of names compared to globs. A certificate and a policy that
/// need more are refused together, with the reason `too-costly`: without an end, one peer could stall a proxy.
pub const MATCHING_WORK: usize = 4 * 1024 * 1024;

/// Largest certificate that is parsed, in bytes of DER. TLS stacks refuse handshake messages beyond 64 KiB.
pub const CERTIFICATE_BYTES: usize = 96 * 1024;

/// Most subject alternative names that are read from one certificate.
pub const NAMES: usize = 10_000;
