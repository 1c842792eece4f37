//! The proxy-wasm 0.2.1 host: runs filter.wasm and asks it about connections and requests.

mod certificate;
mod connection;
mod error;
mod filter;
mod stream;
mod verdict;
mod worker;

pub use certificate::PeerCertificate;
pub use connection::{Connection, Tls};
pub use error::{FilterError, StartError};
pub use filter::Filter;
pub use stream::Stream;
pub use verdict::{HeaderPairs, LocalReply, Outcome, Verdict};
pub use worker::Worker;
