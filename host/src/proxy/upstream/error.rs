//! Why an upstream gave no response.

use std::fmt;
use std::io;

use http::StatusCode;

use crate::capacity::Limit;
use crate::tls::ConnectError;

/// Why the upstream gave no response. For the log; the client is told only "bad gateway".
#[derive(Debug)]
pub(in crate::proxy) enum UpstreamError {
    Connect(io::Error),
    /// There are too many connections already.
    Limit(Limit),
    Server(ConnectError),
    Exchange(hyper::Error),
    Authority,
    Changed,
    Gone,
    /// It said that it switches protocols, and not as it was asked to.
    Upgrade(&'static str),
    /// It did not answer an upgrade in time.
    Silent,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(formatter, "cannot connect: {error}"),
            Self::Exchange(error) => match std::error::Error::source(error) {
                Some(cause) => write!(formatter, "{error}: {cause}"),
                None => error.fmt(formatter),
            },
            Self::Server(error) => error.fmt(formatter),
            Self::Limit(limit) => limit.fmt(formatter),
            Self::Gone => formatter.write_str("the listener leads there no more"),
            Self::Changed => formatter.write_str("the server went over to HTTP/2 in between"),
            Self::Upgrade(what) => {
                write!(formatter, "its answer to the WebSocket handshake is wrong: {what}")
            }
            Self::Silent => formatter.write_str("it does not answer the WebSocket handshake"),
            Self::Authority => formatter.write_str("the authority makes no target"),
        }
    }
}

impl std::error::Error for UpstreamError {}

impl UpstreamError {
    /// Whether the request's own body broke off or was malformed: nothing the upstream could help.
    pub(in crate::proxy) fn is_of_body(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.is_user())
    }

    /// What the client is told.
    pub(in crate::proxy) fn status(&self) -> StatusCode {
        match self {
            error if error.is_of_body() => StatusCode::BAD_REQUEST,
            Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            Self::Limit(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}
