//! How long decisions take: the histogram `peergate_decision_duration_ns`, by outcome, in nanoseconds of the proxy's wall clock, from
//! the first question to the proxy to the verdict.
//!
//! Envoy's clock is `std::chrono::system_clock`, so it is fine enough; but asking it again and recording took a microsecond of
//! each request, a third of what the filter takes of one. So one of [`EVERY`] decisions is timed, the first one included, whatever
//! it is.

use crate::envoy;

/// Of so many decisions of a VM, one is timed.
const EVERY: u32 = 16;

/// The histograms of outcomes, as far as they were needed.
#[derive(Default)]
pub(crate) struct Timing {
    decisions: u32,
    defined: Vec<(&'static str, u32)>,
}

impl Timing {
    /// Records a decision that began at `started`, in nanoseconds, and is made now, if it is one to be timed. A clock that fails
    /// or was set back records nothing.
    pub(crate) fn note(&mut self, started: Option<u64>, outcome: &'static str) {
        let timed = self.decisions.is_multiple_of(EVERY);
        self.decisions = self.decisions.wrapping_add(1);
        let elapsed = || envoy::clock().ok()?.checked_sub(started?);
        if let Some(elapsed) = timed.then(elapsed).flatten()
            && let Some(histogram) = self.histogram(outcome)
        {
            envoy::record(histogram, elapsed);
        }
    }

    fn histogram(&mut self, outcome: &'static str) -> Option<u32> {
        if let Some((_, id)) = self.defined.iter().find(|(defined, _)| *defined == outcome) {
            return Some(*id);
        }
        let id = envoy::define_histogram(&format!("peergate_decision_duration_ns.outcome.{outcome}")).ok()?;
        self.defined.push((outcome, id));
        Some(id)
    }
}
