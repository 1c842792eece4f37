//! systemd's side of a service: readiness, reload, watchdog (`sd_notify(3)`) and sockets it opened for us
//! (`sd_listen_fds(3)`). Without systemd nothing here does anything.

mod pulse;
mod sockets;

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

pub use pulse::{Pulse, Pulses};
pub use sockets::{Activated, ActivationError};

/// The host serves; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins (`Type=notify-reload`); [`ready`] ends it, also a refused one.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd is not told of the reload"),
    }
}

/// What `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The host drains.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// How often systemd wants to hear from us, if at all: half of `WATCHDOG_USEC`, as `sd_watchdog_enabled(3)` advises.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| longest / 2)
}

/// All is well.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot tell systemd");
    }
}
