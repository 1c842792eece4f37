//! What all filters on one thread have counted since its start. A VM's metrics end with its policy; what it counted must not:
//! a counter that goes back looks like a restart of the process.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::limits;
use super::metrics::{Metric, MetricKind, Metrics};

/// The sums of one thread.
#[derive(Debug, Default)]
struct Ledger {
    /// Metrics of workers; those of the ones that are gone have no other owner.
    open: Vec<Rc<RefCell<Metrics>>>,
    closed: BTreeMap<String, Metric>,
    restarts: u64,
}

/// Keeps the books of one more worker.
pub(super) fn enter(metrics: &Rc<RefCell<Metrics>>) {
    LEDGER.with_borrow_mut(|ledger| {
        ledger.close();
        ledger.open.push(Rc::clone(metrics));
    });
}

/// Notes that a VM was given up.
pub(super) fn restarted() {
    LEDGER.with_borrow_mut(|ledger| ledger.restarts += 1);
}

/// What the filters of this thread have counted, those that are gone included, and how many VMs were given up.
pub fn counted() -> (Vec<Metric>, u64) {
    LEDGER.with_borrow_mut(|ledger| {
        ledger.close();
        let mut sums = ledger.closed.clone();
        for metrics in &ledger.open {
            let metrics = metrics.try_borrow().map(|metrics| metrics.snapshot()).unwrap_or_default();
            metrics.into_iter().for_each(|metric| add(&mut sums, metric));
        }
        (sums.into_values().collect(), ledger.restarts)
    })
}

impl Ledger {
    /// Moves what workers that are gone have counted into the sums.
    fn close(&mut self) {
        let (closed, open) =
            std::mem::take(&mut self.open).into_iter().partition(|it| Rc::strong_count(it) == 1);
        self.open = open;
        for metrics in Vec::<Rc<RefCell<Metrics>>>::into_iter(closed) {
            for metric in metrics.borrow().snapshot() {
                // What a gauge showed is no longer so.
                let room = self.closed.len() < limits::METRICS || self.closed.contains_key(&metric.name);
                if metric.kind != MetricKind::Gauge && room {
                    add(&mut self.closed, metric);
                }
            }
        }
    }
}

fn add(sums: &mut BTreeMap<String, Metric>, metric: Metric) {
    match sums.get_mut(&metric.name) {
        Some(sum) => sum.add(&metric),
        None => drop(sums.insert(metric.name.clone(), metric)),
    }
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_outlive_their_worker_and_gauges_do_not() {
        let worker = || {
            let metrics = Rc::new(RefCell::new(Metrics::default()));
            enter(&metrics);
            let counter = metrics.borrow_mut().define(0, "counter").expect("a counter");
            let gauge = metrics.borrow_mut().define(1, "gauge").expect("a gauge");
            metrics.borrow_mut().record(counter, 2).expect("counted");
            metrics.borrow_mut().record(gauge, 5).expect("shown");
            metrics
        };
        let values = || counted().0.into_iter().map(|metric| (metric.name, metric.value)).collect::<Vec<_>>();
        let (one, two) = (worker(), worker());
        assert_eq!(values(), [("counter".into(), 4), ("gauge".into(), 10)]);
        drop(one);
        assert_eq!(values(), [("counter".into(), 4), ("gauge".into(), 5)]);
        drop(two);
        assert_eq!(values(), [("counter".into(), 4)]);
        let before = counted().1;
        restarted();
        assert_eq!(counted().1, before + 1);
    }
}
