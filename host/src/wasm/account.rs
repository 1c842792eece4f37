//! What a filter makes the host keep, in bytes: for its connections and requests, or for the answers to its calls.

use std::cell::Cell;
use std::rc::Rc;

use super::status::Status;

/// The sum of all [`Share`]s, and how large it may become. One per worker, whichever VM it has.
#[derive(Clone, Debug)]
pub(super) struct Account(Rc<Sum>);

#[derive(Debug)]
struct Sum {
    what: &'static str,
    limit: usize,
    bytes: Cell<usize>,
    said: Cell<bool>,
}

impl Account {
    /// `what` is kept, for the log.
    pub(super) fn new(what: &'static str, limit: usize) -> Self {
        Self(Rc::new(Sum { what, limit, bytes: Cell::default(), said: Cell::default() }))
    }

    /// Refuses what would exceed the limit. The log says so once.
    pub(super) fn room_for(&self, bytes: usize) -> Result<(), Status> {
        let Sum { what, limit, bytes: kept, said } = &*self.0;
        if kept.get().saturating_add(bytes) <= *limit {
            return Ok(());
        }
        if !said.replace(true) {
            tracing::warn!("limit reached: {what}, {} MiB of a worker", limit >> 20);
        }
        Err(Status::InternalFailure)
    }

    /// A share with nothing in it.
    pub(super) fn share(&self) -> Share {
        Share { account: self.clone(), bytes: 0 }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.get()
    }
}

/// What one thing adds to an account, as long as it is there.
#[derive(Debug)]
pub(super) struct Share {
    account: Account,
    bytes: usize,
}

impl Share {
    /// Where it counts.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// From now on it is this large, whether there is room or not.
    pub(super) fn set(&mut self, bytes: usize) {
        let sum = &self.account.0.bytes;
        sum.set(sum.get() - self.bytes + bytes);
        self.bytes = bytes;
    }

    /// Grows, if there is room.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        self.account.room_for(bytes)?;
        self.set(self.bytes + bytes);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_makes_room() {
        let account = Account::new("test", 100);
        let (mut one, mut two) = (account.share(), account.share());
        assert_eq!(one.grow(60), Ok(()));
        assert_eq!(two.grow(60), Err(Status::InternalFailure));
        two.set(40);
        assert_eq!(account.bytes(), 100);
        drop(one);
        assert_eq!(two.grow(60), Ok(()));
        assert_eq!(account.room_for(usize::MAX), Err(Status::InternalFailure));
    }
}
