//! The open connections of one listener in one worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::SystemTime;

use peergate_policy::UnixTime;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::sync::watch;

use super::active_request::ActiveRequest;
use super::site::Endpoint;
use super::upstream::Upstream;
use crate::admin::ConnectionReport;
use crate::audit::Whom;
use crate::tls;
use crate::wasm::{Connection, PeerCertificate};

/// How a connection is to end.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Ending {
    /// Not at all.
    #[default]
    No,
    /// Once what runs on it is answered: GOAWAY in HTTP/2, no keep-alive in HTTP/1.
    Graceful,
    /// Now.
    Cut,
}

/// An open connection, for as long as it is open.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) connection: Rc<Connection>,
    /// As the peer presented it, leaf first; empty where no certificate was asked for.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// For lines about it.
    pub(super) whom: Whom,
    since: SystemTime,
    /// The rules that admitted it.
    matched: RefCell<Vec<String>>,
    /// What is being answered on it.
    pub(super) requests: RefCell<Vec<Weak<ActiveRequest>>>,
    /// The moments from which a certificate of the chain is no longer valid.
    ends: Vec<UnixTime>,
    /// Until when all that ends has been looked at.
    checked: Cell<UnixTime>,
    endpoint: RefCell<Rc<Endpoint>>,
    upstream: RefCell<Option<Rc<Upstream>>>,
    ending: watch::Sender<Ending>,
    is_dismissed: Cell<bool>,
}

impl Member {
    /// A connection whose handshake is over at `now`. What of its chain had ended before was no obstacle then.
    pub(super) fn new(
        connection: Rc<Connection>,
        chain: Vec<CertificateDer<'static>>,
        endpoint: Rc<Endpoint>,
        now: UnixTime,
        whom: Whom,
    ) -> Rc<Self> {
        Rc::new(Self {
            upstream: RefCell::default(),
            connection,
            ends: tls::ends(&chain),
            chain,
            whom,
            since: SystemTime::now(),
            matched: RefCell::default(),
            requests: RefCell::default(),
            checked: now.into(),
            endpoint: endpoint.into(),
            ending: watch::Sender::default(),
            is_dismissed: Cell::default(),
        })
    }

    /// Keeps the rules of the decision that lets it be here.
    pub(super) fn was_admitted_by(&self, decision: &str) {
        let decision: Value = serde_json::from_str(decision).unwrap_or_default();
        let matched = decision["matched"].as_array().into_iter().flatten();
        self.matched.replace(matched.filter_map(Value::as_str).map(str::to_owned).collect());
    }

    pub(super) fn report(&self) -> ConnectionReport {
        let peer = self.connection.tls.as_ref().and_then(|tls| tls.peer.as_ref());
        ConnectionReport {
            id: self.connection.id,
            listener: self.whom.listener.to_string(),
            source: self.connection.source.to_string(),
            since: self.since,
            certificate_sha256: peer.map(PeerCertificate::sha256),
            subject: peer.and_then(PeerCertificate::subject_text),
            matched: self.matched.borrow().clone(),
        }
    }

    /// Whose filter judges its requests: that of the newest policy it was judged by.
    pub(super) fn endpoint(&self) -> Rc<Endpoint> {
        Rc::clone(&self.endpoint.borrow())
    }

    pub(super) fn moves_to(&self, endpoint: Rc<Endpoint>, upstream: Rc<Upstream>) {
        self.endpoint.replace(endpoint);
        self.upstream.replace(Some(upstream));
    }

    /// Where its requests go since a reload.
    pub(super) fn upstream(&self) -> Option<Rc<Upstream>> {
        self.upstream.borrow().clone()
    }

    /// The name that the client asked for in the handshake.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.connection.tls.as_ref()?.server_name.as_deref()
    }

    /// Asks it to end; what was asked before stays at least as it is.
    pub(super) fn end(&self, how: Ending) {
        self.ending.send_if_modified(|ending| {
            let is_news = how > *ending;
            *ending = how.max(*ending);
            is_news
        });
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.ending.borrow() != Ending::No
    }

    /// No request of it is admitted any more.
    pub(super) fn is_dismissed(&self) -> bool {
        self.is_dismissed.get()
    }

    /// Whether nobody dismissed it before; from now on somebody has.
    pub(super) fn is_first_dismissal(&self) -> bool {
        !self.is_dismissed.replace(true)
    }

    /// What is being answered now.
    pub(super) fn active_requests(&self) -> Vec<Rc<ActiveRequest>> {
        self.requests.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether a certificate or a revocation list has ended since this was asked last.
    fn has_new_ends(&self, now: UnixTime) -> bool {
        let before = self.checked.replace(now);
        let is_new = |end: &UnixTime| before < *end && *end <= now;
        self.ends.iter().any(is_new) || self.endpoint.borrow().terms.trust_ends().iter().any(is_new)
    }

    /// Waits until no more is to be begun.
    pub(super) async fn asked_to_end(&self) {
        self.wait_for(Ending::Graceful).await;
    }

    /// Waits until the connection is to be closed, whatever runs on it.
    pub(super) async fn cut_off(&self) {
        self.wait_for(Ending::Cut).await;
    }

    async fn wait_for(&self, at_least: Ending) {
        // The sender lives as long as this member.
        let _ = self.ending.subscribe().wait_for(|ending| *ending >= at_least).await;
    }
}

/// Who is here.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: RefCell<HashMap<u64, Rc<Member>>>,
}

impl Roster {
    /// Enters a connection until the guard is dropped.
    pub(super) fn enter(self: &Rc<Self>, member: Rc<Member>) -> Membership {
        self.members.borrow_mut().insert(member.connection.id, Rc::clone(&member));
        Membership { roster: Rc::clone(self), id: member.connection.id }
    }

    pub(super) fn members(&self) -> Vec<Rc<Member>> {
        self.members.borrow().values().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.borrow().is_empty()
    }

    /// Members of which a certificate, or a list that covers it, has ended since this was asked last.
    pub(super) fn with_new_ends(&self, now: UnixTime) -> Vec<Rc<Member>> {
        let members = self.members.borrow();
        members.values().filter(|member| member.has_new_ends(now)).cloned().collect()
    }
}

/// One entry of a [`Roster`].
#[derive(Debug)]
pub(super) struct Membership {
    roster: Rc<Roster>,
    id: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.roster.members.borrow_mut().remove(&self.id);
    }
}
