//! Replies of ours and of the filter, as the filter's callbacks for responses see them.

use hyper::body::Bytes;

use super::headers;
use super::reply::Reply;
use crate::wasm::{BodyOutcome, Direction, Stream};

/// A reply that the filter's callbacks do not see, but its log does.
pub(super) fn noted(stream: &Stream, reply: Reply) -> Reply {
    stream.note_response(headers::response_to_pairs(reply.status(), reply.headers()));
    reply
}

/// The body of a reply as the filter leaves it.
pub(super) async fn through(stream: &Stream, body: Bytes) -> Result<Bytes, &'static str> {
    if body.is_empty() || !stream.reads_body(Direction::Response) {
        return Ok(body);
    }
    let outcome = match stream.body(Direction::Response, &body, true) {
        BodyOutcome::Held => stream.held_body(Direction::Response).await,
        outcome => outcome,
    };
    match outcome {
        BodyOutcome::Continue(bytes) => Ok(bytes.into()),
        BodyOutcome::Failed(reason) => Err(reason),
        BodyOutcome::Reply(_) | BodyOutcome::TooLarge | BodyOutcome::Held => Err("filter-reply"),
    }
}
