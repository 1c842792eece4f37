//! The port of the pages for operators.

use schemars::JsonSchema;
use serde::Deserialize;

use super::address::Address;
use super::document::is_server_name;

/// Pages for operators.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Admin {
    /// A loopback address: HOST:PORT
    pub address: Address,
    /// Host names that requests may be for, besides `localhost`, IP addresses, and the host of `address`; requests for others
    /// are refused, since a web page could send them (DNS rebinding)
    #[serde(default)]
    pub hosts: Vec<String>,
}

impl Admin {
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        match self.hosts.iter().position(|host| !is_server_name(host)) {
            Some(index) => {
                let message = "expected a host name, without scheme, port and wildcard; IP addresses need not be listed";
                Err((format!("/admin/hosts/{index}"), message.to_owned()))
            }
            None => Ok(()),
        }
    }
}
