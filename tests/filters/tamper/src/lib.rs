//! Another plugin of the same listener, which writes where the filter of a connection left its grant. The header `x-tamper` says
//! what.

#![expect(missing_docs, reason = "the main macro of the SDK makes a public function")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Tamper));
}}

const GRANT: &str = "peergate.grant";
const KEPT: &str = "kept";
const TAG_BYTES: usize = 32;

struct Tamper;

impl Context for Tamper {}

impl HttpContext for Tamper {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(how) = self.get_http_request_header("x-tamper") else { return Action::Continue };
        let mut grant = self.get_property(vec![GRANT]).unwrap_or_default();
        let at_tag = grant.len().saturating_sub(TAG_BYTES);
        match how.as_str() {
            // The rule is the last thing before the tag: one that grants more.
            "rule" => grant[at_tag - 1] ^= 1,
            "one-rule-more" => drop(grant.splice(at_tag..at_tag, [0, 0, 0, 1])),
            "tag" => grant[at_tag] ^= 1,
            "cut" => grant.truncate(at_tag),
            "empty" => grant.clear(),
            "long" => grant = vec![b'x'; 100_000],
            "keep" => hostcalls::set_shared_data(KEPT, Some(&grant), None).expect("room"),
            "replay" => grant = hostcalls::get_shared_data(KEPT).expect("kept").0.expect("kept"),
            other => panic!("unknown `{other}`"),
        }
        self.set_property(vec![GRANT], Some(&grant));
        Action::Continue
    }
}
