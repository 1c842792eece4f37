//! What is wrong with the listener, not with one of its clients. It refuses all of them for it, so each fault is said loudly,
//! and once for each configuration and VM.

use std::cell::Cell;

use peergate_policy::DenyReason;

use crate::envoy::{self, Level};
use crate::peer;

/// The faults that were said.
#[derive(Default)]
pub(crate) struct ListenerLog {
    said: Cell<u8>,
}

#[derive(Clone, Copy)]
enum Fault {
    Plaintext,
    NotAsked,
    Hidden,
    Unverified,
    Untold,
    Bypassed,
}

impl ListenerLog {
    /// Looks for the listener's part in a refusal. Clients of a listener that pins certificates may come without one: it cannot
    /// demand one in the handshake.
    pub(crate) fn refused(&self, reason: DenyReason, pins: bool) {
        match reason {
            DenyReason::NoCertificate if peer::is_plaintext() => self.say(Fault::Plaintext),
            DenyReason::NoCertificate if peer::presented() => self.say(Fault::Hidden),
            DenyReason::NoCertificate if !pins => self.say(Fault::NotAsked),
            DenyReason::ChainNotVerified => self.say(Fault::Unverified),
            _ => {}
        }
    }

    /// A certificate of which the proxy does not say whether it was verified.
    pub(crate) fn untold(&self) {
        self.say(Fault::Untold);
    }

    /// Something was forwarded that the proxy had not asked us about.
    pub(crate) fn bypassed(&self) {
        self.say(Fault::Bypassed);
    }

    pub(crate) fn was_bypassed(&self) -> bool {
        self.said(Fault::Bypassed)
    }

    fn said(&self, fault: Fault) -> bool {
        self.said.get() & fault.bit() != 0
    }

    fn say(&self, fault: Fault) {
        if !self.said(fault) {
            self.said.set(self.said.get() | fault.bit());
            envoy::log(fault.level(), &format!("peergate: {}", fault.message()));
        }
    }
}

impl Fault {
    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn level(self) -> Level {
        match self {
            Self::Bypassed => Level::Critical,
            Self::Untold => Level::Warn,
            Self::Plaintext | Self::NotAsked | Self::Hidden | Self::Unverified => Level::Error,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Plaintext => {
                "listener without TLS: its clients have no certificate, and are refused; give the filter chain a \
                 transport_socket with a DownstreamTlsContext, require_client_certificate: true and a trusted_ca"
            }
            Self::NotAsked => {
                "listener that lets clients in without a certificate: they are refused; set require_client_certificate: \
                 true, and a validation_context with trusted_ca, without which Envoy asks for none"
            }
            Self::Hidden => {
                "listener that hides the certificates of its clients: they are refused; Envoy before 1.39 needs \
                 set_filter_state before this filter, to write %DOWNSTREAM_PEER_CERT% to peergate.pem"
            }
            Self::Unverified => {
                "listener that does not verify certificates: their holders are refused; sessions were resumed (set \
                 disable_stateless_session_resumption and disable_stateful_session_resumption: true), or the \
                 validation_context has ACCEPT_UNTRUSTED (remove it), or no trusted_ca (set it)"
            }
            Self::Untold => {
                "this proxy does not tell whether it verified a certificate (Envoy does from 1.39 on): only \
                 require_client_certificate, trusted_ca and the switches against session resumption keep forged \
                 certificates out; `peergate check --envoy FILE` looks at them"
            }
            Self::Bypassed => {
                "BYPASSED: the proxy forwarded what this filter was not asked about, because a \
                 capability_restriction_config keeps callbacks from it; remove it. All that follows is refused"
            }
        }
    }
}
