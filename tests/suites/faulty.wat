;; proxy-wasm 0.2.1: traps for the subject "CN=trap", never ends for "CN=loop", admits everyone else.
(module
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 1024) "connection\00subject_peer_certificate")

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize"))
  (func $allocate (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (global.get $free))
    (global.set $free (i32.add (global.get $free) (local.get $size)))
    (local.get $start))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_new_connection") (param i32) (result i32) (i32.const 0))
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_log") (param i32))
  (func (export "proxy_on_delete") (param i32))

  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (local $letter i32)
    ;; The property's address and size come to 0 and 4. Without it there is nothing to decide from.
    (if (call $property (i32.const 1024) (i32.const 35) (i32.const 0) (i32.const 4)) (then (unreachable)))
    ;; The first letter after "CN=".
    (local.set $letter (i32.load8_u offset=3 (i32.load (i32.const 0))))
    (if (i32.eq (local.get $letter) (i32.const 116)) (then (unreachable)))
    (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $forever (br $forever))))
    (global.set $free (i32.const 65536))
    (i32.const 0)))
