//! The HTTP filter: one context per request.

use std::rc::Rc;

use peergate_policy::Decision;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::envoy::{self, HostCallError, Map};
use crate::gate::Gate;
use crate::headers;
use crate::reply::Reply;

/// A request.
pub(crate) struct Http {
    gate: Rc<Gate>,
}

impl Http {
    pub(crate) fn new(gate: Rc<Gate>) -> Self {
        Self { gate }
    }

    fn admit(&self) -> Result<Action, HostCallError> {
        headers::strip(Map::RequestHeaders)?;
        let verdict = self.gate.judge();
        if let Decision::Deny(denial) = verdict.decision() {
            Reply::denial(denial.reason()).send(denial.reason().as_str())?;
            return Ok(Action::Pause);
        }
        if !self.serves_authority()? {
            Reply::misdirected().send("authority-not-served")?;
            return Ok(Action::Pause);
        }
        if self.gate.configuration().policy().upstream_headers().keep_authorization == Some(false) {
            envoy::remove_header(Map::RequestHeaders, b"authorization")?;
        }
        for (name, value) in verdict.upstream_headers() {
            envoy::add_request_header(name, value)?;
        }
        Ok(Action::Continue)
    }

    /// HTTP/2 connections are shared by all names of a certificate, so every request is asked whom it is for.
    fn serves_authority(&self) -> Result<bool, HostCallError> {
        let configuration = self.gate.configuration();
        if configuration.serves_any() {
            return Ok(true);
        }
        let authority = envoy::property(&["request", "host"])?.unwrap_or_default();
        Ok(std::str::from_utf8(&authority).is_ok_and(|authority| configuration.serves(authority)))
    }
}

impl Context for Http {}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // A proxy that cannot do what it must do gets no request to forward: a paused request goes nowhere.
        self.admit().unwrap_or_else(|HostCallError| refuse())
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        headers::strip(Map::RequestTrailers).map_or_else(|HostCallError| refuse(), |()| Action::Continue)
    }
}

fn refuse() -> Action {
    envoy::log(envoy::Level::Error, "peergate: the proxy refused a call; the request is refused");
    let _ = Reply::denial(peergate_policy::DenyReason::NoCertificate).send("host-call-failed");
    Action::Pause
}
