//! What the host takes at most.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

/// What the host takes at most. Defaults are made smaller where the system allows fewer open files (RLIMIT_NOFILE), so that
/// their sum fits.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Open connections of admitted clients [default: 10,000]
    pub connections: Option<NonZeroU32>,
    /// Those of one client: of one certificate, or of one address where none is asked for [default: three times what is free]
    pub connections_per_client: Option<NonZeroU32>,
    /// Connections whose client is not admitted yet; where there are more, the oldest of the source that has most is closed
    /// [default: 2,000, or 256 for each worker]
    pub handshakes: Option<NonZeroU32>,
    /// Those of one source: an IPv4 address or an IPv6 /64 [default: half of `handshakes`]
    pub handshakes_per_source: Option<NonZeroU32>,
    /// Requests under way, with forwarded TCP connections and WebSockets; more get 503 [default: 10,000]
    pub requests: Option<NonZeroU32>,
    /// Those of one client [default: three times what is free]
    pub requests_per_client: Option<NonZeroU32>,
    /// Connections to services and servers, with the idle ones; what needs more gets 503 [default: 12,000]
    pub upstream_connections: Option<NonZeroU32>,
}

impl Limits {
    /// The names of all limits.
    pub const NAMES: [&str; 7] = [
        "connections",
        "connections-per-client",
        "handshakes",
        "handshakes-per-source",
        "requests",
        "requests-per-client",
        "upstream-connections",
    ];

    /// Sets one by its name, as the command line does.
    ///
    /// # Errors
    /// There is no such limit, or the value is no number from 1.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let limit = match name {
            "connections" => &mut self.connections,
            "connections-per-client" => &mut self.connections_per_client,
            "handshakes" => &mut self.handshakes,
            "handshakes-per-source" => &mut self.handshakes_per_source,
            "requests" => &mut self.requests,
            "requests-per-client" => &mut self.requests_per_client,
            "upstream-connections" => &mut self.upstream_connections,
            _ => {
                let name = name.escape_debug();
                return Err(format!("no limit is called `{name}`; there are {}", Self::NAMES.join(", ")));
            }
        };
        let number = value.parse().map_err(|_| {
            format!("limit `{name}`: `{}` is no number from 1 to {}", value.escape_debug(), u32::MAX)
        })?;
        *limit = Some(number);
        Ok(())
    }
}
