//! Bodies that pass through: frame by frame as the other side takes them, trailers by way of the filter.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::activity::InFlight;
use super::{headers, hop};
use crate::wasm::{Outcome, Stream};

/// The filter's context of one request, shared by its two bodies.
pub(super) type SharedStream = Rc<RefCell<Stream>>;

/// A body one side sends and the other is forwarded.
#[derive(Debug)]
pub(super) struct Filtered {
    body: Incoming,
    stream: SharedStream,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

impl Filtered {
    pub(super) fn request(body: Incoming, stream: SharedStream) -> Self {
        Self { body, stream, direction: Direction::Request }
    }

    pub(super) fn response(body: Incoming, stream: SharedStream) -> Self {
        Self { body, stream, direction: Direction::Response }
    }

    /// Half a message has gone already, so a filter that refuses trailers can only break the message off.
    fn judge(&self, mut trailers: HeaderMap) -> Result<HeaderMap, TrailersError> {
        hop::strip_known(&mut trailers);
        let pairs = headers::trailers_to_pairs(&trailers);
        let mut stream = self.stream.try_borrow_mut().map_err(|_| TrailersError)?;
        let outcome = match self.direction {
            Direction::Request => stream.request_trailers(pairs),
            Direction::Response => stream.response_trailers(pairs),
        };
        match outcome {
            Outcome::Continue(pairs) => headers::plain_from_pairs(pairs).map_err(|_| TrailersError),
            Outcome::Reply(_) | Outcome::Failed(_) => Err(TrailersError),
        }
    }
}

impl Body for Filtered {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)?) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match frame.into_trailers() {
            Ok(trailers) => Ok(Frame::trailers(self.judge(trailers)?)),
            Err(data) => Ok(data),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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

/// The upstream's body, or that of a local reply.
pub(super) type Answer = Either<Filtered, Full<Bytes>>;

/// An answer on its way to the client; its request is in flight until it is gone.
#[derive(Debug)]
pub(super) struct ResponseBody {
    body: Answer,
    _in_flight: InFlight,
}

impl ResponseBody {
    pub(super) fn new(body: Answer, in_flight: InFlight) -> Self {
        Self { body, _in_flight: in_flight }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

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
