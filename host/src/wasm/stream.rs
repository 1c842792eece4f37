//! The HTTP context of one request.

use std::rc::Rc;

use super::context::MapType;
use super::error::Fault;
use super::verdict::{HeaderPairs, Outcome, denial};
use super::worker::Worker;

/// One request in the filter. Dropping it ends the context (done, log, delete).
#[derive(Debug)]
pub struct Stream {
    worker: Rc<Worker>,
    state: State,
    decision: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The context `id` lives in the VM of that generation.
    Open { generation: u64, id: u32 },
    /// The filter answered in the upstream's place; it is not asked again.
    Replied { generation: u64, id: u32 },
    /// No usable answer; there will be none.
    Failed(&'static str),
}

impl Stream {
    pub(super) fn new(worker: Rc<Worker>, opened: Result<(u64, u32), Fault>) -> Self {
        let mut stream = Self { worker, state: State::Failed("filter-silent"), decision: None };
        match opened {
            Ok((generation, id)) => stream.state = State::Open { generation, id },
            Err(fault) => stream.fail(fault.reason()),
        }
        stream
    }

    /// Shows the request's header map to the filter.
    pub fn request_headers(&mut self, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        self.show(MapType::RequestHeaders, headers, end_of_stream)
    }

    /// Shows the request's trailers to the filter.
    pub fn request_trailers(&mut self, trailers: HeaderPairs) -> Outcome {
        self.show(MapType::RequestTrailers, trailers, true)
    }

    /// Shows the response's header map to the filter.
    pub fn response_headers(&mut self, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        self.show(MapType::ResponseHeaders, headers, end_of_stream)
    }

    /// Shows the response's trailers to the filter.
    pub fn response_trailers(&mut self, trailers: HeaderPairs) -> Outcome {
        self.show(MapType::ResponseTrailers, trailers, true)
    }

    /// The decision as JSON text: the filter's own where it stored one, ours where it failed.
    pub fn decision(&self) -> Option<String> {
        self.decision.clone()
    }

    fn show(&mut self, kind: MapType, headers: HeaderPairs, end_of_stream: bool) -> Outcome {
        let (generation, id) = match self.state {
            State::Open { generation, id } => (generation, id),
            // The filter's own reply needs no judgement.
            State::Replied { .. } => return Outcome::Continue(headers),
            State::Failed(reason) => return Outcome::Failed(reason),
        };
        let shown = self.worker.with_vm(Some(generation), |vm| vm.show(id, kind, headers, end_of_stream));
        let (outcome, decision) = match shown {
            Ok((_, answer)) => answer,
            Err(fault) => {
                self.fail(fault.reason());
                return Outcome::Failed(fault.reason());
            }
        };
        if decision.is_some() {
            self.decision = decision;
        }
        match outcome {
            Outcome::Continue(_) => {}
            Outcome::Reply(_) => self.state = State::Replied { generation, id },
            Outcome::Failed(reason) => {
                self.end();
                self.fail(reason);
            }
        }
        outcome
    }

    fn fail(&mut self, reason: &'static str) {
        self.state = State::Failed(reason);
        self.decision = Some(denial(reason));
    }

    fn end(&mut self) {
        if let State::Open { generation, id } | State::Replied { generation, id } = self.state {
            // A fault here is logged and counted where it happens; the request itself is over.
            let _ = self.worker.with_vm(Some(generation), |vm| vm.close(id));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}
