//! Bodies, as host functions see and change them.

use std::rc::Rc;

use super::super::stream::Direction;
use super::super::{BodyOutcome, Outcome, Stream};
use super::{plain, worker};

/// Holds a request's body back while it is shorter than 8 bytes and not complete; the first byte of the whole says what to
/// do with it. A response's body that starts with `d` is dropped piece by piece.
const FILTER: &str = r#"
    (data (i32.const 1024) "new")
    (data (i32.const 1040) "x-trailer")
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_request_body") (param $id i32) (param $size i32) (param $last i32) (result i32)
      (local $first i32)
      (if (i32.and (i32.eqz (local.get $last)) (i32.lt_u (local.get $size) (i32.const 8)))
        (then (return (i32.const 1))))
      (if (i32.eqz (local.get $size)) (then (return (i32.const 0))))
      (if (call $get_buffer (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4)) (then (unreachable)))
      (local.set $first (i32.load8_u (i32.load (i32.const 0))))
      ;; r: replace all; b: before; a: after; m: in the middle; t: trailers
      (if (i32.eq (local.get $first) (i32.const 114)) (then
        (call $report (call $set_buffer (i32.const 0) (i32.const 0) (local.get $size) (i32.const 1024) (i32.const 3)))))
      (if (i32.eq (local.get $first) (i32.const 98)) (then
        (call $report (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 3)))))
      (if (i32.eq (local.get $first) (i32.const 97)) (then
        (call $report (call $set_buffer (i32.const 0) (local.get $size) (i32.const 0) (i32.const 1024) (i32.const 3)))))
      (if (i32.eq (local.get $first) (i32.const 109)) (then
        (call $report (call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 1024) (i32.const 3)))
        (call $report (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 3)))
        (call $report (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 131071) (i32.const 3)))
        (call $report (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 3)))))
      (if (i32.eq (local.get $first) (i32.const 116)) (then
        (call $report (call $add_value (i32.const 1) (i32.const 1040) (i32.const 9) (i32.const 1024) (i32.const 3)))
        (call $report (call $add_value (i32.const 0) (i32.const 1040) (i32.const 9) (i32.const 1024) (i32.const 3)))))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (call $decide_report) (i32.const 0))
    (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 3))"#;

fn stream() -> Stream {
    worker(FILTER).open_stream(&plain(1))
}

fn passed(bytes: &[u8]) -> BodyOutcome {
    BodyOutcome::Continue(bytes.to_vec())
}

/// What the host functions answered, once the response comes.
fn reported(mut stream: Stream) -> Option<String> {
    assert_eq!(stream.response_headers(Vec::new(), true), Outcome::Continue(Vec::new()));
    stream.decision()
}

#[test]
fn what_is_held_back_comes_with_the_rest() {
    let stream = stream();
    assert_eq!(stream.body(Direction::Request, b"one", false), BodyOutcome::Held);
    assert_eq!(stream.body(Direction::Request, b"two", false), BodyOutcome::Held);
    assert_eq!(stream.body(Direction::Request, b"three", false), passed(b"onetwothree"));
    assert_eq!(stream.body(Direction::Request, b"four", true), passed(b"four"));
    assert_eq!(stream.added_trailers(Direction::Request), None);
}

#[test]
fn bytes_go_before_after_or_in_the_place_of_the_beginning() {
    for (body, left, statuses) in [
        ("replaced", "new", "0"),
        ("before", "newbefore", "0"),
        ("after", "afternew", "0"),
        // from the beginning, but not within, not from outside of memory, and not into a body that is not there
        ("middle", "newiddle", "2062"),
    ] {
        let stream = stream();
        assert_eq!(stream.body(Direction::Request, body.as_bytes(), true), passed(left.as_bytes()), "{body}");
        assert_eq!(reported(stream).as_deref(), Some(statuses), "{body}");
    }
}

#[test]
fn a_body_may_end_with_trailers_that_nobody_sent() {
    let stream = stream();
    assert_eq!(stream.body(Direction::Request, b"trailers", true), passed(b"trailers"));
    let added = stream.added_trailers(Direction::Request);
    assert_eq!(added, Some(vec![(b"x-trailer".to_vec(), b"new".to_vec())]));
    // The headers are gone by then.
    assert_eq!(reported(stream).as_deref(), Some("02"));
}

#[test]
fn pieces_can_be_dropped_and_do_not_pile_up_without_end() {
    let stream = stream();
    for _ in 0..3 {
        assert_eq!(stream.body(Direction::Response, &[b'd'; 1 << 20], false), BodyOutcome::Held);
    }
    let worker = worker(
        r#"(func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 1))"#,
    );
    let stream = worker.open_stream(&plain(1));
    assert_eq!(stream.body(Direction::Request, &[0; 1 << 20], false), BodyOutcome::Held);
    assert_eq!(stream.body(Direction::Request, b"x", false), BodyOutcome::TooLarge);
    assert_eq!(Rc::strong_count(&worker), 2);
}
