//! Which connection the requests of one client's connection take to a service that answers many at once (HTTP/2).
//!
//! All clients of a worker share one. A client that cancels is a client that resets streams there, and servers answer many
//! resets by closing the connection, with the requests of everybody else on it. So a client that cancels often, or could
//! cancel many requests at once, gets a connection of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::{Mutex, MutexGuard};

use super::slot::Slot;
use super::upstream::{Shared, Upstream};

/// The way to the service of one client's connection.
#[derive(Debug)]
pub(super) struct Lane {
    slot: Rc<Slot>,
    own: RefCell<Option<(Rc<Upstream>, Shared)>>,
    opening: Mutex<()>,
    failures: Cell<u64>,
}

impl Lane {
    pub(super) fn new(slot: &Rc<Slot>) -> Self {
        let (own, opening, failures) = Default::default();
        Self { slot: Rc::clone(slot), own, opening, failures }
    }

    /// Whether requests are to take a connection of its own.
    pub(super) fn is_apart(&self) -> bool {
        self.slot.client().is_some_and(|client| client.wants_own_connection())
    }

    /// Whether they must not take the shared one.
    pub(super) fn is_kept_apart(&self) -> bool {
        self.slot.client().is_some_and(|client| client.cancels_often())
    }

    /// Its own connection to this service, while that is open.
    pub(super) fn own(&self, upstream: &Rc<Upstream>) -> Option<Shared> {
        let own = self.own.borrow();
        own.as_ref()
            .filter(|(to, shared)| Rc::ptr_eq(to, upstream) && shared.is_open())
            .map(|(_, it)| it.clone())
    }

    pub(super) fn owns(&self, upstream: &Rc<Upstream>, shared: Shared) {
        self.own.replace(Some((Rc::clone(upstream), shared)));
    }

    /// The turn to open it: requests that come together need one connection, not one each. `None` if another one failed to
    /// open it in the meantime.
    pub(super) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let failures = self.failures.get();
        let turn = self.opening.lock().await;
        (failures == self.failures.get()).then_some(turn)
    }

    pub(super) fn failed(&self) {
        self.failures.set(self.failures.get() + 1);
    }

    /// A request that counts as cancelled if this is dropped before it is [finished](Sent::finished).
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent { lane: self, complete: false }
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    lane: &'a Lane,
    complete: bool,
}

impl Sent<'_> {
    pub(super) fn finished(mut self) {
        self.complete = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.complete
            && let Some(client) = self.lane.slot.client()
        {
            client.cancelled();
        }
    }
}
