//! The network filter: one context per connection.

use std::rc::Rc;

use peergate_policy::Decision;
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::Action;

use crate::envoy::{self, Side};
use crate::gate::Gate;
use crate::verdict::Verdict;

/// A TCP connection.
pub(crate) struct Stream {
    gate: Rc<Gate>,
    verdict: Option<Rc<Verdict>>,
    closed: bool,
}

impl Stream {
    pub(crate) fn new(gate: Rc<Gate>) -> Self {
        Self { gate, verdict: None, closed: false }
    }

    /// Decides on the first event of either direction, whatever its size: a client may close without a byte, and a
    /// server that speaks first must not be heard by a client that is not admitted.
    fn on_data(&mut self) -> Action {
        if self.closed {
            return Action::Pause;
        }
        let verdict = self.verdict.get_or_insert_with(|| self.gate.judge()).clone();
        if matches!(verdict.decision(), Decision::Allow(_)) && self.still_valid(&verdict) {
            return Action::Continue;
        }
        self.closed = true;
        envoy::close(Side::Downstream);
        envoy::close(Side::Upstream);
        Action::Pause
    }

    /// A connection may outlive its certificate; then the next byte ends it. Judged again, so that the reason is told.
    fn still_valid(&self, verdict: &Verdict) -> bool {
        let lapsed = envoy::now().map_or(true, |now| verdict.lapsed(now).is_some());
        !lapsed || matches!(self.gate.judge().decision(), Decision::Allow(_))
    }
}

impl Context for Stream {}

impl StreamContext for Stream {
    /// The handshake has not happened yet: nothing to decide, and nothing may be read.
    fn on_new_connection(&mut self) -> Action {
        Action::Continue
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.on_data()
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.on_data()
    }
}
