//! The HTTP context of one request.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::context::{MapType, Side};
use super::error::Fault;
use super::phases::{Step, Stepped};
use super::verdict::{BodyOutcome, HeaderPairs, LocalReply, Outcome, PAUSED_TOO_LONG, denial};
use super::vm::{Interest, Opened, Vm};
use super::worker::Worker;

/// The reason of a pause that nothing can end.
const PAUSED: &str = "filter-pause";

/// One request in the filter. Dropping it ends the context (log, done, delete).
#[derive(Debug)]
pub struct Stream {
    worker: RefCell<Rc<Worker>>,
    state: Cell<State>,
    decision: RefCell<Option<String>>,
    interest: Interest,
    /// Rung by the VM's side.
    bell: Option<Rc<Notify>>,
    /// What ended the request while its body was on the way.
    interruption: RefCell<Option<Interruption>>,
    interrupted: Notify,
}

/// A request that ends before its time: by a reply of the filter, or for a reason of ours.
pub type Interruption = Result<LocalReply, &'static str>;

#[derive(Clone, Copy, Debug)]
enum State {
    /// The context `id` lives in the VM of that generation.
    Open { generation: u64, id: u32 },
    /// The filter is asked about connections only.
    Unasked,
    /// No usable answer; there will be none.
    Failed(&'static str),
}

impl Stream {
    pub(super) fn new(worker: Rc<Worker>, opened: Result<(u64, Option<Opened>), Fault>) -> Self {
        let (state, bell, interest) = match opened {
            Ok((generation, Some(Opened { id, bell, interest }))) => {
                (State::Open { generation, id }, bell, interest)
            }
            Ok((_, None)) => (State::Unasked, None, Interest::default()),
            Err(fault) => (State::Failed(fault.reason()), None, Interest::default()),
        };
        let decision = match state {
            State::Failed(reason) => Some(denial(reason)),
            State::Open { .. } | State::Unasked => None,
        };
        Self {
            worker: worker.into(),
            state: Cell::new(state),
            decision: RefCell::new(decision),
            interest,
            bell,
            interruption: RefCell::default(),
            interrupted: Notify::new(),
        }
    }

    /// Shows the request's header map to the filter. One that pauses fails: this is for those who cannot wait.
    pub fn request_headers(&mut self, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        self.at_once(MapType::RequestHeaders, headers, end_of_stream)
    }

    /// As [`Stream::request_headers`], with the request's trailers.
    pub fn request_trailers(&mut self, trailers: HeaderPairs) -> Outcome {
        self.at_once(MapType::RequestTrailers, trailers, true)
    }

    /// As [`Stream::request_headers`], with the response's header map.
    pub fn response_headers(&mut self, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        self.at_once(MapType::ResponseHeaders, headers, end_of_stream)
    }

    /// As [`Stream::request_headers`], with the response's trailers.
    pub fn response_trailers(&mut self, trailers: HeaderPairs) -> Outcome {
        self.at_once(MapType::ResponseTrailers, trailers, true)
    }

    /// Shows a header map to the filter, and waits while the filter pauses there.
    pub(crate) async fn head(&self, side: Direction, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        self.in_time(side.headers(), headers, end_of_stream).await
    }

    /// Shows trailers to the filter, and waits while the filter pauses there.
    pub(crate) async fn trailers(&self, side: Direction, trailers: HeaderPairs) -> Outcome {
        self.in_time(side.side().trailers(), trailers, true).await
    }

    /// Shows trailers to a filter that cannot wait for anything.
    pub(crate) fn trailers_at_once(&self, side: Direction, trailers: HeaderPairs) -> Outcome {
        self.at_once(side.side().trailers(), trailers, true)
    }

    /// Whether a body of this direction is the filter's business.
    pub(crate) fn reads_body(&self, side: Direction) -> bool {
        match side {
            Direction::Request => self.interest.request_body,
            Direction::Response => self.interest.response_body,
        }
    }

    /// Whether the filter looks at responses, those it sends itself included.
    pub(crate) fn reads_responses(&self) -> bool {
        self.interest.response_head || self.interest.response_body
    }

    /// Whether the filter can be called by anything but this request's own progress.
    pub(crate) fn has_events(&self) -> bool {
        self.bell.is_some()
    }

    /// Shows a piece of a body to the filter.
    pub(crate) fn body(&self, side: Direction, piece: &[u8], end_of_stream: bool) -> BodyOutcome {
        let shown = self.ask(|vm, id| vm.show_body(id, side.side(), piece, end_of_stream));
        self.body_outcome(shown, || BodyOutcome::Continue(piece.to_vec()))
    }

    /// Waits until the filter lets go of the body it holds back, all of which is there.
    pub(crate) async fn held_body(&self, side: Direction) -> BodyOutcome {
        let end = Instant::now() + self.worker().patience.get();
        loop {
            match self.look_at_body(side) {
                BodyOutcome::Held => {}
                settled => return settled,
            }
            if let Err(reason) = self.rung(end).await {
                return BodyOutcome::Failed(self.end_as(reason));
            }
        }
    }

    /// Waits, without end, until the filter lets go of the body it holds back; more of which may come meanwhile.
    pub(crate) async fn released_body(&self, side: Direction) -> BodyOutcome {
        loop {
            match self.look_at_body(side) {
                BodyOutcome::Held => {}
                settled => return settled,
            }
            match &self.bell {
                Some(bell) => bell.notified().await,
                None => pending().await,
            }
        }
    }

    fn look_at_body(&self, side: Direction) -> BodyOutcome {
        let held = self.ask(|vm, id| vm.look_at_body(id, side.side()));
        self.body_outcome(held, || BodyOutcome::Continue(Vec::new()))
    }

    /// Trailers the filter wrote behind a body that had none.
    pub(crate) fn added_trailers(&self, side: Direction) -> Option<HeaderPairs> {
        self.ask(|vm, id| vm.added_trailers(id, side.side())).ok().flatten().flatten()
    }

    /// Tells the filter's log what is answered when its callbacks for responses did not see it.
    pub(crate) fn note_response(&self, headers: HeaderPairs) {
        // One that fails here fails at the end too, where it is said.
        let _ = self.ask(|vm, id| vm.note_response(id, headers));
    }

    /// Ends the request early: whoever waits in [`Stream::interrupted`] learns why.
    pub(crate) fn interrupt(&self, why: Interruption) {
        self.interruption.borrow_mut().get_or_insert(why);
        self.interrupted.notify_one();
    }

    /// What ended the request early, if anything did.
    pub(crate) fn interruption(&self) -> Option<Interruption> {
        self.interruption.take().or_else(|| match self.ask(|vm, id| vm.unasked(id)) {
            Ok(unasked) => unasked.flatten(),
            Err(reason) => Some(Err(reason)),
        })
    }

    /// Waits until something ends the request early: a reply to its body, or one that the filter sends out of turn.
    pub(crate) async fn interrupted(&self) -> Interruption {
        loop {
            if let Some(why) = self.interruption() {
                return why;
            }
            let bell = async {
                match &self.bell {
                    Some(bell) => bell.notified().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = bell => {}
                () = self.interrupted.notified() => {}
            }
        }
    }

    /// The decision as JSON text: the filter's own where it stored one, ours where it failed.
    pub fn decision(&self) -> Option<String> {
        self.decision.borrow().clone()
    }

    /// Goes on as `newer`, which was shown the same request head, so that the VM of before can go. A filter that sees more
    /// of an exchange than its request's head and trailers has seen things of this one that `newer` has not: it stays.
    pub(crate) fn succeed(&self, newer: Self) {
        let sees_more = |stream: &Self| {
            stream.has_events() || stream.reads_responses() || stream.reads_body(Direction::Request)
        };
        if !sees_more(self) && !sees_more(&newer) {
            self.worker.swap(&newer.worker);
            self.state.swap(&newer.state);
            self.decision.swap(&newer.decision);
        }
    }

    fn worker(&self) -> Rc<Worker> {
        Rc::clone(&self.worker.borrow())
    }

    fn at_once(&self, kind: MapType, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        match self.show(kind, headers, end_of_stream) {
            Step::Settled(outcome) => outcome,
            Step::Paused => Outcome::Failed(self.end_as(PAUSED)),
        }
    }

    async fn in_time(&self, kind: MapType, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        let mut step = self.show(kind, headers, end_of_stream);
        let mut end = None;
        loop {
            if let Step::Settled(outcome) = step {
                return outcome;
            }
            let end = *end.get_or_insert_with(|| Instant::now() + self.worker().patience.get());
            if let Err(reason) = self.rung(end).await {
                return Outcome::Failed(self.end_as(reason));
            }
            step = match self.ask(|vm, id| vm.look(id, kind)) {
                Ok(Some(stepped)) => self.noted(stepped),
                Ok(None) => return Outcome::Failed(self.end_as(PAUSED)),
                Err(reason) => return Outcome::Failed(reason),
            };
        }
    }

    /// Waits for the bell, if it can ring at all.
    async fn rung(&self, end: Instant) -> Result<(), &'static str> {
        let Some(bell) = self.bell.as_ref().filter(|_| self.worker().events_are_coming()) else {
            return Err(PAUSED);
        };
        timeout_at(end, bell.notified()).await.map_err(|_| PAUSED_TOO_LONG)
    }

    fn show(&self, kind: MapType, headers: HeaderPairs, end_of_stream: bool) -> Step<Outcome> {
        if let State::Unasked = self.state.get() {
            return Step::Settled(Outcome::Continue(headers));
        }
        match self.ask(|vm, id| vm.show(id, kind, headers, end_of_stream)) {
            Ok(Some(stepped)) => self.noted(stepped),
            Ok(None) => Step::Settled(Outcome::Failed(self.end_as(PAUSED))),
            Err(reason) => Step::Settled(Outcome::Failed(reason)),
        }
    }

    fn noted(&self, (step, decision): Stepped<Outcome>) -> Step<Outcome> {
        if decision.is_some() {
            self.decision.replace(decision);
        }
        if let Step::Settled(Outcome::Failed(reason)) = &step {
            self.end_as(reason);
        }
        step
    }

    /// Asks this request's VM; `None` when the filter is not asked about requests.
    fn ask<R>(&self, work: impl FnOnce(&mut Vm, u32) -> Result<R, Fault>) -> Result<Option<R>, &'static str> {
        let (generation, id) = match self.state.get() {
            State::Open { generation, id } => (generation, id),
            State::Unasked => return Ok(None),
            State::Failed(reason) => return Err(reason),
        };
        match self.worker().with_vm(Some(generation), |vm| work(vm, id)) {
            Ok((_, answer)) => Ok(Some(answer)),
            Err(fault) => {
                self.fail(fault.reason());
                Err(fault.reason())
            }
        }
    }

    fn body_outcome(
        &self,
        shown: Result<Option<BodyOutcome>, &'static str>,
        unasked: impl FnOnce() -> BodyOutcome,
    ) -> BodyOutcome {
        match shown {
            Ok(Some(outcome)) => outcome,
            Ok(None) => unasked(),
            Err(reason) => BodyOutcome::Failed(reason),
        }
    }

    /// Ends the context; from now on every phase fails for this reason.
    fn end_as(&self, reason: &'static str) -> &'static str {
        self.end();
        self.fail(reason);
        reason
    }

    fn fail(&self, reason: &'static str) {
        self.state.set(State::Failed(reason));
        self.decision.replace(Some(denial(reason)));
    }

    fn end(&self) {
        if let State::Open { generation, id } = self.state.get() {
            // A fault here is logged and counted where it happens; the request itself is over.
            let _ = self.worker().with_vm(Some(generation), |vm| vm.close(id));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

/// From the client, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    Request,
    /// From the upstream, or from the filter itself, to the client.
    Response,
}

impl Direction {
    fn side(self) -> Side {
        match self {
            Self::Request => Side::Request,
            Self::Response => Side::Response,
        }
    }

    fn headers(self) -> MapType {
        match self {
            Self::Request => MapType::RequestHeaders,
            Self::Response => MapType::ResponseHeaders,
        }
    }
}
