//! What the proxy's callbacks mean: a root holds the configuration, a peer is one request or one connection.

use std::rc::Rc;

use peergate_policy::{CertificateTrust, Configuration, Decision, Endpoint, Service};

use crate::envoy::{self, HostCallError, Level, Map, Side};
use crate::gate::Gate;
use crate::head::Head;
use crate::headers;
use crate::peer;
use crate::reply::Reply;
use crate::verdict::Verdict;

/// `proxy_action_t`.
#[derive(Clone, Copy)]
pub(crate) enum Action {
    Continue = 0,
    Pause = 1,
}

/// One plugin instance.
#[derive(Default)]
pub(crate) struct Root {
    gate: Option<Rc<Gate>>,
}

impl Root {
    pub(crate) fn gate(&self) -> Option<Rc<Gate>> {
        self.gate.clone()
    }

    pub(crate) fn configure(&mut self, gate: Rc<Gate>) {
        self.gate = Some(gate);
    }
}

/// The gate for the configuration that the proxy now hands over. `known` are those of this VM's other plugins: equal
/// configurations share one, so ten thousand rules are read once, and what L4 decided is known to HTTP.
pub(crate) fn configured(mut known: impl Iterator<Item = Rc<Gate>>) -> Result<Rc<Gate>, String> {
    let bytes = envoy::plugin_configuration()
        .ok()
        .flatten()
        .ok_or("there is none; give the policy as a StringValue of JSON")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| "not UTF-8; give the policy as a StringValue of JSON, not as a Struct")?;
    let digest = peergate_policy::sha256(text.as_bytes());
    if let Some(gate) = known.find(|gate| gate.is_of(&digest)) {
        return Ok(gate);
    }
    let configuration = Configuration::parse(&text).map_err(|error| error.to_string())?;
    announce(&configuration);
    Ok(Rc::new(Gate::new(digest, configuration)))
}

/// What an operator must know at start, loudly.
fn announce(configuration: &Configuration) {
    let policy = configuration.policy();
    for warning in policy.warnings() {
        envoy::log(Level::Warn, &format!("peergate: {warning}"));
    }
    let anybody = match configuration.endpoint() {
        Endpoint::Peer => policy.admits_any_authenticated(),
        Endpoint::Mtls => {
            policy.data_plane().is_some_and(|it| it.certificate_trust() == CertificateTrust::Any)
        }
        Endpoint::Token => false,
    };
    if anybody {
        envoy::log(Level::Warn, "peergate: every certificate of the trusted CA is admitted");
    }
    if configuration.insecure_mixed_mode() {
        envoy::log(
            Level::Warn,
            "peergate: insecure-mixed-mode: everybody is admitted without TLS, and may do all",
        );
    }
}

/// A request (HTTP filter) or a connection (network filter).
pub(crate) struct Peer {
    gate: Rc<Gate>,
    /// Of a connection.
    verdict: Option<Rc<Verdict>>,
    /// Of a request, which is judged once, and how many decisions there were by then.
    answer: Option<(Rc<Verdict>, u64)>,
    closed: bool,
    /// Whether the proxy asked for a decision.
    asked: bool,
}

impl Peer {
    pub(crate) fn new(gate: Rc<Gate>) -> Self {
        Self { gate, verdict: None, answer: None, closed: false, asked: false }
    }

    pub(crate) fn on_request_headers(&mut self) -> Action {
        self.asked = true;
        // A proxy that cannot do what it must do gets no request to forward: a paused request goes nowhere.
        self.admit().unwrap_or_else(|HostCallError| refuse())
    }

    pub(crate) fn on_request_trailers(&mut self) -> Action {
        headers::strip(Map::RequestTrailers).map_or_else(|HostCallError| refuse(), |_| Action::Continue)
    }

    /// Before the proxy writes its access log.
    pub(crate) fn on_log(&self) {
        if let Some((verdict, number)) = &self.answer {
            self.gate.repeat(verdict, *number);
        }
    }

    fn admit(&mut self) -> Result<Action, HostCallError> {
        let head = Head::new(headers::strip(Map::RequestHeaders)?);
        let authority = self.authority()?;
        let service = authority.as_deref().map_or(Service::Named, |it| self.gate.configuration().service(it));
        let verdict = self.gate.judge_request(&head, service);
        self.answer = Some((verdict.clone(), self.gate.decisions()));
        if let Decision::Deny(denial) = verdict.decision() {
            Reply::denial(denial.reason()).send(denial.reason().as_str())?;
            return Ok(Action::Pause);
        }
        if service == Service::Misdirected {
            Reply::misdirected().send("authority-not-served")?;
            return Ok(Action::Pause);
        }
        if !self.keeps_authorization() {
            envoy::remove_header(Map::RequestHeaders, b"authorization")?;
        }
        for (name, value) in verdict.upstream_headers() {
            envoy::add_request_header(name, value)?;
        }
        Ok(Action::Continue)
    }

    /// A bearer token is for us and for nobody behind us; other credentials are the service's business.
    fn keeps_authorization(&self) -> bool {
        let configuration = self.gate.configuration();
        let asked = configuration.policy().upstream_headers().keep_authorization;
        asked.unwrap_or(configuration.endpoint() != Endpoint::Token)
    }

    /// Whom the request is for; `None` where that does not matter. HTTP/2 connections are shared by all names of a
    /// certificate, so every request is asked. What is no text is the authority of nobody.
    fn authority(&self) -> Result<Option<String>, HostCallError> {
        if self.gate.configuration().serves_any() {
            return Ok(None);
        }
        let authority = envoy::property(&["request", "host"])?.unwrap_or_default();
        Ok(Some(String::from_utf8(authority).unwrap_or_default()))
    }

    /// Decides on the first event of either direction, whatever its size: a client may close without a byte, and a
    /// server that speaks first must not be heard by a client that is not admitted.
    pub(crate) fn on_data(&mut self) -> Action {
        self.asked = true;
        if self.closed {
            return Action::Pause;
        }
        let gate = &self.gate;
        let verdict = match &self.verdict {
            // A connection may outlive its certificate; then it is judged again, so that the reason is told.
            Some(verdict) if verdict.holds_now() => return Action::Continue,
            _ => self.verdict.insert(gate.judge_connection()),
        };
        if matches!(verdict.decision(), Decision::Allow(_)) {
            return Action::Continue;
        }
        self.closed = true;
        envoy::close(Side::Downstream);
        envoy::close(Side::Upstream);
        Action::Pause
    }

    /// Its end. A proxy that restricts capabilities can leave out the callback that decides, and forward.
    pub(crate) fn on_done(&mut self) {
        let asked = std::mem::replace(&mut self.asked, true);
        if !asked && peer::was_forwarded() {
            self.gate.bypassed();
        }
    }
}

fn refuse() -> Action {
    envoy::log(Level::Error, "peergate: the proxy refused a call; the request is refused");
    // If even this fails, the request stays paused.
    let _ = Reply::failure().send("host-call-failed");
    Action::Pause
}
