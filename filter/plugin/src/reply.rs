//! From a denial to what an HTTP client gets. The body says nothing about the rules; the log says everything.

use peergate_policy::DenyReason;

use crate::envoy::{self, HostCallError};

/// A complete answer.
pub(crate) struct Reply {
    status: u32,
    body: &'static str,
}

impl Reply {
    /// The status of every reason. A peer that is not admitted gets 403 (RFC 9110, 15.5.4): asking again with the same
    /// certificate is no use, and Vespa's clients do not retry it. 401 is for bearer tokens.
    pub(crate) fn denial(reason: DenyReason) -> Self {
        match reason {
            DenyReason::NoCertificate
            | DenyReason::ChainNotVerified
            | DenyReason::MalformedCertificate
            | DenyReason::MalformedName
            | DenyReason::NotYetValid
            | DenyReason::Expired
            | DenyReason::NoRuleMatched
            | DenyReason::NoCapabilities
            | DenyReason::TooCostly
            | DenyReason::NotSpiffe
            | DenyReason::ClockFailed
            | DenyReason::NoRequest
            | DenyReason::CertificateUnknown
            | DenyReason::PermissionMissing
            | DenyReason::TokenUnknown
            | DenyReason::TokenExpired
            | DenyReason::TokenAmbiguous
            | DenyReason::MethodUnknown
            | DenyReason::PathUnsafe
            | DenyReason::PathAmbiguous => {
                Self { status: 403, body: r#"{"code":403,"message":"Forbidden"}"# }
            }
            // As Vespa's `CapabilityEnforcingRequestHandler.java` answers.
            DenyReason::CapabilityMissing => Self {
                status: 403,
                body: r#"{"error-code":"403","message":"Missing required capabilities"}"#,
            },
            DenyReason::TokenMissing | DenyReason::TokenRepeated | DenyReason::TokenMalformed => {
                Self { status: 401, body: r#"{"code":401,"message":"Unauthorized"}"# }
            }
        }
    }

    /// The proxy could not do what it was told.
    pub(crate) fn failure() -> Self {
        Self { status: 503, body: r#"{"code":503,"message":"Service Unavailable"}"# }
    }

    /// The request is for another host (RFC 9110, 15.5.20).
    pub(crate) fn misdirected() -> Self {
        Self { status: 421, body: r#"{"code":421,"message":"Misdirected Request"}"# }
    }

    /// Sends it. `details` goes to the proxy's access log, as Envoy's `response_code_details`.
    pub(crate) fn send(&self, details: &str) -> Result<(), HostCallError> {
        let mut headers = vec![("content-type", "application/json"), ("cache-control", "no-store")];
        if self.status == 401 {
            // RFC 9110, 15.5.2
            headers.push(("www-authenticate", "Bearer"));
        }
        envoy::send_response(self.status, &format!("peergate_{details}"), &headers, self.body)
    }
}
