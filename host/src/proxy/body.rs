//! Bodies that pass through: frame by frame as the other side takes them, and by way of the filter where it looks at them.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::spawn_local;

use super::active_request::ActiveRequest;
use super::activity::InFlight;
use super::client_body::ClientBody;
use super::length::Gauge;
use super::pump::Pump;
use super::{headers, hop, limits};
use crate::wasm::{Direction, Outcome, Stream};

/// The filter's context of one request, shared by its two bodies.
pub(super) type SharedStream = Rc<Stream>;

/// What a body that breaks off breaks off with.
pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// A client's body, or the service's.
pub(super) type Passing = Either<ClientBody, Incoming>;

/// A body one side sends and the other is forwarded.
#[derive(Debug)]
pub(super) struct Filtered {
    source: Source,
    /// Frames that waited with a response's head.
    held: VecDeque<Frame<Bytes>>,
    gauge: Rc<Gauge>,
    request: Rc<ActiveRequest>,
    direction: Direction,
}

#[derive(Debug)]
enum Source {
    /// Untouched but for trailers, on which the filter decides at once.
    Direct(Passing),
    /// By way of a task that shows everything to the filter and waits where it pauses.
    Pumped(Receiver<Result<Frame<Bytes>, BodyError>>),
}

impl Filtered {
    /// `length` is what the filter left of it: it passes as long as that, or breaks off.
    pub(super) fn request(body: ClientBody, request: Rc<ActiveRequest>, length: Option<u64>) -> Self {
        Self::new(Either::Left(body), request, Direction::Request, length)
    }

    /// As [`Filtered::request`].
    pub(super) fn response(body: Incoming, request: Rc<ActiveRequest>, length: Option<u64>) -> Self {
        Self::new(Either::Right(body), request, Direction::Response, length)
    }

    fn new(body: Passing, request: Rc<ActiveRequest>, direction: Direction, length: Option<u64>) -> Self {
        let gauge = Rc::new(Gauge::new(length));
        let stream = &request.stream;
        let direct = body.is_end_stream() || !(stream.reads_body(direction) || stream.has_events());
        let source = if direct {
            Source::Direct(body)
        } else {
            // One frame ahead: what the other side does not take, the sender is not asked for.
            let (frames, receiver) = channel(1);
            spawn_local(Pump::new(body, Rc::clone(stream), direction, Rc::clone(&gauge), frames).run());
            Source::Pumped(receiver)
        };
        Self { source, held: VecDeque::new(), gauge, request, direction }
    }

    /// Waits until it is known whether the length is right, or the filter does not seem to change the body: before, the head of a
    /// response must not go. More than [`limits::UNSURE_BYTES`] are not waited for.
    ///
    /// # Errors
    /// What ends the body, for which there is still another answer.
    pub(super) async fn settled(mut self) -> Result<Self, BodyError> {
        if matches!(self.source, Source::Direct(_)) || !self.gauge.is_bounded() {
            return Ok(self);
        }
        let (mut held, mut bytes) = (VecDeque::new(), 0);
        while let Some(frame) = self.frame().await {
            let frame = frame?;
            bytes += frame.data_ref().map_or(0, Bytes::len);
            held.push_back(frame);
            if self.gauge.is_even() || bytes > limits::UNSURE_BYTES {
                break;
            }
        }
        self.held = held;
        self.gauge.settle();
        Ok(self)
    }

    /// Half a message has gone already, so a filter that refuses trailers can only break the message off.
    fn judge(&self, mut trailers: HeaderMap) -> Result<HeaderMap, TrailersError> {
        hop::strip_known(&mut trailers);
        let pairs = headers::trailers_to_pairs(&trailers);
        match self.request.stream.trailers_at_once(self.direction, pairs) {
            Outcome::Continue(pairs) => headers::plain_from_pairs(pairs).map_err(|_| TrailersError),
            Outcome::Reply(_) | Outcome::Failed(_) => Err(TrailersError),
        }
    }
}

impl Body for Filtered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.request.poll_ended(self.direction, context).is_ready() {
            return Poll::Ready(Some(Err(RequestEnded.into())));
        }
        if let Some(frame) = self.held.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let body = match &mut self.source {
            Source::Direct(body) => body,
            Source::Pumped(frames) => return frames.poll_recv(context),
        };
        let Some(frame) = ready!(Pin::new(body).poll_frame(context)?) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match frame.into_trailers() {
            Ok(trailers) => Ok(Frame::trailers(self.judge(trailers)?)),
            Err(data) => Ok(data),
        }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Direct(body) => body.is_end_stream(),
            Source::Pumped(_) => false,
        }
    }

    /// How much the filter leaves of a body is not known before.
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Direct(body) => body.size_hint(),
            Source::Pumped(_) => SizeHint::default(),
        }
    }
}

impl Drop for Filtered {
    /// Tells of an answer that its client gave up.
    fn drop(&mut self) {
        let is_complete = match &self.source {
            Source::Direct(body) => is_complete(body),
            Source::Pumped(frames) => frames.is_closed(),
        };
        if self.direction == Direction::Response && !is_complete {
            self.request.cancelled();
        }
    }
}

/// Whether nothing is missing of a body, though its end may not have been seen.
pub(super) fn is_complete(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0)
}

/// The filter did not let the trailers pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrailersError;

impl fmt::Display for TrailersError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the filter refused the trailers")
    }
}

impl Error for TrailersError {}

/// The request is no longer admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestEnded;

impl fmt::Display for RequestEnded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the request is no longer admitted")
    }
}

impl Error for RequestEnded {}

/// The upstream's body, or that of a local reply.
pub(super) type Answer = Either<Filtered, Full<Bytes>>;

/// A reply of ours as the answer to HEAD: with the length, and without the body (RFC 9110 section 9.3.2). hyper leaves the body out in
/// HTTP/1 only, and for clients of HTTP/2 it is a broken stream.
pub(super) fn without_body(mut response: Response<Answer>) -> Response<Answer> {
    let Either::Right(body) = response.body_mut() else { return response };
    let length = body.size_hint().exact().filter(|length| *length > 0);
    *body = Full::default();
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

/// An answer on its way to the client; its request is in flight until it is gone.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Answer,
    _in_flight: Rc<InFlight>,
}

impl ResponseBody {
    pub(super) fn new(body: Answer, in_flight: Rc<InFlight>) -> Self {
        Self { body, _in_flight: in_flight }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
