//! Timers, queues and calls, on a real runtime and against a real service.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::super::stream::Direction;
use super::super::{Clock, Clusters, Outcome, PAUSED_TOO_LONG, Stream, Worker};
use super::{filter, plain};

/// Long enough for anything but a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn attended(parts: &str, clusters: Clusters) -> Rc<Worker> {
    let worker = Rc::new(Worker::start_with(&filter(parts), &"{}".into(), Clock::System, clusters).unwrap());
    worker.attend();
    worker
}

/// A service that answers every connection with these bytes, and where it is.
async fn service(answer: &'static [u8]) -> Clusters {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            socket.write_all(answer).await.unwrap();
        }
    });
    Clusters::from([("auth".to_owned(), address)])
}

async fn request(stream: &Stream) -> Outcome {
    tokio::time::timeout(PATIENCE, stream.head(Direction::Request, Vec::new(), true)).await.unwrap()
}

/// Calls `auth` about each request, which waits. When the answer comes, `$answered` decides, with the request's context in
/// effect; the call's status is left as the decision.
fn calling(answered: &str) -> String {
    format!(
        r#"(data (i32.const 1024) "auth")
        (data (i32.const 1040) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00")
        (data (i32.const 1068) ":method\00GET\00:path\00/\00:authority\00a\00")
        (data (i32.const 1104) ":status")
        (data (i32.const 1112) "x-end")
        (global $request (mut i32) (i32.const 0))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
          (global.set $request (local.get $id))
          (if (call $call (i32.const 1024) (i32.const 4) (i32.const 1040) (i32.const 61) (i32.const 0) (i32.const 0)
              (i32.const 0) (i32.const 0) (i32.const 5000) (i32.const 0)) (then (unreachable)))
          (i32.const 1))
        (func (export "proxy_on_http_call_response")
            (param $root i32) (param $token i32) (param $headers i32) (param $size i32) (param $trailers i32)
          (if (i32.ne (local.get $token) (i32.load (i32.const 0))) (then (unreachable)))
          (drop (call $enter (global.get $request)))
          (drop (call $get_value (i32.const 6) (i32.const 1104) (i32.const 7) (i32.const 8) (i32.const 12)))
          (call $decide (i32.load (i32.const 8)) (i32.load (i32.const 12)))
          {answered})"#
    )
}

const RESUME: &str = "(drop (call $resume (i32.const 0)))";

#[test]
fn a_request_waits_for_the_answer_to_a_call() {
    run(async {
        let clusters = service(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let worker = attended(&calling(RESUME), clusters);
        for _ in 0..3 {
            let stream = worker.open_stream(&plain(1));
            assert_eq!(request(&stream).await, Outcome::Continue(Vec::new()));
            assert_eq!(stream.decision().as_deref(), Some("204"));
        }
        assert_eq!(worker.restarts(), 0);
    });
}

#[test]
fn a_call_that_fails_is_answered_too() {
    run(async {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        for clusters in [
            Clusters::from([("auth".to_owned(), nobody)]),
            service(b"").await,
            service(b"nonsense\r\n\r\n").await,
        ] {
            let worker = attended(&calling(RESUME), clusters);
            let stream = worker.open_stream(&plain(1));
            assert_eq!(request(&stream).await, Outcome::Continue(Vec::new()));
            assert_eq!(stream.decision().as_deref(), Some("503"));
        }
    });
}

#[test]
fn an_answer_that_changes_nothing_ends_the_wait() {
    run(async {
        let clusters = service(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let worker = attended(&calling(""), clusters);
        let before = Instant::now();
        assert_eq!(request(&worker.open_stream(&plain(1))).await, Outcome::Failed("filter-pause"));
        assert!(before.elapsed() < PATIENCE);
    });
}

#[test]
fn a_trap_in_an_answer_fails_all_that_wait() {
    run(async {
        let clusters = service(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let worker = attended(&calling("(unreachable)"), clusters);
        let (one, other) = (worker.open_stream(&plain(1)), worker.open_stream(&plain(2)));
        let answers = tokio::join!(request(&one), request(&other));
        assert_eq!(answers, (Outcome::Failed("filter-restarted"), Outcome::Failed("filter-restarted")));
        assert_eq!(worker.restarts(), 1);
    });
}

#[test]
fn a_call_is_refused_that_cannot_be_made() {
    let refused = calling(RESUME).replace("(then (unreachable))", "(then (return (i32.const 1)))");
    run(async {
        // Nothing else could ever call the filter again.
        let worker = attended(&refused, Clusters::new());
        assert_eq!(request(&worker.open_stream(&plain(1))).await, Outcome::Failed("filter-pause"));
        // Nobody would bring the answer.
        let clusters = service(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let alone = Worker::start_with(&filter(&refused), &"{}".into(), Clock::System, clusters).unwrap();
        let stream = Rc::new(alone).open_stream(&plain(1));
        assert_eq!(request(&stream).await, Outcome::Failed("filter-pause"));
    });
}

/// Ticks from the start, and lets the paused request go on at the third tick.
const TICKING: &str = r#"
    (global $request (mut i32) (i32.const 0))
    (global $ticks (mut i32) (i32.const 0))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32)
      (if (i32.eq (local.get $root) (i32.const 2)) (then (drop (call $tick (i32.const 1)))))
      (i32.const 1))
    (func (export "proxy_on_tick") (param $root i32)
      (if (i32.ne (local.get $root) (i32.const 2)) (then (unreachable)))
      (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
      (if (i32.lt_u (global.get $ticks) (i32.const 3)) (then (return)))
      (if (i32.eqz (global.get $request)) (then (return)))
      (drop (call $tick (i32.const 0)))
      (drop (call $enter (global.get $request)))
      (drop (call $resume (i32.const 0))))
    (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
      (global.set $request (local.get $id)) (i32.const 1))"#;

#[test]
fn a_request_waits_for_a_tick() {
    run(async {
        let worker = attended(TICKING, Clusters::new());
        assert_eq!(request(&worker.open_stream(&plain(1))).await, Outcome::Continue(Vec::new()));
        // The ticks have ended, and with them what could end a pause.
        assert_eq!(request(&worker.open_stream(&plain(1))).await, Outcome::Failed("filter-pause"));
    });
}

#[test]
fn a_request_does_not_wait_for_ever() {
    run(async {
        let never = TICKING.replace("(drop (call $enter", "(return) (drop (call $enter");
        let never = never.replace("(drop (call $tick (i32.const 0)))", "");
        let worker = attended(&never, Clusters::new());
        worker.patience.set(Duration::from_millis(50));
        assert_eq!(request(&worker.open_stream(&plain(1))).await, Outcome::Failed(PAUSED_TOO_LONG));
    });
}

#[test]
fn a_queue_calls_the_root_that_registered_it() {
    // Each request puts its path's worth in; the root takes it out and counts in shared data.
    let parts = r#"(data (i32.const 1024) "queue")
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32)
          (if (i32.eq (local.get $root) (i32.const 2)) (then
            (drop (call $register (i32.const 1024) (i32.const 5) (i32.const 16)))))
          (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $enqueue (i32.load (i32.const 16)) (i32.const 1024) (i32.const 3)))
        (func (export "proxy_on_queue_ready") (param $root i32) (param $queue i32)
          (if (i32.ne (local.get $root) (i32.const 2)) (then (unreachable)))
          (if (call $dequeue (local.get $queue) (i32.const 0) (i32.const 4)) (then (unreachable)))
          (drop (call $set_shared (i32.const 1024) (i32.const 5) (i32.load (i32.const 0)) (i32.load (i32.const 4))
            (i32.const 0))))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (if (i32.eqz (call $get_shared (i32.const 1024) (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 8)))
            (then (call $decide (i32.load (i32.const 0)) (i32.load (i32.const 4)))))
          (i32.const 0))"#;
    run(async {
        let filter = filter(parts);
        let [first, second] = [(), ()].map(|()| Rc::new(Worker::start(&filter, "{}").unwrap()));
        first.attend();
        second.attend();
        // The second one registered last, so it is the one that is told.
        assert_eq!(request(&first.open_stream(&plain(1))).await, Outcome::Continue(Vec::new()));
        let end = Instant::now() + PATIENCE;
        loop {
            let mut stream = first.open_stream(&plain(1));
            stream.response_headers(Vec::new(), true);
            if stream.decision().as_deref() == Some("que") {
                break;
            }
            assert!(Instant::now() < end, "the root was not called");
            yield_now().await;
        }
        assert_eq!((first.restarts(), second.restarts()), (0, 0));
    });
}

#[test]
fn a_worker_without_users_is_left_by_its_driver() {
    run(async {
        let worker = attended(TICKING, Clusters::new());
        let gone = Rc::downgrade(&worker);
        drop(worker);
        yield_now().await;
        assert!(gone.upgrade().is_none());
    });
}
