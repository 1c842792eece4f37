//! A client's body, which is read to its end also where nobody wants it.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{HeaderMap, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::activity::InFlight;
use super::limits;

/// What a client sends. Dropped before its end, it is read on and thrown away, within [`limits::DISCARD`]: many clients read
/// nothing before they have written all (httpie/cli#600, psf/requests#2422), and closing under them resets the connection,
/// or the stream in HTTP/2, before they see why. It does not matter who drops it: a refusal of ours, or a service that has
/// answered and closed.
#[derive(Debug)]
pub(super) struct ClientBody {
    /// Until its end.
    body: Option<Incoming>,
    waiting: Rc<Waiting>,
    in_flight: Rc<InFlight>,
}

/// Whether the client waits for `100 Continue`: then there is nothing to throw away before it is asked for something.
#[derive(Debug)]
pub(super) struct Waiting(Cell<bool>);

impl Waiting {
    /// Says in an answer that the connection ends, if the client was never asked for its body: what comes next could be that,
    /// or another request (RFC 9110 section 10.1.1).
    pub(super) fn tell<B>(&self, response: &mut Response<B>, version: Version) {
        if self.0.get() && version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl ClientBody {
    /// The body under this head. Its request is in flight until it is gone.
    pub(super) fn new(body: Incoming, headers: &HeaderMap, in_flight: Rc<InFlight>) -> Self {
        let waits = headers.contains_key(EXPECT) && !body.is_end_stream();
        Self { body: Some(body), waiting: Rc::new(Waiting(waits.into())), in_flight }
    }

    pub(super) fn waiting(&self) -> Rc<Waiting> {
        Rc::clone(&self.waiting)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waiting.0.set(false);
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if self.waiting.0.get() || self.is_end_stream() {
            return;
        }
        if let Some(body) = self.body.take() {
            spawn_local(discard(body, Rc::clone(&self.in_flight)));
        }
    }
}

/// Reads to the end, within bounds of bytes and time; `in_flight` until then.
async fn discard(mut body: Incoming, in_flight: Rc<InFlight>) {
    let mut left = limits::DISCARD_BYTES;
    let read = async {
        while let Ok(Some(Ok(frame))) = timeout(limits::DISCARD_SILENCE, body.frame()).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Running out of time is an ordinary end here.
    let _ = timeout(limits::DISCARD, read).await;
    drop(in_flight);
}
