//! The proxy-wasm 0.2.1 host: runs filter.wasm and asks it about connections and requests.
//!
//! A [`Filter`] is loaded once. Each worker thread starts a [`Worker`] from it, asks it about every peer inside the
//! handshake ([`Worker::judge_connection`]), and opens a [`Stream`] per request. The VM itself never waits: a request that a
//! filter pauses waits outside of it, while timers, queues and answers to the filter's calls come in ([`Worker::attend`]).
//! Nothing here panics on what a filter does: a trap, a deadline, a wrong pointer or a pause that nothing can end is a
//! denial, and the VM is replaced.

mod callout;
mod calls;
mod certificate;
mod clock;
mod compiler;
mod connection;
mod context;
mod deadline;
mod driver;
mod engine;
mod error;
mod events;
mod exports;
mod filter;
mod guest;
mod headers;
mod host;
mod journal;
mod ledger;
mod limits;
mod metrics;
mod phases;
mod property;
mod queue;
mod shared;
mod signal;
mod status;
mod stored;
mod stream;
mod subject;
#[cfg(test)]
mod tests;
mod verdict;
mod vm;
mod worker;

pub use callout::Clusters;
pub use certificate::PeerCertificate;
pub use clock::Clock;
pub use connection::{Connection, Tls};
pub use error::{FilterError, StartError};
pub use filter::{Filter, compile};
pub use ledger::counted;
pub use metrics::{Metric, MetricKind};
pub use stream::{Direction, Interruption, Stream};
pub use verdict::{BodyOutcome, HeaderPairs, LocalReply, Outcome, PAUSED_TOO_LONG, Verdict};
pub use worker::Worker;
