//! Who answers: the engine in this process, or filter.wasm as a proxy runs it.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use peergate_policy::{CapabilitySet, Certificate, DenyReason, Policy, PolicyError, UnixTime};
use serde_json::Value;

use super::judgement::Judgement;
use super::subject::Subject;
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
    /// The peer.
    pub subject: &'a Subject,
    /// The request's method, path and further headers; an empty path stands for `/`.
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
        let policy = Policy::parse(question.policy).map_err(EngineError::Policy)?;
        let judgement = match (self, question.subject.certificate(), question.subject) {
            (Self::Filter(filter), Some(der), _) => ask_filter(filter, question, Some(&der))?,
            (Self::Filter(filter), None, Subject::Nobody) => ask_filter(filter, question, None)?,
            (Self::Filter(_), None, _) => Judgement {
                native_because: Some("no certificate can carry these names"),
                ..ask_natively(&policy, question)
            },
            (Self::Native, _, _) => ask_natively(&policy, question),
        };
        let rules = match question.subject.identity() {
            Ok(identity) => policy.explain(&identity).collect(),
            Err(_) => Vec::new(),
        };
        Ok(Judgement { rules, ..judgement })
    }
}

fn ask_natively(policy: &Policy, question: &Question<'_>) -> Judgement {
    let identity = match question.subject {
        Subject::Nobody => return Judgement::denied(DenyReason::NoCertificate),
        Subject::Names(identity) => identity.clone(),
        Subject::Certificate(der) => {
            let certificate = Certificate::from_der(der);
            match certificate.and_then(|it| it.validity.check(question.now).map(|()| it.identity)) {
                Ok(identity) => identity,
                Err(reason) => return Judgement::denied(reason),
            }
        }
    };
    Judgement::of(&policy.authorize(&identity))
}

/// Any address will do: no rule looks at it.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn ask_filter(
    filter: &Filter,
    question: &Question<'_>,
    leaf: Option<&[u8]>,
) -> Result<Judgement, EngineError> {
    let configuration = format!(r#"{{"endpoint":"peer","policy":{}}}"#, question.policy);
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
    let verdict = worker.judge_connection(&connection);
    let mut stream = worker.open_stream(&connection);
    let (allow, status) = match stream.request_headers(request(question), true) {
        Outcome::Continue(_) => (true, 200),
        Outcome::Reply(reply) => (false, reply.status),
        Outcome::Failed(reason) => return Err(EngineError::Failed(reason.to_owned())),
    };
    if allow != verdict.allow {
        return Err(EngineError::Disagreement);
    }
    read_decision(&verdict.decision, allow, status)
}

fn request(question: &Question<'_>) -> HeaderPairs {
    let path = if question.path.is_empty() { "/" } else { question.path };
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
        rules: Vec::new(),
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
