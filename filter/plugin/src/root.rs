//! The root context: reads the plugin configuration and makes HTTP or L4 contexts.

use std::rc::Rc;

use peergate_policy::{Configuration, Mode};
use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

use crate::envoy::{self, Level};
use crate::gate::Gate;
use crate::http::Http;
use crate::stream::Stream;

/// A plugin with this ending of its `root_id` is a network filter.
const NETWORK_SUFFIX: &[u8] = b"_l4";

/// One plugin instance.
#[derive(Default)]
pub(crate) struct Root {
    gate: Option<Rc<Gate>>,
    is_network: bool,
}

impl Context for Root {}

impl RootContext for Root {
    /// `false` refuses the configuration: Envoy then does not start, or keeps the listener it has.
    fn on_configure(&mut self, _size: usize) -> bool {
        let root_id = envoy::property(&["plugin_root_id"]).ok().flatten().unwrap_or_default();
        self.is_network = root_id.ends_with(NETWORK_SUFFIX);
        match configuration() {
            Ok(configuration) => {
                announce(&configuration);
                self.gate = Some(Rc::new(Gate::new(configuration)));
                true
            }
            Err(message) => {
                envoy::log(Level::Error, &format!("peergate: configuration refused: {message}"));
                false
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(if self.is_network { ContextType::StreamContext } else { ContextType::HttpContext })
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        self.gate.clone().map(|gate| -> Box<dyn HttpContext> { Box::new(Http::new(gate)) })
    }

    fn create_stream_context(&self, _id: u32) -> Option<Box<dyn StreamContext>> {
        self.gate.clone().map(|gate| -> Box<dyn StreamContext> { Box::new(Stream::new(gate)) })
    }
}

fn configuration() -> Result<Configuration, String> {
    let bytes = envoy::plugin_configuration()
        .ok()
        .flatten()
        .ok_or("there is none; give the policy as a StringValue of JSON")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| "not UTF-8; give the policy as a StringValue of JSON, not as a Struct")?;
    Configuration::parse(&text).map_err(|error| error.to_string())
}

/// What an operator must know at start, loudly.
fn announce(configuration: &Configuration) {
    let policy = configuration.policy();
    for warning in policy.warnings() {
        envoy::log(Level::Warn, &format!("peergate: {warning}"));
    }
    if policy.authorization_mode() != Mode::Enforce {
        let mode = policy.authorization_mode().as_str();
        envoy::log(Level::Warn, &format!("peergate: authorization-mode is {mode}: NOBODY with a trusted certificate is refused"));
    }
    if policy.admits_any_authenticated() {
        envoy::log(Level::Warn, "peergate: no authorized-peers: every certificate of the trusted CA is admitted");
    }
}
