//! Every function that a filter of ABI 0.1.0, 0.2.0 or 0.2.1 may import is there, of the right type.

use super::super::{Filter, HeaderPairs, Outcome, Worker};
use super::plain;
use std::rc::Rc;

/// Name, how many numbers it takes, and whether one of them, by place, has 64 bits.
const PROXY: [(&str, usize, Option<usize>); 43] = [
    ("proxy_add_header_map_value", 5, None),
    ("proxy_call_foreign_function", 6, None),
    ("proxy_clear_route_cache", 0, None),
    ("proxy_close_stream", 1, None),
    ("proxy_continue_request", 0, None),
    ("proxy_continue_response", 0, None),
    ("proxy_continue_stream", 1, None),
    ("proxy_define_metric", 4, None),
    ("proxy_dequeue_shared_queue", 3, None),
    ("proxy_done", 0, None),
    ("proxy_enqueue_shared_queue", 3, None),
    ("proxy_get_buffer_bytes", 5, None),
    ("proxy_get_buffer_status", 3, None),
    ("proxy_get_configuration", 2, None),
    ("proxy_get_current_time_nanoseconds", 1, None),
    ("proxy_get_header_map_pairs", 3, None),
    ("proxy_get_header_map_size", 2, None),
    ("proxy_get_header_map_value", 5, None),
    ("proxy_get_log_level", 1, None),
    ("proxy_get_metric", 2, None),
    ("proxy_get_property", 4, None),
    ("proxy_get_shared_data", 5, None),
    ("proxy_get_status", 3, None),
    ("proxy_grpc_call", 12, None),
    ("proxy_grpc_cancel", 1, None),
    ("proxy_grpc_close", 1, None),
    ("proxy_grpc_send", 4, None),
    ("proxy_grpc_stream", 9, None),
    ("proxy_http_call", 10, None),
    ("proxy_increment_metric", 2, Some(1)),
    ("proxy_log", 3, None),
    ("proxy_record_metric", 2, Some(1)),
    ("proxy_register_shared_queue", 3, None),
    ("proxy_remove_header_map_value", 3, None),
    ("proxy_replace_header_map_value", 5, None),
    ("proxy_resolve_shared_queue", 5, None),
    ("proxy_send_local_response", 8, None),
    ("proxy_set_buffer_bytes", 5, None),
    ("proxy_set_effective_context", 1, None),
    ("proxy_set_header_map_pairs", 3, None),
    ("proxy_set_property", 4, None),
    ("proxy_set_shared_data", 5, None),
    ("proxy_set_tick_period_milliseconds", 1, None),
];

/// What the standard libraries of Rust and Go link on wasip1, as far as no more than one number has 64 bits.
const WASI: [(&str, usize, Option<usize>); 18] = [
    ("args_get", 2, None),
    ("args_sizes_get", 2, None),
    ("clock_time_get", 3, Some(1)),
    ("environ_get", 2, None),
    ("environ_sizes_get", 2, None),
    ("fd_close", 1, None),
    ("fd_fdstat_get", 2, None),
    ("fd_fdstat_set_flags", 2, None),
    ("fd_filestat_get", 2, None),
    ("fd_prestat_dir_name", 3, None),
    ("fd_prestat_get", 2, None),
    ("fd_read", 4, None),
    ("fd_seek", 4, Some(1)),
    ("fd_write", 4, None),
    ("path_filestat_get", 5, None),
    ("poll_oneoff", 4, None),
    ("random_get", 2, None),
    ("sched_yield", 0, None),
];

fn imports(module: &str, functions: &[(&str, usize, Option<usize>)]) -> String {
    let import = |(name, count, long): &(&str, usize, Option<usize>)| {
        let types: Vec<_> = (0..*count).map(|at| if Some(at) == *long { "i64" } else { "i32" }).collect();
        format!(r#"(import "{module}" "{name}" (func (param {}) (result i32)))"#, types.join(" "))
    };
    functions.iter().map(import).collect()
}

#[test]
fn all_of_them_are_there() {
    for version in ["0_1_0", "0_2_0", "0_2_1"] {
        let wat = format!(
            r#"(module {} {} {} (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (memory (export "memory") 1) (func (export "proxy_abi_version_{version}"))
            (func (export "proxy_on_context_create") (param i32 i32)))"#,
            imports("env", &PROXY),
            imports("wasi_snapshot_preview1", &WASI),
            imports("wasi_unstable", &WASI),
        );
        let filter = Filter::from_bytes(&wat::parse_str(wat).unwrap()).unwrap();
        Worker::start(&filter, "{}").unwrap();
    }
}

/// Marks every request and answers every response as ABI 0.1 does: callbacks with two numbers, a function for each direction
/// to go on, empty values for headers that are not there, the configuration from a function of its own.
const OLD: &str = r#"(module
    (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
    (import "env" "proxy_continue_request" (func $continue_request (result i32)))
    (import "env" "proxy_continue_response" (func $continue_response (result i32)))
    (import "env" "proxy_clear_route_cache" (func $clear (result i32)))
    (import "env" "proxy_get_header_map_value" (func $value (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 256) "x-none")
    (func (export "proxy_abi_version_0_1_0"))
    (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (i32.and (i32.eqz (call $configuration (i32.const 0) (i32.const 4)))
        (i32.and (i32.eq (i32.load (i32.const 4)) (i32.const 2))
          (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 123)))))
    (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
      (if (call $value (i32.const 0) (i32.const 256) (i32.const 6) (i32.const 0) (i32.const 4)) (then (unreachable)))
      (if (i32.load (i32.const 4)) (then (unreachable)))
      (if (call $add (i32.const 0) (i32.const 256) (i32.const 6) (i32.const 256) (i32.const 1)) (then (unreachable)))
      (if (call $clear) (then (unreachable)))
      (if (call $continue_request) (then (unreachable)))
      (i32.const 1))
    (func (export "proxy_on_response_headers") (param i32 i32) (result i32)
      (if (call $continue_response) (then (unreachable)))
      (i32.const 1)))"#;

#[test]
fn a_filter_of_abi_0_1_runs() {
    let filter = Filter::from_bytes(&wat::parse_str(OLD).unwrap()).unwrap();
    let worker = Rc::new(Worker::start(&filter, "{}").unwrap());
    let mut stream = worker.open_stream(&plain(1));
    let marked: HeaderPairs = vec![(b"x-none".to_vec(), b"x".to_vec())];
    assert_eq!(stream.request_headers(Vec::new(), true), Outcome::Continue(marked));
    assert_eq!(stream.response_headers(Vec::new(), true), Outcome::Continue(Vec::new()));
    assert!(Worker::start(&filter, "[]").is_err(), "the configuration was read");
}
