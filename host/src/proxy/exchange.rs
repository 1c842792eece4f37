//! One request: judged, forwarded, answered.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::activity::Activity;
use super::body::{Answer, Filtered, ResponseBody, SharedStream};
use super::headers::{self, RequestHead};
use super::reply::{Dialect, Reply};
use super::roster::Member;
use super::upstream::Upstream;
use super::{hop, limits, request};
use crate::audit::{Asked, Audit};
use crate::wasm::Outcome;

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) member: Rc<Member>,
    pub(super) upstream: Rc<Upstream>,
    pub(super) activity: Rc<Activity>,
    pub(super) audit: Rc<Audit>,
}

/// A request the filter let pass.
struct Judged {
    head: RequestHead,
    stream: SharedStream,
    dialect: Dialect,
}

impl Exchange {
    /// Answers one request; a failure is an answer too.
    pub(super) async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let in_flight = self.activity.request();
        let (parts, body) = request.into_parts();
        let drainable = !parts.headers.contains_key(EXPECT);
        let response = match self.judge(parts, body.is_end_stream()) {
            Ok(judged) => self.forward(judged, body).await,
            Err(reply) => {
                if drainable {
                    discard(body);
                }
                (*reply).map(|body| Either::Right(Full::new(body)))
            }
        };
        Ok(response.map(|body| ResponseBody::new(body, in_flight)))
    }

    /// Asks the filter. Until it said "continue", nothing of the request leaves this function but a reply.
    fn judge(&self, parts: Parts, end_of_stream: bool) -> Result<Judged, Reply> {
        let dialect = Dialect::of(&parts.headers);
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let head = request::head(parts).map_err(|bad| {
            let asked = Asked { method: method.as_str(), path: uri.path() };
            self.audit.request(self.member.connection.source, asked, Some(bad.status()), None);
            dialect.error(bad.status())
        })?;
        let length = head.headers.get(CONTENT_LENGTH).cloned();
        let mut stream = self.member.endpoint().worker.open_stream(&self.member.connection);
        let outcome = stream.request_headers(head.to_pairs(), end_of_stream);
        let judged = match outcome {
            Outcome::Continue(pairs) => RequestHead::from_pairs(pairs, length).map_err(|error| {
                self.audit.fault(self.member.connection.source, &error);
                dialect.error(StatusCode::SERVICE_UNAVAILABLE)
            }),
            Outcome::Reply(reply) => Err(dialect.local(reply)),
            Outcome::Failed(reason) => {
                self.audit.fault(self.member.connection.source, &reason);
                Err(dialect.error(StatusCode::SERVICE_UNAVAILABLE))
            }
        };
        let asked = Asked { method: head.method.as_str(), path: head.path.path() };
        let status = judged.as_ref().err().map(|reply| reply.status());
        self.audit.request(self.member.connection.source, asked, status, stream.decision());
        Ok(Judged { head: judged?, stream: Rc::new(RefCell::new(stream)), dialect })
    }

    async fn forward(&self, judged: Judged, body: Incoming) -> Response<Answer> {
        let Judged { head, stream, dialect } = judged;
        let body = Filtered::request(body, Rc::clone(&stream));
        let reply = match self.upstream.send(head, body).await {
            // The upgrade was not forwarded, so nobody asked for another protocol.
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.audit.upstream(self.member.connection.source, &"switched protocols unasked");
                dialect.error(StatusCode::BAD_GATEWAY)
            }
            Ok(response) => match self.judge_response(response, stream, dialect) {
                Ok(response) => return response.map(Either::Left),
                Err(reply) => reply,
            },
            Err(error) if error.is_of_body() => {
                self.audit.protocol(self.member.connection.source, &error);
                dialect.error(StatusCode::BAD_REQUEST)
            }
            Err(error) => {
                self.audit.upstream(self.member.connection.source, &error);
                dialect.error(StatusCode::BAD_GATEWAY)
            }
        };
        (*reply).map(|body| Either::Right(Full::new(body)))
    }

    fn judge_response(
        &self,
        response: Response<Incoming>,
        stream: SharedStream,
        dialect: Dialect,
    ) -> Result<Response<Filtered>, Reply> {
        let (mut parts, body) = response.into_parts();
        if !request::is_framed_once(&parts.headers) {
            self.audit.upstream(
                self.member.connection.source,
                &"two lengths, or a transfer coding besides chunked",
            );
            return Err(dialect.error(StatusCode::BAD_GATEWAY));
        }
        hop::strip(&mut parts.headers);
        let length = parts.headers.get(CONTENT_LENGTH).cloned();
        let pairs = headers::response_to_pairs(parts.status, &parts.headers);
        let outcome = stream.borrow_mut().response_headers(pairs, body.is_end_stream());
        let (status, headers): (StatusCode, HeaderMap) = match outcome {
            Outcome::Continue(pairs) => headers::response_from_pairs(pairs, length).map_err(|error| {
                self.audit.fault(self.member.connection.source, &error);
                dialect.error(StatusCode::SERVICE_UNAVAILABLE)
            })?,
            Outcome::Reply(reply) => return Err(dialect.local(reply)),
            Outcome::Failed(reason) => {
                self.audit.fault(self.member.connection.source, &reason);
                return Err(dialect.error(StatusCode::SERVICE_UNAVAILABLE));
            }
        };
        let mut response = Response::new(Filtered::response(body, stream));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Reads the body of a refused request to its end, within bounds: the client is still writing, and closing under it
/// would reset the connection, or the stream in HTTP/2, before it sees why. A client that waits for `100 Continue` never
/// sends the body.
fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    spawn_local(async move {
        let mut left = limits::LINGER_BYTES;
        let read = async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
                if left == 0 {
                    return;
                }
            }
        };
        // Running out of time is an ordinary end here.
        let _ = timeout(limits::LINGER, read).await;
    });
}
