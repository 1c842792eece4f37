//! Fields that say who a peer is: the filter's to write, and nobody else's.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use http::header::HeaderName;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::client_body::ClientBody;
use super::hop;

/// Removes `x-peergate-*` and `x-forwarded-client-cert`, also spelt with `_`, which some servers read as `-`: as the filter does
/// with what comes in.
pub(super) fn strip(fields: &mut HeaderMap) {
    let told: Vec<HeaderName> = fields.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in told {
        fields.remove(name);
    }
}

fn is_identity(name: &HeaderName) -> bool {
    let folded = name.as_str().replace('_', "-");
    folded.starts_with("x-peergate-") || folded == "x-forwarded-client-cert"
}

/// The body of a local program's request; its trailers do not say who a peer is.
#[derive(Debug)]
pub(super) struct Unidentified(pub(super) ClientBody);

impl Body for Unidentified {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let stripped = |frame: Frame<Bytes>| match frame.into_trailers() {
            Ok(mut trailers) => {
                hop::strip_known(&mut trailers);
                strip(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(data) => data,
        };
        Pin::new(&mut self.0).poll_frame(context).map_ok(stripped)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn what_says_who_a_peer_is_goes_and_all_else_stays() {
        let names = [
            "x-peergate-policy",
            "X-Peergate-",
            "x_peergate_subject",
            "x-peergate_capabilities",
            "x-forwarded-client-cert",
            "X_Forwarded-Client_Cert",
            "x-peergate",
            "x-forwarded-client-cert-chain",
            "x-forwarded-for",
        ];
        let field = |name: &str| {
            (HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_static("1"))
        };
        let mut fields: HeaderMap = names.into_iter().chain(names).map(field).collect();
        strip(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-forwarded-client-cert-chain", "x-forwarded-for", "x-peergate"]);
    }
}
