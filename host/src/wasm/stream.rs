//! The HTTP context of one request.

use std::rc::Rc;

use super::verdict::{HeaderPairs, Outcome};
use super::worker::Worker;

/// One request in the filter. Dropping it ends the context (done, log, delete).
#[derive(Debug)]
pub struct Stream {
    _worker: Rc<Worker>,
}

impl Stream {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { _worker: worker }
    }

    /// Shows the request's header map to the filter.
    pub fn request_headers(&mut self, _headers: HeaderPairs, _end_of_stream: bool) -> Outcome {
        Outcome::Failed("filter-silent")
    }

    /// Shows the request's trailers to the filter.
    pub fn request_trailers(&mut self, _trailers: HeaderPairs) -> Outcome {
        Outcome::Failed("filter-silent")
    }

    /// Shows the response's header map to the filter.
    pub fn response_headers(&mut self, _headers: HeaderPairs, _end_of_stream: bool) -> Outcome {
        Outcome::Failed("filter-silent")
    }

    /// Shows the response's trailers to the filter.
    pub fn response_trailers(&mut self, _trailers: HeaderPairs) -> Outcome {
        Outcome::Failed("filter-silent")
    }

    /// The decision as JSON text, when the filter stored one.
    pub fn decision(&self) -> Option<String> {
        None
    }
}
