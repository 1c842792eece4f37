//! Rewrites bodies. A request's is held back to its end and every `secret` in it blotted out; a response's is put into
//! capitals piece by piece, or held back and wrapped, as the path of the request says.

#![expect(missing_docs, reason = "the main macro of the SDK makes a public function")]

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Bodies::default()));
}}

#[derive(Default)]
struct Bodies {
    path: String,
}

impl Context for Bodies {}

impl HttpContext for Bodies {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        // The length will be another.
        self.set_http_request_header("content-length", None);
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, last: bool) -> Action {
        if self.path == "/as-it-is" {
            return Action::Continue;
        }
        if !last {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        if text.contains("forbidden") {
            self.send_http_response(422, vec![("x-from", "rewrite")], Some(b"not with these words\n"));
            return Action::Pause;
        }
        let text = text.replace("secret", "******");
        self.set_http_request_body(0, size, text.as_bytes());
        if self.path == "/around" {
            self.set_http_request_body(0, 0, b"<");
            let size = text.len() + 1;
            self.set_http_request_body(size, 0, b">");
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("content-length", None);
        self.add_http_response_header("x-rewritten", "yes");
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, last: bool) -> Action {
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        match self.path.as_str() {
            "/as-it-is" => {}
            "/wrapped" if !last => return Action::Pause,
            "/wrapped" => {
                let wrapped = [b"[", body.as_slice(), b"]"].concat();
                self.set_http_response_body(0, size, &wrapped);
            }
            _ => self.set_http_response_body(0, size, &body.to_ascii_uppercase()),
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.set_http_response_trailer("x-checksum", Some("none"));
        Action::Continue
    }
}
