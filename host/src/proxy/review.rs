//! Open connections are judged again: after a reload, and when a certificate expires.
//!
//! Who is still admitted stays, on the new policy. Who is not gets [`limits::ENDING`] to finish what is being answered.

use std::rc::Rc;

use peergate_policy::{UnixTime, sha256};
use rustls_pki_types::UnixTime as Now;
use std::collections::HashMap;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::limits;
use super::port::Port;
use super::roster::{Ending, Member};
use super::site::{Endpoint, Site};
use crate::config::Protocol;
use crate::tls::Authentication;

/// Why a connection ends.
#[derive(Debug)]
pub(super) struct Dismissal {
    reason: String,
    decision: Option<String>,
}

impl Dismissal {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), decision: None }
    }
}

/// Judges all connections of a port by `site`, a part at a time so that others are served between.
pub(super) async fn all(port: Rc<Port>, site: Rc<Site>) {
    let mut chains = Chains::default();
    for (count, member) in port.roster.members().iter().enumerate() {
        // A newer one judges them all, and these too.
        if !Rc::ptr_eq(&port.site(), &site) {
            return;
        }
        one(&port, &site, member, &mut chains);
        if count % AT_ONCE == AT_ONCE - 1 {
            yield_now().await;
        }
    }
}

/// Judges a connection whose handshake began under an older site than there is now.
pub(super) fn latecomer(port: &Rc<Port>, member: &Rc<Member>) {
    one(port, &port.site(), member, &mut Chains::default());
}

/// Ends connections when a certificate of theirs expires, until the port is closed.
pub(super) async fn watch_expiry(port: Rc<Port>) {
    let mut ticks = interval(limits::EXPIRY_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !(port.is_closing() && port.roster.is_empty()) {
        ticks.tick().await;
        let now = now();
        for member in port.roster.expired(now) {
            dismiss(&port, &member, Dismissal::new("certificate-expired"));
        }
    }
}

fn one(port: &Rc<Port>, site: &Rc<Site>, member: &Rc<Member>, chains: &mut Chains) {
    if member.is_ending() {
        return;
    }
    match judge(site, member, chains) {
        Ok(endpoint) => member.moves_to(endpoint),
        Err(dismissal) => dismiss(port, member, dismissal),
    }
}

fn judge(site: &Site, member: &Member, chains: &mut Chains) -> Result<Rc<Endpoint>, Dismissal> {
    let before = member.endpoint();
    let endpoint = match member.connection.tls {
        Some(_) => site.endpoint(member.server_name()),
        None => site.plaintext_endpoint(),
    };
    let endpoint = endpoint.ok_or_else(|| Dismissal::new("endpoint-removed"))?;
    let authentication = endpoint.terms.authentication();
    if authentication != before.terms.authentication() {
        return Err(Dismissal::new("endpoint-changed"));
    }
    chains.check(endpoint, member)?;
    // The same VM said so before.
    if !Rc::ptr_eq(&endpoint.worker, &before.worker) {
        match authentication {
            Authentication::Peer => still_a_peer(endpoint, member)?,
            Authentication::Pinned | Authentication::Trusted => still_a_client(endpoint, member)?,
            // Each request carries its own proof.
            Authentication::Nothing => {}
        }
    }
    Ok(Rc::clone(endpoint))
}

fn still_a_peer(endpoint: &Endpoint, member: &Member) -> Result<(), Dismissal> {
    let verdict = endpoint.worker.judge_connection(&member.connection);
    if verdict.allow {
        member.was_admitted_by(&verdict.decision);
        return Ok(());
    }
    Err(Dismissal { reason: "no-longer-admitted".to_owned(), decision: Some(verdict.decision) })
}

/// Of a data-plane client nothing but requests is judged. One that may neither read nor write is no client any more.
fn still_a_client(endpoint: &Endpoint, member: &Member) -> Result<(), Dismissal> {
    let mut decision = None;
    for method in ["GET", "PUT"] {
        let mut stream = endpoint.worker.open_stream(&member.connection);
        let authority = endpoint.names().first().map_or("peergate", String::as_str);
        let head = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", "/")];
        let head = head.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        if matches!(stream.request_headers(head.into(), true), crate::wasm::Outcome::Continue(_)) {
            return Ok(());
        }
        decision = stream.decision();
    }
    Err(Dismissal { reason: "no-longer-a-client".to_owned(), decision })
}

fn dismiss(port: &Rc<Port>, member: &Rc<Member>, dismissal: Dismissal) {
    if member.is_ending() {
        return;
    }
    let Dismissal { reason, decision } = dismissal;
    port.shared.audit.ended(&member.whom, &reason, decision.as_deref());
    if port.site().protocol == Protocol::Tcp {
        return member.end(Ending::Cut);
    }
    member.end(Ending::Graceful);
    let member = Rc::clone(member);
    spawn_local(async move {
        sleep(limits::ENDING).await;
        member.end(Ending::Cut);
    });
}

/// What was found about chains in this review: clients of one kind share a certificate, and each takes 40 us.
#[derive(Default)]
struct Chains(HashMap<([u8; 32], usize), Result<(), String>>);

impl Chains {
    fn check(&mut self, endpoint: &Rc<Endpoint>, member: &Member) -> Result<(), Dismissal> {
        let terms = &endpoint.terms;
        if !terms.authentication().verifies_chains() || member.connection.tls.is_none() {
            return Ok(());
        }
        let presented: Vec<u8> =
            member.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect();
        let key = (sha256(&presented), Rc::as_ptr(endpoint) as usize);
        let known =
            self.0.entry(key).or_insert_with(|| terms.trust(&member.chain).map_err(|it| it.to_string()));
        known.clone().map_err(|error| Dismissal::new(format!("chain-not-verified: {error}")))
    }
}

fn now() -> UnixTime {
    UnixTime::from_seconds(i64::try_from(Now::now().as_secs()).unwrap_or(i64::MAX))
}

/// Connections judged before others are served: about a millisecond.
const AT_ONCE: usize = 64;
