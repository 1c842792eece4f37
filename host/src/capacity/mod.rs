//! What the host takes at most, and what it has taken: connections, requests, upstream connections, unfinished handshakes.
//!
//! Each has a descriptor of the system behind it, and [`Plan`] keeps their sum below the limit on open files. So a client that
//! takes all it can get leaves the others their handshakes, refusals and answers. Workers share these counters; a connection
//! looks its client up once, and a request changes two atomic numbers.

mod bound;
mod client;
mod handshakes;
mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use bound::Bound;
pub use bound::{Permit, Usage};
use client::Clients;
pub use client::{Client, ClientKey};
use handshakes::Waiting;
pub use handshakes::{Place, Source};
pub use plan::{Needs, Plan, PlanError, open_files};

/// A limit, by the name that the configuration and the metrics have for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Open connections of admitted clients.
    Connections,
    /// Those of one client.
    ConnectionsPerClient,
    /// Connections whose client is not admitted yet.
    Handshakes,
    /// Those of one source address.
    HandshakesPerSource,
    /// Requests under way, with forwarded TCP connections and WebSockets.
    Requests,
    /// Those of one client.
    RequestsPerClient,
    /// Connections to services and servers, with the idle ones.
    UpstreamConnections,
}

impl Limit {
    /// As the configuration and the metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections-per-client",
            Self::Handshakes => "handshakes",
            Self::HandshakesPerSource => "handshakes-per-source",
            Self::Requests => "requests",
            Self::RequestsPerClient => "requests-per-client",
            Self::UpstreamConnections => "upstream-connections",
        }
    }
}

impl fmt::Display for Limit {
    /// For logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "limit `{}` is reached", self.name())
    }
}

/// The limits of one process, shared by its workers.
#[derive(Debug)]
pub struct Capacity {
    connections: Bound,
    requests: Bound,
    upstream_connections: Bound,
    handshakes: Arc<Mutex<Waiting>>,
    clients: Mutex<Clients>,
    idle_upstream_connections: AtomicU32,
}

impl Capacity {
    /// For a process that has taken nothing yet.
    pub fn new(plan: &Plan) -> Arc<Self> {
        let capacity = Self {
            connections: Bound::new(Limit::Connections, Limit::ConnectionsPerClient),
            requests: Bound::new(Limit::Requests, Limit::RequestsPerClient),
            upstream_connections: Bound::new(Limit::UpstreamConnections, Limit::UpstreamConnections),
            handshakes: Arc::default(),
            clients: Mutex::default(),
            idle_upstream_connections: AtomicU32::new(1),
        };
        capacity.set(plan);
        Arc::new(capacity)
    }

    /// Applies the limits of a new generation. What was taken under the old ones stays.
    pub fn set(&self, plan: &Plan) {
        self.connections.set(plan.connections, plan.connections_per_client);
        self.requests.set(plan.requests, plan.requests_per_client);
        self.upstream_connections.set(plan.upstream_connections, None);
        lock(&self.handshakes).set(plan.handshakes, plan.handshakes_per_source);
        self.idle_upstream_connections.store(plan.idle_upstream_connections, Ordering::Relaxed);
    }

    /// Enters a connection whose client is not admitted yet. Where there are too many, the oldest one of the source that has
    /// most is told to close: see [`Place::evicted`].
    pub fn handshake(&self, source: Source) -> Place {
        Waiting::enter(&self.handshakes, source)
    }

    /// The client of this name, as long as anybody holds it.
    pub fn client(self: &Arc<Self>, key: ClientKey) -> Arc<Client> {
        lock(&self.clients).get(key, self)
    }

    /// Takes a connection to a service or server.
    ///
    /// # Errors
    /// All are taken.
    pub fn upstream_connection(self: &Arc<Self>) -> Result<Permit, Limit> {
        Permit::take(self, |capacity| &capacity.upstream_connections, None)
    }

    /// Idle upstream connections that a worker may keep for each listener.
    pub fn idle_upstream_connections(&self) -> usize {
        self.idle_upstream_connections.load(Ordering::Relaxed) as usize
    }

    /// Each limit and what is taken of it. Those of one client tell the limit alone, if there is one.
    pub fn usage(&self) -> BTreeMap<Limit, Usage> {
        let mut usage = BTreeMap::new();
        for bound in [&self.connections, &self.requests, &self.upstream_connections] {
            usage.extend(bound.usage());
        }
        usage.extend(lock(&self.handshakes).usage());
        usage
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
