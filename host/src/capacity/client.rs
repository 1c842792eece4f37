//! Clients that are connected, and what each of them holds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use super::bound::Permit;
use super::{Capacity, Limit, Source, lock};

/// Whom limits of one client are for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ClientKey {
    /// Who holds this certificate, by the SHA-256 of its DER.
    Certificate([u8; 32]),
    /// Who comes from this address, without a certificate that was looked at.
    Address(Source),
    /// Local programs that use an outbound listener, by its name.
    Local(Arc<str>),
}

impl ClientKey {
    /// A client without certificate.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(Source::of(address))
    }
}

/// One client with at least one open connection.
#[derive(Debug)]
pub struct Client {
    key: ClientKey,
    capacity: Arc<Capacity>,
    connections: AtomicU32,
    requests: AtomicU32,
    cancelled: Cancelled,
}

impl Client {
    /// Takes a connection.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn connection(self: &Arc<Self>) -> Result<Permit, Limit> {
        let client = Some((Arc::clone(self), (|it| &it.connections) as fn(&Self) -> &AtomicU32));
        Permit::take(&self.capacity, |capacity| &capacity.connections, client)
    }

    /// Takes a request under way.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn request(self: &Arc<Self>) -> Result<Permit, Limit> {
        let client = Some((Arc::clone(self), (|it| &it.requests) as fn(&Self) -> &AtomicU32));
        Permit::take(&self.capacity, |capacity| &capacity.requests, client)
    }

    /// A request was given up before its answer was complete.
    pub fn cancelled(&self) {
        self.cancelled.note(since_start());
    }

    /// Whether its requests belong on an upstream connection of their own: it cancels often, or has so many under way that
    /// cancelling them together would be often.
    pub fn wants_own_connection(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > SHARED_REQUESTS || self.cancels_often()
    }

    /// Whether it gave up many requests not long ago.
    pub fn cancels_often(&self) -> bool {
        self.cancelled.is_often(since_start())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        lock(&self.capacity.clients).forget(&self.key);
    }
}

/// The clients of the process. Its size is bounded by that of the connections.
#[derive(Debug, Default)]
pub(super) struct Clients(HashMap<ClientKey, Weak<Client>>);

impl Clients {
    pub(super) fn get(&mut self, key: ClientKey, capacity: &Arc<Capacity>) -> Arc<Client> {
        if let Some(client) = self.0.get(&key).and_then(Weak::upgrade) {
            return client;
        }
        let client = Arc::new(Client {
            key: key.clone(),
            capacity: Arc::clone(capacity),
            connections: AtomicU32::default(),
            requests: AtomicU32::default(),
            cancelled: Cancelled::default(),
        });
        self.0.insert(key, Arc::downgrade(&client));
        client
    }

    /// Unless it has come again in between.
    fn forget(&mut self, key: &ClientKey) {
        if self.0.get(key).is_some_and(|client| client.strong_count() == 0) {
            self.0.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// How often a client gives requests up. Threads may disagree by one or two, which is as good.
#[derive(Debug, Default)]
struct Cancelled {
    window: AtomicU64,
    count: AtomicU32,
    often_until: AtomicU64,
}

impl Cancelled {
    /// Times are milliseconds.
    fn note(&self, now: u64) {
        if now.saturating_sub(self.window.load(Ordering::Relaxed)) > WINDOW {
            self.window.store(now, Ordering::Relaxed);
            self.count.store(0, Ordering::Relaxed);
        }
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 >= OFTEN {
            self.often_until.store(now + APART, Ordering::Relaxed);
        }
    }

    fn is_often(&self, now: u64) -> bool {
        now < self.often_until.load(Ordering::Relaxed)
    }
}

fn since_start() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(Instant::now().duration_since(*START).as_millis()).unwrap_or(u64::MAX)
}

/// Requests of one client that share an upstream connection with those of others. Servers bear fewer resets in a row than they
/// bear streams: h2 (Rust) and nginx take some twenty, Netty 200 in 30 s, nghttp2 1,000.
const SHARED_REQUESTS: u32 = 8;
/// Requests given up within [`WINDOW`] that make a client one that cancels often.
const OFTEN: u32 = 4;
/// Milliseconds.
const WINDOW: u64 = Duration::from_secs(10).as_millis() as u64;
/// Milliseconds for which a client that cancels often stays apart, counted from the last time.
const APART: u64 = Duration::from_secs(60).as_millis() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_cancels_often_stays_apart_for_a_minute() {
        let cancelled = Cancelled::default();
        let start = 100_000;
        for _ in 1..OFTEN {
            cancelled.note(start);
        }
        assert!(!cancelled.is_often(start));
        cancelled.note(start + WINDOW);
        assert!(cancelled.is_often(start + WINDOW + APART - 1));
        assert!(!cancelled.is_often(start + WINDOW + APART));
    }

    #[test]
    fn a_client_that_cancels_now_and_then_does_not() {
        let cancelled = Cancelled::default();
        for time in (0..100).map(|step| 100_000 + step * (WINDOW / 2)) {
            cancelled.note(time);
            assert!(!cancelled.is_often(time), "{time}");
        }
    }
}
