//! What the filter leaves for access logs and native filters of the proxy: filter state `wasm.peergate.*` in Envoy.

use std::borrow::Cow;
use std::sync::Arc;

use peergate_policy::{Decision, Endpoint};

use crate::envoy;
use crate::verdict::{self, Verdict};

/// All there is to say, as one line of JSON.
const DECISION: &str = "peergate.decision";
/// `allow`, `deny` or `would_deny`.
const OUTCOME: &str = "peergate.outcome";
/// The first rule that matched, as in the counters.
const RULE: &str = "peergate.rule";
/// The id of the first data-plane client.
const CLIENT: &str = "peergate.client";
/// The id of the token.
const TOKEN: &str = "peergate.token";

/// What the filter of a connection hands to the filter of its requests: [`peergate_policy::Configuration::seal`].
const GRANT: &str = "peergate.grant";

/// Leaves the grant of a connection, empty where there is nothing to take over.
pub(crate) fn leave_grant(sealed: &[u8]) {
    envoy::set_property(GRANT, sealed);
}

/// The grant of the current connection, empty where there is nothing to take over; `None` where no network filter decided.
pub(crate) fn grant() -> Option<Vec<u8>> {
    envoy::property(&[GRANT]).ok()?
}

/// Whether the last verdict that was left is this one.
pub(crate) fn has(verdict: &Verdict) -> bool {
    envoy::property(&[DECISION]).is_ok_and(|it| it.is_some_and(|it| it == verdict.summary().as_bytes()))
}

/// Leaves the verdict. Rule, client and token are empty where there is none, so that no earlier one is taken for it.
pub(crate) fn leave(verdict: &Verdict, endpoint: Endpoint) {
    let decision = verdict.decision();
    envoy::set_property(DECISION, verdict.summary().as_bytes());
    envoy::set_property(OUTCOME, verdict::outcome(decision).as_bytes());
    match endpoint {
        Endpoint::Peer => leave_name(RULE, decision.matched().rules.first()),
        Endpoint::Mtls | Endpoint::Token => {
            let (client, token) = match decision {
                Decision::Allow(grant) => grant
                    .client()
                    .map_or((None, None), |client| (client.ids.first(), client.token.as_deref())),
                Decision::Deny(denial) => (None, denial.token()),
            };
            leave_name(CLIENT, client);
            leave_name(TOKEN, token.map(|token| &token.id));
        }
    }
}

fn leave_name(key: &str, name: Option<&Arc<str>>) {
    let name = name.map_or(Cow::Borrowed(""), |name| verdict::printable(name));
    envoy::set_property(key, name.as_bytes());
}
