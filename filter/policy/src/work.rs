//! An end to the work that one peer can cause.

use crate::limits;

/// What is left of [`limits::MATCHING_WORK`].
#[derive(Debug)]
pub(crate) struct Work(usize);

/// There is nothing left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooCostly;

impl Work {
    pub(crate) fn new() -> Self {
        Self(limits::MATCHING_WORK)
    }

    /// Takes `amount`, in bytes looked at.
    pub(crate) fn spend(&mut self, amount: usize) -> Result<(), TooCostly> {
        self.0 = self.0.checked_sub(amount).ok_or(TooCostly)?;
        Ok(())
    }
}
