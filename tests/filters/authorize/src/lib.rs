//! Asks the cluster `auth` about every request, which waits for the answer: `GET /check` with the request's credential.
//! The path of the request says what else to try.

#![expect(missing_docs, reason = "the main macro of the SDK makes a public function")]

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_http_context(|_, _| Box::new(Request::default()));
}}

#[derive(Default)]
struct Request {
    /// The call whose answer decides; 0 while there is none.
    call: u32,
}

impl Request {
    fn ask(&self, cluster: &str, timeout: Duration) -> Result<u32, String> {
        let credential = self.get_http_request_header("x-credential").unwrap_or_default();
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let headers = vec![
            (":method", "POST"),
            (":path", "/check"),
            (":authority", "auth.example"),
            ("x-credential", &credential),
            ("x-path", &path),
        ];
        let body = Some(credential.as_bytes());
        self.dispatch_http_call(cluster, headers, body, vec![], timeout)
            .map_err(|status| format!("{status:?}"))
    }

    fn reply(&self, status: u32, body: &str) {
        self.send_http_response(status, vec![("x-from", "authorize")], Some(body.as_bytes()));
    }
}

impl Context for Request {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, trailers: usize) {
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        let body = self.get_http_call_response_body(0, body_size).unwrap_or_default();
        if token != self.call {
            return self.reply(500, "another call was answered");
        }
        if status == "200" {
            let user = self.get_http_call_response_header("x-user").unwrap_or_default();
            self.set_http_request_header("x-user", Some(&user));
            return self.resume_http_request();
        }
        let named = self.get_http_call_response_headers().len();
        let body = String::from_utf8_lossy(&body);
        let known = if named == headers { "all" } else { "some" };
        self.reply(403, &format!("{status} {known} headers, {trailers} trailers: {body}"));
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        self.set_http_request_header("x-user", None);
        let asked = match path.as_str() {
            "/nowhere" => self.ask("nowhere", Duration::from_secs(5)),
            "/down" => self.ask("down", Duration::from_secs(5)),
            "/slow" => self.ask("auth", Duration::from_millis(200)),
            "/without-path" => hostcalls::dispatch_http_call(
                "auth",
                vec![(":method", "GET")],
                None,
                vec![],
                Duration::from_secs(5),
            )
            .map_err(|status| format!("{status:?}")),
            _ => self.ask("auth", Duration::from_secs(5)),
        };
        match asked {
            Ok(call) => self.call = call,
            Err(status) => self.reply(500, &status),
        }
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.add_http_response_header("x-seen", "authorize");
        Action::Continue
    }
}
