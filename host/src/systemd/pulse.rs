//! Whether the workers still do something: each beats from inside its own runtime, where a worker that hangs does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's count of beats.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Called by the worker at least once in every period in which it is looked at.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The pulses of all workers and how far they were.
#[derive(Debug, Default)]
pub struct Pulses(Vec<(Pulse, u64)>);

impl Pulses {
    /// Of these workers, in order.
    pub fn of(pulses: Vec<Pulse>) -> Self {
        // As if none had beaten yet: a worker that never begins is noticed too.
        Self(pulses.into_iter().map(|pulse| (pulse, 0)).collect())
    }

    /// The workers that have not beaten since the last call.
    pub fn silent(&mut self) -> Vec<usize> {
        let mut silent = Vec::new();
        for (index, (Pulse(beats), before)) in self.0.iter_mut().enumerate() {
            let now = beats.load(Ordering::Relaxed);
            if now == *before {
                silent.push(index);
            }
            *before = now;
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stops_is_named_until_it_goes_on() {
        let (one, two) = (Pulse::default(), Pulse::default());
        let mut pulses = Pulses::of(vec![one.clone(), two.clone()]);
        assert_eq!(pulses.silent(), [0, 1]);
        one.beat();
        two.beat();
        assert_eq!(pulses.silent(), [] as [usize; 0]);
        one.beat();
        assert_eq!(pulses.silent(), [1]);
        one.beat();
        two.beat();
        assert_eq!(pulses.silent(), [] as [usize; 0]);
    }
}
