//! Which filters load, and which start.

use std::rc::Rc;

use super::super::{Filter, FilterError, Outcome, StartError, Worker};
use super::{filter, module, plain};

const CREATE: &str = r#"(func (export "proxy_on_context_create") (param i32 i32))"#;

fn refused(wat: &str) -> FilterError {
    Filter::from_bytes(&wat::parse_str(wat).unwrap()).unwrap_err()
}

#[track_caller]
fn start_error(parts: &str) -> StartError {
    Worker::start(&filter(parts), "{}").unwrap_err()
}

#[test]
fn the_embedded_filter_loads() {
    assert!(Filter::embedded().unwrap().judges_connections());
}

#[test]
fn what_is_no_filter_does_not_load() {
    assert!(matches!(Filter::from_bytes(b"garbage"), Err(FilterError::Compile(_))));
    assert!(matches!(refused("(module)"), FilterError::Abi));
    assert!(matches!(refused(r#"(module (func (export "proxy_abi_version_0_3_0")))"#), FilterError::Abi));
    let idle =
        r#"(module (func (export "proxy_abi_version_0_2_1")) (func (export "proxy_on_tick") (param i32)))"#;
    assert!(matches!(refused(idle), FilterError::NoCallbacks));
}

#[test]
fn unknown_imports_are_all_named() {
    let error = refused(&format!(
        r#"(module (import "env" "proxy_nonsense" (func)) (import "wasi_snapshot_preview1" "sock_open" (func))
             (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
             (func (export "proxy_abi_version_0_2_1")) {CREATE})"#
    ));
    assert_eq!(
        error.to_string(),
        "the filter needs functions that this host does not have: `env.proxy_nonsense`, \
         `wasi_snapshot_preview1.sock_open`"
    );
}

#[test]
fn functions_of_another_type_are_refused() {
    let import = refused(&format!(
        r#"(module (import "env" "proxy_log" (func (param i64) (result i32)))
             (func (export "proxy_abi_version_0_2_1")) {CREATE})"#
    ));
    assert!(matches!(&import, FilterError::WrongType(reason) if reason.contains("proxy_log")), "{import}");

    let export = start_error(&format!(r#"{CREATE} (func (export "proxy_on_log") (param i64))"#));
    assert!(export.to_string().contains("export `proxy_on_log`"), "{export}");
}

#[test]
fn a_refused_configuration_is_told_in_the_filters_own_words() {
    let error = start_error(&format!(
        r#"{CREATE} (data (i32.const 1024) "policy.json:3:7: unknown key\n")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $log (i32.const 4) (i32.const 1024) (i32.const 29))) (i32.const 0))"#
    ));
    assert_eq!(
        error.to_string(),
        "the filter refuses its configuration (`proxy_on_configure` of `peergate_l4`): policy.json:3:7: unknown key"
    );

    let start = start_error(&format!(
        r#"{CREATE} (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 0))"#
    ));
    assert!(matches!(start, StartError::Refused { callback: "proxy_on_vm_start", .. }), "{start}");

    // The second root is asked as well as the first.
    let second = start_error(&format!(
        r#"{CREATE} (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (i32.ne (local.get 0) (i32.const 2)))"#
    ));
    assert!(matches!(second, StartError::Refused { root: "peergate_http", .. }), "{second}");
}

#[test]
fn a_filter_that_fails_to_start_is_stopped() {
    let trap = start_error(&format!(r#"{CREATE} (func (export "_initialize") (unreachable))"#));
    assert!(matches!(&trap, StartError::Failed { reason, .. } if reason.contains("unreachable")), "{trap}");

    let endless = start_error(&format!(
        r#"{CREATE} (func (export "proxy_on_configure") (param i32 i32) (result i32) (loop $again (br $again))
             (i32.const 1))"#
    ));
    assert!(
        matches!(&endless, StartError::Failed { reason, .. } if reason.contains("CPU time")),
        "{endless}"
    );

    let start = start_error(&format!("{CREATE} (func $main (unreachable)) (start $main)"));
    assert!(matches!(start, StartError::Instantiate(_)), "{start}");

    let growing = start_error(&format!(
        r#"{CREATE} (func (export "_initialize") (drop (memory.grow (i32.const 1023))))"#
    ));
    assert_eq!(
        growing.to_string(),
        "the filter failed to start: the filter wants more than 64 MiB of memory"
    );

    let big = wat::parse_str(format!(
        r#"(module (memory (export "memory") 1025) (func (export "proxy_abi_version_0_2_1")) {CREATE})"#
    ));
    let big = Filter::from_bytes(&big.unwrap()).map(|filter| Worker::start(&filter, "").is_ok());
    assert!(!matches!(big, Ok(true)), "more than 64 MiB from the start");
}

#[test]
fn the_entry_of_a_reactor_or_a_command_runs_first() {
    for entry in ["_initialize", "_start"] {
        let parts = format!(
            r#"(global $ready (mut i32) (i32.const 0))
            (func (export "{entry}") (global.set $ready (i32.const 1)))
            (func (export "proxy_on_context_create") (param i32 i32)
              (if (i32.eqz (global.get $ready)) (then (unreachable))))"#
        );
        Worker::start(&filter(&parts), "{}").unwrap();
    }
}

#[test]
fn a_module_compiled_elsewhere_loads_here() {
    let native = super::super::compile(&module(CREATE)).unwrap();
    // SAFETY: compiled a line above.
    let filter = unsafe { Filter::from_native(&native) }.unwrap();
    assert!(!filter.judges_connections());
    // SAFETY: what is refused is not run.
    let error = unsafe { Filter::from_native(b"\0asm\x01\0\0\0") }.unwrap_err();
    assert!(matches!(error, FilterError::Load(_)), "{error}");
}

/// Exports every callback, as most SDKs do, and traps in those of connections.
const UNMARKED: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_new_connection") (param i32) (result i32) (unreachable))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1)))"#;

#[test]
fn a_filter_that_does_not_say_it_is_both_is_asked_as_one() {
    let filter = Filter::from_bytes(&wat::parse_str(UNMARKED).unwrap()).unwrap();
    let http = Rc::new(Worker::start(&filter, "{}").unwrap());
    assert!(http.judge_connection(&plain(1)).allow, "requests are judged, one by one");
    let refused = http.open_stream(&plain(1)).request_headers(Vec::new(), true);
    assert_eq!(refused, Outcome::Failed("filter-pause"));

    let network = Rc::new(Worker::start(&filter.clone().for_connections(), "{}").unwrap());
    assert!(!network.judge_connection(&plain(1)).allow);
    let passed = network.open_stream(&plain(1)).request_headers(Vec::new(), true);
    assert_eq!(passed, Outcome::Continue(Vec::new()), "the connection was judged");
    assert!(!filter.is(&filter.clone().for_connections()));
    assert!(Filter::embedded().unwrap().for_connections().is_both());
}
