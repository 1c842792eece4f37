//! The time of the system.

use std::time::{Duration, SystemTime};

use peergate_policy::UnixTime;
use rustls::time_provider::TimeProvider;

/// Now. If the clock reads before 1970, everything counts as expired.
pub(crate) fn now() -> UnixTime {
    let seconds = since_epoch(SystemTime::now()).and_then(|it| i64::try_from(it.as_secs()).ok());
    UnixTime::from_seconds(seconds.unwrap_or(i64::MAX))
}

/// The time for rustls. Its own provider panics if the clock reads before 1970; with this one the handshake fails.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl TimeProvider for SystemClock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        since_epoch(SystemTime::now()).map(rustls_pki_types::UnixTime::since_unix_epoch)
    }
}

/// The time that rustls says it is.
pub(crate) fn instant(time: rustls_pki_types::UnixTime) -> UnixTime {
    UnixTime::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn since_epoch(time: SystemTime) -> Option<Duration> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_gives_no_time() {
        assert_eq!(since_epoch(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(since_epoch(SystemTime::UNIX_EPOCH), Some(Duration::ZERO));
    }
}
