//! Connections to and from a port or a socket in the file system.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::listener::Listening;
use crate::capacity::Permit;
use crate::config::Address;

/// The address of what has none: a peer on a Unix socket.
pub(crate) const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    /// What was read and is to be read again, the last byte first.
    unread: Vec<u8>,
    stream: Stream,
    /// Of a connection to a service or server.
    _permit: Option<Permit>,
}

#[derive(Debug)]
enum Stream {
    /// By IP address; what is written is sent without delay.
    Tcp(TcpStream),
    /// By a path.
    Unix(UnixStream),
}

impl Socket {
    /// Connects; a host name is looked up each time, so that a restarted service may move. The socket keeps `permit` until it is
    /// closed.
    ///
    /// # Errors
    /// As the system says.
    pub(super) async fn connect(address: &Address, permit: Permit) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp(text) => {
                let socket = TcpStream::connect(text).await?;
                socket.set_nodelay(true)?;
                Stream::Tcp(socket)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            Address::Systemd(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(Self { _permit: Some(permit), ..stream.into() })
    }
}

impl Socket {
    /// Bytes that are to be read again, before all others.
    pub(crate) fn unread(&mut self, bytes: Vec<u8>) {
        self.unread.extend(bytes.into_iter().rev());
    }

    /// A client's end, and ours.
    #[cfg(test)]
    pub(super) fn pair() -> (UnixStream, Self) {
        let (theirs, ours) = UnixStream::pair().expect("two ends");
        (theirs, Stream::Unix(ours).into())
    }

    /// The address at the other end.
    pub(super) fn peer_address(&self) -> SocketAddr {
        match &self.stream {
            Stream::Tcp(socket) => socket.peer_addr().unwrap_or(NO_ADDRESS),
            Stream::Unix(_) => NO_ADDRESS,
        }
    }
}

impl From<Stream> for Socket {
    fn from(stream: Stream) -> Self {
        Self { unread: Vec::new(), stream, _permit: None }
    }
}

/// A listening socket of one worker.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Within a runtime.
    pub(super) fn new(listening: Listening) -> io::Result<Self> {
        match listening {
            Listening::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            Listening::Unix(listener) => UnixListener::from_std(listener).map(Self::Unix),
        }
    }

    /// A connection, its source and its destination.
    pub(super) async fn accept(&self) -> io::Result<(Socket, SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, source) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let destination = socket.local_addr()?;
                Ok((Stream::Tcp(socket).into(), source, destination))
            }
            Self::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok((Stream::Unix(socket).into(), NO_ADDRESS, NO_ADDRESS))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.unread.is_empty() {
            while buffer.remaining() > 0
                && let Some(byte) = this.unread.pop()
            {
                buffer.put_slice(&[byte]);
            }
            return Poll::Ready(Ok(()));
        }
        match &mut this.stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Stream::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Stream::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Stream::Unix(socket) => Pin::new(socket).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Stream::Unix(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Stream::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
