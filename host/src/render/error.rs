//! Why nothing was rendered.

use std::{fmt, path::PathBuf};

use peergate_policy::{Endpoint, PolicyError};

use super::envoy::Release;
use crate::config::Address;
use crate::files::{FileError, InlineError};

/// Why nothing was rendered.
#[derive(Debug)]
pub enum RenderError {
    /// The policy's file.
    File(FileError),
    /// The policy is no text.
    Encoding(PathBuf),
    /// The policy itself.
    Policy {
        /// Its file.
        path: PathBuf,
        /// What is wrong, and where.
        error: PolicyError,
    },
    /// A client's certificate that the policy names by file.
    Certificate {
        /// The policy's file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<InlineError>,
    },
    /// An endpoint without a policy.
    NoPolicy,
    /// The plugin configuration as a whole.
    Plugin(PolicyError),
    /// TCP where a filter is not shown the certificate of a connection.
    NoNetworkCertificate(Release),
    /// The PROXY protocol, which this does not render.
    ProxyProtocol,
    /// A host name to listen on.
    ListenerName(Address),
    /// Several files for what Envoy takes from one.
    SeveralRevocationLists(PathBuf),
    /// Cipher suites that Envoy cannot be restricted to.
    CipherSuites(PathBuf),
    /// An endpoint for which Istio has no TLS.
    NotInMesh(Endpoint),
    /// A name for one of several endpoints.
    NameMissing(Endpoint),
}

impl fmt::Display for RenderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(formatter, "policy: {error}"),
            Self::ProxyProtocol => formatter.write_str(
                "`upstream.proxy-protocol` is not rendered: add Envoy's upstream_proxy_protocol transport socket by hand, and leave the key out here",
            ),
            Self::Encoding(path) => {
                write!(formatter, "policy: `{}` is not UTF-8; save it as UTF-8", shown(path))
            }
            Self::Policy { path, error } => formatter.write_str(&error.in_file(path)),
            Self::Certificate { path, error } => formatter.write_str(&error.in_file(path)),
            Self::NoPolicy => {
                formatter.write_str("no policy: give `--policy FILE`, or name one for each endpoint")
            }
            Self::Plugin(error) => write!(formatter, "the filter's configuration: {error}"),
            Self::NoNetworkCertificate(release) => write!(
                formatter,
                "Envoy {release} shows no certificate to a filter of TCP connections; use 1.37 or later, or \
                 `--protocol http`"
            ),
            Self::ListenerName(address) => {
                write!(
                    formatter,
                    "Envoy listens on IP addresses, and `{address}` is a name; write its address"
                )
            }
            Self::SeveralRevocationLists(path) => write!(
                formatter,
                "{}: `files.crls` has several files, and Envoy takes one; write all lists into one",
                shown(path)
            ),
            Self::CipherSuites(path) => write!(
                formatter,
                "{}: Envoy cannot be restricted to these `accepted-ciphers` and `accepted-protocols`: with TLSv1.3 it \
                 always offers TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256; name all \
                 three, or accept TLSv1.2 only, with suites of it",
                shown(path)
            ),
            Self::NotInMesh(endpoint) => write!(
                formatter,
                "Istio has no TLS for an endpoint of kind `{}` here: sidecars serve `peer` (and `mtls` with \
                 `trusted-certificates: any`), gateways `token` too, over HTTP; use `peergate render envoy` for others",
                endpoint.as_str()
            ),
            Self::NameMissing(endpoint) => write!(
                formatter,
                "the endpoint `{}` is one of several and needs a `--name`, which tells what a client wants; make one \
                 with `peergate endpoint new`",
                endpoint.as_str()
            ),
        }
    }
}

impl std::error::Error for RenderError {}

fn shown(path: &std::path::Path) -> String {
    path.display().to_string().escape_debug().to_string()
}
