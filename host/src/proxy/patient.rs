//! A connection to a service that may have answered before it closed.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream on which writing does not fail because the other side closed: reading goes on, and says what it said last. A
/// service that answers 413 and closes resets the connection if a request's body is still on its way (RFC 9112 section 9.6);
/// the answer is there by then, and hyper would give it up for the failed write.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    /// Whether the other side takes nothing more; what is written is thrown away.
    is_deaf: bool,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, is_deaf: false }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What becomes of a write of `length` bytes.
    fn written(&mut self, polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if is_closed(&error) => {
                self.is_deaf = true;
                Poll::Ready(Ok(length))
            }
            other => other,
        }
    }

    fn done(&mut self, polled: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.written(polled.map_ok(|()| 0), 0).map_ok(drop)
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(polled, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.done(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.done(polled)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::Builder;

    use super::*;

    /// What a service does that answers without reading the body (Python's http.server, Jetty above its limit).
    #[test]
    fn what_was_said_before_the_connection_was_reset_is_read() {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let near =
                TcpStream::connect(listener.local_addr().expect("its address")).await.expect("connected");
            let mut near = Patient::new(near);
            near.write_all(b"unread").await.expect("taken");
            let mut far = listener.accept().await.expect("accepted").0.into_std().expect("a socket");
            far.write_all(b"answer").expect("written");
            // What it has not read makes this a reset.
            drop(far);
            while !near.is_deaf {
                near.write_all(b"more").await.expect("never an error");
            }
            near.write_all(b"more").await.expect("thrown away");
            let mut answer = [0; 6];
            near.read_exact(&mut answer).await.expect("the answer");
            assert_eq!(&answer, b"answer");
        });
    }
}
