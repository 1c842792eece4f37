//! Waiting for something that will happen, without guessing how long it takes.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Returns as soon as `done` is true.
///
/// # Panics
/// It is still false after half a minute.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
