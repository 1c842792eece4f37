//! TLS versions and cipher suites a policy may name (Vespa `TlsContext.java`, `iana_cipher_map.cpp`).

/// Values of `accepted-protocols`.
pub const PROTOCOLS: &[&str] = &["TLSv1.2", "TLSv1.3"];

/// Values of `accepted-ciphers`, IANA names: Vespa's defaults, and the default suites of rustls.
pub const CIPHER_SUITES: &[&str] = &[
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
