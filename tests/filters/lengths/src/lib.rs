//! Leaves lengths and bodies that do not fit each other, or changes both so that they do, as the path of the request says:
//! `/request/...` or `/response/...`, and what.

#![expect(missing_docs, reason = "the main macro of the SDK makes a public function")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Lengths::default()));
}}

/// The length that is left, where it is said anew.
const LENGTH: &str = "3";

#[derive(Default)]
struct Lengths {
    request: String,
    response: String,
}

impl Context for Lengths {}

impl HttpContext for Lengths {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let what = |side: &str| path.strip_prefix(side).unwrap_or_default().to_owned();
        (self.request, self.response) = (what("/request/"), what("/response/"));
        match self.request.as_str() {
            "says" | "says-and-fits" | "says-and-cuts" => {
                self.set_http_request_header("content-length", Some(LENGTH));
            }
            "forgets" | "forgets-and-shortens" => self.set_http_request_header("content-length", None),
            "says-twice" => self.add_http_request_header("content-length", LENGTH),
            "says-nonsense" => self.set_http_request_header("content-length", Some("three")),
            "chunks" => self.set_http_request_header("transfer-encoding", Some("chunked")),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, last: bool) -> Action {
        match self.request.as_str() {
            "shortens" | "forgets-and-shortens" => self.set_http_request_body(0, size, b"x"),
            "drops" => self.set_http_request_body(0, size, b""),
            "lengthens" if last => self.set_http_request_body(size, 0, b" and more"),
            "says-and-fits" if !last => return Action::Pause,
            "says-and-fits" => self.set_http_request_body(0, size, b"abc"),
            "says-and-cuts" if !last => return Action::Pause,
            "says-and-cuts" => self.set_http_request_body(0, size, b"ab"),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        match self.response.as_str() {
            "says" | "says-and-fits" | "says-and-cuts" => {
                self.set_http_response_header("content-length", Some(LENGTH));
            }
            "forgets" | "forgets-and-shortens" => self.set_http_response_header("content-length", None),
            "says-twice" => self.add_http_response_header("content-length", LENGTH),
            "says-nonsense" => self.set_http_response_header("content-length", Some("three")),
            "chunks" => self.set_http_response_header("transfer-encoding", Some("chunked")),
            "no-content" | "no-content-and-drops" => self.set_http_response_header(":status", Some("204")),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, last: bool) -> Action {
        match self.response.as_str() {
            "shortens" | "forgets-and-shortens" => self.set_http_response_body(0, size, b"x"),
            "drops" | "no-content-and-drops" => self.set_http_response_body(0, size, b""),
            "lengthens" if last => self.set_http_response_body(size, 0, b" and more"),
            "says-and-fits" if !last => return Action::Pause,
            "says-and-fits" => self.set_http_response_body(0, size, b"abc"),
            "says-and-cuts" if !last => return Action::Pause,
            "says-and-cuts" => self.set_http_response_body(0, size, b"ab"),
            _ => {}
        }
        Action::Continue
    }
}
