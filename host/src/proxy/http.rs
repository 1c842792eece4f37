//! HTTP/1.1 and HTTP/2 on an admitted connection.

use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::activity::Watched;
use super::exchange::Exchange;
use super::limits;
use super::roster::Ending;

/// The protocols a client may choose from, ours first (RFC 7301).
pub const ALPN: &[&[u8]] = &[H2, b"http/1.1"];

/// The protocol name of HTTP/2.
pub(super) const H2: &[u8] = b"h2";

/// Serves requests until the client leaves, the connection idles, or it is to end.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    exchange: Rc<Exchange>,
    h2: bool,
    ending: watch::Receiver<Ending>,
) -> hyper::Result<()> {
    let activity = Rc::clone(&exchange.activity);
    let io = TokioIo::new(Watched::new(stream, activity));
    let service = service_fn(move |request| Rc::clone(&exchange).answer(request));
    if h2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .max_concurrent_streams(limits::STREAMS)
            .max_header_list_size(limits::REQUEST_HEAD_BYTES as u32)
            .max_send_buf_size(limits::STREAM_SEND_BYTES);
        let connection = builder.serve_connection(io, service);
        until_ended(connection, ending, http2::Connection::graceful_shutdown).await
    } else {
        let mut builder = http1::Builder::new();
        builder.max_header_size(limits::REQUEST_HEAD_BYTES);
        let connection = builder.serve_connection(io, service);
        until_ended(connection, ending, http1::Connection::graceful_shutdown).await
    }
}

/// Runs a connection, and once it is to end tells it to finish: GOAWAY in HTTP/2, no keep-alive in HTTP/1.
async fn until_ended<C: Future>(
    connection: C,
    mut ending: watch::Receiver<Ending>,
    finish: fn(Pin<&mut C>),
) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        output = connection.as_mut() => return output,
        // An error says that the worker is gone: finish as well.
        _ = ending.wait_for(|ending| *ending != Ending::No) => {}
    }
    finish(connection.as_mut());
    connection.await
}

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
