//! Metrics a filter defines. One set per worker, so counting shares nothing; it outlives the worker's VMs.

use std::sync::atomic::{AtomicBool, Ordering};

use super::limits;
use super::status::Status;

/// How a metric is updated and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Recorded values: their sum, how many there were, and how many up to each of [`BUCKETS`].
    Histogram,
}

/// Upper bounds of a histogram's buckets; one more is for what is above. They are Envoy's defaults but for 0.5, which is none
/// among whole numbers: what is asked of the one proxy can be asked of the other.
pub const BUCKETS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// A metric of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name the filter gave.
    pub name: String,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The value; of a histogram the sum of what was recorded.
    pub value: u64,
    /// How many values a histogram recorded.
    pub count: u64,
    /// How many of them are at most as large as each of [`BUCKETS`]; empty but for a histogram.
    pub buckets: Vec<u64>,
}

impl Metric {
    fn new(name: &str, kind: MetricKind) -> Self {
        let buckets = if kind == MetricKind::Histogram { vec![0; BUCKETS.len()] } else { Vec::new() };
        Self { name: name.to_owned(), kind, value: 0, count: 0, buckets }
    }

    /// Adds what another worker's metric of this name has.
    pub(super) fn add(&mut self, other: &Self) {
        self.value = self.value.wrapping_add(other.value);
        self.count = self.count.wrapping_add(other.count);
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*count);
        }
    }

    fn record(&mut self, value: u64) {
        self.value = self.value.wrapping_add(value);
        self.count += 1;
        let first = BUCKETS.partition_point(|bound| *bound < value);
        self.buckets[first..].iter_mut().for_each(|count| *count += 1);
    }
}

/// All metrics of one worker.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    all: Vec<Metric>,
    /// Of all names. A filter that puts peers into names must not fill the host's memory.
    bytes: usize,
}

impl Metrics {
    pub(super) fn snapshot(&self) -> Vec<Metric> {
        self.all.clone()
    }

    /// The id of a metric, which a filter gets again when it defines the same one again.
    pub(super) fn define(&mut self, kind: u32, name: &str) -> Result<u32, Status> {
        let kind = match kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Histogram,
            _ => return Err(Status::BadArgument),
        };
        if name.len() > limits::NAME {
            return Err(Status::BadArgument);
        }
        let index = match self.all.iter().position(|metric| metric.name == name) {
            Some(index) if self.all[index].kind == kind => index,
            Some(_) => return Err(Status::BadArgument),
            None if self.is_full(name) => return Err(Status::InternalFailure),
            None => {
                self.bytes += name.len();
                self.all.push(Metric::new(name, kind));
                self.all.len() - 1
            }
        };
        u32::try_from(index).map_err(|_| Status::InternalFailure)
    }

    fn is_full(&self, name: &str) -> bool {
        let full = self.all.len() == limits::METRICS || self.bytes + name.len() > limits::METRICS_BYTES;
        if full && !SAID.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "limit reached: metrics of the filter, {} of a worker, 1 MiB of names",
                limits::METRICS
            );
        }
        full
    }

    /// Adds to a counter or a gauge. A counter does not take back, and not even nothing is added to it, as in Envoy.
    pub(super) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        let metric = self.by_id(id)?;
        match metric.kind {
            MetricKind::Counter if offset > 0 => metric.value = metric.value.wrapping_add_signed(offset),
            MetricKind::Gauge => metric.value = metric.value.saturating_add_signed(offset),
            MetricKind::Counter | MetricKind::Histogram => return Err(Status::BadArgument),
        }
        Ok(())
    }

    /// Sets a gauge, adds to a counter, or records into a histogram, as in Envoy.
    pub(super) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        let metric = self.by_id(id)?;
        match metric.kind {
            MetricKind::Gauge => metric.value = value,
            MetricKind::Counter => metric.value = metric.value.wrapping_add(value),
            MetricKind::Histogram => metric.record(value),
        }
        Ok(())
    }

    pub(super) fn value(&mut self, id: u32) -> Result<u64, Status> {
        let metric = self.by_id(id)?;
        match metric.kind {
            MetricKind::Histogram => Err(Status::BadArgument),
            MetricKind::Counter | MetricKind::Gauge => Ok(metric.value),
        }
    }

    fn by_id(&mut self, id: u32) -> Result<&mut Metric, Status> {
        usize::try_from(id).ok().and_then(|index| self.all.get_mut(index)).ok_or(Status::NotFound)
    }
}

/// Whether the log has it.
static SAID: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_only_its_own_updates() {
        let mut metrics = Metrics::default();
        let counter = metrics.define(0, "c").unwrap();
        let gauge = metrics.define(1, "g").unwrap();
        let histogram = metrics.define(2, "h").unwrap();
        assert_eq!(metrics.define(0, "c"), Ok(counter));
        assert_eq!(metrics.define(1, "c"), Err(Status::BadArgument));
        assert_eq!(metrics.define(3, "x"), Err(Status::BadArgument));

        metrics.increment(counter, 2).unwrap();
        for offset in [-1, 0] {
            assert_eq!(metrics.increment(counter, offset), Err(Status::BadArgument));
        }
        metrics.increment(gauge, 5).unwrap();
        metrics.increment(gauge, -7).unwrap();
        metrics.record(histogram, 3).unwrap();
        assert_eq!(metrics.increment(histogram, 1), Err(Status::BadArgument));
        assert_eq!((metrics.value(counter), metrics.value(gauge)), (Ok(2), Ok(0)));
        assert_eq!(metrics.value(histogram), Err(Status::BadArgument));
        assert_eq!(metrics.value(99), Err(Status::NotFound));
        assert_eq!((metrics.snapshot()[2].value, metrics.snapshot()[2].count), (3, 1));
    }

    #[test]
    fn names_have_an_end() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.define(0, &"x".repeat(limits::NAME + 1)), Err(Status::BadArgument));
        let define = |metrics: &mut Metrics, size: usize| {
            (0..10_000).take_while(|number| metrics.define(0, &format!("{number:0size$}")).is_ok()).count()
        };
        assert_eq!(define(&mut metrics, limits::NAME), limits::METRICS_BYTES / limits::NAME);
        assert_eq!(metrics.define(0, "one more"), Err(Status::InternalFailure));
        let first = format!("{:0size$}", 0, size = limits::NAME);
        assert_eq!(metrics.define(0, &first), Ok(0), "one that is there needs no room");
        assert_eq!(define(&mut Metrics::default(), 5), limits::METRICS);
    }

    #[test]
    fn a_histogram_counts_what_is_at_most_a_bound() {
        let mut metrics = Metrics::default();
        let histogram = metrics.define(2, "h").unwrap();
        for value in [0, 1, 2, 5, 3_600_000, 3_600_001] {
            metrics.record(histogram, value).unwrap();
        }
        let mut metric = metrics.snapshot().remove(0);
        assert_eq!(&metric.buckets[..3], [2, 4, 4]);
        assert_eq!((metric.buckets[16], metric.buckets[17], metric.count), (4, 5, 6));
        let other = metric.clone();
        metric.add(&other);
        assert_eq!((metric.buckets[0], metric.buckets[17], metric.count), (4, 10, 12));
        assert_eq!(metric.value, 2 * (8 + 7_200_001));
    }
}
