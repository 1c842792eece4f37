//! Vespa's tests of its data-plane filters in our terms.

use peergate_host::pki::{Credential, Leaf};
use peergate_policy::{Endpoint, UnixTime, sha256};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::vectors::list;

/// A case of `token_filter.json` in our terms.
#[derive(Clone, Debug)]
pub struct Case {
    /// Vespa's filter `mtls` or `token`.
    pub endpoint: Endpoint,
    /// Its configuration as a policy.
    pub policy: Value,
    /// The DER of the client's certificate.
    pub leaf: Option<Vec<u8>>,
    /// When it is asked.
    pub now: UnixTime,
    /// The request's method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// All values of its `Authorization`.
    pub authorization: Vec<String>,
    /// The status; 200 for a request that passes.
    pub status: u16,
    /// What is said of the client, where the vector tells.
    pub client: Option<Value>,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status; 200 for a request that passes.
    pub status: u16,
    /// The reason, where it does not.
    pub reason: Option<String>,
    /// Ids, permissions and token.
    pub client: Option<Value>,
}

/// What `$FEED_CERT` and `$SEARCH_CERT` stand for. Valid in all times of the vectors.
pub struct Certificates {
    /// The client that writes.
    pub feed: Credential,
    /// The client that reads.
    pub search: Credential,
}

impl Certificates {
    /// Makes both.
    ///
    /// # Panics
    /// They cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes keys, which nobody expects of a default")]
    pub fn new() -> Self {
        let mint = |name: &str| {
            let leaf =
                Leaf::new().cn(name).valid(datetime!(1960-01-01 0:00 UTC), datetime!(2100-01-01 0:00 UTC));
            Credential::self_signed(&leaf).expect("a certificate")
        };
        Self { feed: mint("feed"), search: mint("search") }
    }

    fn named(&self, placeholder: &str) -> Vec<u8> {
        match placeholder {
            "$FEED_CERT" => self.feed.leaf().to_vec(),
            "$SEARCH_CERT" => self.search.leaf().to_vec(),
            other => panic!("unknown certificate `{other}`"),
        }
    }
}

impl Case {
    /// Reads a case with its configuration.
    ///
    /// # Panics
    /// The case is not as it should be.
    pub fn read(case: &Value, configs: &Value, certificates: &Certificates) -> Self {
        let path = case["path"].as_str().expect("a path").to_owned();
        let mut policy = policy(&configs[case["config"].as_str().expect("a config")], certificates);
        let rules = permission_rules(&case["acl"], &path);
        if !rules.is_empty() {
            policy["data-plane"]["permission-rules"] = rules.into();
        }
        let headers = case["headers"].as_object().expect("headers").iter();
        let authorization = headers.flat_map(|(name, value)| {
            assert!(name.eq_ignore_ascii_case("authorization"), "{name}");
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            values.into_iter().map(|value| value.as_str().expect("text").to_owned())
        });
        Self {
            endpoint: match case["filter"].as_str() {
                Some("mtls") => Endpoint::Mtls,
                Some("token") => Endpoint::Token,
                other => panic!("unknown filter {other:?}"),
            },
            policy,
            leaf: case["client_cert"].as_str().map(|name| certificates.named(name)),
            now: case["now"].as_str().expect("an instant").parse().expect("an instant"),
            method: case["method"].as_str().expect("a method").to_owned(),
            path,
            authorization: authorization.collect(),
            status: u16::try_from(case["expected_status"].as_u64().expect("a status")).expect("a status"),
            client: client(case),
        }
    }

    /// The case as of now: what was valid then stays valid, what had expired then has expired.
    ///
    /// # Panics
    /// The policy is not one of [`Case::read`].
    #[must_use]
    pub fn brought_to_now(self) -> Self {
        let mut policy = self.policy;
        for client in policy["data-plane"]["clients"].as_array_mut().expect("clients") {
            let Some(tokens) = client.get_mut("tokens").and_then(Value::as_array_mut) else { continue };
            for version in
                tokens.iter_mut().flat_map(|token| token["versions"].as_array_mut().expect("versions"))
            {
                let Ok(expiration) = version["expiration"].as_str().expect("text").parse::<UnixTime>() else {
                    continue;
                };
                let year = if self.now > expiration { 2000 } else { 9000 };
                version["expiration"] = format!("{year}-01-01T00:00:00Z").into();
            }
        }
        let now = UnixTime::from_seconds(OffsetDateTime::now_utc().unix_timestamp());
        Self { policy, now, ..self }
    }

    /// What differs from the vector.
    ///
    /// # Panics
    /// The vector's client is no object.
    pub fn fault(&self, answer: &Answer) -> Option<String> {
        let status_is_right = answer.status == self.status;
        let client_is_right = self.client.as_ref().is_none_or(|expected| {
            let expected = expected.as_object().expect("an object").iter();
            answer
                .client
                .as_ref()
                .is_some_and(|client| expected.into_iter().all(|(key, value)| client[key] == *value))
        });
        (!(status_is_right && client_is_right)).then(|| format!("{answer:?}"))
    }
}

/// `ids` and `permissions`, or `token`.
fn client(case: &Value) -> Option<Value> {
    let log = &case["access_log"];
    if !log.is_null() {
        let token =
            json!({"id": log["token.id"], "fingerprint": log["token.hash"], "expiration": log["token.exp"]});
        return Some(json!({ "token": token }));
    }
    case.get("principal").cloned()
}

/// The configuration of a filter of Vespa: parallel arrays become versions, the legacy mode becomes `any`.
fn policy(config: &Value, certificates: &Certificates) -> Value {
    let clients: Vec<Value> = list(&config["clients"])
        .iter()
        .map(|client| {
            let mut ours = json!({"id": client["id"], "permissions": client["permissions"]});
            if client["tokens"].is_null() {
                let pinned = list(&client["certificates"]).iter().map(|name| {
                    json!({"sha256": hex(&sha256(&certificates.named(name.as_str().expect("a name"))))})
                });
                ours["certificates"] = pinned.collect();
            } else {
                ours["tokens"] = list(&client["tokens"]).iter().map(token).collect();
            }
            ours
        })
        .collect();
    let mut data_plane = json!({ "clients": clients });
    if let Some(context) = config["tokenContext"].as_str() {
        data_plane["token-context"] = context.into();
    }
    if config["legacyMode"] == true {
        data_plane["trusted-certificates"] = "any".into();
    }
    json!({ "data-plane": data_plane })
}

fn token(token: &Value) -> Value {
    let column = |key: &str| list(&token[key]).to_vec();
    let (hashes, expirations) = (column("checkAccessHashes"), column("expirations"));
    let versions = column("fingerprints").into_iter().zip(hashes).zip(expirations);
    let versions: Vec<Value> = versions
        .map(|((fingerprint, hash), expiration)| {
            json!({"fingerprint": fingerprint, "check-access-hash": hash, "expiration": expiration})
        })
        .collect();
    json!({"id": token["id"], "versions": versions})
}

/// What a handler says of its methods becomes a rule for its path. The search handler has one without being asked, and
/// for actions other than `read` and `write` there is nothing to say.
fn permission_rules(acl: &Value, path: &str) -> Vec<Value> {
    let Some(overridden) = acl["override"].as_object() else {
        assert_eq!(acl, "standard");
        return Vec::new();
    };
    let rules = overridden.iter().filter(|(_, action)| ["read", "write"].iter().any(|word| *action == word));
    let rules = rules.filter(|_| !path.starts_with("/search/"));
    rules
        .map(|(method, action)| json!({"methods": [method], "paths": [path], "permission": action}))
        .collect()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
