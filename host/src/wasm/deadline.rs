//! How long the filter may compute.
//!
//! A wall-clock deadline alone denies good peers on a busy machine, where the worker is not running for most of the
//! time. So the clock that counts is the thread's CPU time, and it is read only by calls that outlive the first
//! deadline: the ones that matter, and none of the others.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

/// The engine's epoch advances this often.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A call is looked at after this many ticks, and at every tick from then on.
pub(super) const TICKS: u64 = 2;

/// CPU time for one decision: no call is stopped below it, and an endless loop ends within it plus three ticks.
pub(super) const DECISION: Duration = Duration::from_millis(20);

/// CPU time for starting a VM. 100,000 tokens take 2 s of it on a slow machine.
pub(super) const START: Duration = Duration::from_secs(5);

/// After so many bytes of the host's work for a filter the clock is looked at: reading it takes as long as copying a few of them.
const WORK: usize = 64 << 10;

/// The budget of the call that is running.
#[derive(Debug)]
pub(super) struct Deadline {
    budget: Duration,
    first_look: Option<Duration>,
    /// Bytes of work of the host since the last look.
    work: usize,
}

impl Deadline {
    /// A deadline nobody looked at yet.
    pub(super) fn new(budget: Duration) -> Self {
        Self { budget, first_look: None, work: 0 }
    }

    /// Counts work of the host for the filter; whether the filter may go on. `clock` is the thread's CPU time.
    pub(super) fn charge(&mut self, bytes: usize, clock: impl FnOnce() -> Duration) -> bool {
        self.work = self.work.saturating_add(bytes);
        if self.work < WORK {
            return true;
        }
        self.work = 0;
        !self.is_over(clock())
    }

    /// What becomes of a call that is still running at `now`, the thread's CPU time.
    pub(super) fn look(&mut self, now: Duration) -> UpdateDeadline {
        if self.is_over(now) { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
    }

    fn is_over(&mut self, now: Duration) -> bool {
        let first = *self.first_look.get_or_insert(now);
        now.saturating_sub(first) >= self.budget
    }
}

/// CPU time this thread has used so far.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_on(deadline: &mut Deadline, milliseconds: u64) -> bool {
        matches!(deadline.look(Duration::from_millis(milliseconds)), UpdateDeadline::Continue(1))
    }

    #[test]
    fn a_thread_that_was_not_running_is_not_charged() {
        let mut deadline = Deadline::new(DECISION);
        for _ in 0..1000 {
            assert!(runs_on(&mut deadline, 5));
        }
        assert!(runs_on(&mut deadline, 24));
        assert!(!runs_on(&mut deadline, 25));
    }

    #[test]
    fn work_of_the_host_is_looked_at_like_the_filters_own() {
        let mut deadline = Deadline::new(DECISION);
        let at = |milliseconds| move || Duration::from_millis(milliseconds);
        assert!(deadline.charge(WORK, at(5)));
        assert!(deadline.charge(WORK - 1, at(999)), "too little to look at the clock");
        assert!(deadline.charge(1, at(24)));
        assert!(!deadline.charge(usize::MAX, at(25)));
    }
}
