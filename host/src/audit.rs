//! One line per decision, on stderr.
//!
//! A line carries what the filter decided and for whom, never a header value or a body. Text from outside is cleaned,
//! so a name in a certificate cannot begin a line of its own or colour a terminal.

mod record;
mod sink;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http::StatusCode;
use tracing::{info, warn};

pub use record::Whom;
pub use sink::{Target, flush, lost, reopen, start};

use crate::clean::Clean;
use crate::proxy::limits;
use crate::wasm::Verdict;

/// The decisions of one worker. Refusals are limited per client address: being refused must not be a way to fill a
/// disk or to drown the lines about others.
#[derive(Debug, Default)]
pub struct Audit {
    refusals: RefCell<HashMap<IpAddr, Window>>,
}

/// What a request asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The path without its query, which may hold secrets.
    pub path: &'a str,
}

impl Audit {
    /// The network gate judged a peer.
    pub fn connection(&self, peer: SocketAddr, verdict: &Verdict) {
        let decision = shown(&verdict.decision);
        if verdict.allow {
            info!(%peer, %decision, "allow connection");
        } else if self.admits_line(peer) {
            warn!(%peer, %decision, "deny connection");
        }
    }

    /// The filter judged a request; `refused` is the status the client got in place of the upstream's.
    pub fn request(
        &self,
        peer: SocketAddr,
        asked: Asked<'_>,
        refused: Option<StatusCode>,
        decision: Option<String>,
    ) {
        let decision = shown(decision.as_deref().unwrap_or("none"));
        let Asked { method, path } = asked;
        let (method, path) = (shown(method), shown(path));
        match refused {
            None => info!(%peer, %method, %path, %decision, "allow request"),
            Some(status) if self.admits_line(peer) => {
                warn!(%peer, %method, %path, status = status.as_u16(), %decision, "deny request");
            }
            Some(_) => {}
        }
    }

    /// A handshake ended without a decision.
    pub fn handshake(&self, peer: SocketAddr, error: &dyn Display) {
        if self.admits_line(peer) {
            warn!(%peer, error = %shown(&error.to_string()), "handshake failed");
        }
    }

    /// An open connection is no longer admitted.
    pub fn ended(&self, peer: SocketAddr, reason: &str, decision: Option<&str>) {
        if self.admits_line(peer) {
            let (reason, decision) = (shown(reason), shown(decision.unwrap_or("none")));
            warn!(%peer, %reason, %decision, "end connection");
        }
    }

    /// The filter gave no usable answer, which is a denial.
    pub fn fault(&self, peer: SocketAddr, error: &dyn Display) {
        if self.admits_line(peer) {
            warn!(%peer, error = %shown(&error.to_string()), "filter failed");
        }
    }

    /// The upstream gave no response.
    pub fn upstream(&self, peer: SocketAddr, error: &dyn Display) {
        if self.admits_line(peer) {
            warn!(%peer, error = %shown(&error.to_string()), "upstream failed");
        }
    }

    /// The client broke HTTP.
    pub fn protocol(&self, peer: SocketAddr, error: &dyn Display) {
        if self.admits_line(peer) {
            warn!(%peer, error = %shown(&error.to_string()), "connection failed");
        }
    }

    fn admits_line(&self, peer: SocketAddr) -> bool {
        let now = Instant::now();
        let mut refusals = self.refusals.borrow_mut();
        if refusals.len() >= ADDRESSES {
            refusals.retain(|_, window| !window.is_over(now));
        }
        // More addresses within a second than are told apart share one allowance.
        let known = refusals.len() < ADDRESSES || refusals.contains_key(&peer.ip());
        let address = if known { peer.ip() } else { Ipv4Addr::UNSPECIFIED.into() };
        let window = refusals.entry(address).or_insert_with(|| Window::new(now));
        if window.is_over(now) {
            if window.lines > limits::REFUSAL_LINES {
                warn!(peer = %address, lines = window.lines - limits::REFUSAL_LINES, "lines left out");
            }
            *window = Window::new(now);
        }
        window.lines += 1;
        window.lines <= limits::REFUSAL_LINES
    }
}

/// Cut off at [`limits::LOGGED_BYTES`]: a thousand lines that wait to be written must not be a thousand times what a
/// client may send.
fn shown(text: &str) -> Clean<'_> {
    Clean(&text[..text.floor_char_boundary(limits::LOGGED_BYTES)])
}

/// The lines about one address within one second.
#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
}

impl Window {
    fn new(since: Instant) -> Self {
        Self { since, lines: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= Duration::from_secs(1)
    }
}

/// Addresses told apart.
const ADDRESSES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_end_is_cut_off_between_characters() {
        let long = format!("x{}", "é".repeat(40_000));
        let text = shown(&long).to_string();
        assert_eq!(text.len(), limits::LOGGED_BYTES - 1);
        assert!(long.starts_with(&text));
    }

    #[test]
    fn lines_about_one_address_are_limited_and_others_are_not() {
        let audit = Audit::default();
        let peer: SocketAddr = "192.0.2.1:1".parse().expect("an address");
        let other: SocketAddr = "192.0.2.2:1".parse().expect("an address");
        let admitted = (0..100).filter(|_| audit.admits_line(peer)).count();
        assert!((limits::REFUSAL_LINES as usize..100).contains(&admitted), "{admitted}");
        assert!(audit.admits_line(other));
    }

    #[test]
    fn a_flood_of_addresses_keeps_the_table_small() {
        let audit = Audit::default();
        for number in 0..5000_u32 {
            audit.admits_line(SocketAddr::new(Ipv4Addr::from(number + 1).into(), 1));
        }
        assert!(audit.refusals.borrow().len() <= ADDRESSES + 1);
    }
}
