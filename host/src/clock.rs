//! The time of the system.

use std::time::SystemTime;

use peergate_policy::UnixTime;

/// A clock before 1970 is none: then everything has ended.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_seconds(since.ok().and_then(|it| i64::try_from(it.as_secs()).ok()).unwrap_or(i64::MAX))
}

/// The time that rustls says it is.
pub(crate) fn instant(time: rustls_pki_types::UnixTime) -> UnixTime {
    UnixTime::from_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
