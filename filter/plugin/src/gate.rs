//! The peer's gate: evidence from the proxy, decision from the engine. HTTP and L4 contexts share it.

use std::cell::RefCell;
use std::rc::Rc;

use peergate_policy::{Configuration, Decision, DenyReason, UnixTime};

use crate::cache::Cache;
use crate::envoy;
use crate::log::RefusalLog;
use crate::peer;
use crate::verdict::Verdict;

/// Filter state under which proxies find the decision: `wasm.peergate.decision` in Envoy.
const DECISION: &str = "peergate.decision";

/// One configuration and what was decided under it.
pub(crate) struct Gate {
    text: String,
    configuration: Configuration,
    cache: RefCell<Cache>,
    refusals: RefCell<RefusalLog>,
}

impl Gate {
    pub(crate) fn new(text: String, configuration: Configuration) -> Self {
        Self { text, configuration, cache: RefCell::default(), refusals: RefCell::default() }
    }

    /// Whether this is the gate of that very configuration.
    pub(crate) fn is_of(&self, text: &str) -> bool {
        self.text == text
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Decides about the peer of the current connection, tells the proxy, and logs a refusal.
    pub(crate) fn judge(&self) -> Rc<Verdict> {
        let now = envoy::now().ok();
        let verdict = self.decide(now).unwrap_or_else(|reason| Rc::new(Verdict::denied(reason)));
        envoy::set_property(DECISION, verdict.summary());
        let refused = match verdict.decision() {
            Decision::Allow(grant) => grant.would_deny().is_some(),
            Decision::Deny(_) => true,
        };
        if refused {
            self.refusals.borrow_mut().write(now, verdict.summary());
        }
        verdict
    }

    fn decide(&self, now: Option<UnixTime>) -> Result<Rc<Verdict>, DenyReason> {
        let stated = peer::digest();
        // Chain trust and validity change while the certificate stays the same: asked each time, never cached.
        peer::check_chain()?;
        let cached = stated.and_then(|digest| self.cache.borrow_mut().find(&digest));
        let verdict = match cached {
            Some(verdict) => verdict,
            None => self.examine(stated)?,
        };
        match verdict.lapsed(now.ok_or(DenyReason::ClockFailed)?) {
            Some(reason) => Err(reason),
            None => Ok(verdict),
        }
    }

    fn examine(&self, stated: Option<peergate_policy::Digest>) -> Result<Rc<Verdict>, DenyReason> {
        let certificate = peer::certificate()?;
        if stated.is_some_and(|digest| digest != certificate.digest) {
            // The proxy speaks of two certificates. Whichever it means, this is not evidence.
            return Err(DenyReason::MalformedCertificate);
        }
        let verdict = Rc::new(Verdict::of(self.configuration.policy(), &certificate));
        self.cache.borrow_mut().insert(certificate.digest, verdict.clone());
        Ok(verdict)
    }
}
