//! One line per refusal. Their number per second and their length are bounded: at worst some 250 kB per second and VM.

use peergate_policy::UnixTime;

use crate::envoy::{self, Level};

/// Lines per second and VM.
const PER_SECOND: u32 = 20;

/// Counts the lines of the current second.
#[derive(Default)]
pub(crate) struct RefusalLog {
    second: Option<i64>,
    written: u32,
    suppressed: u64,
}

impl RefusalLog {
    pub(crate) fn write(&mut self, now: Option<UnixTime>, line: impl FnOnce() -> String) {
        let second = now.map(UnixTime::seconds);
        if self.second != second {
            if self.suppressed > 0 {
                envoy::log(
                    Level::Warn,
                    &format!("peergate: {} more refusals in one second", self.suppressed),
                );
            }
            *self = Self { second, ..Self::default() };
        }
        if self.written < PER_SECOND {
            self.written += 1;
            envoy::log(Level::Info, &format!("peergate: {}", line()));
        } else {
            self.suppressed += 1;
        }
    }
}
