//! Between a client's connection and hyper (HTTP/1): hyper gets one request at a time, whose head was examined.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::take;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, Watched};
use super::framing::Framing;
use super::raw_head::RawHead;
use super::request::{BadRequest, Refused};
use super::tunnel::Waiting;

/// What the guard and the service of one connection tell each other.
#[derive(Debug)]
pub(super) struct Gate {
    /// What was found about the head that hyper has, or will have.
    examined: RefCell<Option<Result<(), Box<Refused>>>>,
    activity: Rc<Activity>,
    waiting: Waiting,
}

impl Gate {
    pub(super) fn new(activity: Rc<Activity>, waiting: Waiting) -> Rc<Self> {
        Rc::new(Self { examined: RefCell::default(), activity, waiting })
    }

    /// Marks a request with the reason why it is refused.
    ///
    /// INVARIANT: hyper and the guard agree where requests begin. One that the guard has not seen is refused.
    pub(super) fn mark<B>(&self, request: &mut Request<B>) {
        let refused = match self.examined.take() {
            Some(Ok(())) => return,
            Some(Err(refused)) => refused,
            None => Refused::of(BadRequest::Unexamined, request),
        };
        request.extensions_mut().insert(refused);
    }

    /// Whether hyper may have the next request: the last one is answered, its body read, and no tunnel begins.
    fn is_open(&self, context: &Context<'_>) -> bool {
        let is_taken = self.examined.borrow().is_none() && self.waiting.borrow().is_none();
        is_taken && self.activity.is_at_rest(context)
    }
}

/// A stream of requests, examined.
#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: Watched<S>,
    gate: Rc<Gate>,
    /// What was read and is not passed on yet.
    unread: Vec<u8>,
    head: RawHead,
    /// Of a head, what hyper is still to get.
    passing: Vec<u8>,
    state: State,
    /// Whether nothing more can be read.
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(Framing),
    /// A head was refused, or what follows is none: nothing more is passed on.
    Closed,
}

/// What is left of a guard.
pub(super) struct Rest<S> {
    pub(super) stream: Watched<S>,
    /// What was read and not passed on.
    pub(super) unread: Vec<u8>,
    /// Whether the client may be in the middle of something that nobody reads.
    pub(super) is_amid: bool,
}

impl<S> Guard<S> {
    pub(super) fn new(stream: Watched<S>, gate: Rc<Gate>) -> Self {
        let (unread, head, passing) = Default::default();
        Self { stream, gate, unread, head, passing, state: State::Head, has_ended: false }
    }

    pub(super) fn into_rest(self) -> Rest<S> {
        let is_amid = self.state != State::Head || !self.head.is_empty() || !self.unread.is_empty();
        Rest { stream: self.stream, unread: self.unread, is_amid: is_amid && !self.has_ended }
    }

    /// Looks at what was read, until hyper can have something, or more is to be read.
    fn examine(&mut self) {
        let unread = take(&mut self.unread);
        let (count, found) = self.head.take(&unread);
        self.unread = unread[count..].to_vec();
        let found = match found {
            None => return,
            Some(Ok(examined)) => {
                self.passing = examined.bytes;
                self.state = if examined.body.is_over() { State::Head } else { State::Body(examined.body) };
                Ok(())
            }
            Some(Err(refused)) => {
                self.passing = STAND_IN.to_vec();
                self.state = State::Closed;
                Err(refused)
            }
        };
        self.gate.examined.replace(Some(found));
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    fn poll_stream(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.has_ended = polled.is_ready() && buffer.filled().len() == before;
        polled
    }

    /// Reads more; false at the end of the stream.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); PIECE];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        ready!(self.poll_stream(context, &mut buffer))?;
        self.unread.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    }

    /// Passes on what belongs to the body.
    fn poll_body(
        &mut self,
        mut framing: Framing,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        if self.unread.is_empty() {
            ready!(self.poll_stream(context, buffer))?;
        } else {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..count]);
            self.unread.drain(..count);
        }
        let Ok(count) = framing.advance(&buffer.filled()[start..]) else {
            buffer.set_filled(start);
            self.state = State::Closed;
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, NO_CHUNKED_BODY)));
        };
        self.unread.splice(..0, buffer.filled()[start + count..].iter().copied());
        buffer.set_filled(start + count);
        self.state = if framing.is_over() { State::Head } else { State::Body(framing) };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.passing.is_empty() {
                let count = this.passing.len().min(buffer.remaining());
                buffer.put_slice(&this.passing[..count]);
                this.passing.drain(..count);
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Closed => return Poll::Pending,
                State::Body(framing) => return this.poll_body(framing, context, buffer),
                State::Head if !this.gate.is_open(context) => {
                    // Meanwhile the client may go away, also behind what it has sent already.
                    if this.unread.len() >= PIECE {
                        return this.stream.poll_idle(context);
                    }
                    if !ready!(this.poll_more(context))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Head if this.unread.is_empty() => {
                    if !ready!(this.poll_more(context))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Head => this.examine(),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What hyper gets in the place of a head that is refused: the answer is made where all refusals are.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Bytes read at once, where a head is expected. With as many that hyper may not have yet, no more are read.
const PIECE: usize = 8 * 1024;
const NO_CHUNKED_BODY: &str = "the chunked body is malformed (RFC 9112 section 7.1)";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::runtime::Builder;

    use super::*;

    fn run(test: impl AsyncFnOnce(DuplexStream, Guard<DuplexStream>, Rc<Gate>, Rc<Activity>)) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (far, near) = duplex(1 << 16);
            let activity = Activity::new(true);
            let gate = Gate::new(Rc::clone(&activity), Waiting::default());
            let near = Watched::new(near, Rc::clone(&activity));
            test(far, Guard::new(near, Rc::clone(&gate)), gate, activity).await;
        });
    }

    fn marked(gate: &Gate) -> Option<BadRequest> {
        let mut request = Request::new(());
        gate.mark(&mut request);
        request.extensions().get::<Box<Refused>>().map(|refused| refused.why)
    }

    async fn read(guard: &mut Guard<DuplexStream>) -> String {
        let mut buffer = [0; 1024];
        let count = guard.read(&mut buffer).await.expect("read");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// Whether hyper would get anything now.
    async fn has_more(guard: &mut Guard<DuplexStream>) -> bool {
        let mut buffer = [0; 1];
        tokio::select! {
            biased;
            _ = guard.read(&mut buffer) => true,
            () = std::future::ready(()) => false,
        }
    }

    const FIRST: &str = "POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
    const SECOND: &str = "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n";

    #[test]
    fn one_request_is_passed_at_a_time() {
        run(async |mut far, mut guard, gate, activity| {
            far.write_all(format!("{FIRST}abc{SECOND}tail").as_bytes()).await.expect("written");
            assert_eq!(read(&mut guard).await, FIRST);
            assert_eq!(read(&mut guard).await, "abc");
            assert!(!has_more(&mut guard).await, "hyper has not shown the first");
            assert_eq!(marked(&gate), None);
            let in_flight = activity.request();
            assert!(!has_more(&mut guard).await, "it is being answered");
            drop(in_flight);
            assert_eq!(read(&mut guard).await, SECOND);
            assert_eq!(marked(&gate), None);
            let _in_flight = activity.request();
            assert!(!has_more(&mut guard).await);
            let rest = guard.into_rest();
            assert_eq!((rest.unread.as_slice(), rest.is_amid), (&b"tail"[..], true));
        });
    }

    #[test]
    fn a_client_that_leaves_while_it_is_answered_is_noticed() {
        for more in ["", "G", SECOND] {
            run(async |mut far, mut guard, gate, activity| {
                far.write_all(SECOND.as_bytes()).await.expect("written");
                assert_eq!(read(&mut guard).await, SECOND);
                assert_eq!(marked(&gate), None);
                let _in_flight = activity.request();
                far.write_all(more.as_bytes()).await.expect("written");
                assert!(!has_more(&mut guard).await, "{more:?}");
                drop(far);
                assert!(has_more(&mut guard).await, "the end, behind {more:?}");
            });
        }
    }

    #[test]
    fn what_is_read_ahead_of_an_answer_is_limited() {
        run(async |mut far, mut guard, gate, activity| {
            far.write_all(SECOND.as_bytes()).await.expect("written");
            read(&mut guard).await;
            assert_eq!(marked(&gate), None);
            let _in_flight = activity.request();
            far.write_all(&[b'A'; 4 * PIECE]).await.expect("written");
            assert!(!has_more(&mut guard).await);
            assert!(guard.into_rest().unread.len() < 2 * PIECE);
        });
    }

    /// If hyper took a part of a body for a request, that would be smuggled.
    #[test]
    fn a_request_that_the_guard_has_not_seen_is_refused() {
        run(async |mut far, mut guard, gate, _activity| {
            far.write_all(format!("{FIRST}abc").as_bytes()).await.expect("written");
            read(&mut guard).await;
            assert_eq!(marked(&gate), None);
            assert_eq!(marked(&gate), Some(BadRequest::Unexamined));
        });
    }

    #[test]
    fn nothing_passes_behind_a_head_that_is_refused() {
        run(async |mut far, mut guard, gate, _activity| {
            far.write_all(b"GET / HTTP/1.1\nhost: a\r\n\r\n").await.expect("written");
            far.write_all(SECOND.as_bytes()).await.expect("written");
            assert_eq!(read(&mut guard).await.as_bytes(), STAND_IN);
            assert_eq!(marked(&gate), Some(BadRequest::LineEnd));
            assert!(!has_more(&mut guard).await);
            assert!(guard.into_rest().is_amid);
        });
    }

    #[test]
    fn a_chunked_body_that_could_be_read_in_two_ways_breaks_off() {
        run(async |mut far, mut guard, gate, _activity| {
            let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            far.write_all(format!("{head}3\nabc\r\n0\r\n\r\n").as_bytes()).await.expect("written");
            assert_eq!(read(&mut guard).await, head);
            assert_eq!(marked(&gate), None);
            let error = guard.read(&mut [0; 64]).await.expect_err("a bare LF");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(!has_more(&mut guard).await);
        });
    }
}
