//! The phases of a request in a VM: heads, bodies and trailers of both directions.

use super::context::{CLOSED, Context, MapType, Side};
use super::error::Fault;
use super::exports::HeadersCallback;
use super::headers::HeaderMap;
use super::limits;
use super::verdict::{BodyOutcome, HeaderPairs, LocalReply, Outcome};
use super::vm::{CONTINUE, Vm, decision, guarded};

/// ABI actions on a body besides "continue": hold it back (1, 2), or drop this piece of it (3 and beyond).
const DROP: u32 = 3;

/// The reason of a body that is held back when the host keeps as much as it does for a filter.
const HELD_TOO_MUCH: &str = "filter-holds-too-much";

/// What a callback left: an answer, or a pause that something may end.
#[derive(Debug)]
pub(super) enum Step<T> {
    Settled(T),
    Paused,
}

/// The filter's step, with the decision it left so far.
pub(super) type Stepped<T> = (Step<T>, Option<String>);

impl Vm {
    /// Shows one header map to the filter.
    pub(super) fn show(
        &mut self,
        id: u32,
        kind: MapType,
        headers: HeaderPairs,
        end_of_stream: bool,
    ) -> Result<Stepped<Outcome>, Fault> {
        self.begin();
        let count = u32::try_from(headers.len()).map_err(|_| Fault::Trap)?;
        let context = self.context(id)?;
        context.maps[kind as usize] = Some(HeaderMap::new(headers));
        context.shown[kind as usize] = true;
        context.flow(kind.side()).resumed = false;
        context.flow(kind.side()).ends = false;

        let action = self.call_with_map(id, kind, count, u32::from(end_of_stream))?;
        let context = self.context(id)?;
        context.flow(kind.side()).resumed |= action == CONTINUE;
        Ok(stepped(context, kind))
    }

    /// How a paused phase with headers stands by now.
    pub(super) fn look(&mut self, id: u32, kind: MapType) -> Result<Stepped<Outcome>, Fault> {
        Ok(stepped(self.context(id)?, kind))
    }

    fn call_with_map(&mut self, id: u32, kind: MapType, count: u32, end: u32) -> Result<u32, Fault> {
        let (store, exports) = (&mut self.store, &self.exports);
        let headers = match kind {
            MapType::RequestHeaders => &exports.request_headers,
            MapType::ResponseHeaders => &exports.response_headers,
            MapType::RequestTrailers => {
                return guarded(store, id, exports.request_trailers.as_ref(), (id, count), CONTINUE);
            }
            MapType::ResponseTrailers => {
                return guarded(store, id, exports.response_trailers.as_ref(), (id, count), CONTINUE);
            }
        };
        match headers {
            HeadersCallback::V0_1(callback) => guarded(store, id, callback.as_ref(), (id, count), CONTINUE),
            HeadersCallback::V0_2(callback) => {
                guarded(store, id, callback.as_ref(), (id, count, end), CONTINUE)
            }
        }
    }

    /// Shows a piece of a body to the filter, behind what it held back before.
    pub(super) fn show_body(
        &mut self,
        id: u32,
        side: Side,
        piece: &[u8],
        end_of_stream: bool,
    ) -> Result<BodyOutcome, Fault> {
        self.begin();
        let flow = self.context(id)?.flow(side);
        if flow.body.len() + piece.len() > limits::BODY.max(piece.len()) {
            return Ok(BodyOutcome::TooLarge);
        }
        flow.body.extend_from_slice(piece);
        flow.body_shown = true;
        flow.resumed = false;
        flow.ends = end_of_stream;
        let size = u32::try_from(flow.body.len()).map_err(|_| Fault::Trap)?;

        let (store, exports) = (&mut self.store, &self.exports);
        let callback = match side {
            Side::Request => exports.request_body.as_ref(),
            Side::Response => exports.response_body.as_ref(),
        };
        let action = guarded(store, id, callback, (id, size, u32::from(end_of_stream)), CONTINUE)?;
        let context = self.context(id)?;
        context.flow(side).resumed |= action == CONTINUE;
        if action >= DROP {
            context.flow(side).body.clear();
        }
        Ok(body_outcome(context, side))
    }

    /// How a body that is held back stands by now.
    pub(super) fn look_at_body(&mut self, id: u32, side: Side) -> Result<BodyOutcome, Fault> {
        Ok(body_outcome(self.context(id)?, side))
    }

    /// Trailers the filter wrote where there were none.
    pub(super) fn added_trailers(&mut self, id: u32, side: Side) -> Result<Option<HeaderPairs>, Fault> {
        let context = self.context(id)?;
        let added = std::mem::take(&mut context.flow(side).ends);
        let map = added.then(|| context.map(side.trailers())).flatten();
        Ok(map.map(|map| map.pairs().clone()).filter(|pairs| !pairs.is_empty()))
    }

    /// What was answered in the end, for `proxy_on_log`.
    pub(super) fn note_response(&mut self, id: u32, headers: HeaderPairs) -> Result<(), Fault> {
        self.context(id)?.maps[MapType::ResponseHeaders as usize] = Some(HeaderMap::new(headers));
        Ok(())
    }

    /// A reply that the filter sent while nobody asked it.
    pub(super) fn unasked(&mut self, id: u32) -> Result<Option<Result<LocalReply, &'static str>>, Fault> {
        let context = self.context(id)?;
        let reply = context.reply.take();
        context.settle();
        Ok(match reply {
            Some(reply) => Some(Ok(reply)),
            None => context.refused().map(Err),
        })
    }
}

fn stepped(context: &mut Context, kind: MapType) -> Stepped<Outcome> {
    let stepped = (step(context, kind), decision(context));
    context.settle();
    stepped
}

/// What the filter's answer to one phase means. A reply counts whatever the action beside it.
fn step(context: &mut Context, kind: MapType) -> Step<Outcome> {
    if let Some(reply) = context.reply.take() {
        return Step::Settled(Outcome::Reply(reply));
    }
    if let Some(reason) = context.refused() {
        return Step::Settled(Outcome::Failed(reason));
    }
    if !context.flow(kind.side()).resumed {
        return Step::Paused;
    }
    context.shown[kind as usize] = false;
    Step::Settled(match context.map(kind) {
        // Properties and the log ask for this map later, so the filter's side keeps its own.
        Some(map) => Outcome::Continue(map.pairs().clone()),
        None => Outcome::Failed(CLOSED),
    })
}

fn body_outcome(context: &mut Context, side: Side) -> BodyOutcome {
    let outcome = body_step(context, side);
    context.settle();
    match outcome {
        // What passes is gone at once; what is held back adds up over all requests.
        BodyOutcome::Held if context.room_for(0).is_err() => BodyOutcome::Failed(HELD_TOO_MUCH),
        outcome => outcome,
    }
}

fn body_step(context: &mut Context, side: Side) -> BodyOutcome {
    if let Some(reply) = context.reply.take() {
        return BodyOutcome::Reply(reply);
    }
    if let Some(reason) = context.refused() {
        return BodyOutcome::Failed(reason);
    }
    let flow = context.flow(side);
    if !flow.resumed {
        return BodyOutcome::Held;
    }
    flow.body_shown = false;
    BodyOutcome::Continue(std::mem::take(&mut flow.body))
}
