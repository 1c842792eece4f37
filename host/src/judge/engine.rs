//! Who answers: the engine in this process, or filter.wasm as a proxy runs it.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use peergate_policy::{
    CapabilitySet, Certificate, CertificateTrust, Configuration, DataPlane, Decision, DenyReason, Endpoint,
    Mode, Policy, PolicyError, Request, UnixTime,
};
use serde_json::Value;

use super::judgement::Judgement;
use super::subject::Subject;
use crate::certificate_version::{Holder, UnsupportedVersion};
use crate::tls::Authentication;
use crate::wasm::{
    Clock, Connection, Filter, FilterError, HeaderPairs, Outcome, PeerCertificate, StartError, Tls, Worker,
};

/// Who answers.
pub enum Engine {
    /// The engine, compiled into this program.
    Native,
    /// filter.wasm, on a network and on an HTTP context, which must agree.
    Filter(Box<Filter>),
}

/// What is asked.
pub struct Question<'a> {
    /// The policy document.
    pub policy: &'a str,
    /// The kind of endpoint.
    pub endpoint: Endpoint,
    /// The peer.
    pub subject: &'a Subject,
    /// The request's method, path and further headers. Without a path the connection of a peer is judged, not a request;
    /// other endpoints judge requests only, and the path is then `/`.
    pub method: &'a str,
    /// See `method`.
    pub path: &'a str,
    /// See `method`.
    pub headers: HeaderPairs,
    /// The time that is now.
    pub now: UnixTime,
}

impl Engine {
    /// filter.wasm as it is embedded in this program.
    ///
    /// # Errors
    /// [`FilterError`] if it cannot be loaded.
    pub fn embedded_filter() -> Result<Self, FilterError> {
        Filter::embedded().map(|filter| Self::Filter(Box::new(filter)))
    }

    /// Asks.
    ///
    /// # Errors
    /// A policy that cannot be read, or a filter that does not answer with one voice.
    pub fn judge(&self, question: &Question<'_>) -> Result<Judgement, EngineError> {
        let configuration =
            Configuration::of(question.endpoint, question.policy).map_err(EngineError::Policy)?;
        let policy = configuration.policy();
        let judgement = match (self, question.subject.certificate(), question.subject) {
            (Self::Filter(filter), Some(der), _) => ask_filter(filter, question, Some(&der))?,
            (Self::Filter(filter), None, Subject::Nobody) => ask_filter(filter, question, None)?,
            (Self::Filter(_), None, _) => Judgement {
                native_because: Some("no certificate can carry these names"),
                ..ask_natively(policy, question)
            },
            (Self::Native, _, _) => ask_natively(policy, question),
        };
        let rules = match (question.endpoint, question.subject.identity()) {
            (Endpoint::Peer, Ok(identity)) => policy.explain(&identity).collect(),
            _ => Vec::new(),
        };
        Ok(Judgement { rules, note: note(&configuration, question.subject), ..judgement })
    }
}

/// Verifiers of chains differ in this: the host's reads version 3 only, Envoy's any.
fn note(configuration: &Configuration, subject: &Subject) -> Option<String> {
    match subject {
        Subject::Certificate(der) if Authentication::of(configuration).verifies_chains() => {
            let unsupported = UnsupportedVersion::of(der, Holder::Client)?;
            Some(format!("`peergate run` refuses it in the handshake, Envoy does not: {unsupported}"))
        }
        _ => None,
    }
}

fn ask_natively(policy: &Policy, question: &Question<'_>) -> Judgement {
    let decision = match (question.endpoint, policy.data_plane()) {
        (Endpoint::Peer, _) => peer(policy, question),
        (Endpoint::Mtls, Some(data_plane)) => leaf(question, parser(data_plane))
            .map(|certificate| data_plane.judge_certificate(&certificate.digest, question.request())),
        (Endpoint::Token, Some(data_plane)) => {
            let values =
                question.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
            Ok(data_plane.judge_token(values.map(|(_, value)| &value[..]), question.request(), question.now))
        }
        (Endpoint::Mtls | Endpoint::Token, None) => Err(DenyReason::NoRequest),
    };
    Judgement::of(&decision.unwrap_or_else(Decision::deny))
}

fn peer(policy: &Policy, question: &Question<'_>) -> Result<Decision, DenyReason> {
    let identity = match question.subject {
        Subject::Names(identity) => identity.clone(),
        Subject::Nobody | Subject::Certificate(_) => leaf(question, Certificate::from_der)?.identity,
    };
    let decision = policy.authorize(&identity);
    let Decision::Allow(grant) = &decision else { return Ok(decision) };
    if !question.is_request() {
        return Ok(decision);
    }
    Ok(match (policy.authorize_request(grant, question.request()), policy.capability_mode()) {
        (Ok(()), _) => decision,
        (Err(reason), Mode::LogOnly) => Decision::Allow(grant.tolerated(reason)),
        (Err(reason), Mode::Enforce | Mode::Disable) => grant.refused(reason),
    })
}

/// A pinned certificate is not asked for its names.
fn parser(data_plane: &DataPlane) -> fn(&[u8]) -> Result<Certificate, DenyReason> {
    match data_plane.certificate_trust() {
        CertificateTrust::Clients => Certificate::unnamed_from_der,
        CertificateTrust::Any => Certificate::from_der,
    }
}

/// The certificate, if it is one and valid.
fn leaf(
    question: &Question<'_>,
    parse: fn(&[u8]) -> Result<Certificate, DenyReason>,
) -> Result<Certificate, DenyReason> {
    let der = match question.subject {
        Subject::Certificate(der) => der.clone(),
        Subject::Names(_) => question.subject.certificate().ok_or(DenyReason::CertificateUnknown)?,
        Subject::Nobody => return Err(DenyReason::NoCertificate),
    };
    let certificate = parse(&der)?;
    certificate.validity.check(question.now).map(|()| certificate)
}

impl Question<'_> {
    fn is_request(&self) -> bool {
        self.endpoint != Endpoint::Peer || !self.path.is_empty()
    }

    fn request(&self) -> Request<'_> {
        Request { method: self.method, path: if self.path.is_empty() { "/" } else { self.path } }
    }
}

/// Any address will do: no rule looks at it.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn ask_filter(
    filter: &Filter,
    question: &Question<'_>,
    leaf: Option<&[u8]>,
) -> Result<Judgement, EngineError> {
    let endpoint = question.endpoint.as_str();
    let configuration = format!(r#"{{"endpoint":"{endpoint}","policy":{}}}"#, question.policy);
    let worker =
        Worker::start_at(filter, &configuration, Clock::Fixed(question.now)).map_err(EngineError::Start)?;
    let worker = Rc::new(worker);
    let tls = Tls {
        version: "TLSv1.3",
        server_name: None,
        alpn: None,
        peer: leaf.map(PeerCertificate::from_der),
        chain_verified: leaf.is_some(),
    };
    let connection = Rc::new(Connection::new(1, LOOPBACK, LOOPBACK, Some(tls)));
    // A network filter judges peers only.
    let verdict = (question.endpoint == Endpoint::Peer).then(|| worker.judge_connection(&connection));
    if let Some(verdict) = verdict.as_ref().filter(|_| !question.is_request()) {
        return read_decision(&verdict.decision, verdict.allow, if verdict.allow { 200 } else { 403 });
    }
    let mut stream = worker.open_stream(&connection);
    let (allow, status) = match stream.request_headers(request(question), true) {
        Outcome::Continue(_) => (true, 200),
        Outcome::Reply(reply) => (false, reply.status),
        Outcome::Failed(reason) => return Err(EngineError::Failed(reason.to_owned())),
    };
    let decision = stream.decision().ok_or_else(|| EngineError::Failed("no decision".to_owned()))?;
    // A peer that is admitted may still lack a capability for this request; the reverse cannot be.
    if verdict.is_some_and(|verdict| allow && !verdict.allow) {
        return Err(EngineError::Disagreement);
    }
    read_decision(&decision, allow, status)
}

fn request(question: &Question<'_>) -> HeaderPairs {
    let path = question.request().path;
    let pseudo =
        [(":authority", "localhost"), (":path", path), (":method", question.method), (":scheme", "https")];
    let pseudo =
        pseudo.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    pseudo.chain(question.headers.iter().cloned()).collect()
}

/// The words the filter left about its decision.
fn read_decision(text: &str, allow: bool, status: u16) -> Result<Judgement, EngineError> {
    let decision: Value = serde_json::from_str(text).map_err(|_| EngineError::Failed(text.to_owned()))?;
    let word = |key: &str| decision[key].as_str().map(str::to_owned);
    let list = |key: &str| -> Vec<String> {
        decision[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let capabilities = list("capabilities");
    Ok(Judgement {
        allow,
        status,
        reason: word("reason").filter(|_| !allow),
        would_deny: word("would_deny"),
        matched: list("matched"),
        shadow_matched: list("shadow_matched"),
        capabilities: capabilities
            .iter()
            .filter_map(|name| CapabilitySet::named(name))
            .fold(CapabilitySet::EMPTY, CapabilitySet::union),
        client: Some(decision["client"].clone()).filter(|client| !client.is_null()),
        token: Some(decision["token"].clone()).filter(|token| !token.is_null()),
        rules: Vec::new(),
        chain: None,
        note: None,
        native_because: None,
    })
}

/// No answer.
#[derive(Debug)]
pub enum EngineError {
    /// The policy cannot be read.
    Policy(PolicyError),
    /// The filter did not start.
    Start(StartError),
    /// The filter trapped, timed out or said nothing.
    Failed(String),
    /// The network and the HTTP context answered differently.
    Disagreement,
}

impl fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(error) => error.fmt(formatter),
            Self::Start(error) => error.fmt(formatter),
            Self::Failed(reason) => write!(formatter, "the filter did not decide: {reason}"),
            Self::Disagreement => formatter.write_str("the filter's network and HTTP contexts disagree"),
        }
    }
}

impl std::error::Error for EngineError {}
