//! Host functions called wrongly answer a status; the host goes on.

use super::{plain, worker};

/// Runs these expressions on a connection; each leaves its status as one character: 0 to 9, and a colon for 10.
#[track_caller]
fn statuses(calls: &[&str]) -> String {
    let calls: String = calls.iter().map(|call| format!("(call $report {call})")).collect();
    worker(&format!(
        r#"(data (i32.const 1024) "connection\00id\00none")
        (data (i32.const 1056) "\00\00\01\00\ff\ff\ff\ff")
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_downstream_data") (param $id i32) (param i32 i32) (result i32)
          {calls} (drop (call $enter (local.get $id))) (call $decide_report) (i32.const 0))"#
    ))
    .judge_connection(&plain(1))
    .decision
}

#[test]
fn pointers_outside_of_memory() {
    // Memory is 131072 bytes. -16 and 32 wrap round in 32 bits.
    let calls = [
        "(call $log (i32.const 2) (i32.const -16) (i32.const 32))",
        "(call $log (i32.const 2) (i32.const 131072) (i32.const 1))",
        "(call $log_level (i32.const 131069))",
        "(call $time (i32.const -1))",
        "(call $get_property (i32.const -16) (i32.const 32) (i32.const 0) (i32.const 4))",
        "(call $get_property (i32.const 1024) (i32.const 13) (i32.const -1) (i32.const 4))",
        "(call $get_property (i32.const 1024) (i32.const 13) (i32.const 0) (i32.const 131070))",
        "(call $set_property (i32.const 1024) (i32.const 1) (i32.const -16) (i32.const 32))",
        "(call $get_buffer (i32.const 6) (i32.const 0) (i32.const -1) (i32.const -1) (i32.const 4))",
        "(call $set_shared (i32.const 1024) (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 0))",
        "(call $define_metric (i32.const 0) (i32.const -1) (i32.const 1) (i32.const 0))",
        "(call $reply (i32.const 403) (i32.const -16) (i32.const 32) (i32.const 0) (i32.const 0) (i32.const 0) \
          (i32.const 0) (i32.const -1))",
    ];
    assert_eq!(statuses(&calls), "6".repeat(calls.len()));
}

#[test]
fn wasi_has_its_own_numbers() {
    let calls = [
        // 21 is EFAULT, 8 is EBADF.
        "(i32.sub (call $random (i32.const -16) (i32.const 32)) (i32.const 20))",
        "(i32.sub (call $fd_write (i32.const 1) (i32.const 1056) (i32.const 1) (i32.const 0)) (i32.const 20))",
        "(call $fd_write (i32.const 3) (i32.const 1024) (i32.const 0) (i32.const 0))",
        "(i32.sub (call $fd_write (i32.const 1) (i32.const 1024) (i32.const -1) (i32.const 0)) (i32.const 20))",
        "(call $random (i32.const 2048) (i32.const 64))",
    ];
    assert_eq!(statuses(&calls), "11880");
}

#[test]
fn arguments_that_name_nothing() {
    let calls = [
        // not a level, not a stream, not a context, not a buffer, not a map, and a map that is not there
        "(call $log (i32.const 6) (i32.const 0) (i32.const 0))",
        "(call $close (i32.const 4))",
        "(call $enter (i32.const 999))",
        "(call $get_buffer (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
        "(call $get_pairs (i32.const 8) (i32.const 0) (i32.const 4))",
        "(call $add_value (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 0))",
    ];
    assert_eq!(statuses(&calls), "2".repeat(calls.len()));
    let idle = [
        // a local response is HTTP's, and the roots have no stream to close: nothing happens, and all is well
        "(call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) \
          (i32.const 0) (i32.const -1))",
        "(i32.add (call $enter (i32.const 1)) (call $close (i32.const 2)))",
        // a map and a buffer that are not there are empty
        "(call $get_pairs (i32.const 0) (i32.const 0) (i32.const 4))",
        "(call $get_buffer (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
    ];
    assert_eq!(statuses(&idle), "0".repeat(idle.len()));
    let absent = [
        "(call $get_property (i32.const 1024) (i32.const 18) (i32.const 0) (i32.const 4))",
        "(call $get_property (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 4))",
        // the plugin's configuration is there while it configures itself, and the body of an answer while one is brought
        "(call $get_buffer (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
        "(call $get_buffer (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
        "(call $dequeue (i32.const 1) (i32.const 0) (i32.const 4))",
        "(call $get_shared (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 8))",
        "(call $get_metric (i32.const 5) (i32.const 0))",
    ];
    assert_eq!(statuses(&absent), "1".repeat(absent.len()));
}

#[test]
fn what_is_right_works() {
    let calls = [
        "(call $log (i32.const 0) (i32.const 1024) (i32.const 10))",
        "(call $log_level (i32.const 0))",
        "(call $time (i32.const 0))",
        "(call $get_buffer (i32.const 6) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4))",
        "(call $set_shared (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 0))",
        "(call $get_shared (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 8))",
        "(i32.load (i32.const 8))",
        "(call $set_shared (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 77))",
    ];
    assert_eq!(statuses(&calls), "00000018");
}

#[test]
fn metrics_outlive_the_vm() {
    let worker = worker(
        r#"(data (i32.const 1024) "refused")
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
          (drop (call $define_metric (i32.const 0) (i32.const 1024) (i32.const 7) (i32.const 0)))
          (drop (call $increment_metric (i32.load (i32.const 0)) (i64.const 2)))
          (unreachable))"#,
    );
    for _ in 0..3 {
        worker.judge_connection(&plain(1));
    }
    let metrics = worker.metrics();
    assert_eq!((metrics.len(), metrics[0].name.as_str(), metrics[0].value), (1, "refused", 6));
}

#[test]
fn the_configuration_is_read_in_parts_while_it_is_given() {
    // The configuration is `{}`: from its second byte on, and beyond its end. Both roots read it.
    let worker = worker(
        r#"(func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (call $report (call $get_buffer (i32.const 7) (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 4)))
          (call $report (i32.load (i32.const 4)))
          (call $report (i32.sub (i32.load8_u (i32.load (i32.const 0))) (i32.const 120)))
          (call $report (call $get_buffer (i32.const 7) (i32.const 5) (i32.const -1) (i32.const 0) (i32.const 4)))
          (call $report (i32.load (i32.const 0)))
          (i32.const 1))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
          (call $decide_report) (i32.const 0))"#,
    );
    assert_eq!(worker.judge_connection(&plain(1)).decision, "0150001500");
}
