//! The open connections of one listener in one worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::SystemTime;

use peergate_policy::UnixTime;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::sync::watch;

use super::site::Endpoint;
use crate::admin::ConnectionReport;
use crate::audit::Whom;
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
    /// The first moment at which a certificate of the chain is no longer valid.
    pub(super) not_after: Option<UnixTime>,
    /// For lines about it.
    pub(super) whom: Whom,
    since: SystemTime,
    /// The rules that admitted it.
    matched: RefCell<Vec<String>>,
    endpoint: RefCell<Rc<Endpoint>>,
    ending: watch::Sender<Ending>,
}

impl Member {
    pub(super) fn new(
        connection: Rc<Connection>,
        chain: Vec<CertificateDer<'static>>,
        not_after: Option<UnixTime>,
        endpoint: Rc<Endpoint>,
        whom: Whom,
    ) -> Rc<Self> {
        let (endpoint, ending) = (endpoint.into(), watch::Sender::default());
        let (since, matched) = (SystemTime::now(), RefCell::default());
        Rc::new(Self { connection, chain, not_after, whom, since, matched, endpoint, ending })
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

    pub(super) fn moves_to(&self, endpoint: Rc<Endpoint>) {
        self.endpoint.replace(endpoint);
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

    /// Members of which a certificate is no longer valid.
    pub(super) fn expired(&self, now: UnixTime) -> Vec<Rc<Member>> {
        let members = self.members.borrow();
        let is_expired = |member: &&Rc<Member>| member.not_after.is_some_and(|end| end < now);
        members.values().filter(is_expired).cloned().collect()
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
