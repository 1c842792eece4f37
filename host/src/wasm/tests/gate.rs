//! The network gate.

use super::super::verdict::denial;
use super::{plain, worker};

const ALLOWED: &str = r#"{"decision":"allow","reason":"filter","matched":[]}"#;

/// A filter whose `proxy_on_downstream_data` ends with this.
fn answer(body: &str) -> String {
    format!(
        r#"(func (export "proxy_on_context_create") (param i32 i32))
           (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) {body})"#
    )
}

#[track_caller]
fn judged(parts: &str) -> (bool, String) {
    let verdict = worker(parts).judge_connection(&plain(7));
    (verdict.allow, verdict.decision)
}

#[test]
fn only_a_plain_continue_admits() {
    assert_eq!(judged(&answer("(i32.const 0)")), (true, ALLOWED.to_owned()));
    for action in ["1", "2", "-1"] {
        let parts = answer(&format!("(i32.const {action})"));
        assert_eq!(judged(&parts), (false, denial("filter-silent")), "action {action}");
    }
    let closed = answer("(drop (call $close (i32.const 2))) (i32.const 0)");
    assert_eq!(judged(&closed), (false, denial("filter-silent")));
    let resumed = answer("(drop (call $resume (i32.const 2))) (i32.const 1)");
    assert_eq!(judged(&resumed), (false, denial("filter-silent")));
}

#[test]
fn the_first_callback_can_refuse_too() {
    let data = answer("(i32.const 0)");
    let paused =
        format!(r#"(func (export "proxy_on_new_connection") (param i32) (result i32) (i32.const 1)) {data}"#);
    assert!(!judged(&paused).0);
    let closed = r#"(func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_new_connection") (param i32) (result i32)
          (drop (call $close (i32.const 2))) (i32.const 0))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) (unreachable))"#;
    assert_eq!(judged(closed), (false, denial("filter-silent")));
}

#[test]
fn the_filters_own_words_are_the_decision() {
    let words = r#"{"decision":"deny","reason":"no-match","matched":[]}"#;
    let escaped = words.replace('"', "\\\"");
    let parts = format!(
        r#"(data (i32.const 1024) "{escaped}") {}"#,
        answer(&format!("(call $decide (i32.const 1024) (i32.const {})) (i32.const 1)", words.len()))
    );
    assert_eq!(judged(&parts), (false, words.to_owned()));
}

#[test]
fn callbacks_come_in_order_and_ids_are_never_used_again() {
    // Each callback reports a letter, those with an id the id too; a connection's decision is all since the last one.
    let worker = worker(
        r#"
        (func (export "proxy_on_context_create") (param $id i32) (param $root i32)
          (call $report (i32.const 19)) (call $report (local.get $id)) (call $report (local.get $root)))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $report (i32.const 38)) (i32.const 1))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (call $report (i32.const 22)) (call $report (local.get 1)) (i32.const 1))
        (func (export "proxy_on_new_connection") (param i32) (result i32) (call $report (i32.const 30)) (i32.const 0))
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
          (call $report (i32.const 20)) (call $report (local.get 1)) (call $report (local.get 2))
          (call $decide_report) (i32.const 0))
        (func (export "proxy_on_done") (param i32) (result i32) (call $report (i32.const 31)) (i32.const 1))
        (func (export "proxy_on_log") (param i32) (call $report (i32.const 28)))
        (func (export "proxy_on_delete") (param i32) (call $report (i32.const 52)))"#,
    );
    // C: context (id, root); V: vm start; F: configure (size 2); N: new connection; D: data (0 bytes, no end); then
    // O: done, L: log, d: delete.
    assert_eq!(worker.judge_connection(&plain(1)).decision, "C10VF2C20VF2C31ND00");
    assert_eq!(worker.judge_connection(&plain(1)).decision, "OLdC41ND00");
    assert_eq!(worker.judge_connection(&plain(2)).decision, "OLdC51ND00");
}
