//! Limits that fit together, and into the limit on open files.

use std::fmt;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::config::Limits;
use crate::proxy::limits;

/// Every limit as a number.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// See [`Limit`](super::Limit), as all of these.
    pub connections: u32,
    /// `None`: only by what is left free.
    pub connections_per_client: Option<u32>,
    /// Each takes a descriptor.
    pub handshakes: u32,
    /// At least one.
    pub handshakes_per_source: u32,
    /// At most as many as [`Plan::upstream_connections`], where those are derived.
    pub requests: u32,
    /// `None`: only by what is left free.
    pub requests_per_client: Option<u32>,
    /// Each takes a descriptor.
    pub upstream_connections: u32,
    /// Of them, idle ones that a worker keeps for a listener.
    pub idle_upstream_connections: u32,
    /// Open files that all of it needs, and the host besides.
    pub open_files: u64,
    /// Open files that the defaults would need, where fewer are allowed.
    pub short_of: Option<u64>,
}

/// Limits that do not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PlanError {
    /// What is allowed.
    pub open_files: u64,
    /// What the configured limits need at least, and the host besides.
    pub needed: u64,
    /// Whether a limit is configured: otherwise the host itself does not fit.
    pub configured: bool,
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open_files, needed, configured } = self;
        write!(
            formatter,
            "limits: {needed} open files are needed and the system allows {open_files}; raise `LimitNOFILE=` (systemd), \
             `ulimit -Hn` (shell) or `--ulimit nofile` (container)"
        )?;
        match configured {
            true => formatter
                .write_str(", or lower `connections`, `handshakes` and `upstream-connections` of `limits`"),
            false => Ok(()),
        }
    }
}

impl std::error::Error for PlanError {}

/// Open files that this process may have.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What the host opens besides connections.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Threads that accept.
    pub workers: u16,
    /// Listeners of all kinds.
    pub listeners: usize,
    /// Whether the filter calls services.
    pub calls: bool,
}

impl Needs {
    /// For each worker a runtime and its own copies of the listening sockets; logs, watched and read files, the admin port and
    /// its connections; and some for connections that were told to close and have not yet.
    fn open_files(self) -> u64 {
        let workers = u64::from(self.workers);
        let calls = if self.calls { 64 * workers } else { 0 };
        ADMIN + OTHERS + workers * (8 + 2 * self.listeners as u64) + calls
    }
}

impl Plan {
    /// Fills in what is not configured.
    ///
    /// # Errors
    /// The sum does not fit into `open_files`.
    pub fn new(wanted: &Limits, needs: Needs, open_files: u64) -> Result<Self, PlanError> {
        let number = |limit: Option<std::num::NonZeroU32>| limit.map(std::num::NonZeroU32::get);
        // Requests that reach HTTP/1 services, and forwarded connections, have an upstream connection each; a sixth may idle.
        let upstream = number(wanted.upstream_connections)
            .or(number(wanted.requests).map(|it| it.saturating_add(it / 5)));
        let configured = [number(wanted.connections), number(wanted.handshakes), upstream];
        let handshakes = HANDSHAKES.max(HANDSHAKES_PER_WORKER * u32::from(needs.workers));
        let defaults = [CONNECTIONS, handshakes, CONNECTIONS + CONNECTIONS / 5];
        let own = needs.open_files();
        let fixed: u64 = configured.iter().flatten().map(|it| u64::from(*it)).sum();
        let open: u64 =
            configured.iter().zip(defaults).filter(|(it, _)| it.is_none()).map(|(_, it)| u64::from(it)).sum();
        let left = open_files.saturating_sub(own + fixed);
        let is_short = open > left;
        // Where there are fewer than the defaults take, all are smaller in proportion.
        let share = |default: u32| match is_short {
            true => u32::try_from(u64::from(default) * left / open.max(1)).unwrap_or(default),
            false => default,
        };
        let [connections, handshakes, upstream_connections] =
            [0, 1, 2].map(|index| configured[index].unwrap_or_else(|| share(defaults[index])));
        if own + fixed > open_files || [connections, handshakes, upstream_connections].contains(&0) {
            let smallest = configured.iter().filter(|it| it.is_none()).count() as u64 * SMALLEST;
            let configured = configured.iter().any(Option::is_some);
            return Err(PlanError { open_files, needed: own + fixed + smallest, configured });
        }
        let idle = upstream_connections - upstream_connections / 6 * 5;
        let keepers = u64::from(needs.workers) * needs.listeners.max(1) as u64;
        Ok(Self {
            connections,
            connections_per_client: number(wanted.connections_per_client),
            handshakes,
            handshakes_per_source: number(wanted.handshakes_per_source).unwrap_or(handshakes.div_ceil(2)),
            requests: number(wanted.requests).unwrap_or_else(|| (upstream_connections / 6 * 5).max(1)),
            requests_per_client: number(wanted.requests_per_client),
            upstream_connections,
            idle_upstream_connections: u32::try_from(u64::from(idle) / keepers)
                .unwrap_or(IDLE)
                .clamp(1, IDLE),
            open_files: own
                + u64::from(connections)
                + u64::from(handshakes)
                + u64::from(upstream_connections),
            short_of: is_short.then_some(own + fixed + open),
        })
    }
}

#[cfg(test)]
impl Default for Plan {
    /// Where nothing is configured and nothing is short.
    fn default() -> Self {
        let needs = Needs { workers: 1, listeners: 1, calls: false };
        Self::new(&Limits::default(), needs, u64::MAX).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

/// Open connections of admitted clients, where the system allows as many.
const CONNECTIONS: u32 = limits::CONNECTIONS as u32;
const HANDSHAKES: u32 = 2_000;
/// A core finishes about a thousand handshakes a second, each within a few round trips.
const HANDSHAKES_PER_WORKER: u32 = 256;
/// Idle upstream connections that a worker keeps for a listener.
const IDLE: u32 = 128;
/// Connections of the admin port.
const ADMIN: u64 = 64;
const OTHERS: u64 = 96;
/// A limit that is left out gets at least about this many.
const SMALLEST: u64 = 24;
