//! Brings a body to the other side by way of a filter that looks at it, or may wait at its trailers.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Frame};
use tokio::sync::mpsc::Sender;
use tracing::warn;

use super::body::{BodyError, Passing, TrailersError};
use super::length::{self, Gauge, WrongLength};
use super::{headers, hop};
use crate::wasm::{BodyOutcome, Direction, HeaderPairs, LocalReply, Outcome, Stream};

/// One body on its way.
pub(super) struct Pump {
    body: Passing,
    stream: Rc<Stream>,
    direction: Direction,
    gauge: Rc<Gauge>,
    /// What completes the length: nothing must follow it, so it waits for the end.
    last: Cell<Option<Bytes>>,
    frames: Sender<Result<Frame<Bytes>, BodyError>>,
}

/// Why a body ends before its end.
enum Stop {
    /// The one who reads it is gone.
    Unread,
    Broken(BodyError),
}

/// Either the sender has more, or the filter lets go of what it held back.
enum Next {
    Frame(Option<Result<Frame<Bytes>, BodyError>>),
    Released(BodyOutcome),
}

impl Pump {
    pub(super) fn new(
        body: Passing,
        stream: Rc<Stream>,
        direction: Direction,
        gauge: Rc<Gauge>,
        frames: Sender<Result<Frame<Bytes>, BodyError>>,
    ) -> Self {
        Self { body, stream, direction, gauge, last: Cell::default(), frames }
    }

    /// Runs until the body ends, breaks off, or nobody reads it any more.
    pub(super) async fn run(mut self) {
        let (frames, stream) = (self.frames.clone(), Rc::clone(&self.stream));
        let stopped = tokio::select! {
            ended = self.all() => ended,
            // What the filter replies to a response under way comes too late to be sent.
            why = stream.interrupted(), if self.direction == Direction::Response => {
                // Unless the response's head is still there.
                stream.interrupt(why);
                Err(Stop::Broken(Interrupted.into()))
            }
            () = frames.closed() => Err(Stop::Unread),
        };
        if let Err(Stop::Broken(error)) = stopped {
            // Nobody to tell: then nobody misses it.
            let _ = frames.send(Err(error)).await;
        }
    }

    async fn all(&mut self) -> Result<(), Stop> {
        let mut held = false;
        loop {
            match self.next(held).await {
                Next::Released(outcome) => held = self.pass(outcome).await?,
                Next::Frame(Some(Err(error))) => return Err(Stop::Broken(error)),
                Next::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let last = self.body.is_end_stream();
                        held = self.show(&data, last).await?;
                        if last {
                            return self.end().await;
                        }
                    }
                    Err(frame) => return self.trail(frame.into_trailers().unwrap_or_default()).await,
                },
                Next::Frame(None) => {
                    self.show(&[], true).await?;
                    return self.end().await;
                }
            }
        }
    }

    async fn next(&mut self, held: bool) -> Next {
        if !held {
            return Next::Frame(self.body.frame().await);
        }
        tokio::select! {
            // First what the filter decided: the next piece would be another question.
            biased;
            outcome = self.stream.released_body(self.direction) => Next::Released(outcome),
            frame = self.body.frame() => Next::Frame(frame),
        }
    }

    /// Shows one piece to the filter; whether it is held back. The last one is waited for.
    async fn show(&self, piece: &[u8], last: bool) -> Result<bool, Stop> {
        self.gauge.came(piece.len());
        if !self.stream.reads_body(self.direction) {
            return self.pass(BodyOutcome::Continue(piece.to_vec())).await;
        }
        match self.stream.body(self.direction, piece, last) {
            BodyOutcome::Held if last => self.pass(self.stream.held_body(self.direction).await).await,
            outcome => self.pass(outcome).await,
        }
    }

    async fn pass(&self, outcome: BodyOutcome) -> Result<bool, Stop> {
        match outcome {
            BodyOutcome::Continue(bytes) if bytes.is_empty() => Ok(false),
            BodyOutcome::Continue(bytes) => self.send_data(bytes.into()).await.map(|()| false),
            BodyOutcome::Held => Ok(true),
            BodyOutcome::Reply(reply) => Err(self.interrupt(Ok(reply))),
            BodyOutcome::TooLarge => Err(self.interrupt(Ok(too_large()))),
            BodyOutcome::Failed(reason) => Err(self.interrupt(Err(reason))),
        }
    }

    /// The body has ended without trailers, but the filter may have written some.
    async fn end(&self) -> Result<(), Stop> {
        self.complete().await?;
        match self.stream.added_trailers(self.direction) {
            Some(pairs) => self.send_trailers(pairs).await,
            None => Ok(()),
        }
    }

    /// Trailers that pass take what is held back of the body along.
    async fn trail(&self, mut trailers: HeaderMap) -> Result<(), Stop> {
        hop::strip_known(&mut trailers);
        let pairs = headers::trailers_to_pairs(&trailers);
        match self.stream.trailers(self.direction, pairs).await {
            Outcome::Continue(pairs) => {
                if self.stream.reads_body(self.direction) {
                    self.pass(self.stream.held_body(self.direction).await).await?;
                }
                self.complete().await?;
                self.send_trailers(pairs).await
            }
            Outcome::Reply(reply) => Err(self.interrupt(Ok(reply))),
            Outcome::Failed(reason) => Err(self.interrupt(Err(reason))),
        }
    }

    async fn send_data(&self, bytes: Bytes) -> Result<(), Stop> {
        self.gauge.pass(bytes.len()).map_err(|_| self.wrong_length())?;
        if self.gauge.is_full() {
            self.last.set(Some(bytes));
            return Ok(());
        }
        self.send(Frame::data(bytes)).await
    }

    /// All that the filter lets pass of the body has passed.
    async fn complete(&self) -> Result<(), Stop> {
        self.gauge.end().map_err(|_| self.wrong_length())?;
        match self.last.take() {
            Some(bytes) => self.send(Frame::data(bytes)).await,
            None => Ok(()),
        }
    }

    fn wrong_length(&self) -> Stop {
        if self.gauge.has_settled() {
            warn!("a response is broken off: {WrongLength}");
        }
        self.interrupt(Err(length::WRONG))
    }

    async fn send_trailers(&self, pairs: HeaderPairs) -> Result<(), Stop> {
        let trailers = headers::plain_from_pairs(pairs).map_err(|_| Stop::Broken(TrailersError.into()))?;
        self.send(Frame::trailers(trailers)).await
    }

    async fn send(&self, frame: Frame<Bytes>) -> Result<(), Stop> {
        self.frames.send(Ok(frame)).await.map_err(|_| Stop::Unread)
    }

    /// A request is answered in the upstream's place if nothing was answered yet; a response can only break off.
    fn interrupt(&self, why: Result<LocalReply, &'static str>) -> Stop {
        self.stream.interrupt(why);
        Stop::Broken(Interrupted.into())
    }
}

/// Envoy's answer to a request body that outgrows its buffer.
fn too_large() -> LocalReply {
    LocalReply { status: 413, headers: Vec::new(), body: b"Payload Too Large".to_vec(), grpc_status: None }
}

/// The filter ended the exchange in the middle of a body.
#[derive(Clone, Copy, Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the filter ended the exchange")
    }
}

impl Error for Interrupted {}
