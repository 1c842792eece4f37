//! What one listener counts in one worker.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::admin::ListenerReport;

/// Counted by one thread for itself; another one has to ask.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: Cell<u64>,
    over_limit: Cell<u64>,
    open: Cell<u64>,
    failures: RefCell<BTreeMap<&'static str, u64>>,
    refusals: RefCell<BTreeMap<&'static str, u64>>,
}

impl Tally {
    /// A connection was accepted; it is open until it is [`closed`](Self::closed).
    pub(super) fn opened(&self) {
        self.accepted.set(self.accepted.get() + 1);
        self.open.set(self.open.get() + 1);
    }

    pub(super) fn closed(&self) {
        self.open.set(self.open.get().saturating_sub(1));
    }

    /// A client was admitted, and its connection closed at once.
    pub(super) fn over_limit(&self) {
        self.over_limit.set(self.over_limit.get() + 1);
    }

    /// A handshake came to nothing. The words are a fixed list.
    pub(super) fn failed(&self, failure: &'static str) {
        *self.failures.borrow_mut().entry(failure).or_default() += 1;
    }

    /// A request was refused before the filter saw it. The words are a fixed list.
    pub(super) fn refused(&self, reason: &'static str) {
        *self.refusals.borrow_mut().entry(reason).or_default() += 1;
    }

    pub(super) fn report(&self) -> ListenerReport {
        ListenerReport {
            accepted: self.accepted.get(),
            over_limit: self.over_limit.get(),
            open: self.open.get(),
            failures: self.failures.borrow().clone(),
            refusals: self.refusals.borrow().clone(),
            ..ListenerReport::default()
        }
    }
}
