//! One line per decision: text on stderr, or JSON where the operator wants it ([`start`]).
//!
//! A line carries what the filter decided and for whom, never a header value or a body. Text from outside is cleaned,
//! so a name in a certificate cannot begin a line of its own or colour a terminal.

mod record;
mod sink;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Instant, SystemTime};

use http::StatusCode;
use tracing::{info, warn};

use record::Record;
pub use record::Whom;
pub use sink::{Target, flush, lost, reopen, start};

use crate::capacity::Limit;
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
    pub fn connection(&self, whom: &Whom, verdict: &Verdict) {
        let Verdict { allow, decision } = verdict;
        if !allow && !self.admits_line(whom) {
            return;
        }
        if sink::is_on() {
            return write(Record::new("connection", whom, SystemTime::now()).decided(*allow, Some(decision)));
        }
        let (peer, decision) = (whom.source, shown(decision));
        match allow {
            true => info!(%peer, %decision, "allow connection"),
            false => warn!(%peer, %decision, "deny connection"),
        }
    }

    /// The filter judged a request; `refused` is the status the client got in place of the upstream's.
    pub fn request(
        &self,
        whom: &Whom,
        asked: Asked<'_>,
        refused: Option<StatusCode>,
        decision: Option<String>,
    ) {
        if refused.is_some() && !self.admits_line(whom) {
            return;
        }
        let Asked { method, path } = asked;
        if sink::is_on() {
            let record = Record::new("request", whom, SystemTime::now());
            let record = record.decided(refused.is_none(), decision.as_deref());
            let record = record.with("method", cut(method)).with("path", cut(path));
            return write(match refused {
                Some(status) => record.with("status", status.as_u16()),
                None => record,
            });
        }
        let decision = shown(decision.as_deref().unwrap_or("none"));
        let (peer, method, path) = (whom.source, shown(method), shown(path));
        match refused {
            None => info!(%peer, %method, %path, %decision, "allow request"),
            Some(status) => {
                warn!(%peer, %method, %path, status = status.as_u16(), %decision, "deny request");
            }
        }
    }

    /// A request was refused before the filter saw it; `reason` is a word of a fixed list.
    pub fn malformed(&self, whom: &Whom, asked: Asked<'_>, status: StatusCode, reason: &'static str) {
        if !self.admits_line(whom) {
            return;
        }
        let Asked { method, path } = asked;
        if sink::is_on() {
            let record = Record::new("request", whom, SystemTime::now()).decided(false, None);
            let record = record.with("method", cut(method)).with("path", cut(path));
            return write(record.with("status", status.as_u16()).with("reason", reason));
        }
        let (peer, method, path) = (whom.source, shown(method), shown(path));
        warn!(%peer, %method, %path, status = status.as_u16(), %reason, "deny request");
    }

    /// A handshake ended without a decision.
    pub fn handshake(&self, whom: &Whom, error: &dyn Display) {
        self.trouble(whom, "handshake", "handshake failed", error);
    }

    /// An open connection is no longer admitted.
    pub fn ended(&self, whom: &Whom, reason: &str, decision: Option<&str>) {
        if !self.admits_line(whom) {
            return;
        }
        if sink::is_on() {
            let record = Record::new("end", whom, SystemTime::now()).with("reason", cut(reason));
            return write(record.decided(false, decision));
        }
        let (peer, reason, decision) = (whom.source, shown(reason), shown(decision.unwrap_or("none")));
        warn!(%peer, %reason, %decision, "end connection");
    }

    /// A request that is being answered is no longer admitted.
    pub fn ended_request(&self, whom: &Whom, asked: Asked<'_>, decision: Option<&str>) {
        if !self.admits_line(whom) {
            return;
        }
        let Asked { method, path } = asked;
        if sink::is_on() {
            let record = Record::new("end-request", whom, SystemTime::now()).decided(false, decision);
            return write(record.with("method", cut(method)).with("path", cut(path)));
        }
        let (peer, decision) = (whom.source, shown(decision.unwrap_or("none")));
        let (method, path) = (shown(method), shown(path));
        warn!(%peer, %method, %path, %decision, "end request");
    }

    /// The filter gave no usable answer, which is a denial.
    pub fn fault(&self, whom: &Whom, error: &dyn Display) {
        self.trouble(whom, "filter", "filter failed", error);
    }

    /// Something admitted was refused, because there is too much of it.
    pub fn over_limit(&self, whom: &Whom, limit: Limit) {
        if !self.admits_line(whom) {
            return;
        }
        if sink::is_on() {
            return write(Record::new("limit", whom, SystemTime::now()).with("limit", limit.name()));
        }
        warn!(peer = %whom.source, limit = limit.name(), "refused, a limit is reached");
    }

    /// The upstream gave no response.
    pub fn upstream(&self, whom: &Whom, error: &dyn Display) {
        self.trouble(whom, "upstream", "upstream failed", error);
    }

    /// The client broke HTTP.
    pub fn protocol(&self, whom: &Whom, error: &dyn Display) {
        self.trouble(whom, "protocol", "connection failed", error);
    }

    /// A request over HTTP/2 was refused before anybody saw it, by the end of its stream.
    pub fn stream(&self, whom: &Whom, error: &dyn Display) {
        self.trouble(whom, "protocol", "request refused", error);
    }

    /// Tells of the lines left out of windows that are over.
    pub fn tell_left_out(&self) {
        let now = Instant::now();
        self.refusals.borrow_mut().retain(|address, window| {
            if window.is_over(now) {
                window.tell(*address);
            }
            !window.is_over(now)
        });
    }

    fn trouble(&self, whom: &Whom, event: &str, message: &'static str, error: &dyn Display) {
        if !self.admits_line(whom) {
            return;
        }
        let error = error.to_string();
        if sink::is_on() {
            return write(Record::new(event, whom, SystemTime::now()).with("error", cut(&error)));
        }
        warn!(peer = %whom.source, error = %shown(&error), "{message}");
    }

    fn admits_line(&self, whom: &Whom) -> bool {
        let (peer, now) = (whom.source.ip(), Instant::now());
        let mut refusals = self.refusals.borrow_mut();
        if refusals.len() >= ADDRESSES {
            refusals.retain(|address, window| {
                if window.is_over(now) {
                    window.tell(*address);
                }
                !window.is_over(now)
            });
        }
        // More addresses within a second than are told apart share one allowance.
        let known = refusals.len() < ADDRESSES || refusals.contains_key(&peer);
        let address = if known { peer } else { Ipv4Addr::UNSPECIFIED.into() };
        let window = refusals.entry(address).or_insert_with(|| Window::new(now));
        if window.is_over(now) {
            window.tell(address);
            *window = Window::new(now);
        }
        window.lines += 1;
        window.lines <= limits::REFUSAL_LINES
    }
}

fn write(record: Record) {
    sink::write(record.line());
}

/// Cut off at [`limits::LOGGED_BYTES`]: a thousand lines that wait to be written must not be a thousand times what a
/// client may send.
fn shown(text: &str) -> Clean<'_> {
    Clean(cut(text))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::LOGGED_BYTES)]
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
        now.duration_since(self.since) >= limits::REFUSAL_WINDOW
    }

    fn tell(&self, address: IpAddr) {
        let Some(lines) = self.lines.checked_sub(limits::REFUSAL_LINES).filter(|lines| *lines > 0) else {
            return;
        };
        if sink::is_on() {
            return write(Record::left_out(address, lines, SystemTime::now()));
        }
        warn!(peer = %address, lines, "lines left out");
    }
}

/// Addresses told apart.
const ADDRESSES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(address: Ipv4Addr) -> Whom {
        Whom { listener: "in".into(), endpoint: None, connection: 1, source: (address, 1).into() }
    }

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
        let (peer, other) = (whom([192, 0, 2, 1].into()), whom([192, 0, 2, 2].into()));
        let admitted = (0..100).filter(|_| audit.admits_line(&peer)).count();
        assert!((limits::REFUSAL_LINES as usize..100).contains(&admitted), "{admitted}");
        assert!(audit.admits_line(&other));
    }

    #[test]
    fn a_flood_of_addresses_keeps_the_table_small() {
        let audit = Audit::default();
        for number in 0..5000_u32 {
            audit.admits_line(&whom(Ipv4Addr::from(number + 1)));
        }
        assert!(audit.refusals.borrow().len() <= ADDRESSES + 1);
    }
}
