//! The proxy-wasm 0.2.1 host: runs filter.wasm and asks it about connections and requests.
//!
//! A [`Filter`] is loaded once. Each worker thread starts a [`Worker`] from it, asks it about every peer inside the
//! handshake ([`Worker::judge_connection`]), and opens a [`Stream`] per request. Nothing here waits and nothing here
//! panics on what a filter does: a trap, a deadline, a wrong pointer or a pause is a denial, and the VM is replaced.

mod calls;
mod certificate;
mod clock;
mod compiler;
mod connection;
mod context;
mod deadline;
mod engine;
mod error;
mod exports;
mod filter;
mod guest;
mod headers;
mod host;
mod journal;
mod limits;
mod metrics;
mod property;
mod shared;
mod status;
mod stored;
mod stream;
mod subject;
#[cfg(test)]
mod tests;
mod verdict;
mod vm;
mod worker;

pub use certificate::PeerCertificate;
pub use clock::Clock;
pub use connection::{Connection, Tls};
pub use error::{FilterError, StartError};
pub use filter::{Filter, compile};
pub use metrics::{Metric, MetricKind};
pub use stream::Stream;
pub use verdict::{HeaderPairs, LocalReply, Outcome, Verdict};
pub use worker::Worker;
