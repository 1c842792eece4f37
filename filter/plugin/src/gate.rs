//! The gate: evidence from the proxy, decision from the engine. HTTP and L4 contexts share it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use peergate_policy::{
    Certificate, CertificateTrust, Configuration, DataPlane, Decision, DenyReason, Digest, Endpoint, Grant,
    Mode, Policy, Request, Service, UnixTime,
};

use crate::cache::Cache;
use crate::envoy::{self, Level};
use crate::filter_state;
use crate::head::Head;
use crate::listener::ListenerLog;
use crate::log::RefusalLog;
use crate::metrics::{self, Counters};
use crate::peer;
use crate::timing::Timing;
use crate::verdict::{self, Verdict};

/// One configuration and what was decided under it.
pub(crate) struct Gate {
    /// SHA-256 of the configuration's text.
    text: Digest,
    configuration: Configuration,
    cache: RefCell<Cache>,
    refusals: RefCell<RefusalLog>,
    listener: ListenerLog,
    counters: RefCell<Counters>,
    timing: RefCell<Timing>,
    /// Counters of the deprecated names that were used so far.
    deprecated: RefCell<Vec<(String, Option<u32>)>>,
    /// Whether a network filter decides about the connections of requests.
    connections: Cell<bool>,
    decisions: Cell<u64>,
}

/// What is decided about.
#[derive(Clone, Copy)]
enum Layer {
    Connection,
    Request,
}

impl Gate {
    pub(crate) fn new(text: Digest, configuration: Configuration) -> Self {
        Self {
            text,
            configuration,
            cache: RefCell::default(),
            refusals: RefCell::default(),
            listener: ListenerLog::default(),
            counters: RefCell::default(),
            timing: RefCell::default(),
            deprecated: RefCell::default(),
            connections: Cell::new(false),
            decisions: Cell::new(0),
        }
    }

    /// Whether this is the gate of the configuration with that digest.
    pub(crate) fn is_of(&self, text: &Digest) -> bool {
        self.text == *text
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Decides about the peer of the current connection, tells the proxy, and logs a refusal.
    pub(crate) fn judge_connection(&self) -> Rc<Verdict> {
        let started = envoy::clock().ok();
        let now = started.map(envoy::instant);
        self.connections.set(true);
        let verdict = match self.configuration.endpoint() {
            Endpoint::Peer => self.peer(now, Layer::Connection),
            Endpoint::Mtls | Endpoint::Token => Err(DenyReason::NoRequest),
        };
        let verdict = self.tell(started, verdict, Service::Named);
        filter_state::leave_grant(verdict.sealed(&self.configuration));
        verdict
    }

    /// Says once more what was decided about a request, when its end is logged. Behind a network filter Envoy keeps one
    /// filter state for all requests of a connection, and another request may have written there since: `number` is what
    /// [`Gate::decisions`] said after this one.
    pub(crate) fn repeat(&self, verdict: &Verdict, number: u64) {
        let overwritten = || number != self.decisions.get() && !filter_state::has(verdict);
        if self.connections.get() && overwritten() {
            filter_state::leave(verdict, self.configuration.endpoint());
        }
    }

    /// How many decisions there were so far.
    pub(crate) fn decisions(&self) -> u64 {
        self.decisions.get()
    }

    /// As [`Gate::judge_connection`], about a request for `service`.
    pub(crate) fn judge_request(&self, head: &Head, service: Service<'_>) -> Rc<Verdict> {
        let started = envoy::clock().ok();
        let now = started.map(envoy::instant);
        let verdict = match (self.configuration.endpoint(), self.configuration.policy().data_plane()) {
            (Endpoint::Peer, _) => {
                self.peer(now, Layer::Request).map(|verdict| self.capable(verdict, head, now))
            }
            (Endpoint::Mtls, Some(data_plane)) => self.certificate_holder(data_plane, head, now),
            (Endpoint::Token, Some(data_plane)) => token_holder(data_plane, head, now),
            // The configuration is refused then, so this is never reached; it is no reason to admit.
            (Endpoint::Mtls | Endpoint::Token, None) => Err(DenyReason::NoRequest),
        };
        self.tell(started, verdict, service)
    }

    fn tell(
        &self,
        started: Option<u64>,
        verdict: Result<Rc<Verdict>, DenyReason>,
        service: Service<'_>,
    ) -> Rc<Verdict> {
        let mut verdict = verdict.unwrap_or_else(|reason| Rc::new(Verdict::decided(Decision::deny(reason))));
        self.timing.borrow_mut().note(started, verdict::outcome(verdict.decision()));
        if let Service::Deprecated(name) = service {
            self.count_deprecated(name);
            verdict = Rc::new(verdict.for_deprecated(name));
        }
        filter_state::leave(&verdict, self.configuration.endpoint());
        self.decisions.set(self.decisions.get().wrapping_add(1));
        verdict.count(&self.counters, self.configuration.policy());
        let refused = match verdict.decision() {
            Decision::Allow(grant) => grant.would_deny().is_some(),
            Decision::Deny(_) => true,
        };
        if refused {
            self.refusals.borrow_mut().write(started.map(envoy::instant), || verdict.summary().to_owned());
        }
        if let Decision::Deny(denial) = verdict.decision() {
            self.listener.refused(denial.reason(), self.pins());
        }
        verdict
    }

    /// Something was forwarded without a decision.
    pub(crate) fn bypassed(&self) {
        self.listener.bypassed();
        self.counters.borrow_mut().bypassed();
    }

    pub(crate) fn was_bypassed(&self) -> bool {
        self.listener.was_bypassed()
    }

    /// Counts a request for a deprecated name, and warns of the first.
    fn count_deprecated(&self, name: &str) {
        let mut deprecated = self.deprecated.borrow_mut();
        let counter = match deprecated.iter().find(|(known, _)| known == name) {
            Some((_, counter)) => *counter,
            None => {
                envoy::log(Level::Warn, &format!("peergate: the deprecated name `{name}` is still in use"));
                let counter = metrics::of_deprecated(name);
                deprecated.push((name.to_owned(), counter));
                counter
            }
        };
        metrics::count(counter.as_slice());
    }

    fn peer(&self, now: Option<UnixTime>, layer: Layer) -> Result<Rc<Verdict>, DenyReason> {
        // Chain trust changes while the certificate stays the same: asked each time, never cached.
        match peer::check_chain().and_then(|()| self.holder(now, layer)) {
            Err(DenyReason::NoCertificate)
                if self.configuration.insecure_mixed_mode() && peer::is_plaintext() =>
            {
                Ok(Rc::new(Verdict::decided(self.configuration.judge_plaintext())))
            }
            holder => holder.map(|(_, verdict)| verdict),
        }
    }

    /// The certificate of the current connection and what `authorized-peers` say to it, if it is valid now.
    fn holder(&self, now: Option<UnixTime>, layer: Layer) -> Result<(Digest, Rc<Verdict>), DenyReason> {
        let now = now.ok_or(DenyReason::ClockFailed)?;
        let stated = peer::digest();
        let known = stated.and_then(|digest| self.known(digest, now, layer).map(|verdict| (digest, verdict)));
        let (digest, verdict) = match known {
            Some(known) => known,
            None => {
                let certificate = self.examined(stated)?;
                let verdict = Rc::new(Verdict::of(self.configuration.policy(), &certificate));
                self.cache.borrow_mut().insert(certificate.digest, verdict.clone());
                (certificate.digest, verdict)
            }
        };
        match verdict.lapsed(now) {
            Some(reason) => Err(reason),
            None => Ok((digest, verdict)),
        }
    }

    /// What was decided about this certificate before: by this gate, or for a request by the network filter in front.
    fn known(&self, leaf: Digest, now: UnixTime, layer: Layer) -> Option<Rc<Verdict>> {
        let cached = self.cache.borrow_mut().find(&leaf);
        match layer {
            Layer::Request if cached.is_none() => self.taken_over(leaf, now),
            Layer::Request | Layer::Connection => cached,
        }
    }

    /// The grant that the network filter left for the requests of this connection, where it is one of this very
    /// configuration for this very certificate. Anything else is judged again.
    fn taken_over(&self, leaf: Digest, now: UnixTime) -> Option<Rc<Verdict>> {
        let sealed = filter_state::grant()?;
        self.connections.set(true);
        if sealed.is_empty() {
            return None;
        }
        let opened = self.configuration.open(&sealed, &leaf, now);
        self.counters.borrow_mut().count_handover(opened.as_ref().map(|_| ()).map_err(|error| *error));
        let (grant, validity) = opened.ok()?;
        let verdict = Rc::new(Verdict::taken_over(self.configuration.policy(), grant, leaf, validity));
        self.cache.borrow_mut().insert(leaf, verdict.clone());
        Some(verdict)
    }

    /// The peer's second gate.
    fn capable(&self, verdict: Rc<Verdict>, head: &Head, now: Option<UnixTime>) -> Rc<Verdict> {
        let policy = self.configuration.policy();
        let Decision::Allow(grant) = verdict.decision() else { return verdict };
        let judged = policy.authorize_request(grant, head.request());
        if judged == Err(DenyReason::CapabilityMissing) {
            self.refusals.borrow_mut().write(now, || missing_capability(policy, grant, head.request()));
        }
        match judged {
            Ok(()) => verdict,
            Err(reason) if policy.capability_mode() == Mode::LogOnly => {
                Rc::new(verdict.with(Decision::Allow(grant.tolerated(reason))))
            }
            Err(reason) => Rc::new(Verdict::decided(grant.refused(reason))),
        }
    }

    /// Whether clients are known by the certificate as a whole.
    fn pins(&self) -> bool {
        let trust = self.configuration.policy().data_plane().map(DataPlane::certificate_trust);
        self.configuration.endpoint() == Endpoint::Mtls && trust == Some(CertificateTrust::Clients)
    }

    /// The peer's certificate, if the proxy states its digest rightly. A pinned one is not asked for its names.
    fn examined(&self, stated: Option<Digest>) -> Result<Certificate, DenyReason> {
        let certificate = if self.pins() { peer::unnamed_certificate() } else { peer::certificate() }?;
        if stated.is_some_and(|digest| digest != certificate.digest) {
            // The proxy speaks of two certificates. Whichever it means, this is not evidence.
            return Err(DenyReason::MalformedCertificate);
        }
        if !self.pins() && !peer::tells_chain() {
            self.listener.untold();
        }
        Ok(certificate)
    }

    /// Pinned certificates need no CA: possession was proven to the proxy, the leaf must be the very one.
    fn certificate_holder(
        &self,
        data_plane: &DataPlane,
        head: &Head,
        now: Option<UnixTime>,
    ) -> Result<Rc<Verdict>, DenyReason> {
        if !self.pins() {
            peer::check_chain()?;
        }
        let (leaf, _) = self.holder(now, Layer::Request)?;
        Ok(Rc::new(Verdict::decided(data_plane.judge_certificate(&leaf, head.request()))))
    }
}

/// The line Vespa writes (`ConnectionAuthContext.java`); in mode `log_only` the request goes on.
fn missing_capability(policy: &Policy, grant: &Grant, request: Request<'_>) -> String {
    let dry_run = if policy.capability_mode() == Mode::LogOnly { "Dry-run: " } else { "" };
    let path = request.path.split('?').next().unwrap_or_default();
    let (method, path) = (verdict::escaped(request.method), verdict::escaped(path));
    let explained = policy.explain_capabilities(grant, request);
    format!("{dry_run}Permission denied for '{method}' on '{path}'. Peer {}. {explained}", peer::described())
}

fn token_holder(
    data_plane: &DataPlane,
    head: &Head,
    now: Option<UnixTime>,
) -> Result<Rc<Verdict>, DenyReason> {
    let now = now.ok_or(DenyReason::ClockFailed)?;
    Ok(Rc::new(Verdict::decided(data_plane.judge_token(head.authorization(), head.request(), now))))
}
