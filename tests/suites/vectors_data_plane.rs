//! Vespa's own tests of tokens and data-plane clients, answered by the engine natively, by `filter.wasm` in our host's
//! VM, and by `filter.wasm` in Envoy; and that a token is seen nowhere.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};

use peergate_host::envoy::Protocol;
use peergate_host::pki::Leaf;
use peergate_host::token::base62;
use peergate_host::wasm::{Clock, Connection, Filter, LocalReply, Outcome, PeerCertificate, Tls, Worker};
use peergate_policy::token::Derivation;
use peergate_policy::{Configuration, Decision, DenyReason, Endpoint, Policy, Request, UnixTime, sha256};
use peergate_tests::client::Client;
use peergate_tests::data_plane::{Answer, Case, Certificates, hex};
use peergate_tests::envoy::{CURRENT, OLD, listener, skipped, start};
use peergate_tests::pki::Pki;
use peergate_tests::upstream::Upstream;
use peergate_tests::vectors::{Comparison, list, load};
use serde_json::{Value, json};
use time::OffsetDateTime;

#[test]
fn fingerprints_and_check_hashes_are_those_of_vespa() {
    let mut comparison = Comparison::new("token.json");
    for (index, case) in list(&load("token.json")).iter().enumerate() {
        comparison.answer(index, "engine", token_fault(case));
    }
    comparison.finish();
}

fn token_fault(case: &Value) -> Option<String> {
    let context = case["context"].as_str().expect("a context");
    let Some(token) = case["token"].as_str() else {
        assert!(case["error"].is_string(), "{case}");
        let policy = json!({"data-plane": {"token-context": context, "clients": []}});
        return Policy::parse(&policy.to_string()).is_ok().then(|| "accepted".to_owned());
    };
    let derivation = Derivation::of(token);
    let delimited = derivation.fingerprint().to_string();
    let bytes = case["check_hash_bytes"].as_u64().unwrap_or_default();
    // A shorter output of HKDF is the beginning of a longer one (RFC 5869, 2.3).
    let hash = &derivation.check_hash(context).to_hex()[..usize::try_from(bytes).expect("a length") * 2];
    for (key, ours) in [
        ("fingerprint_hex", delimited.replace(':', "")),
        ("fingerprint_delimited", delimited),
        ("check_hash_hex", hash.to_owned()),
    ] {
        if case[key].as_str().is_some_and(|theirs| theirs != ours) {
            return Some(format!("{key} is {ours}"));
        }
    }
    None
}

#[test]
fn base62_is_that_of_vespa() {
    let mut comparison = Comparison::new("base62.json");
    for (index, case) in list(&load("base62.json")).iter().enumerate() {
        let ours = base62(&unhex(case["bytes_hex"].as_str().expect("hex")));
        comparison.answer(index, "host", (case["base62"] != *ours).then(|| format!("answered {}", *ours)));
    }
    comparison.finish();
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("hex"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

#[test]
fn methods_need_the_permissions_of_vespa() {
    let clients = ["read", "write"].map(|word| {
        let digest = "0".repeat(63) + &word[..1].replace('r', "0").replace('w', "1");
        json!({"id": word, "permissions": [word], "certificates": [{"sha256": digest}]})
    });
    let policy = json!({"data-plane": {"clients": clients}}).to_string();
    let policy = Policy::parse(&policy).expect("a policy");
    let data_plane = policy.data_plane().expect("a data plane");
    let mut comparison = Comparison::new("acl.json");
    for (index, case) in list(&load("acl.json")).iter().enumerate() {
        let default_path = if case["mapping"] == "search" { "/search/" } else { "/" };
        let path = case["path"].as_str().unwrap_or(default_path);
        let request = Request { method: case["method"].as_str().expect("a method"), path };
        let admitted = [("read", 0), ("write", 1)].map(|(word, last)| {
            let mut leaf = [0; 32];
            leaf[31] = last;
            let allowed = matches!(data_plane.judge_certificate(&leaf, request), Decision::Allow(_));
            allowed.then_some(word)
        });
        let needed: Vec<&str> = admitted.into_iter().flatten().collect();
        let wrong = needed != [case["action"].as_str().expect("an action")];
        comparison.answer(index, "engine", wrong.then(|| format!("admitted with {needed:?}")));
    }
    comparison.finish();
}

#[test]
fn requests_are_answered_as_in_vespa_natively_and_by_the_filter() {
    let filter = Filter::embedded().expect("the embedded filter");
    let (configs, certificates) = (load("token_filter_config.json"), Certificates::new());
    let mut comparison = Comparison::new("token_filter.json");
    for (index, vector) in list(&load("token_filter.json")).iter().enumerate() {
        let case = Case::read(vector, &configs, &certificates);
        let filtered = filtered(&filter, &case);
        comparison.answer(index, "filter", case.fault(&filtered));
        // Without a certificate there is nothing that the engine could be asked.
        if case.endpoint == Endpoint::Mtls && case.leaf.is_none() {
            assert_eq!((filtered.status, filtered.reason.as_deref()), (403, Some("no-certificate")));
            continue;
        }
        let native = native(&case);
        comparison.answer(index, "engine", case.fault(&native));
        if filtered.reason.as_deref() != Some("clock-failed") {
            assert_eq!(filtered, native, "{index}: {vector}");
        }
    }
    comparison.finish();
}

fn native(case: &Case) -> Answer {
    let policy = Policy::parse(&case.policy.to_string()).expect("a policy");
    let data_plane = policy.data_plane().expect("a data plane");
    let request = Request { method: &case.method, path: &case.path };
    let decision = match &case.leaf {
        Some(leaf) => data_plane.judge_certificate(&sha256(leaf), request),
        None => data_plane.judge_token(case.authorization.iter().map(String::as_bytes), request, case.now),
    };
    match decision {
        Decision::Allow(grant) => {
            let client = grant.client().expect("a client");
            let ids: Vec<&str> = client.ids.iter().map(AsRef::as_ref).collect();
            let mut told = json!({"ids": ids, "permissions": client.permissions.words().collect::<Vec<_>>()});
            if let Some(token) = &client.token {
                let expiration =
                    token.expiration.map_or_else(|| "<none>".to_owned(), |time| time.to_string());
                told["token"] = json!({"id": &*token.id, "fingerprint": token.fingerprint.to_string(), "expiration": expiration});
            }
            Answer { status: 200, reason: None, client: Some(told) }
        }
        Decision::Deny(denial) => {
            let status = match denial.reason() {
                DenyReason::TokenMissing | DenyReason::TokenRepeated | DenyReason::TokenMalformed => 401,
                _ => 403,
            };
            Answer { status, reason: Some(denial.reason().to_string()), client: None }
        }
    }
}

fn filtered(filter: &Filter, case: &Case) -> Answer {
    let asked = ask(filter, &case.policy, case);
    let decision = &asked.decision;
    let (status, reason) = match &asked.outcome {
        Outcome::Continue(headers) => {
            let authorized = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
            let kept = case.endpoint != Endpoint::Token && !case.authorization.is_empty();
            assert_eq!(authorized, kept, "{headers:?}");
            (200, None)
        }
        Outcome::Reply(reply) => {
            assert_eq!(asks_for_a_token(reply), reply.status == 401, "{reply:?}");
            (reply.status, decision["reason"].as_str().map(str::to_owned))
        }
        Outcome::Failed(reason) => panic!("{reason}: {decision}"),
    };
    assert_eq!(decision["decision"], if status == 200 { "allow" } else { "deny" }, "{decision}");
    Answer { status, reason, client: decision.get("client").cloned() }
}

fn asks_for_a_token(reply: &LocalReply) -> bool {
    let mut challenges = reply.headers.iter().filter(|(name, _)| name == b"www-authenticate");
    challenges.next().is_some_and(|(_, value)| value == b"Bearer")
}

/// What the filter did with a request, and what it said.
struct Asked {
    outcome: Outcome,
    decision: Value,
    metrics: String,
}

fn ask(filter: &Filter, policy: &Value, case: &Case) -> Asked {
    let configuration = json!({"endpoint": case.endpoint.as_str(), "policy": policy}).to_string();
    Configuration::parse(&configuration).expect("a configuration");
    let worker =
        Worker::start_at(filter, &configuration, Clock::Fixed(case.now)).expect("the policy is good");
    let worker = Rc::new(worker);
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = [
        (":authority", "localhost"),
        (":path", &*case.path),
        (":method", &*case.method),
        (":scheme", "https"),
        ("x-other", "stays"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    headers.extend(
        case.authorization.iter().map(|value| (b"authorization".to_vec(), value.clone().into_bytes())),
    );
    let any = policy["data-plane"]["trusted-certificates"] == "any";
    let mut stream = worker.open_stream(&connection(case.leaf.as_deref(), any));
    let outcome = stream.request_headers(headers, true);
    let decision = stream.decision().expect("a decision");
    drop(stream);
    Asked {
        outcome,
        decision: serde_json::from_str(&decision).expect("a decision is JSON"),
        metrics: format!("{:?}", worker.metrics()),
    }
}

/// Pinned certificates come without a chain that anybody verified.
fn connection(leaf: Option<&[u8]>, chain_verified: bool) -> Rc<Connection> {
    let tls = Tls {
        version: "TLSv1.3",
        server_name: None,
        alpn: None,
        peer: leaf.map(PeerCertificate::from_der),
        chain_verified,
    };
    let localhost: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    Rc::new(Connection::new(1, localhost, localhost, Some(tls)))
}

#[test]
fn envoy_answers_as_our_host() {
    if skipped("Envoy answers as our host") {
        return;
    }
    let filter = Filter::embedded().expect("the embedded filter");
    let (configs, certificates) = (load("token_filter_config.json"), Certificates::new());
    let cases: Vec<Case> = list(&load("token_filter.json"))
        .iter()
        .map(|case| Case::read(case, &configs, &certificates).brought_to_now())
        // Envoy's listener wants a certificate, and refuses CONNECT itself.
        .filter(|case| (case.endpoint == Endpoint::Token || case.leaf.is_some()) && case.method != "CONNECT")
        .collect();
    assert!(cases.len() > 20, "{} cases", cases.len());
    for release in [CURRENT, OLD] {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let listeners = cases.iter().enumerate().map(|(index, case)| {
            let configuration = json!({"endpoint": case.endpoint.as_str(), "policy": case.policy});
            let mut gate = listener(release, &format!("gate{index}"), &pki, Protocol::Http, configuration);
            gate.tls.accept_untrusted = case.endpoint == Endpoint::Mtls;
            gate.vm_id = Some("data-plane".to_owned());
            gate.upstream = Some(upstream.address);
            gate
        });
        let envoy = start(release, listeners.collect());
        let anybody = pki.peer(&Leaf::new().cn("anybody")).credential;
        for (index, case) in cases.iter().enumerate() {
            let credential = match &case.leaf {
                Some(leaf) if *leaf == certificates.feed.leaf().to_vec() => &certificates.feed,
                Some(_) => &certificates.search,
                None => &anybody,
            };
            let address = envoy.address(&format!("gate{index}"));
            let mut client = Client::connect(address, pki.ca(), Some(credential)).expect("a connection");
            let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", case.method, case.path);
            head.extend(case.authorization.iter().map(|value| format!("Authorization: {value}\r\n")));
            let before = upstream.requests().len();
            let answer = client.request((head + "content-length: 0\r\n\r\n").as_bytes()).expect("an answer");
            let expected = filtered(&filter, case).status;
            let what = format!("{release} {index} {} {:?}", case.method, case.authorization);
            assert_eq!(answer.status(), expected, "{what}: {answer:?}");
            let challenge = (expected == 401).then_some(&b"Bearer"[..]);
            assert_eq!(answer.header("www-authenticate"), challenge, "{what}");
            let forwarded = upstream.requests().split_off(before);
            assert_eq!(forwarded.len(), usize::from(expected == 200), "{what}");
            assert!(forwarded.iter().all(|request| request.header("authorization").is_none()), "{what}");
        }
    }
}

const SECRET: &str = "vespa_cloud_03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
const RANDOM_PART: &str = "03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
const CONTEXT: &str = "Vespa Cloud tenant data plane:mytenant";

fn version(expiration: &str) -> Value {
    let derivation = Derivation::of(SECRET);
    let hash = derivation.check_hash(CONTEXT).to_hex();
    json!({"fingerprint": derivation.fingerprint().to_string(), "check-access-hash": hash, "expiration": expiration})
}

fn token_policy(versions: &[Value]) -> Value {
    let client = json!({"id": "a", "permissions": ["read"], "tokens": [{"id": "t", "versions": versions}]});
    json!({"data-plane": {"token-context": CONTEXT, "clients": [client]}})
}

fn request(method: &str, path: &str, authorization: &[&str]) -> Case {
    Case {
        endpoint: Endpoint::Token,
        policy: Value::Null,
        leaf: None,
        now: UnixTime::from_seconds(OffsetDateTime::now_utc().unix_timestamp()),
        method: method.to_owned(),
        path: path.to_owned(),
        authorization: authorization.iter().map(ToString::to_string).collect(),
        status: 200,
        client: None,
    }
}

#[test]
fn the_token_is_seen_nowhere() {
    let log = Log::everything();
    let filter = Filter::embedded().expect("the embedded filter");
    let bearer = format!("Bearer {SECRET}");
    let tab = format!("{bearer}\t");
    let lower = format!("bearer {SECRET}");
    let (valid, expired) = (version("<none>"), version("2020-01-01T00:00:00Z"));
    let mut other = valid.clone();
    other["fingerprint"] = "00".repeat(16).into();
    let known = Derivation::of(SECRET).fingerprint().to_string();
    for (versions, method, path, authorization, reason, fingerprint) in [
        (vec![valid.clone()], "GET", "/", vec![&*bearer], None, Some(&known)),
        (vec![valid.clone()], "PUT", "/", vec![&*bearer], Some("permission-missing"), Some(&known)),
        (vec![expired], "GET", "/", vec![&*bearer], Some("token-expired"), Some(&known)),
        (vec![valid.clone(), other], "GET", "/", vec![&*bearer], Some("token-ambiguous"), Some(&known)),
        (vec![], "GET", "/", vec![&*bearer], Some("token-unknown"), None),
        (vec![valid.clone()], "GET", "/", vec![&*bearer, &*bearer], Some("token-repeated"), None),
        (vec![valid.clone()], "GET", "/", vec![&*tab], Some("token-malformed"), None),
        (vec![valid.clone()], "GET", "/", vec![&*lower], Some("token-missing"), None),
        (vec![valid.clone()], "BREW", "/", vec![&*bearer], Some("method-unknown"), None),
        (vec![valid], "GET", "/%00", vec![&*bearer], Some("path-unsafe"), None),
    ] {
        let asked = ask(&filter, &token_policy(&versions), &request(method, path, &authorization));
        let Asked { outcome, decision, metrics } = &asked;
        assert_eq!(decision["reason"].as_str(), reason, "{decision}");
        let token = if reason.is_none() { &decision["client"]["token"] } else { &decision["token"] };
        assert_eq!(token["fingerprint"].as_str(), fingerprint.map(String::as_str), "{decision}");
        let seen = format!("{outcome:?} {decision} {metrics} {}", bytes_as_text(outcome));
        assert!(!seen.contains(RANDOM_PART), "{seen}");
    }
    // A token where its check hash should be is not repeated by the error.
    let mut wrong = version("<none>");
    wrong["check-access-hash"] = SECRET.into();
    let policy = token_policy(&[wrong]);
    let configuration = json!({"endpoint": "token", "policy": policy}).to_string();
    let refused = Worker::start(&filter, &configuration).expect_err("not a hash");
    let native = Configuration::parse(&configuration).expect_err("not a hash");
    let seen = format!("{refused} {refused:?} {native} {native:?}");
    assert!(seen.contains("check-access-hash") && !seen.contains(RANDOM_PART), "{seen}");

    let logged = log.text();
    assert!(logged.contains("token-expired") && logged.contains("permission-missing"), "{logged}");
    assert!(!logged.contains(RANDOM_PART), "{logged}");
}

/// Headers and bodies are bytes, which `Debug` prints as numbers.
fn bytes_as_text(outcome: &Outcome) -> String {
    let pairs = match outcome {
        Outcome::Continue(pairs) => pairs,
        Outcome::Reply(reply) => &reply.headers,
        Outcome::Failed(_) => &Vec::new(),
    };
    let body = if let Outcome::Reply(reply) = outcome { &reply.body[..] } else { b"" };
    let parts = pairs.iter().flat_map(|(name, value)| [&name[..], &value[..]]).chain([body]);
    parts.map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_upstream_gets_the_token_only_where_the_policy_says_so() {
    let filter = Filter::embedded().expect("the embedded filter");
    let bearer = format!("Bearer {SECRET}");
    for (keep, kept) in [(None, false), (Some("remove"), false), (Some("keep"), true)] {
        let mut policy = token_policy(&[version("<none>")]);
        if let Some(word) = keep {
            policy["upstream-headers"] = json!({ "authorization": word });
        }
        let asked = ask(&filter, &policy, &request("GET", "/", &[&bearer]));
        let Outcome::Continue(headers) = asked.outcome else { panic!("{}", asked.decision) };
        assert!(headers.contains(&(b"x-other".to_vec(), b"stays".to_vec())));
        let token = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
        assert_eq!(token.map(|(_, value)| &value[..]), kept.then_some(bearer.as_bytes()), "{keep:?}");
    }
}

#[test]
fn a_hundred_thousand_tokens_fit_into_a_vm() {
    let filter = Filter::embedded().expect("the embedded filter");
    let mut versions: Vec<Value> = (0..99_999)
        .map(|number| {
            json!({"fingerprint": format!("{number:032x}"), "check-access-hash": hex(&sha256(&u32::to_be_bytes(number))),
                "expiration": "2030-01-01T00:00:00Z"})
        })
        .collect();
    versions.push(version("<none>"));
    let clients: Vec<Value> = versions
        .chunks(10)
        .enumerate()
        .map(|(index, versions)| {
            let token = json!({"id": "query-token", "versions": versions});
            json!({"id": format!("client{index}"), "permissions": ["read"], "tokens": [token]})
        })
        .collect();
    let policy = json!({"data-plane": {"token-context": CONTEXT, "clients": clients}});
    let asked = ask(&filter, &policy, &request("GET", "/", &[&format!("Bearer {SECRET}")]));
    assert_eq!(asked.decision["client"]["ids"], json!(["client9999"]), "{}", asked.decision);
}

/// Every line that is logged in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn everything() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(move || writer.clone());
            subscriber.init();
            log
        })
        .clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the log")).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
