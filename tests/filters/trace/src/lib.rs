//! Notes its callbacks in order, in shared data; `/report` answers with what was noted and forgets it. The path of any
//! other request says what to try on the way.

#![expect(missing_docs, reason = "the main macro of the SDK makes a public function")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel, MapType};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Traced::default()));
}}

const NOTES: &str = "notes";

/// One request.
#[derive(Default)]
struct Traced {
    path: String,
}

impl Traced {
    fn note(&self, what: &str) {
        if self.path == "/report" {
            return;
        }
        let before = hostcalls::get_shared_data(NOTES).ok().and_then(|(bytes, _)| bytes).unwrap_or_default();
        let line = format!("{what}\n");
        let notes = [before.as_slice(), line.as_bytes()].concat();
        hostcalls::set_shared_data(NOTES, Some(&notes), None).expect("room");
    }

    /// Which maps can be read now: a letter for each that can, a dash for each that cannot.
    fn maps(&self) -> String {
        let maps = [('q', MapType::HttpRequestHeaders), ('s', MapType::HttpResponseHeaders)];
        let readable = |(letter, map)| {
            hostcalls::get_map_bytes(map).map_or('-', |fields| if fields.is_empty() { '0' } else { letter })
        };
        maps.into_iter().map(readable).collect()
    }

    fn reply(&self, status: u32, body: &str) {
        hostcalls::send_http_response(status, vec![("x-reply", body)], Some(body.as_bytes())).expect("sent");
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.note("delete");
    }
}

impl Context for Traced {
    fn on_done(&mut self) -> bool {
        self.note("done");
        true
    }
}

impl HttpContext for Traced {
    fn on_http_request_headers(&mut self, _: usize, last: bool) -> Action {
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        self.note(&format!("request headers, last {last}"));
        match self.path.as_str() {
            "/report" => {
                let (notes, _) = hostcalls::get_shared_data(NOTES).unwrap_or_default();
                hostcalls::set_shared_data(NOTES, None, None).expect("room");
                self.send_http_response(200, vec![], notes.as_deref());
                return Action::Pause;
            }
            "/reply" => {
                self.reply(403, "first");
                return Action::Pause;
            }
            "/reply-and-continue" => self.reply(403, "first"),
            "/reply-empty" => {
                self.send_http_response(403, vec![("content-type", "text/css")], None);
                return Action::Pause;
            }
            "/reply-twice" => {
                self.reply(403, "first");
                self.reply(500, "second");
                return Action::Pause;
            }
            "/reply-to-reply" => {
                self.reply(403, "first");
                return Action::Pause;
            }
            "/resume-at-once" => {
                self.resume_http_request();
                return Action::Pause;
            }
            "/panic" => panic!("as asked"),
            _ => {}
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, _: usize, last: bool) -> Action {
        if last {
            self.note("request body, last");
            assert_ne!(self.path, "/panic-in-body", "as asked");
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let status = self.get_http_response_header(":status").unwrap_or_default();
        let length = self.get_http_response_header("content-length").unwrap_or_default();
        let kind = self.get_http_response_header("content-type").unwrap_or_default();
        let maps = self.maps();
        self.note(&format!("response headers {status}, length {length}, type {kind}, maps {maps}"));
        match self.path.as_str() {
            "/reply-in-response" | "/reply-to-reply" => {
                self.reply(418, "in the response's place");
                return Action::Pause;
            }
            "/panic-in-response" => panic!("as asked"),
            _ => {}
        }
        self.add_http_response_header("x-traced", &status);
        Action::Continue
    }

    fn on_http_response_body(&mut self, _: usize, last: bool) -> Action {
        if last {
            self.note("response body, last");
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        self.note(&format!("response trailers, {count}"));
        Action::Continue
    }

    fn on_log(&mut self) {
        let status = self.get_http_response_header(":status").unwrap_or_default();
        let maps = self.maps();
        self.note(&format!("log {status}, maps {maps}"));
    }
}
