//! The decision engine of Peergate: who may talk to a service, decided from a TLS peer's certificate.
//!
//! Bytes in, [`Decision`] out. No I/O, no clock, no environment, no logging: the same crate is in `filter.wasm` inside
//! Envoy and inside the host, and in the command line.
//!
//! ```
//! use peergate_policy::{Decision, PeerIdentity, Policy};
//!
//! let policy = Policy::parse(
//!     r#"{"authorized-peers": [{"name": "monitoring", "required-credentials": [
//!         {"field": "CN", "must-match": "vespa-monitoring.example.com"},
//!         {"field": "SAN_DNS", "must-match": "*.us-east-*.monitor.example.com"}]}]}"#,
//! )?;
//! let mut peer = PeerIdentity {
//!     common_name: Some("vespa-monitoring.example.com".into()),
//!     dns_names: vec!["m1.us-east-1a.monitor.example.com".into()],
//!     ..PeerIdentity::default()
//! };
//! assert!(matches!(policy.authorize(&peer), Decision::Allow(_)));
//!
//! peer.dns_names = vec!["m1.eu-west-1a.monitor.example.com".into()];
//! assert!(matches!(policy.authorize(&peer), Decision::Deny(_)));
//! let report = policy.explain(&peer).next().expect("one rule");
//! assert_eq!(report.failed.expect("did not match").field.as_str(), "SAN_DNS");
//! # Ok::<(), peergate_policy::PolicyError>(())
//! ```
//!
//! A denial is a value; `Err` is for a policy document that cannot be read.

mod address;
pub mod bearer;
mod capability;
mod certificate;
mod compatibility;
mod configuration;
mod data_plane;
mod decision;
pub mod der;
mod distinguished_name;
mod document;
mod error;
mod escape;
mod explanation;
mod files;
mod holders;
mod http_capabilities;
mod identity;
mod index;
mod json;
pub mod limits;
mod mode;
mod names;
pub mod path;
pub mod pattern;
pub mod pem;
mod permission;
mod policy;
mod request;
mod rule;
mod rules;
mod schema;
mod seal;
pub mod spiffe;
pub mod tls;
pub mod token;
mod trie;
mod unix_time;
mod upstream_headers;
mod warning;
mod work;

pub use address::{AddressBlock, AddressBlockError};
pub use capability::CapabilitySet;
pub use compatibility::Compatibility;
pub use configuration::{Configuration, Endpoint, EndpointError, Service};
pub use data_plane::{CertificateTrust, ClientGrant, DataPlane, TokenUse};
pub use decision::{Decision, Denial, DenyReason, Grant, Matched};
pub use distinguished_name::rfc2253;
pub use error::{Hint, PolicyError, PolicyErrorKind};
pub use explanation::{FailedCredential, RuleReport};
pub use files::{Files, RequiredFiles};
pub use identity::{Certificate, Digest, PeerIdentity, Validity, digest_from_hex, sha256};
pub use index::{DigestIndex, Index};
pub use mode::Mode;
pub use permission::{Permission, Permissions};
pub use policy::Policy;
pub use request::Request;
pub use rule::{Credential, Field, Rule};
pub use seal::SealError;
pub use unix_time::{UnixTime, UnixTimeError};
pub use upstream_headers::UpstreamHeaders;
pub use warning::PolicyWarning;
