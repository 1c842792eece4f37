//! What a connection becomes after an upgrade: bytes both ways, until one side breaks off or somebody ends it.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

use super::activity::{Activity, Watched};
use super::body::SharedStream;
use super::limits;
use super::tcp::BUFFER;
use super::upstream::Far;
use crate::wasm::{BodyOutcome, Direction};

/// A tunnel whose client is still to be handed over.
pub(super) struct Tunnel {
    far: Far,
    /// The filter's context of the request that asked for it: it may want to see what passes.
    stream: Option<SharedStream>,
    /// Ready once the tunnel is to end, whatever passes.
    ends: Pin<Box<dyn Future<Output = ()>>>,
}

/// Where the answer to a request leaves the tunnel that its HTTP/1 connection is to become.
pub(super) type Waiting = Rc<RefCell<Option<Tunnel>>>;

impl Tunnel {
    pub(super) fn new(
        far: Far,
        stream: Option<SharedStream>,
        ends: impl Future<Output = ()> + 'static,
    ) -> Self {
        Self { far, stream, ends: Box::pin(ends) }
    }

    /// Runs it; `early` is what the client wrote before it had the answer.
    pub(super) async fn run(self, near: impl AsyncRead + AsyncWrite + Unpin, early: Bytes) {
        let Self { far: Far { link, early: answer, standing }, stream, ends } = self;
        // Both sides are watched: silence is silence of both.
        let activity = Activity::new(false);
        let (near_read, near_write) = split(Watched::new(near, Rc::clone(&activity)));
        let (far_read, far_write) = split(Watched::new(link, activity));
        let up =
            Way { from: near_read, to: far_write, stream: stream.clone(), direction: Direction::Request };
        let down =
            Way { from: far_read, to: near_write, stream: stream.clone(), direction: Direction::Response };
        let dismissed = async {
            match &standing {
                Some(standing) => standing.member.cut_off().await,
                None => std::future::pending().await,
            }
        };
        let interrupted = async {
            match stream.as_ref().filter(|stream| stream.has_events()) {
                // What the filter replies comes too late to be sent.
                Some(stream) => drop(stream.interrupted().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A side that breaks off, or idles too long, ends the other: that is all there is to say about it.
            _ = both(up.run(early), down.run(answer)) => {}
            () = ends => {}
            () = dismissed => {}
            () = interrupted => {}
        }
    }
}

/// Until one way breaks, or both have ended; the second within [`limits::HALF_CLOSED`] of the first.
async fn both(
    up: impl Future<Output = io::Result<()>>,
    down: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(limits::HALF_CLOSED, down).await?
        }
        ended = &mut down => {
            ended?;
            timeout(limits::HALF_CLOSED, up).await?
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tunnel").field("far", &self.far).finish_non_exhaustive()
    }
}

/// One of the two ways. As in Envoy, a filter that reads bodies reads what passes.
struct Way<R, W> {
    from: R,
    to: W,
    stream: Option<SharedStream>,
    direction: Direction,
}

/// Either there is more, or the filter lets go of what it held back.
enum Next {
    Piece(usize),
    Released(BodyOutcome),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Way<R, W> {
    /// Passes bytes on, `first` before all others, and their end by itself.
    async fn run(mut self, first: Bytes) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut held = !first.is_empty() && self.show(&first, false).await?;
        loop {
            match self.next(held, &mut buffer).await? {
                Next::Released(outcome) => held = self.pass(outcome).await?,
                Next::Piece(0) => {
                    self.show(&[], true).await?;
                    return self.to.shutdown().await;
                }
                Next::Piece(count) => held = self.show(&buffer[..count], false).await?,
            }
        }
    }

    async fn next(&mut self, held: bool, buffer: &mut [u8]) -> io::Result<Next> {
        let Some(stream) = self.stream.as_ref().filter(|_| held) else {
            return self.from.read(buffer).await.map(Next::Piece);
        };
        tokio::select! {
            // First what the filter decided: the next piece would be another question.
            biased;
            outcome = stream.released_body(self.direction) => Ok(Next::Released(outcome)),
            count = self.from.read(buffer) => count.map(Next::Piece),
        }
    }

    /// Passes a piece on by way of the filter; whether it is held back. The last one is waited for.
    async fn show(&mut self, piece: &[u8], last: bool) -> io::Result<bool> {
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.reads_body(self.direction)) else {
            return self.write(piece).await.map(|()| false);
        };
        let outcome = match stream.body(self.direction, piece, last) {
            BodyOutcome::Held if last => stream.held_body(self.direction).await,
            outcome => outcome,
        };
        self.pass(outcome).await
    }

    async fn pass(&mut self, outcome: BodyOutcome) -> io::Result<bool> {
        match outcome {
            BodyOutcome::Continue(bytes) => self.write(&bytes).await.map(|()| false),
            BodyOutcome::Held => Ok(true),
            BodyOutcome::Reply(_) | BodyOutcome::TooLarge | BodyOutcome::Failed(_) => {
                Err(io::Error::other("the filter ended the exchange"))
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes).await?;
        self.to.flush().await
    }
}
