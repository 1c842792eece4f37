//! Requests and responses.

use super::super::verdict::denial;
use super::super::{HeaderPairs, LocalReply, Outcome, Stream};
use super::{plain, worker};

/// What the filter does depends on how many header fields it is shown.
const FILTER: &str = r#"
    (data (i32.const 1024) "X-Seen")
    (data (i32.const 1040) "yes")
    (data (i32.const 1056) "no\r\nx: y")
    (data (i32.const 1088) "\01\00\00\00\0c\00\00\00\0a\00\00\00Content-Type\00text/plain\00")
    (func (export "proxy_on_context_create") (param i32 i32))
    (func $mark (param $map i32)
      (drop (call $replace_value (local.get $map) (i32.const 1024) (i32.const 6) (i32.const 1040) (i32.const 3))))
    (func (export "proxy_on_request_headers") (param $id i32) (param $count i32) (param i32) (result i32)
      (if (i32.eq (local.get $count) (i32.const 1)) (then (call $mark (i32.const 0)) (return (i32.const 0))))
      (if (i32.eq (local.get $count) (i32.const 2)) (then (unreachable)))
      (if (i32.eq (local.get $count) (i32.const 3)) (then (loop $again (br $again))))
      (if (i32.eq (local.get $count) (i32.const 4)) (then (return (i32.const 1))))
      (if (i32.eq (local.get $count) (i32.const 5)) (then
        (call $decide (i32.const 1040) (i32.const 3))
        (call $report (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 1040) (i32.const 3)
          (i32.const 1088) (i32.const 36) (i32.const 7)))
        (call $report (call $reply (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const -1)))
        (call $decide_report)
        (return (i32.const 0))))
      (if (i32.eq (local.get $count) (i32.const 6)) (then
        (drop (call $resume (i32.const 0))) (return (i32.const 1))))
      (if (i32.eq (local.get $count) (i32.const 7)) (then
        (drop (call $close (i32.const 0))) (return (i32.const 0))))
      (if (i32.eq (local.get $count) (i32.const 8)) (then
        ;; a value that would split the message, a map that is not there, one that never is
        (call $report (call $add_value (i32.const 0) (i32.const 1024) (i32.const 6) (i32.const 1056) (i32.const 8)))
        (call $report (call $get_value (i32.const 2) (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 4)))
        (call $report (call $get_value (i32.const 6) (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 4)))
        (call $report (call $get_pairs (i32.const 99) (i32.const 0) (i32.const 4)))
        (call $report (call $set_pairs (i32.const 0) (i32.const 1024) (i32.const 17)))
        (call $decide_report)))
      (if (i32.eq (local.get $count) (i32.const 9)) (then
        (if (i32.ne (i32.const 2) (call $reply (i32.const 99) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const -1))) (then (unreachable)))))
      (if (i32.eq (local.get $count) (i32.const 10)) (then
        (if (i32.ne (i32.const 2) (call $close (i32.const 4))) (then (unreachable)))))
      (i32.const 0))
    (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (call $mark (i32.const 1)) (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $mark (i32.const 2)) (i32.const 0))
    (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_log") (param i32)
      ;; trailers that never came are empty now, not an error
      (if (call $get_pairs (i32.const 3) (i32.const 0) (i32.const 4)) (then (unreachable))))"#;

fn fields(count: usize) -> HeaderPairs {
    (0..count).map(|number| (format!("h{number}").into_bytes(), b"v".to_vec())).collect()
}

fn seen(mut pairs: HeaderPairs) -> Outcome {
    pairs.push((b"x-seen".to_vec(), b"yes".to_vec()));
    Outcome::Continue(pairs)
}

/// One worker per case, with an open stream in it.
fn stream() -> Stream {
    worker(FILTER).open_stream(&plain(1))
}

#[test]
fn each_phase_has_its_own_map() {
    let mut stream = stream();
    assert_eq!(stream.request_headers(fields(1), false), seen(fields(1)));
    assert_eq!(stream.request_trailers(fields(2)), seen(fields(2)));
    assert_eq!(stream.response_headers(fields(3), false), seen(fields(3)));
    assert_eq!(stream.response_trailers(fields(4)), Outcome::Failed("filter-pause"));
    assert_eq!(stream.decision(), Some(denial("filter-pause")));
}

#[test]
fn a_fault_fails_the_request_and_those_that_shared_its_vm() {
    for (count, reason) in [(2, "filter-trap"), (3, "filter-timeout")] {
        let worker = worker(FILTER);
        let mut other = worker.open_stream(&plain(2));
        assert_eq!(other.request_headers(fields(1), true), seen(fields(1)));
        let mut stream = worker.open_stream(&plain(1));
        assert_eq!(stream.request_headers(fields(count), true), Outcome::Failed(reason));
        assert_eq!(stream.response_headers(fields(1), true), Outcome::Failed(reason));
        assert_eq!(stream.decision(), Some(denial(reason)));

        assert_eq!(other.response_headers(fields(1), true), Outcome::Failed("filter-restarted"));
        let mut next = worker.open_stream(&plain(3));
        assert_eq!(next.request_headers(fields(1), true), seen(fields(1)));
        assert_eq!(other.response_headers(fields(1), true), Outcome::Failed("filter-restarted"));
        assert_eq!(worker.restarts(), 1);
    }
}

#[test]
fn a_pause_without_a_reply_is_no_permission() {
    assert_eq!(stream().request_headers(fields(4), true), Outcome::Failed("filter-pause"));
    assert_eq!(stream().request_headers(fields(6), true), Outcome::Continue(fields(6)), "resumed at once");
    assert_eq!(stream().request_headers(fields(7), true), Outcome::Failed("filter-close"));
}

#[test]
fn the_first_reply_counts_and_is_shown_to_the_filter() {
    let mut stream = stream();
    let reply = LocalReply {
        status: 403,
        headers: vec![(b"content-type".to_vec(), b"text/plain".to_vec())],
        body: b"yes".to_vec(),
        grpc_status: Some(7),
    };
    assert_eq!(stream.request_headers(fields(5), true), Outcome::Reply(reply));
    assert_eq!(stream.decision().as_deref(), Some("00"));
    assert_eq!(stream.response_headers(fields(3), true), seen(fields(3)));
}

#[test]
fn what_the_abi_forbids_is_answered_with_a_status() {
    let mut stream = stream();
    assert_eq!(stream.request_headers(fields(8), true), Outcome::Continue(fields(8)));
    assert_eq!(stream.decision().as_deref(), Some("22222"));
}

#[test]
fn a_refusal_that_cannot_be_sent_is_no_permission() {
    for count in [9, 10] {
        let mut stream = stream();
        let outcome = stream.request_headers(fields(count), true);
        assert_eq!(outcome, Outcome::Failed("filter-refusal-failed"));
        assert_eq!(stream.decision(), Some(denial("filter-refusal-failed")));
    }
}

#[test]
fn contexts_end_with_their_streams() {
    let worker = worker(FILTER);
    for _ in 0..100 {
        let mut stream = worker.open_stream(&plain(1));
        assert_eq!(stream.request_headers(fields(1), true), seen(fields(1)));
    }
    let open = worker.with_vm(None, |vm| Ok(vm.contexts())).unwrap().1;
    assert_eq!((open, worker.restarts()), (2, 0), "the roots alone");
}

#[test]
fn a_filter_without_http_callbacks_changes_nothing() {
    let mut stream =
        worker(r#"(func (export "proxy_on_context_create") (param i32 i32))"#).open_stream(&plain(1));
    assert_eq!(stream.request_headers(fields(3), true), Outcome::Continue(fields(3)));
    assert_eq!(stream.response_headers(fields(2), true), Outcome::Continue(fields(2)));
    assert_eq!(stream.decision(), None);
}
