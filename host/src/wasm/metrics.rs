//! Metrics a filter defines. One set per worker, so counting shares nothing; it outlives the worker's VMs.

use super::status::Status;

/// More names than any filter needs; a filter that puts peers into names must not fill the host's memory.
const MAX_METRICS: usize = 4096;

/// How a metric is updated and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Recorded values: their sum and how many there were.
    Histogram,
}

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
}

/// All metrics of one worker.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    all: Vec<Metric>,
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
        let index = match self.all.iter().position(|metric| metric.name == name) {
            Some(index) if self.all[index].kind == kind => index,
            Some(_) => return Err(Status::BadArgument),
            None if self.all.len() == MAX_METRICS => return Err(Status::InternalFailure),
            None => {
                self.all.push(Metric { name: name.to_owned(), kind, value: 0, count: 0 });
                self.all.len() - 1
            }
        };
        u32::try_from(index).map_err(|_| Status::InternalFailure)
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
            MetricKind::Histogram => {
                metric.value = metric.value.wrapping_add(value);
                metric.count += 1;
            }
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
}
