//! Books requests with a shared queue, shared data, a timer and metrics. `/report` answers with the books.

#![expect(missing_docs, reason = "the main macro of the SDK makes a public function")]

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Books));
}}

const QUEUE: &str = "requests";

/// The root: takes from the queue what requests put there, and counts its ticks.
struct Books;

/// Adds to a number in shared data, again and again until nobody else wrote in between.
fn add(key: &str, amount: u64) {
    loop {
        let (bytes, cas) = hostcalls::get_shared_data(key).unwrap_or_default();
        let sum = number(bytes) + amount;
        match hostcalls::set_shared_data(key, Some(&sum.to_le_bytes()), cas) {
            Err(Status::CasMismatch) => {}
            done => return done.expect("shared data"),
        }
    }
}

fn number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn read(key: &str) -> u64 {
    number(hostcalls::get_shared_data(key).unwrap_or_default().0)
}

impl Context for Books {}

impl RootContext for Books {
    fn on_configure(&mut self, size: usize) -> bool {
        self.register_shared_queue(QUEUE);
        self.set_tick_period(Duration::from_millis(20));
        self.get_plugin_configuration().map_or(0, |bytes| bytes.len()) == size
    }

    fn on_tick(&mut self) {
        add("ticks", 1);
        if read("ticks") > 1_000_000 {
            self.set_tick_period(Duration::ZERO);
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(item)) = self.dequeue_shared_queue(queue) {
            add("items", 1);
            add("bytes", item.len() as u64);
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Entry))
    }
}

struct Entry;

impl Entry {
    fn report(&self) -> String {
        let counter = hostcalls::define_metric(MetricType::Counter, "ledger_requests").expect("a counter");
        let gauge = hostcalls::define_metric(MetricType::Gauge, "ledger_level").expect("a gauge");
        let histogram = hostcalls::define_metric(MetricType::Histogram, "ledger_sizes").expect("a histogram");
        hostcalls::record_metric(gauge, 40).expect("set");
        hostcalls::increment_metric(gauge, -3).expect("taken back");
        hostcalls::record_metric(histogram, 7).expect("recorded");
        let stale = hostcalls::set_shared_data("items", Some(b"x"), Some(u32::MAX));
        let lines = [
            format!("ticks {}", if read("ticks") > 2 { "yes" } else { "no" }),
            format!("items {} bytes {}", read("items"), read("bytes")),
            format!("gauge {:?}", hostcalls::get_metric(gauge)),
            format!("counter counts {}", hostcalls::get_metric(counter).is_ok_and(|count| count > 0)),
            format!("counter back {:?}", hostcalls::increment_metric(counter, -1)),
            format!("counter not at all {:?}", hostcalls::increment_metric(counter, 0)),
            format!("histogram {:?}", hostcalls::get_metric(histogram)),
            format!("stale {stale:?}"),
            format!("own queue {}", hostcalls::resolve_shared_queue("", QUEUE).is_ok_and(|id| id.is_some())),
            format!("no queue {:?}", hostcalls::resolve_shared_queue("", "none")),
            format!("others' queue {:?}", hostcalls::resolve_shared_queue("other-vm", QUEUE)),
            format!("no such id {:?}", hostcalls::dequeue_shared_queue(4_000_000)),
            format!("foreign {:?}", hostcalls::call_foreign_function("none", None)),
        ];
        lines.join("\n")
    }
}

impl Context for Entry {}

impl HttpContext for Entry {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        if path == "/report" {
            self.send_http_response(200, vec![], Some(self.report().as_bytes()));
            return Action::Pause;
        }
        let counter = hostcalls::define_metric(MetricType::Counter, "ledger_requests").expect("a counter");
        hostcalls::increment_metric(counter, 1).expect("counted");
        if let Some(queue) = self.resolve_shared_queue("", QUEUE) {
            self.enqueue_shared_queue(queue, Some(path.as_bytes())).expect("the queue is there");
        }
        Action::Continue
    }
}
