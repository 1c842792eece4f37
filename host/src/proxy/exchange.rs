//! One request: judged, forwarded, answered.

use std::convert::Infallible;
use std::rc::Rc;

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};

use super::active_request::{ActiveRequest, Ended};
use super::activity::Activity;
use super::admin_pages::AdminPages;
use super::body::{Answer, BodyError, Filtered, ResponseBody, without_body};
use super::client_body::ClientBody;
use super::filtered_reply::{noted, through};
use super::headers::{self, HeadersError, RequestHead};
use super::lane::Lane;
use super::length::{self, Passage, WrongLength};
use super::reply::{Dialect, Reply};
use super::request::{MALFORMED_BODY, Refused};
use super::roster::Member;
use super::slot::Slot;
use super::tally::Tally;
use super::tunnel::Waiting;
use super::upstream::{Upstream, UpstreamError};
use super::websocket::{Answered, Wish};
use super::{hop, request, websocket};
use crate::audit::{Asked, Audit};
use crate::wasm::{Direction, HeaderPairs, Interruption, Outcome, PAUSED_TOO_LONG, Stream};

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) member: Rc<Member>,
    pub(super) upstream: Rc<Upstream>,
    pub(super) activity: Rc<Activity>,
    pub(super) audit: Rc<Audit>,
    pub(super) tally: Rc<Tally>,
    /// What a request of HTTP/1.0 is for that names no authority; none where the authority chooses.
    pub(super) reached: Option<Authority>,
    /// Where the configuration has the admin pages on this listener.
    pub(super) admin: Option<AdminPages>,
    /// Whether clients may go on as WebSockets.
    pub(super) websocket: bool,
    /// What an HTTP/1 connection becomes when it has its last answer.
    pub(super) waiting: Waiting,
    /// What its connection counts as.
    pub(super) slot: Rc<Slot>,
    /// Its way to the service.
    pub(super) lane: Lane,
}

/// A request the filter let pass.
pub(super) struct Judged {
    head: RequestHead,
    pub(super) active: Rc<ActiveRequest>,
    pub(super) dialect: Dialect,
    wish: Option<Wish>,
}

impl Exchange {
    /// Answers one request; a failure is an answer too.
    pub(super) async fn answer(
        self: Rc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let in_flight = self.activity.request();
        let wish = self.websocket.then(|| Wish::of(&mut request)).flatten();
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let body = ClientBody::new(body, &parts.headers, Rc::clone(&in_flight));
        let (progress, version) = (body.progress(), parts.version);
        let mut response = match self.judge(parts, wish, body.is_end_stream()).await {
            Ok(judged) => match self.admin_page(&judged.head) {
                Some((admin, page)) => match self.member.connection.tls {
                    Some(_) => admin.answer(&judged.head.method, &page).await,
                    None => whole(self.refuse_without_tls(&judged)),
                },
                None => self.forward_within_limits(judged, body).await,
            },
            Err(reply) => {
                drop(body);
                whole(reply)
            }
        };
        progress.tell(&mut response, version);
        let response = if is_head { without_body(response) } else { response };
        Ok(response.map(|body| ResponseBody::new(body, in_flight)))
    }

    /// Asks the filter, and waits while it pauses. Until it said "continue", nothing of the request leaves this function but
    /// a reply.
    async fn judge(&self, parts: Parts, wish: Option<Wish>, end_of_stream: bool) -> Result<Judged, Reply> {
        let dialect = Dialect::of(&parts.method, wish.is_some(), &parts.headers);
        let version = parts.version;
        let head = request::head(parts, self.reached.clone());
        let mut head = head.map_err(|refused| self.refuse(dialect, version, &refused))?;
        if wish.is_some() {
            websocket::mark(&mut head.headers);
        }
        // What follows an upgrade is no body, but as in Envoy it is not the end either.
        let end_of_stream = end_of_stream && wish.is_none();
        let (length, ends) = (head.headers.get(CONTENT_LENGTH).cloned(), end_of_stream || wish.is_some());
        let Some((stream, outcome)) = self.ask(&head, end_of_stream).await else {
            let asked = Asked { method: head.method.as_str(), path: head.path.path() };
            self.audit.request(&self.member.whom, asked, Some(StatusCode::FORBIDDEN), None);
            return Err(dialect.error(StatusCode::FORBIDDEN));
        };
        let judged = match outcome {
            Outcome::Continue(pairs) => {
                let wish = wish.filter(|_| websocket::is_marked(&pairs));
                let body = Passage { ends, is_shown: stream.reads_body(Direction::Request) };
                length::of_request(&pairs, length.as_ref(), body)
                    .map_err(|_| self.failed(dialect, length::WRONG))
                    .and_then(|length| {
                        let head = RequestHead::from_pairs(pairs, length.map(HeaderValue::from));
                        head.map_err(|error| self.no_message(dialect, &error))
                    })
                    .map(|head| (head, wish))
            }
            Outcome::Reply(reply) => Err(self.local(&stream, dialect, dialect.local(reply)).await),
            Outcome::Failed(reason) => Err(self.failed(dialect, reason)),
        };
        let asked = Asked { method: head.method.as_str(), path: head.path.path() };
        let status = judged.as_ref().err().map(|reply| reply.status());
        self.audit.request(&self.member.whom, asked, status, stream.decision());
        let (judged, wish) = judged?;
        let active = ActiveRequest::enter(&self.member, head, Rc::new(stream));
        self.admit(Judged { head: judged, active, dialect, wish }).await
    }

    /// The answer to a request that no filter sees.
    fn refuse(&self, dialect: Dialect, version: Version, refused: &Refused) -> Reply {
        let Refused { why, method, path } = refused;
        let asked = Asked { method, path };
        self.tell_malformed(asked, why.status(), why.reason());
        let mut reply = dialect.error(why.status());
        if why.ends_connection() && version < Version::HTTP_2 {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    fn tell_malformed(&self, asked: Asked<'_>, status: StatusCode, reason: &'static str) {
        self.tally.refused(reason);
        self.audit.malformed(&self.member.whom, asked, status, reason);
    }

    /// Shows a request's head to the filter; again where another one has taken over while it paused. `None` on a
    /// connection that is no longer admitted.
    async fn ask(&self, head: &RequestHead, end_of_stream: bool) -> Option<(Stream, Outcome)> {
        while !self.member.is_dismissed() {
            let endpoint = self.member.endpoint();
            let stream = endpoint.worker.open_stream(&self.member.connection);
            let pairs = head.to_pairs(self.member.connection.scheme());
            let outcome = stream.head(Direction::Request, pairs, end_of_stream).await;
            if Rc::ptr_eq(&endpoint.worker, &self.member.endpoint().worker) && !self.member.is_dismissed() {
                return Some((stream, outcome));
            }
        }
        None
    }

    /// The admin page that an allowed request is for.
    fn admin_page(&self, head: &RequestHead) -> Option<(&AdminPages, String)> {
        let admin = self.admin.as_ref()?;
        Some((admin, admin.page_of(head.path.path())?.to_owned()))
    }

    /// The admin pages are for peers: whoever comes without TLS (mixed mode) is nobody, whatever the filter said.
    fn refuse_without_tls(&self, Judged { head, dialect, .. }: &Judged) -> Reply {
        let asked = Asked { method: head.method.as_str(), path: head.path.path() };
        self.audit.request(&self.member.whom, asked, Some(StatusCode::FORBIDDEN), None);
        dialect.error(StatusCode::FORBIDDEN)
    }

    pub(super) async fn forward(&self, judged: Judged, body: ClientBody) -> Response<Answer> {
        let Judged { head, active, dialect, wish } = judged;
        let stream = Rc::clone(&active.stream);
        let length = length::in_fields(&head.headers);
        let body = Filtered::request(body, Rc::clone(&active), length);
        let upstream = self.member.upstream().unwrap_or_else(|| Rc::clone(&self.upstream));
        let body = Either::Left(body);
        let sending = async {
            match wish {
                Some(_) => websocket::offer(&upstream, head, body).await,
                None => upstream.send(head, body, &self.lane).await.map(Answered::Plain),
            }
        };
        let sent = tokio::select! {
            sent = sending => sent,
            why = stream.interrupted(), if may_be_interrupted(&stream) => {
                return whole(self.early(&stream, dialect, why).await);
            }
            how = active.ended() => return whole(ended(dialect, how)),
        };
        let reply = match sent {
            Ok(answered) => match self.answered(answered, Rc::clone(&active), dialect, wish).await {
                Ok(response) => return response,
                Err(Withheld::Judged(reply)) => return whole(reply),
                Err(Withheld::Unseen(reply)) => reply,
            },
            Err(error) if error.is_of_body() => {
                if let Some(how) = active.how_it_ended() {
                    return whole(ended(dialect, how));
                }
                if let Some(why) = stream.interruption() {
                    return whole(self.early(&stream, dialect, why).await);
                }
                self.audit.protocol(&self.member.whom, &error);
                let asked = Asked { method: active.head.method.as_str(), path: active.head.path.path() };
                self.tell_malformed(asked, StatusCode::BAD_REQUEST, MALFORMED_BODY);
                dialect.error(StatusCode::BAD_REQUEST)
            }
            Err(error) => {
                self.audit.upstream(&self.member.whom, &error);
                match error {
                    UpstreamError::Limit(_) => dialect.overloaded(),
                    error => dialect.error(error.status()),
                }
            }
        };
        whole(self.local(&stream, dialect, reply).await)
    }

    /// What goes to the client of what the service said.
    async fn answered(
        &self,
        answered: Answered,
        active: Rc<ActiveRequest>,
        dialect: Dialect,
        wish: Option<Wish>,
    ) -> Result<Response<Answer>, Withheld> {
        let response = match (answered, wish) {
            (Answered::Switched(fields, far), Some(wish)) => {
                return self.switch(wish, fields, far, active, dialect).await;
            }
            (Answered::Plain(response), wish) if !websocket::is_misleading(&wish, response.status()) => {
                response
            }
            _ => {
                self.audit.upstream(&self.member.whom, &"its answer is for another protocol");
                return Err(Withheld::Unseen(dialect.error(StatusCode::BAD_GATEWAY)));
            }
        };
        let response = self.judge_response(response, active, dialect).await?;
        Ok(response.map(Either::Left))
    }

    /// The answer to a request that the filter ended while its body, or the upstream's answer, was on the way.
    async fn early(&self, stream: &Stream, dialect: Dialect, why: Interruption) -> Reply {
        match why {
            Ok(reply) => self.local(stream, dialect, dialect.local(reply)).await,
            Err(reason) => self.failed(dialect, reason),
        }
    }

    async fn judge_response(
        &self,
        response: Response<Incoming>,
        active: Rc<ActiveRequest>,
        dialect: Dialect,
    ) -> Result<Response<Filtered>, Withheld> {
        let stream = &active.stream;
        let (mut parts, body) = response.into_parts();
        if !request::is_framed_once(&parts.headers) {
            self.audit.upstream(&self.member.whom, &"two lengths, or a transfer coding besides chunked");
            return Err(Withheld::Unseen(dialect.error(StatusCode::BAD_GATEWAY)));
        }
        hop::strip(&mut parts.headers);
        let length = parts.headers.get(CONTENT_LENGTH).cloned();
        let pairs = headers::response_to_pairs(parts.status, &parts.headers);
        let ends = body.is_end_stream();
        let pairs = self.show_response(stream, dialect, pairs, ends).await?;
        let status = headers::status_in(&pairs).unwrap_or(parts.status);
        let body_passes = Passage { ends, is_shown: stream.reads_body(Direction::Response) };
        let message = (&active.head.method, status);
        let length = length::of_response(&pairs, length.as_ref(), message, body_passes)
            .map_err(|_| Withheld::Judged(self.failed(dialect, length::WRONG)))?;
        let (status, headers) = headers::response_from_pairs(pairs, length.map(HeaderValue::from))
            .map_err(|error| Withheld::Judged(self.no_message(dialect, &error)))?;
        let body = Filtered::response(body, Rc::clone(&active), length).settled().await;
        let mut response = Response::new(body.map_err(|error| self.unsent(&active, dialect, &error))?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The answer in the place of a response whose body ended before its head was sent.
    fn unsent(&self, active: &ActiveRequest, dialect: Dialect, error: &BodyError) -> Withheld {
        Withheld::Judged(match (active.how_it_ended(), active.stream.interruption()) {
            (Some(how), _) => ended(dialect, how),
            (None, Some(Ok(reply))) => noted(&active.stream, dialect.local(reply)),
            (None, Some(Err(reason))) => self.failed(dialect, reason),
            (None, None) => {
                self.audit.upstream(&self.member.whom, error);
                dialect.error(StatusCode::BAD_GATEWAY)
            }
        })
    }

    /// A filter that left a header map which makes no message.
    fn no_message(&self, dialect: Dialect, error: &HeadersError) -> Reply {
        self.audit.fault(&self.member.whom, error);
        dialect.error(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Shows the head of the service's response to the filter.
    pub(super) async fn show_response(
        &self,
        stream: &Stream,
        dialect: Dialect,
        pairs: HeaderPairs,
        ends: bool,
    ) -> Result<HeaderPairs, Withheld> {
        match stream.head(Direction::Response, pairs, ends).await {
            Outcome::Continue(pairs) => Ok(pairs),
            // As in Envoy, a reply in the place of a response is not shown to the filter again.
            Outcome::Reply(reply) => Err(Withheld::Judged(noted(stream, dialect.local(reply)))),
            Outcome::Failed(reason) => Err(Withheld::Judged(self.failed(dialect, reason))),
        }
    }

    /// A reply of ours or of the filter, by way of the filter's callbacks for responses: as in Envoy they see these too.
    pub(super) async fn local(&self, stream: &Stream, dialect: Dialect, reply: Reply) -> Reply {
        if !stream.reads_responses() {
            return reply;
        }
        let (mut parts, body) = reply.into_parts();
        if !body.is_empty() {
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        let pairs = headers::response_to_pairs(parts.status, &parts.headers);
        let pairs = match stream.head(Direction::Response, pairs, body.is_empty()).await {
            Outcome::Continue(pairs) => pairs,
            Outcome::Reply(reply) => return noted(stream, dialect.local(reply)),
            Outcome::Failed(reason) => return self.failed(dialect, reason),
        };
        let body = match through(stream, body).await {
            Ok(body) => body,
            Err(reason) => return self.failed(dialect, reason),
        };
        match headers::response_from_pairs(pairs, None) {
            Ok((status, headers)) => {
                let mut reply = Box::new(Response::new(body));
                *reply.status_mut() = status;
                *reply.headers_mut() = headers;
                reply
            }
            Err(error) => self.no_message(dialect, &error),
        }
    }

    fn failed(&self, dialect: Dialect, reason: &'static str) -> Reply {
        match reason {
            length::WRONG => self.audit.fault(&self.member.whom, &WrongLength),
            _ => self.audit.fault(&self.member.whom, &reason),
        }
        dialect.error(match reason {
            // As Envoy when a stream times out.
            PAUSED_TOO_LONG => StatusCode::GATEWAY_TIMEOUT,
            length::WRONG => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        })
    }
}

/// The answer to a request that is no longer admitted before its answer began.
fn ended(dialect: Dialect, how: Ended) -> Reply {
    match how {
        Ended::Reply(reply) => dialect.local(reply),
        Ended::Forbidden => dialect.error(StatusCode::FORBIDDEN),
    }
}

/// Why an upstream's response does not go to the client, with what goes there instead.
pub(super) enum Withheld {
    /// The filter saw the response.
    Judged(Reply),
    /// It did not.
    Unseen(Reply),
}

/// Whether anything but the upstream can end the exchange.
fn may_be_interrupted(stream: &Stream) -> bool {
    stream.has_events() || stream.reads_body(Direction::Request)
}

#[expect(clippy::boxed_local, reason = "replies are boxed, so that a failure is no larger than a success")]
pub(super) fn whole(reply: Reply) -> Response<Answer> {
    (*reply).map(|body| Either::Right(Full::new(body)))
}
