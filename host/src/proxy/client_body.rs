//! A client's body, which is read to its end also where nobody wants it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{HeaderMap, Response, Version};
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
    progress: Rc<Progress>,
    in_flight: Rc<InFlight>,
}

/// How far a body is, for its answer.
#[derive(Debug)]
pub(super) struct Progress {
    /// Whether the client waits for `100 Continue`: then there is nothing to throw away before it is asked for something.
    waits: Cell<bool>,
    /// Whether chunks, or trailers, are still to come, and somebody wants them.
    has_chunks: Cell<bool>,
}

impl Progress {
    /// Says in an answer that the connection ends, if the client was never asked for its body: what comes next could be that,
    /// or another request (RFC 9110 section 10.1.1).
    ///
    /// It ends also where the answer overtakes a chunked body. hyper gives the trailers away only when it has closed the body,
    /// and after an answer that keeps the connection it closes the body only when the next request comes: for that one the
    /// guard would wait without end.
    pub(super) fn tell<B>(&self, response: &mut Response<B>, version: Version) {
        if (self.waits.get() || self.has_chunks.get()) && version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl ClientBody {
    /// The body under this head. Its request is in flight until it is gone.
    pub(super) fn new(body: Incoming, headers: &HeaderMap, in_flight: Rc<InFlight>) -> Self {
        let waits = headers.contains_key(EXPECT) && !body.is_end_stream();
        let has_chunks = body.size_hint().exact().is_none() && !body.is_end_stream();
        let progress = Rc::new(Progress { waits: waits.into(), has_chunks: has_chunks.into() });
        Self { body: Some(body), progress, in_flight }
    }

    pub(super) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.progress.waits.set(false);
        let frame = ready!(poll_until_end(&mut self.body, context));
        if self.body.is_none() {
            self.progress.has_chunks.set(false);
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
        if self.progress.waits.get() || self.is_end_stream() {
            return;
        }
        if let Some(body) = self.body.take() {
            // Trailers are not waited for without end there: the connection may go on.
            self.progress.has_chunks.set(false);
            spawn_local(discard(body, Rc::clone(&self.in_flight)));
        }
    }
}

/// Reads to the end, within bounds of bytes and time; `in_flight` until then.
async fn discard(body: Incoming, in_flight: Rc<InFlight>) {
    let (mut body, mut left) = (Some(body), limits::DISCARD_BYTES);
    let read = async {
        loop {
            let next = poll_fn(|context| poll_until_end(&mut body, context));
            let Ok(Some(Ok(frame))) = timeout(limits::DISCARD_SILENCE, next).await else { return };
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

/// What a body gives next.
type Next<B> = Result<Frame<<B as Body>::Data>, <B as Body>::Error>;

/// The next frame; `body` is gone behind its last one. hyper may show the end of a body of HTTP/1 only with the next request,
/// so nobody waits for that once all is there.
fn poll_until_end<B: Body + Unpin>(body: &mut Option<B>, context: &mut Context<'_>) -> Poll<Option<Next<B>>> {
    let Some(current) = body else { return Poll::Ready(None) };
    let frame = ready!(Pin::new(&mut *current).poll_frame(context));
    let is_last = match &frame {
        Some(Ok(frame)) => frame.is_trailers() || current.is_end_stream(),
        Some(Err(_)) | None => true,
    };
    if is_last {
        *body = None;
    }
    Poll::Ready(frame)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use super::*;

    /// Has one frame, and never says that there is no other, as hyper once the answer is written.
    struct Endless {
        frame: Option<Frame<Bytes>>,
        is_counted: bool,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.frame.take().map_or(Poll::Pending, |frame| Poll::Ready(Some(Ok(frame))))
        }

        fn is_end_stream(&self) -> bool {
            self.is_counted && self.frame.is_none()
        }
    }

    /// Whether nothing is waited for behind this frame.
    fn ends_with(frame: Frame<Bytes>, is_counted: bool) -> bool {
        let mut body = Some(Endless { frame: Some(frame), is_counted });
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(poll_until_end(&mut body, &mut context), Poll::Ready(Some(Ok(_)))));
        matches!(poll_until_end(&mut body, &mut context), Poll::Ready(None))
    }

    #[test]
    fn nothing_is_waited_for_behind_the_last_frame() {
        assert!(ends_with(Frame::data(Bytes::from_static(b"last")), true));
        assert!(ends_with(Frame::trailers(HeaderMap::new()), false));
        assert!(!ends_with(Frame::data(Bytes::from_static(b"a chunk")), false));
    }
}
