//! What calls a filter besides connections and requests: timers, queues, and answers to its calls.

use std::time::Instant;

use super::callout::{Call, CallResponse};
use super::error::Fault;
use super::queue::Notice;
use super::vm::{Vm, guarded};

impl Vm {
    /// `proxy_on_tick` of a root.
    pub(super) fn tick(&mut self, root: u32) -> Result<(), Fault> {
        self.begin();
        self.store.data_mut().events.ticked(root);
        guarded(&mut self.store, root, self.exports.tick.as_ref(), root, ())
    }

    /// `proxy_on_queue_ready` of the root that registered the queue.
    pub(super) fn queue_ready(&mut self, notice: Notice) -> Result<(), Fault> {
        self.begin();
        let Notice { root, queue } = notice;
        guarded(&mut self.store, root, self.exports.queue_ready.as_ref(), (root, queue), ())
    }

    /// `proxy_on_http_call_response` of the root that made the call, or whose request did.
    pub(super) fn http_call_response(&mut self, token: u32, response: CallResponse) -> Result<(), Fault> {
        self.begin();
        let host = self.store.data_mut();
        let Some(root) = host.events.answered(token) else { return Ok(()) };
        let size = |count: usize| u32::try_from(count).map_err(|_| Fault::Trap);
        let headers = size(response.headers.pairs().len())?;
        let trailers = size(response.trailers.as_ref().map_or(0, |trailers| trailers.pairs().len()))?;
        let body = size(response.body.len())?;
        host.events.response = Some(response);

        let parameters = (root, token, headers, body, trailers);
        let callback = self.exports.http_call_response.as_ref();
        let answer = guarded(&mut self.store, root, callback, parameters, ());
        let host = self.store.data_mut();
        host.events.response = None;
        if !host.events.are_coming() {
            host.contexts.ring_all();
        }
        answer
    }

    /// Whether anything will call the filter that could end a pause.
    pub(super) fn events_are_coming(&self) -> bool {
        self.store.data().events.are_coming()
    }

    /// Whether something changed that the worker's driver must know of. Asked after every callback.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.store.data_mut().events.changed)
    }

    /// The calls to make, and the next tick.
    pub(super) fn take_work(&mut self) -> (Vec<Call>, Option<(Instant, u32)>) {
        let events = &mut self.store.data_mut().events;
        (std::mem::take(&mut events.accepted), events.next_tick())
    }
}
