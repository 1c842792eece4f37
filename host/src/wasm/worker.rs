//! One worker's VM.

use std::rc::Rc;

use super::connection::Connection;
use super::error::StartError;
use super::filter::Filter;
use super::stream::Stream;
use super::verdict::Verdict;

/// One worker's VM with its two root contexts, replaced after a trap or a deadline. Not `Send`.
#[derive(Debug)]
pub struct Worker {
    _not_send: Rc<()>,
}

impl Worker {
    /// Starts a VM and gives `configuration` to both root contexts.
    pub fn start(_filter: &Filter, _configuration: &str) -> Result<Self, StartError> {
        Ok(Self { _not_send: Rc::new(()) })
    }

    /// Asks the network gate about a peer.
    pub fn judge_connection(&self, _connection: &Rc<Connection>) -> Verdict {
        Verdict {
            allow: false,
            decision: r#"{"decision":"deny","reason":"filter-silent","matched":[]}"#.to_owned(),
        }
    }

    /// An HTTP context for one request.
    pub fn open_stream(self: &Rc<Self>, _connection: &Rc<Connection>) -> Stream {
        Stream::new(Rc::clone(self))
    }

    /// How many VMs were given up since the start.
    pub fn restarts(&self) -> u64 {
        0
    }
}
