//! Lists and certificates made by OpenSSL, and judged by both.

mod oracle;
mod refused;
mod workshop;
