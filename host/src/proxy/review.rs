//! Open connections are judged again: after a reload, and when a certificate expires.
//!
//! Who is still admitted stays, on the new policy. Who is not gets [`limits::ENDING`] to finish what is being answered.

use std::collections::HashMap;
use std::rc::Rc;

use peergate_policy::{UnixTime, sha256};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::active_request::{ActiveRequest, Ended};
use super::limits;
use super::port::Port;
use super::roster::{Ending, Member};
use super::site::{Endpoint, Site};
use crate::audit::Asked;
use crate::clock::now;
use crate::config::Protocol;
use crate::tls::{Authentication, Distrust};
use crate::wasm::{Direction, Outcome};

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

/// Looks each second for what time alone has ended: certificates, revocation lists, tokens. Until the port is closed.
pub(super) async fn watch_time(port: Rc<Port>) {
    let mut ticks = interval(limits::EXPIRY_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !(port.is_closing() && port.roster.is_empty()) {
        ticks.tick().await;
        let (now, mut chains) = (now(), Chains::default());
        for member in port.roster.with_new_ends(now) {
            if let Err(dismissal) = chains.check_at(&member.endpoint(), &member, now) {
                dismiss(&port, &member, dismissal);
            }
        }
        for member in port.roster.members() {
            tokens(&port, &member, now);
        }
    }
}

/// Judges requests again whose token has ended. Their decisions are read only where they last.
fn tokens(port: &Rc<Port>, member: &Rc<Member>, now: UnixTime) {
    if member.requests.borrow().is_empty() {
        return;
    }
    let lasts = |request: &Rc<ActiveRequest>| request.since.elapsed() >= limits::EXPIRY_TICK;
    for request in member.active_requests().into_iter().filter(lasts) {
        // As in Vespa a token is valid at the instant itself.
        if request.token_end().is_some_and(|end| end < now) {
            spawn_local(again(Rc::clone(port), Rc::clone(member), request));
        }
    }
}

fn one(port: &Rc<Port>, site: &Rc<Site>, member: &Rc<Member>, chains: &mut Chains) {
    if member.is_dismissed() {
        return;
    }
    match judge(site, member, chains) {
        Ok(endpoint) => {
            let is_same = Rc::ptr_eq(&endpoint.worker, &member.endpoint().worker);
            member.moves_to(endpoint, Rc::clone(&site.upstream));
            if !is_same {
                for request in member.active_requests() {
                    spawn_local(again(Rc::clone(port), Rc::clone(member), request));
                }
            }
        }
        Err(dismissal) => dismiss(port, member, dismissal),
    }
}

/// Shows a request that is being answered to the filter of now.
async fn again(port: Rc<Port>, member: Rc<Member>, request: Rc<ActiveRequest>) {
    let endpoint = member.endpoint();
    let stream = endpoint.worker.open_stream(&member.connection);
    let pairs = request.head.to_pairs(member.connection.scheme());
    let how = match stream.head(Direction::Request, pairs, false).await {
        Outcome::Continue(_) => {
            // While the filter paused there may have come a newer one.
            if Rc::ptr_eq(&endpoint.worker, &member.endpoint().worker) {
                // Before the streams change places: where a filter sees bodies they do not.
                request.admitted_by(stream.decision());
                request.stream.succeed(stream);
            }
            return;
        }
        Outcome::Reply(reply) => Ended::Reply(reply),
        Outcome::Failed(_) => Ended::Forbidden,
    };
    if request.is_first_refusal() {
        let asked = Asked { method: request.head.method.as_str(), path: request.head.path.path() };
        port.shared.audit.ended_request(&member.whom, asked, stream.decision().as_deref());
        sleep(limits::ENDING_REQUEST).await;
        request.end(how);
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
    // What ends by itself is seen to each second.
    if !endpoint.terms.trusts_as(&before.terms) {
        chains.check_at(endpoint, member, now())?;
    }
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
        let mut stream = endpoint.worker.open_trial(&member.connection);
        let authority = endpoint.names().first().map_or("peergate", String::as_str);
        let head = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", "/")];
        let head = head.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        if matches!(stream.request_headers(head.into(), true), Outcome::Continue(_)) {
            return Ok(());
        }
        decision = stream.decision();
    }
    Err(Dismissal { reason: "no-longer-a-client".to_owned(), decision })
}

/// Ends all connections of a port that is no more, for the same reason.
pub(super) fn retire(port: &Rc<Port>, reason: &str) {
    for member in port.roster.members() {
        dismiss(port, &member, Dismissal::new(reason));
    }
}

fn dismiss(port: &Rc<Port>, member: &Rc<Member>, dismissal: Dismissal) {
    if !member.is_first_dismissal() {
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
        sleep(limits::ENDING_IDLE).await;
        if member.active_requests().is_empty() {
            return member.end(Ending::Cut);
        }
        sleep(limits::ENDING_REQUEST.saturating_sub(limits::ENDING_IDLE)).await;
        for request in member.active_requests() {
            request.end(Ended::Forbidden);
        }
        sleep(limits::ENDING.saturating_sub(limits::ENDING_REQUEST)).await;
        member.end(Ending::Cut);
    });
}

/// What was found about chains in this review: clients of one kind share a certificate, and each takes 40 us.
#[derive(Default)]
struct Chains(HashMap<([u8; 32], usize), Result<(), Distrust>>);

impl Chains {
    fn check_at(&mut self, endpoint: &Rc<Endpoint>, member: &Member, now: UnixTime) -> Result<(), Dismissal> {
        if member.connection.tls.is_none() {
            return Ok(());
        }
        let presented: Vec<u8> =
            member.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect();
        let key = (sha256(&presented), Rc::as_ptr(endpoint) as usize);
        let known = self.0.entry(key).or_insert_with(|| endpoint.terms.trust(&member.chain, now));
        known.clone().map_err(|distrust| Dismissal::new(distrust.to_string()))
    }
}

/// Connections judged before others are served: about a millisecond.
const AT_ONCE: usize = 64;
