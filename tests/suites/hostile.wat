;; proxy-wasm 0.2.1: what each hostile filter has. `$case` is the first letter of the request's path behind the slash.
(import "env" "proxy_get_header_map_value" (func $get_value (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_add_header_map_value" (func $add_value (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
(import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
(import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
(import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
(import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
(import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))

;; 48 MiB, all of it there from the start. 0..64 is scratch.
(memory (export "memory") 768)
(data (i32.const 1024) ":path")
(data (i32.const 1040) "auth")
(data (i32.const 1056) "x-added")
;; a header map of one pair: "a b" and "c"; and one of a call
(data (i32.const 1072) "\01\00\00\00\03\00\00\00\01\00\00\00a b\00c\00")
(data (i32.const 1104) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\01\00\00\00:method\00POST\00:path\00/hang\00:authority\00a\00")

(func (export "proxy_abi_version_0_2_1"))
(func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
(func (export "proxy_on_context_create") (param i32 i32))

(func $case (result i32)
  (drop (call $get_value (i32.const 0) (i32.const 1024) (i32.const 5) (i32.const 0) (i32.const 4)))
  (i32.load8_u offset=1 (i32.load (i32.const 0))))

;; A name that no other call has, at 131072.
(global $number (mut i32) (i32.const 0))
(func $name (result i32)
  (global.set $number (i32.add (global.get $number) (i32.const 1)))
  (i32.store (i32.const 131072) (i32.or (i32.const 0x01010101) (global.get $number)))
  (i32.store offset=4 (i32.const 131072) (global.get $number))
  (i32.const 131072))
