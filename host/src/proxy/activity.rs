//! Closing what does not move: idle connections and request heads that never end.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::is_complete;
use super::limits;
use crate::capacity::Permit;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// With nothing at all.
    pub(super) idle: Duration,
    /// With a request head, from its first byte to its last.
    pub(super) head: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle: limits::IDLE, head: limits::REQUEST_HEAD }
    }
}

/// When something last moved on a connection, shared between its stream and its requests.
#[derive(Debug)]
pub(super) struct Activity {
    last: Cell<Instant>,
    /// Since when a request head is arriving. hyper's own timer would also run between two requests, and close
    /// every kept-alive connection after the time a head may take.
    head: Cell<Option<Instant>>,
    heads: bool,
    patience: Patience,
    requests: Cell<usize>,
    /// Who waits for the end of all requests.
    waiting: RefCell<Option<Waker>>,
}

impl Activity {
    /// With `heads`, bytes that arrive outside a request begin a request head (HTTP/1).
    pub(super) fn new(heads: bool) -> Rc<Self> {
        Self::with(heads, Patience::default())
    }

    pub(super) fn with(heads: bool, patience: Patience) -> Rc<Self> {
        let last = Cell::new(Instant::now());
        Rc::new(Self {
            last,
            head: Cell::new(None),
            heads,
            patience,
            requests: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// A request has its head; it is in flight until the guard is dropped.
    pub(super) fn request(self: &Rc<Self>) -> Rc<InFlight> {
        self.head.set(None);
        self.requests.set(self.requests.get() + 1);
        Rc::new(InFlight(Rc::clone(self)))
    }

    /// Whether no request is in flight; the task is woken when the last one no longer is.
    pub(super) fn is_at_rest(&self, context: &Context<'_>) -> bool {
        let is_at_rest = self.requests.get() == 0;
        if !is_at_rest {
            self.waiting.replace(Some(context.waker().clone()));
        }
        is_at_rest
    }

    fn moved(&self) {
        self.last.set(Instant::now());
    }

    fn received(&self) {
        self.moved();
        if self.heads && self.requests.get() == 0 && self.head.get().is_none() {
            self.head.set(Some(self.last.get()));
        }
    }

    fn deadline(&self) -> Instant {
        let idle = self.last.get() + self.patience.idle;
        self.head.get().map_or(idle, |since| idle.min(since + self.patience.head))
    }
}

/// A request that is being answered, or whose body is still read.
#[derive(Debug)]
pub(super) struct InFlight(Rc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.moved();
        if self.0.requests.get() == 0
            && let Some(waker) = self.0.waiting.take()
        {
            waker.wake();
        }
    }
}

/// A body whose request is in flight until it is gone.
#[derive(Debug)]
pub(super) struct Guarded<B: Body> {
    body: B,
    _in_flight: Rc<InFlight>,
    permit: Option<Rc<Permit>>,
}

impl<B: Body> Guarded<B> {
    pub(super) fn new(body: B, in_flight: Rc<InFlight>, permit: Option<Rc<Permit>>) -> Self {
        Self { body, _in_flight: in_flight, permit }
    }
}

impl<B: Body> Drop for Guarded<B> {
    /// Tells of an answer that its client gave up.
    fn drop(&mut self) {
        if let Some(permit) = &self.permit
            && !is_complete(&self.body)
        {
            permit.cancelled();
        }
    }
}

impl<B: Body + Unpin> Body for Guarded<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when its [`Activity`] says so.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Rc<Activity>,
    sleep: Pin<Box<Sleep>>,
    /// Whether the stream took less than it was offered last.
    behind: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Rc<Activity>) -> Self {
        let sleep = Box::pin(sleep_until(activity.deadline()));
        Self { stream, activity, sleep, behind: false }
    }

    /// The stream, no longer watched; `None` if bytes were offered to it that it did not take, because then they are lost.
    pub(super) fn into_inner(self) -> Option<S> {
        (!self.behind).then_some(self.stream)
    }

    /// Waits where nothing is to be read.
    ///
    /// # Errors
    /// Nothing has moved for too long.
    pub(super) fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waited(context)
    }

    /// Pending, or the timeout. The timer is not moved on every byte: it looks at the deadline when it fires.
    fn waited<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            let deadline = self.activity.deadline();
            if deadline < self.sleep.deadline() {
                self.sleep.as_mut().reset(deadline);
            }
            ready!(self.sleep.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_pending() {
            return self.waited(context);
        }
        if buffer.filled().len() > before {
            self.activity.received();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, polled, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, polled, slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.waited(context),
            done => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.waited(context),
            done => done,
        }
    }
}

impl<S> Watched<S> {
    fn written(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        self.behind = !matches!(polled, Poll::Ready(Ok(taken)) if taken == offered);
        match polled {
            Poll::Pending => self.waited(context),
            done => {
                self.activity.moved();
                done
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::runtime::Builder;

    use super::*;

    /// hyper says that it is done with a connection when it has written its last answer to a buffer of its own.
    #[test]
    fn a_stream_that_has_not_taken_all_is_not_handed_on() {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (near, mut far) = duplex(4);
            let mut watched = Watched::new(near, Activity::new(false));
            assert_eq!(watched.write(b"more than fits").await.expect("a part"), 4);
            assert!(watched.behind);
            far.read_exact(&mut [0; 4]).await.expect("the part");
            watched.write_all(b"fits").await.expect("all");
            assert!(watched.into_inner().is_some());
        });
    }

    fn allowance(activity: &Activity) -> std::time::Duration {
        activity.deadline() - activity.last.get()
    }

    #[test]
    fn an_idle_connection_gets_the_long_time_and_a_request_head_the_short_one() {
        let activity = Activity::new(true);
        assert_eq!(allowance(&activity), limits::IDLE);
        activity.received();
        assert_eq!(allowance(&activity), limits::REQUEST_HEAD);
    }

    #[test]
    fn the_next_byte_of_a_head_gives_no_new_time() {
        let activity = Activity::new(true);
        activity.received();
        let deadline = activity.deadline();
        activity.received();
        assert_eq!(activity.deadline(), deadline);
    }

    #[test]
    fn a_request_in_flight_may_take_longer_than_its_head() {
        let activity = Activity::new(true);
        activity.received();
        let request = activity.request();
        activity.received();
        assert_eq!(allowance(&activity), limits::IDLE);
        drop(request);
        activity.received();
        assert_eq!(allowance(&activity), limits::REQUEST_HEAD);
    }

    #[test]
    fn without_heads_bytes_are_only_bytes() {
        let activity = Activity::new(false);
        activity.received();
        assert_eq!(allowance(&activity), limits::IDLE);
    }
}
