//! What a filter is told when it asks for the time.

use std::time::SystemTime;

use peergate_policy::UnixTime;

/// Source of the wall clock of a VM.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// One instant for ever, to ask what would be decided then.
    Fixed(UnixTime),
}

impl Clock {
    /// Nanoseconds since 1970; `None` when the clock stands before that or after 2554.
    pub(super) fn unix_nanoseconds(self) -> Option<u64> {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
                u64::try_from(since.as_nanos()).ok()
            }
            Self::Fixed(time) => {
                let seconds = u64::try_from(time.seconds()).ok()?;
                seconds.checked_mul(1_000_000_000)?.checked_add(time.nanoseconds().into())
            }
        }
    }
}
