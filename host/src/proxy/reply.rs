//! Replies of our own, in place of the upstream's.

use http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use hyper::body::Bytes;

use super::headers;
use crate::wasm::LocalReply;

/// A local reply before it has a body type.
pub(super) type Reply = Box<Response<Bytes>>;

/// How the client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Status, fields and body as they are.
    Plain,
    /// gRPC: a client sees only `grpc-status`, so the answer is HTTP 200 with trailers only.
    Grpc,
}

impl Dialect {
    /// As Envoy's `Grpc::Common::isGrpcRequestHeaders`: `application/grpc` and `application/grpc+...`, not grpc-web. Who asks
    /// for a tunnel is told by the status alone: gRPC's 200 would grant it (RFC 9110 section 9.3.6, RFC 8441 section 5).
    pub(super) fn of(method: &Method, upgrades: bool, headers: &HeaderMap) -> Self {
        if upgrades || method == Method::CONNECT {
            return Self::Plain;
        }
        let rest =
            headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
        match rest {
            Some([] | [b'+' | b';' | b' ', ..]) => Self::Grpc,
            _ => Self::Plain,
        }
    }

    /// An error of the host: JSON, and nothing about why.
    pub(super) fn error(self, status: StatusCode) -> Reply {
        let message = status.canonical_reason().unwrap_or("Error");
        let body = format!(r#"{{"code":{},"message":"{message}"}}"#, status.as_u16());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 section 15.5.6: the field is required.
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
        }
        self.reply(status, headers, body.into_bytes(), None)
    }

    /// 503 for what is over a limit. Nothing of it was begun, so it may be sent again.
    pub(super) fn overloaded(self) -> Reply {
        let mut reply = self.error(StatusCode::SERVICE_UNAVAILABLE);
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }

    /// What the filter answered. A reply that is no HTTP message is an error of ours, never an admission.
    pub(super) fn local(self, reply: LocalReply) -> Reply {
        let status = StatusCode::from_u16(reply.status).ok().filter(|status| status.as_u16() >= 200);
        match (status, headers::plain_from_pairs(reply.headers)) {
            (Some(status), Ok(fields)) => self.reply(status, fields, reply.body, reply.grpc_status),
            _ => self.error(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    fn reply(self, status: StatusCode, mut headers: HeaderMap, body: Vec<u8>, grpc: Option<u32>) -> Reply {
        let (status, body) = match self {
            // RFC 9110 section 6.4.1: there is none.
            Self::Plain if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => {
                headers.remove(CONTENT_TYPE);
                (status, Vec::new())
            }
            Self::Plain => {
                // As Envoy's local replies.
                if body.is_empty() {
                    headers.remove(CONTENT_TYPE);
                } else if !headers.contains_key(CONTENT_TYPE) {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                }
                (status, body)
            }
            Self::Grpc => {
                let code = grpc.unwrap_or_else(|| grpc_status(status));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert("grpc-status", HeaderValue::from(code));
                if !body.is_empty() {
                    headers.insert("grpc-message", percent_encoded(&body));
                }
                (StatusCode::OK, Vec::new())
            }
        };
        let mut response = Box::new(Response::new(Bytes::from(body)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// gRPC's own table (grpc/doc/http-grpc-status-mapping.md), which Envoy follows too.
fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// `grpc-message` (PROTOCOL-HTTP2.md): all but printable ASCII, and the percent sign, are encoded.
fn percent_encoded(body: &[u8]) -> HeaderValue {
    let mut text = String::with_capacity(body.len());
    for byte in body {
        match byte {
            b' '..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden() -> LocalReply {
        LocalReply {
            status: 403,
            headers: vec![(b"content-type".to_vec(), b"application/json".to_vec())],
            body: b"{\"code\":403}\n100%".to_vec(),
            grpc_status: None,
        }
    }

    fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        reply.headers().get(name).map(|value| value.to_str().expect("text"))
    }

    #[test]
    fn a_plain_reply_is_what_the_filter_said() {
        let reply = Dialect::Plain.local(forbidden());
        assert_eq!(reply.status(), StatusCode::FORBIDDEN);
        assert_eq!(field(&reply, "content-type"), Some("application/json"));
        assert_eq!(reply.body().as_ref(), b"{\"code\":403}\n100%");
    }

    #[test]
    fn a_grpc_reply_is_trailers_only() {
        let reply = Dialect::Grpc.local(forbidden());
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(field(&reply, "content-type"), Some("application/grpc"));
        assert_eq!(field(&reply, "grpc-status"), Some("7"));
        assert_eq!(field(&reply, "grpc-message"), Some("{\"code\":403}%0A100%25"));
        assert!(reply.body().is_empty());
    }

    #[test]
    fn the_filters_grpc_status_wins_over_the_table() {
        let reply = Dialect::Grpc.local(LocalReply { grpc_status: Some(9), ..forbidden() });
        assert_eq!(field(&reply, "grpc-status"), Some("9"));
    }

    #[test]
    fn http_statuses_map_as_the_grpc_table_says() {
        let table = [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (418, 2),
            (500, 2),
        ];
        for (status, expected) in table {
            assert_eq!(grpc_status(StatusCode::from_u16(status).expect("a status")), expected, "{status}");
        }
    }

    #[test]
    fn only_grpc_content_types_are_grpc() {
        let typed = |value| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        let dialect = |value: &'static str| Dialect::of(&Method::POST, false, &typed(value));
        assert_eq!(dialect("application/grpc"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc+proto"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc-web"), Dialect::Plain);
        assert_eq!(dialect("application/json"), Dialect::Plain);
        assert_eq!(Dialect::of(&Method::POST, false, &HeaderMap::new()), Dialect::Plain);
        // A 200 would grant what is asked for.
        assert_eq!(Dialect::of(&Method::CONNECT, false, &typed("application/grpc")), Dialect::Plain);
        assert_eq!(Dialect::of(&Method::GET, true, &typed("application/grpc")), Dialect::Plain);
    }

    #[test]
    fn a_reply_that_is_no_message_becomes_503() {
        for broken in [
            LocalReply { status: 101, ..forbidden() },
            LocalReply { status: 1000, ..forbidden() },
            LocalReply { headers: vec![(b"x".to_vec(), b"a\nb".to_vec())], ..forbidden() },
        ] {
            assert_eq!(Dialect::Plain.local(broken).status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
