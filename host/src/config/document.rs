//! The shape of the file.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use peergate_policy::Endpoint as Kind;
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::address::Address;
use super::admin::Admin;
use super::boundary::Boundary;
use super::error::ConfigError;
use super::limits::Limits;

/// What one host does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    /// TLS in, plaintext to the local service
    #[serde(default)]
    pub inbound: Vec<Inbound>,
    /// Plaintext from local programs in, TLS to a server that is judged like a peer
    #[serde(default)]
    pub outbound: Vec<Outbound>,
    /// Pages for operators: metrics, health
    pub admin: Option<Admin>,
    /// Threads [default: one per core]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u16>,
    /// What it takes at most
    #[serde(default)]
    pub limits: Limits,
    /// A filter in place of the built-in one; relative to this file
    pub filter: Option<PathBuf>,
    /// Services the filter may call, by the name it calls them by; the built-in one calls none
    #[serde(default)]
    pub clusters: BTreeMap<String, Cluster>,
}

/// A service the filter may call. It speaks HTTP/1.1.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// HOST:PORT
    pub address: Address,
}

/// A port that clients connect to with TLS.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Inbound {
    /// How logs and metrics call it [default: its address]
    pub name: Option<String>,
    /// Where to listen: HOST:PORT, unix:/absolute/path, or systemd:NAME; port 0 chooses a free one
    pub address: Address,
    /// What is forwarded
    #[serde(default)]
    pub protocol: Protocol,
    /// The local service
    pub upstream: Upstream,
    /// Who may come in; of several, the name that the client asks for (SNI) chooses
    pub endpoints: Vec<Endpoint>,
    /// Requests below this path are answered with the admin pages, once the filter allowed them; for `peer` endpoints only
    pub admin_path: Option<String>,
    /// Let clients go on as WebSockets where the filter admits the request and the service agrees; with protocol `http` only
    #[serde(default)]
    pub websocket: bool,
}

/// A port or socket that local programs connect to in plaintext, to reach a server over TLS.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Outbound {
    /// How logs and metrics call it [default: its address]
    pub name: Option<String>,
    /// Where to listen: a loopback HOST:PORT, unix:/absolute/path, or systemd:NAME: whoever connects speaks as this node
    pub address: Address,
    /// What is forwarded
    #[serde(default)]
    pub protocol: Protocol,
    /// The server
    pub upstream: Remote,
    /// The policy document: its files are this node's, its `authorized-peers` say which servers are; relative to this
    /// file [default: $VESPA_TLS_CONFIG_FILE]
    pub policy: Option<PathBuf>,
    /// Let local programs go on as WebSockets where the server agrees; with protocol `http` only
    #[serde(default)]
    pub websocket: bool,
}

/// A server that is reached over TLS.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Remote {
    /// HOST:PORT, or unix:/absolute/path
    pub address: Address,
    /// The name to ask for (SNI), to find in the certificate, and to put into `Host` [default: the host of the address;
    /// `Host` stays as it is]
    pub server_name: Option<String>,
}

/// What is forwarded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2; the filter judges the connection and each request
    #[default]
    Http,
    /// Bytes; the filter judges the connection
    Tcp,
}

impl Protocol {
    /// As the file and the command line say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// The local service.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Upstream {
    /// HOST:PORT, or unix:/absolute/path
    pub address: Address,
    /// What it speaks; gRPC needs h2c
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// Tell it who the peer is before its first byte (PROXY protocol version 2); with protocol `tcp` only
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// What the upstream speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3)
    H2c,
}

/// One kind of client on a port.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Endpoint {
    /// How clients are known
    #[serde(rename = "endpoint", deserialize_with = "kind")]
    #[schemars(with = "KindWord")]
    pub kind: Kind,
    /// The policy document; relative to this file [default: that of the boundary]
    pub policy: Option<PathBuf>,
    /// Which of Vespa's variables names the policy, where `policy` does not
    #[serde(default)]
    pub boundary: Boundary,
    /// Host names that are for this endpoint; needed where a port has several
    #[serde(default)]
    pub names: Vec<String>,
    /// Names that still work; their use is counted
    #[serde(default)]
    pub deprecated_names: Vec<String>,
}

impl Endpoint {
    /// All names that are for this endpoint.
    pub fn all_names(&self) -> impl Iterator<Item = &String> {
        self.names.iter().chain(&self.deprecated_names)
    }
}

impl Document {
    /// Reads a configuration file. Paths in it become relative to its directory.
    ///
    /// # Errors
    /// What is not of this shape or cannot work, with line and column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut document: Self =
            serde_json::from_str(text).map_err(|error| ConfigError::shape(path, &error))?;
        document.check().map_err(|(place, message)| ConfigError::meaning(path, text, &place, message))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let relative = |path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                *path = directory.join(&path);
            }
        };
        relative(&mut document.filter);
        for endpoint in document.inbound.iter_mut().flat_map(|inbound| &mut inbound.endpoints) {
            relative(&mut endpoint.policy);
        }
        for outbound in &mut document.outbound {
            relative(&mut outbound.policy);
        }
        Ok(document)
    }

    /// The same, as flags describe it.
    ///
    /// # Errors
    /// What cannot work, in words.
    pub fn checked(self) -> Result<Self, String> {
        self.check().map_err(|(_, message)| message)?;
        Ok(self)
    }

    /// What the shape does not say, with its place as a JSON pointer.
    fn check(&self) -> Result<(), (String, String)> {
        if self.inbound.is_empty() && self.outbound.is_empty() {
            let message = "nothing to serve; add a listener to `inbound` or `outbound`".to_owned();
            return Err((String::new(), message));
        }
        if self.workers.is_some_and(|workers| !(1..=1024).contains(&workers)) {
            return Err(("/workers".to_owned(), "expected 1 to 1024".to_owned()));
        }
        self.admin.as_ref().map_or(Ok(()), Admin::check)?;
        for (name, cluster) in &self.clusters {
            if !matches!(cluster.address, Address::Tcp(_)) || !cluster.address.is_target() {
                let place = format!("/clusters/{}/address", name.replace('~', "~0").replace('/', "~1"));
                return Err((place, "a filter calls HOST:PORT; other addresses cannot be called".to_owned()));
            }
        }
        let (mut addresses, mut names) = (HashSet::new(), HashSet::new());
        let mut check_unique = |place: &str, address: &Address, name: &Option<String>| {
            let chosen = matches!(address, Address::Tcp(text) if text.ends_with(":0"));
            if !chosen && !addresses.insert(address.clone()) {
                let message = format!("`{address}` is the address of another listener too");
                return Err((format!("{place}/address"), message));
            }
            match name {
                Some(name) if name.is_empty() || !names.insert(name.clone()) => {
                    let message = "empty, or the name of another listener too".to_owned();
                    Err((format!("{place}/name"), message))
                }
                _ => Ok(()),
            }
        };
        for (index, inbound) in self.inbound.iter().enumerate() {
            let place = format!("/inbound/{index}");
            inbound.check().map_err(|(key, message)| (format!("{place}{key}"), message))?;
            check_unique(&place, &inbound.address, &inbound.name)?;
        }
        for (index, outbound) in self.outbound.iter().enumerate() {
            let place = format!("/outbound/{index}");
            outbound.check().map_err(|(key, message)| (format!("{place}{key}"), message))?;
            check_unique(&place, &outbound.address, &outbound.name)?;
        }
        Ok(())
    }
}

impl Outbound {
    fn check(&self) -> Result<(), (String, String)> {
        if !self.address.is_local() {
            let message = "whoever connects here speaks as this node; use a loopback address or `unix:/path`";
            return Err(("/address".to_owned(), message.to_owned()));
        }
        if !self.upstream.address.is_target() {
            let message = "port 0 and sockets of systemd cannot be connected to".to_owned();
            return Err(("/upstream/address".to_owned(), message));
        }
        check_websocket(self.websocket, self.protocol, UpstreamProtocol::Http1)?;
        match self.upstream.server_name() {
            Some(_) => Ok(()),
            None => {
                let message = "no name to find in the server's certificate; give `server-name`, a host name or IP address";
                Err(("/upstream".to_owned(), message.to_owned()))
            }
        }
    }
}

impl Remote {
    /// What the server's certificate is to be for.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        let name = match (&self.server_name, &self.address) {
            (Some(name), _) => name.as_str(),
            (None, Address::Tcp(text)) => text.rsplit_once(':').map_or("", |(host, _)| host),
            (None, Address::Unix(_) | Address::Systemd(_)) => "",
        };
        ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).ok()
    }
}

impl Inbound {
    fn check(&self) -> Result<(), (String, String)> {
        if !self.upstream.address.is_target() {
            return Err((
                "/upstream/address".to_owned(),
                "port 0 and sockets of systemd cannot be connected to".to_owned(),
            ));
        }
        if self.upstream.proxy_protocol && self.protocol != Protocol::Tcp {
            let message = "only bytes have a beginning to put it; use protocol `tcp`, or `upstream-headers` of the policy";
            return Err(("/upstream/proxy-protocol".to_owned(), message.to_owned()));
        }
        check_websocket(self.websocket, self.protocol, self.upstream.protocol)?;
        if self.endpoints.is_empty() {
            let message = "nobody may come in; add `{\"endpoint\": \"peer\"}` or another kind".to_owned();
            return Err(("/endpoints".to_owned(), message));
        }
        if let Some(path) = &self.admin_path {
            let wrong = |message: &str| Err(("/admin-path".to_owned(), message.to_owned()));
            let segments = || path.split('/').skip(1);
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_~".contains(&byte);
            if !path.starts_with('/') || segments().any(str::is_empty) || !path.bytes().all(is_plain) {
                return wrong(
                    "expected a path such as `/peergate-admin`, of letters, digits, `-`, `_` and `~`",
                );
            }
            if self.protocol != Protocol::Http || self.endpoints.iter().any(|it| it.kind != Kind::Peer) {
                return wrong("only peers of protocol `http` may see these pages; put it on such a listener");
            }
        }
        let mut known = HashSet::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let at = |key: &str| format!("/endpoints/{index}{key}");
            if self.protocol == Protocol::Tcp && endpoint.kind != Kind::Peer {
                let message = format!(
                    "an endpoint of kind `{}` judges requests, and protocol `tcp` has none; use `http`",
                    endpoint.kind.as_str()
                );
                return Err((at("/endpoint"), message));
            }
            if self.endpoints.len() > 1 && endpoint.all_names().next().is_none() {
                let message = "one of several endpoints needs `names`: they tell which one a client wants";
                return Err((at(""), message.to_owned()));
            }
            for name in endpoint.all_names() {
                if !is_server_name(name) {
                    let message = format!(
                        "`{}` is no host name that a client can ask for in its handshake (RFC 6066 section 3); write it without port and wildcard",
                        name.escape_debug()
                    );
                    return Err((at("/names"), message));
                }
                if !known.insert(name.trim_end_matches('.').to_ascii_lowercase()) {
                    return Err((at("/names"), format!("`{name}` is named twice on this port")));
                }
            }
        }
        Ok(())
    }
}

/// Whether there is a request that could become a WebSocket, and a service that could agree.
fn check_websocket(
    websocket: bool,
    protocol: Protocol,
    upstream: UpstreamProtocol,
) -> Result<(), (String, String)> {
    let wrong = |message: &str| Err(("/websocket".to_owned(), message.to_owned()));
    match (websocket, protocol, upstream) {
        (true, Protocol::Tcp, _) => wrong(
            "protocol `tcp` has no requests, and passes WebSockets as all other bytes; leave it out, or use `http`",
        ),
        (true, _, UpstreamProtocol::H2c) => {
            wrong("a WebSocket begins in HTTP/1.1; leave it out, or the upstream's `protocol`")
        }
        _ => Ok(()),
    }
}

/// A DNS host name that is no IP address.
pub(super) fn is_server_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)))
}

/// The JSON Schema (2020-12) of the file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).into()
}

/// The words of [`Kind`], for the schema.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", rename = "Kind")]
#[expect(dead_code, reason = "only its schema is used")]
enum KindWord {
    /// By a certificate of the policy's authorities, and `authorized-peers`
    Peer,
    /// By a certificate that is one of the `data-plane` clients'
    Mtls,
    /// By a bearer token of one of the `data-plane` clients
    Token,
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    let word = String::deserialize(deserializer)?;
    word.parse().map_err(|_| serde::de::Error::unknown_variant(&word, Kind::WORDS))
}
