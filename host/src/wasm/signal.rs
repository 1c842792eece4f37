//! Waking those who wait for a filter.

use std::rc::Rc;

use tokio::sync::Notify;

/// Rung by the VM's side; also when it is dropped, so that nobody waits for a context that is gone.
#[derive(Debug, Default)]
pub(super) struct Signal(Rc<Notify>);

impl Signal {
    pub(super) fn ring(&self) {
        self.0.notify_waiters();
    }

    /// For those who wait. A ring is heard by all who wait when it comes, and by nobody later: look first, then wait.
    pub(super) fn bell(&self) -> Rc<Notify> {
        Rc::clone(&self.0)
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.ring();
    }
}
