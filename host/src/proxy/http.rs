//! HTTP/1.1 and HTTP/2 on an admitted connection.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::activity::{Activity, Patience, Watched};
use super::guard::{Gate, Guard, Rest};
use super::socket::Socket;
use super::tunnel::Waiting;
use super::{limits, request};
use crate::log::http2::complaint;
use crate::tls::Link;

/// The protocols a client may choose from, ours first (RFC 7301).
pub const ALPN: &[&[u8]] = &[H2, HTTP1];

/// The protocol name of HTTP/1.1.
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// The protocol name of HTTP/2.
pub(super) const H2: &[u8] = b"h2";

/// What is spoken on a connection.
pub(super) enum Version {
    /// HTTP/1.1, and what the last answer leaves there.
    Http1(Waiting),
    /// HTTP/2, with extended CONNECT (RFC 8441) or without, and who is told of requests that h2 shows to nobody.
    Http2 { websocket: bool, complain: Complain },
}

/// Takes why a request was refused.
pub(super) type Complain = Box<dyn Fn(&str)>;

/// Serves requests until the client leaves, the connection idles, or `finishing` says that no more are taken.
pub(super) async fn serve<B, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    activity: Rc<Activity>,
    answer: impl Fn(Request<Incoming>) -> F + Unpin + 'static,
    version: Version,
    finishing: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<Response<B>, Infallible>> + 'static,
{
    let io = Watched::new(stream, Rc::clone(&activity));
    match version {
        Version::Http2 { websocket, complain } => {
            let mut builder = http2::Builder::new(LocalExecutor);
            builder
                .max_concurrent_streams(limits::STREAMS)
                .max_header_list_size(limits::REQUEST_HEAD_BYTES as u32)
                .max_send_buf_size(limits::STREAM_SEND_BYTES);
            if websocket {
                builder.enable_connect_protocol();
            }
            let counted = move |mut request: Request<Incoming>| {
                request::count_fields(&mut request);
                answer(request)
            };
            let connection = builder.serve_connection(TokioIo::new(io), service_fn(counted));
            let heard = until_finished(connection, finishing, http2::Connection::graceful_shutdown);
            hearing(heard, complain).await
        }
        Version::Http1(waiting) => serve_http1(io, activity, answer, waiting, finishing).await,
    }
}

async fn serve_http1<B, F>(
    io: Watched<impl AsyncRead + AsyncWrite + Unpin + 'static>,
    activity: Rc<Activity>,
    answer: impl Fn(Request<Incoming>) -> F + Unpin + 'static,
    waiting: Waiting,
    finishing: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<Response<B>, Infallible>> + 'static,
{
    let gate = Gate::new(Rc::clone(&activity), Rc::clone(&waiting));
    let guard = Guard::new(io, Rc::clone(&gate));
    let begins = Rc::clone(&activity);
    let examined = move |mut request| {
        gate.mark(&mut request);
        // Already now: hyper looks for what follows before it begins to answer.
        let in_flight = begins.request();
        let answering = answer(request);
        Box::pin(async move {
            let answered = answering.await;
            drop(in_flight);
            answered
        })
    };
    let mut builder = http1::Builder::new();
    // The guard counts what comes; percent-encoded it may be longer.
    builder.max_header_size(3 * limits::REQUEST_HEAD_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(guard), service_fn(examined));
    let served = tokio::select! {
        done = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(done),
        () = finishing => None,
    };
    let served = match served {
        Some(done) => done,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let rest = io.into_inner().into_rest();
    match waiting.take().filter(|_| served.is_ok()) {
        Some(tunnel) => {
            if let Some(stream) = rest.stream.into_inner() {
                let early = [read_buf.as_ref(), &rest.unread].concat();
                tunnel.run(stream, early.into()).await;
            }
        }
        None if served.as_ref().is_err_and(is_ordinary) => {}
        None => close(rest, &activity).await,
    }
    served
}

/// Ends a connection so that the last answer is seen: a socket closed with unread data sends a reset, and that overtakes the
/// answer. Bounds are those of a body that nobody wants.
async fn close(rest: Rest<impl AsyncRead + AsyncWrite + Unpin>, activity: &Rc<Activity>) {
    let Rest { mut stream, is_amid, .. } = rest;
    // The peer may be gone, which ends it as well.
    if stream.shutdown().await.is_err() || !is_amid {
        return;
    }
    // What comes is not the next request's head, which would have to come in less time.
    let _in_flight = activity.request();
    let (mut buffer, mut left) = (vec![0; 16 * 1024], limits::DISCARD_BYTES);
    let read = async {
        while let Ok(Ok(count @ 1..)) = timeout(limits::DISCARD_SILENCE, stream.read(&mut buffer)).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    // Running out of time is an ordinary end here.
    let _ = timeout(limits::DISCARD, read).await;
}

/// Runs a connection, and passes on what h2 complains about meanwhile.
async fn hearing<T>(connection: impl Future<Output = T>, complain: Complain) -> T {
    let mut connection = pin!(connection);
    poll_fn(|context| {
        // What is heard from now on is about this connection.
        drop(complaint());
        let polled = connection.as_mut().poll(context);
        if let Some(complaint) = complaint() {
            complain(&complaint);
        }
        polled
    })
    .await
}

/// Runs a connection, and once it is to end tells it to finish: GOAWAY in HTTP/2, no keep-alive in HTTP/1.
async fn until_finished<C: Future>(
    connection: C,
    finishing: impl Future<Output = ()>,
    finish: fn(Pin<&mut C>),
) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        output = connection.as_mut() => return output,
        () = finishing => {}
    }
    finish(connection.as_mut());
    connection.await
}

/// Whether a client without TLS speaks HTTP/2 by prior knowledge (RFC 9113 section 3.3). What was looked at stays to be
/// read.
///
/// # Errors
/// The client ends, is silent for [`limits::IDLE`], or dawdles for [`limits::REQUEST_HEAD`].
pub(super) async fn begins_with_h2(socket: &mut Socket) -> io::Result<bool> {
    looks_like_h2(socket, Patience::default()).await
}

async fn looks_like_h2(socket: &mut Socket, patience: Patience) -> io::Result<bool> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    // A program may connect before it has something to ask.
    seen.push(within(patience.idle, socket.read_u8()).await?);
    let looking = async {
        while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
            seen.push(socket.read_u8().await?);
        }
        let is_h2 = seen == PREFACE;
        socket.unread(seen);
        Ok(is_h2)
    };
    within(patience.head, looking).await
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(time, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether this connection speaks HTTP/2: by what the handshake agreed on, or, without one, by its first bytes.
///
/// # Errors
/// As [`begins_with_h2`].
pub(super) async fn is_h2(link: &mut Link) -> io::Result<bool> {
    match link {
        Link::Plain(socket) => begins_with_h2(socket).await,
        Link::Tls(_) => Ok(link.alpn() == Some(H2)),
    }
}

/// What no HTTP/1 request begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Runs hyper's HTTP/2 tasks on this worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

/// Whether a connection just ended in one of the ordinary ways: the peer left, or it was idle.
pub(super) fn is_ordinary(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io.is_some()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http_body_util::Empty;
    use hyper::body::Bytes;
    use tokio::io::AsyncWriteExt;
    use tokio::runtime::Builder;
    use tokio::task::LocalSet;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    /// Longer than the test is given.
    const NEVER: Duration = Duration::from_secs(3600);
    /// Longer than anything here takes, so that a limit that ends nothing fails the test.
    const GIVEN: Duration = Duration::from_secs(20);

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async { timeout(GIVEN, test).await.expect("the limit ends it") })
    }

    async fn looked(bytes: &[u8], patience: Patience) -> Result<bool, io::ErrorKind> {
        let (mut client, mut socket) = Socket::pair();
        client.write_all(bytes).await.expect("written");
        looks_like_h2(&mut socket, patience).await.map_err(|error| error.kind())
    }

    #[test]
    fn a_client_may_be_silent_for_long_and_dawdle_for_a_short_time() {
        let (idle, head) = (Patience { idle: SHORT, head: NEVER }, Patience { idle: NEVER, head: SHORT });
        assert_eq!(run(looked(b"", idle)), Err(io::ErrorKind::TimedOut));
        // What could become HTTP/2, and is half a request line of HTTP/1 as well.
        for half in [&b"P"[..], b"PR", b"PRI * HTTP/2"] {
            assert_eq!(run(looked(half, head)), Err(io::ErrorKind::TimedOut), "{half:?}");
        }
        assert_eq!(run(looked(PREFACE, head)), Ok(true));
        assert_eq!(run(looked(b"G", head)), Ok(false));
    }

    /// Once it is known that this is HTTP/1, and the rest of the request line does not come.
    #[test]
    fn half_a_request_line_ends_the_connection() {
        run(async {
            let (mut client, mut socket) = Socket::pair();
            client.write_all(b"GET / HT").await.expect("written");
            assert!(!begins_with_h2(&mut socket).await.expect("HTTP/1"));
            let activity = Activity::with(true, Patience { idle: NEVER, head: SHORT });
            let answer = async |_| Ok(Response::new(Empty::<Bytes>::new()));
            // To hyper, which has seen nothing of it, that is an ordinary end.
            let served = serve(socket, activity, answer, Version::Http1(Waiting::default()), pending()).await;
            served.expect("ended");
        });
    }
}
