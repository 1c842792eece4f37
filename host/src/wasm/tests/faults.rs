//! Whatever goes wrong in the filter is a denial, and the next call finds a fresh VM.

use std::rc::Rc;

use super::super::error::Fault;
use super::super::verdict::denial;
use super::super::{Outcome, Worker};
use super::{plain, worker};

/// A filter that goes wrong on the connection with id 13, and admits all others.
fn wrong_at_13(fault: &str) -> String {
    format!(
        r#"(data (i32.const 1024) "connection\00id")
        (func $recurse (param i32) (result i32)
          (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (call $recurse (local.get 0))))
        (func $go_wrong (result i32) {fault} (i32.const 0))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
          (drop (call $get_property (i32.const 1024) (i32.const 13) (i32.const 0) (i32.const 4)))
          (if (result i32) (i64.eq (i64.load (i32.load (i32.const 0))) (i64.const 13))
            (then (call $go_wrong)) (else (i32.const 0))))"#
    )
}

#[track_caller]
fn denied_then_recovers(fault: &str, reason: &str) {
    let worker = worker(&wrong_at_13(fault));
    for round in 1..=3 {
        assert!(worker.judge_connection(&plain(1)).allow);
        let verdict = worker.judge_connection(&plain(13));
        assert_eq!((verdict.allow, verdict.decision), (false, denial(reason)));
        assert_eq!(worker.restarts(), round);
    }
    assert!(worker.judge_connection(&plain(1)).allow);
}

#[test]
fn a_trap() {
    denied_then_recovers("(unreachable)", "filter-trap");
    denied_then_recovers("(drop (i32.load (i32.const -8)))", "filter-trap");
    denied_then_recovers("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "filter-trap");
}

#[test]
fn an_exit() {
    denied_then_recovers("(call $exit (i32.const 0))", "filter-trap");
}

#[test]
fn an_endless_loop() {
    denied_then_recovers("(loop $again (br $again))", "filter-timeout");
    // Time spent in host functions counts too.
    denied_then_recovers(
        "(loop $again (drop (call $random (i32.const 1024) (i32.const 65536))) (br $again))",
        "filter-timeout",
    );
}

#[test]
fn a_stack_overflow() {
    denied_then_recovers("(drop (call $recurse (i32.const 0)))", "filter-trap");
}

#[test]
fn more_memory_than_the_limit() {
    // 64 MiB are 1024 pages, two of which it has.
    denied_then_recovers("(drop (memory.grow (i32.const 1023)))", "filter-trap");
    denied_then_recovers("(loop $again (drop (memory.grow (i32.const 1))) (br $again))", "filter-trap");
    let worker = worker(&wrong_at_13("(drop (memory.grow (i32.const 1022)))"));
    assert!(worker.judge_connection(&plain(13)).allow);
}

#[test]
fn an_allocator_that_answers_nonsense() {
    let parts = |answer: &str| {
        format!(
            r#"(import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
            (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 256) "peergate.decision")
            (data (i32.const 1024) "connection\00id")
            (func (export "proxy_abi_version_0_2_0"))
            (func (export "malloc") (param i32) (result i32) {answer})
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
              (i32.store8 (i32.const 8)
                (i32.add (i32.const 48)
                  (call $get_property (i32.const 1024) (i32.const 13) (i32.const 0) (i32.const 4))))
              (call $set_property (i32.const 256) (i32.const 17) (i32.const 8) (i32.const 1)))"#
        )
    };
    let decision = |answer: &str| {
        let wasm = wat::parse_str(format!("(module {})", parts(answer))).unwrap();
        let worker = Worker::start(&super::Filter::from_bytes(&wasm).unwrap(), "{}").unwrap();
        worker.judge_connection(&plain(1)).decision
    };
    assert_eq!(decision("(i32.const 64)"), "0");
    assert_eq!(decision("(i32.const 0)"), ":", "10, internal failure");
    assert_eq!(decision("(i32.const 65535)"), "6", "invalid memory access");
    assert_eq!(decision("(i32.const -4)"), "6", "invalid memory access");
    assert_eq!(decision("(unreachable)"), denial("filter-trap"));
}

#[test]
fn a_trap_in_any_callback() {
    for (name, parameters, result) in [
        ("proxy_on_new_connection", "i32", "(result i32)"),
        ("proxy_on_downstream_data", "i32 i32 i32", "(result i32)"),
        ("proxy_on_done", "i32", "(result i32)"),
        ("proxy_on_log", "i32", ""),
        ("proxy_on_delete", "i32", ""),
    ] {
        let worker = worker(&format!(
            r#"(func (export "proxy_on_context_create") (param i32 i32))
               (func (export "{name}") (param {parameters}) {result} (unreachable))"#
        ));
        let verdict = worker.judge_connection(&plain(1));
        assert_eq!((verdict.allow, verdict.decision), (false, denial("filter-trap")), "{name}");
        assert_eq!(worker.restarts(), 1, "{name}");
    }
    // The roots' contexts are 1 and 2.
    let worker = worker(
        r#"(func (export "proxy_on_context_create") (param i32 i32)
             (if (i32.gt_u (local.get 0) (i32.const 2)) (then (unreachable))))"#,
    );
    assert!(!worker.judge_connection(&plain(1)).allow);
}

#[test]
fn a_call_from_within_a_call() {
    let worker = worker(&wrong_at_13(""));
    let inner = worker.with_vm(None, |_| Ok(worker.judge_connection(&plain(1))));
    let (_, inner) = inner.unwrap();
    assert_eq!((inner.allow, inner.decision), (false, denial("filter-busy")));
    assert!(worker.judge_connection(&plain(1)).allow);
    assert_eq!(worker.restarts(), 0);
}

#[test]
fn a_panic_of_the_host() {
    let worker = worker(&wrong_at_13(""));
    let outcome = worker.with_vm(None, |_| -> Result<(), Fault> { panic!("injected") });
    assert_eq!(outcome, Err(Fault::Trap));
    assert_eq!(worker.restarts(), 1);
    assert!(worker.judge_connection(&plain(1)).allow);
}

#[test]
fn a_vm_that_does_not_start_again() {
    // The first VM leaves a mark that makes every later one refuse its configuration.
    let worker = worker(
        r#"(data (i32.const 1024) "started")
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (if (result i32) (i32.eq (local.get 0) (i32.const 2)) (then (i32.const 1)) (else
            (i32.ne (i32.const 0)
              (call $get_shared (i32.const 1024) (i32.const 7) (i32.const 0) (i32.const 4) (i32.const 8))))))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
          (drop (call $set_shared (i32.const 1024) (i32.const 7) (i32.const 1024) (i32.const 1) (i32.const 0)))
          (unreachable))"#,
    );
    assert_eq!(worker.judge_connection(&plain(1)).decision, denial("filter-trap"));
    for _ in 0..10 {
        let verdict = worker.judge_connection(&plain(1));
        assert_eq!((verdict.allow, verdict.decision), (false, denial("filter-unavailable")));
    }
    let mut stream = worker.open_stream(&plain(1));
    assert_eq!(stream.request_headers(Vec::new(), true), Outcome::Failed("filter-unavailable"));
    assert_eq!(worker.restarts(), 1);
}

#[test]
fn many_faults_leave_nothing_behind() {
    let worker = worker(&wrong_at_13("(unreachable)"));
    for _ in 0..500 {
        assert!(!worker.judge_connection(&plain(13)).allow);
    }
    assert_eq!(worker.restarts(), 500);
    assert_eq!(Rc::strong_count(&worker), 1);
}
