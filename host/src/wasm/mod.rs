//! The proxy-wasm 0.2.1 host: runs filter.wasm and asks it about connections and requests.
//!
//! A [`Filter`] is loaded once. Each worker thread starts a [`Worker`] from it, asks it about every peer inside the
//! handshake ([`Worker::judge_connection`]), and opens a [`Stream`] per request. The VM itself never waits: a request that a
//! filter pauses waits outside of it, while timers, queues and answers to the filter's calls come in ([`Worker::attend`]).
//! Nothing here panics on what a filter does: a trap, a deadline, a wrong pointer or a pause that nothing can end is a
//! denial, and the VM is replaced.
//!
//! The example for what a host function answers, and for the order of callbacks, is Envoy 1.40.0; the suite `foreign`
//! compares. What differs, by design:
//!
//! - A pause that nothing can end fails at once with 503, and any other after 15 s with 504. Envoy waits for its stream's
//!   idle timeout. A filter that pauses and resumes in one callback goes on here; in Envoy it hangs.
//! - Names, values and maps that would make no HTTP message, and sizes beyond the bounds, are refused with `BadArgument`.
//! - A reply that cannot be sent ends the request with 503, and one on a connection ends the connection.
//! - What a filter makes the host keep has an end (`limits`), and what the host does for it counts towards its time.
//! - No cluster speaks gRPC: a gRPC call answers what Envoy answers for an unknown cluster, `ParseFailure`.
//! - Metrics are each worker's own. In the network gate there are no data, and a pause there is a denial.
//! - Statuses that the Rust SDK's enum does not have (`Unimplemented`) are never answered.
//! - A root is not told when its VM ends (`proxy_on_done`).

mod account;
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
pub use metrics::{BUCKETS, Metric, MetricKind};
pub use stream::{Direction, Interruption, Stream};
pub use verdict::{BodyOutcome, HeaderPairs, LocalReply, Outcome, PAUSED_TOO_LONG, Verdict};
pub use worker::Worker;
