//! One question, one answer: the engine natively, `filter.wasm` in our host's VM, and `filter.wasm` in real Envoy.

use std::{collections::BTreeMap, io::ErrorKind, net::SocketAddr, rc::Rc};

use peergate_host::{
    envoy::Protocol,
    pki::{Credential, Leaf, fits_certificate, throwaway},
    wasm::{Connection, Filter, Outcome, PeerCertificate, Tls, Worker},
};
use peergate_policy::{Decision, PeerIdentity, Policy};
use peergate_tests::{
    client::Client,
    der,
    envoy::{CURRENT, OLD, Running, listener, skipped, start},
    hostile::{self, Hostile},
    pki::Pki,
    policies::peer_endpoint,
    upstream::Upstream,
    vectors::{AuthorizeCase, GlobCase, cases, compatibilities, single_credential, with_compatibility},
};
use serde_json::{Value, json};

/// A vector that a certificate can carry, and the engine's own answer.
struct Case {
    name: String,
    policy: Value,
    leaf: Leaf,
    /// Every CN, where there are several.
    common_names: Option<Vec<String>>,
    allow: bool,
    matched: Vec<String>,
}

impl Case {
    fn new(name: String, policy: Value, peer: &PeerIdentity) -> Option<Self> {
        if !fits_certificate(peer) {
            return None;
        }
        let decision = Policy::parse(&policy.to_string()).expect("a policy").authorize(peer);
        let matched = decision.matched().rules.iter().map(ToString::to_string).collect();
        let leaf = Leaf { names: peer.clone(), ..Leaf::new() };
        let allow = matches!(decision, Decision::Allow(_));
        Some(Self { name, policy, leaf, common_names: None, allow, matched })
    }

    /// The same, issued by an authority that the gate trusts.
    fn credential(&self, pki: &Pki) -> Credential {
        match &self.common_names {
            Some(names) => der::with_subject(pki.authority(), &self.leaf, &subject(names)),
            None => pki.authority().issue(&self.leaf).expect("a certificate"),
        }
    }
}

fn subject(common_names: &[String]) -> Vec<u8> {
    let names: Vec<_> = common_names.iter().map(|name| [(der::CN, der::UTF8, name.as_bytes())]).collect();
    der::subject(&names.iter().map(|name| &name[..]).collect::<Vec<_>>())
}

fn all_cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (index, vector) in cases("authorize.json", AuthorizeCase::read).into_iter().enumerate() {
        for compatibility in compatibilities(&vector.implementations) {
            let policy = with_compatibility(&vector.config, compatibility);
            let case = Case::new(format!("authorize[{index}] {compatibility}"), policy, &vector.peer);
            all.extend(case.map(|case| Case { common_names: vector.all_cns.clone(), ..case }));
        }
    }
    for (index, vector) in cases("glob.json", GlobCase::read).iter().enumerate() {
        let Some((policy, peer)) = single_credential(vector) else { continue };
        all.extend(Case::new(format!("glob[{index}]"), policy, &peer));
    }
    assert!(all.len() > 200, "only {} vectors fit into certificates", all.len());
    assert!(all.iter().any(|case| case.common_names.is_some()));
    all
}

#[test]
fn the_filter_in_our_host_answers_as_the_engine() {
    let filter = Filter::embedded().expect("the embedded filter");
    let mut by_policy: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in all_cases() {
        by_policy.entry(case.policy.to_string()).or_default().push(case);
    }
    for cases in by_policy.values() {
        let worker = worker(&filter, &cases[0].policy);
        for case in cases {
            let leaf = match case.common_names {
                None => throwaway(&case.leaf.names).expect("the names fit"),
                Some(_) => case.credential(&Pki::new()).leaf().clone(),
            };
            let verdict = worker.judge_connection(&connection(&leaf));
            let decision: Value = serde_json::from_str(&verdict.decision).expect("a decision is JSON");
            assert_eq!(verdict.allow, case.allow, "{}: {decision}", case.name);
            assert_eq!(decision["decision"], if case.allow { "allow" } else { "deny" }, "{}", case.name);
            assert_eq!(decision["matched"], json!(case.matched), "{}: {decision}", case.name);
            assert_eq!(request_admitted(&worker, &connection(&leaf)), case.allow, "{}", case.name);
        }
    }
}

#[test]
fn hostile_certificates_are_refused_in_our_host() {
    let filter = Filter::embedded().expect("the embedded filter");
    let pki = Pki::new();
    for Hostile { name, policy, credential, reason } in hostile::all(&pki) {
        let verdict = worker(&filter, &policy).judge_connection(&connection(credential.leaf()));
        let decision: Value = serde_json::from_str(&verdict.decision).expect("a decision is JSON");
        assert_eq!(verdict.allow, reason.is_none(), "{name}: {decision}");
        assert_eq!(decision["reason"].as_str().filter(|_| !verdict.allow), reason, "{name}: {decision}");
    }
}

fn worker(filter: &Filter, policy: &Value) -> Rc<Worker> {
    Rc::new(Worker::start(filter, &peer_endpoint(policy).to_string()).expect("the policy is good"))
}

/// Needs no capability: the vectors say who is admitted, and what for is another question.
const PATH: &str = "/state/v1/health";

/// The answer of the HTTP context to a request on this connection.
fn request_admitted(worker: &Rc<Worker>, connection: &Rc<Connection>) -> bool {
    let request = [(":authority", "localhost"), (":path", PATH), (":method", "GET"), (":scheme", "https")];
    let headers = request.map(|(name, value)| (name.into(), value.into()));
    match worker.open_stream(connection).request_headers(headers.into(), true) {
        Outcome::Continue(_) => true,
        Outcome::Reply(reply) if reply.status == 403 => false,
        other => panic!("neither an admission nor a denial: {other:?}"),
    }
}

fn connection(leaf: &[u8]) -> Rc<Connection> {
    let tls = Tls {
        version: "TLSv1.3",
        server_name: None,
        alpn: None,
        peer: Some(PeerCertificate::from_der(leaf)),
        chain_verified: true,
    };
    let localhost: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    Rc::new(Connection::new(1, localhost, localhost, Some(tls)))
}

#[test]
fn the_filter_in_envoy_answers_as_the_engine() {
    if skipped("the filter in Envoy answers as the engine") {
        return;
    }
    let cases = all_cases();
    for (release, protocol) in [(CURRENT, Protocol::Http), (OLD, Protocol::Http), (CURRENT, Protocol::Tcp)] {
        let pki = Pki::new();
        let gates = Gates::start(release, protocol, &pki, cases.iter().map(|case| &case.policy));
        for case in &cases {
            let admitted = gates.admits(&case.policy, &pki, &case.credential(&pki));
            assert_eq!(admitted, Ok(case.allow), "{} in {release} {protocol:?}", case.name);
        }
    }
}

#[test]
fn hostile_certificates_are_refused_in_envoy() {
    if skipped("hostile certificates are refused in Envoy") {
        return;
    }
    for release in [CURRENT, OLD] {
        let pki = Pki::new();
        let all = hostile::all(&pki);
        let gates = Gates::start(release, Protocol::Http, &pki, all.iter().map(|hostile| &hostile.policy));
        for Hostile { name, policy, credential, reason } in &all {
            let admitted = gates.admits(policy, &pki, credential);
            // Envoy's TLS library may refuse such a certificate before the filter sees it.
            assert_eq!(admitted.unwrap_or(false), reason.is_none(), "{name} in {release}");
        }
    }
}

/// An Envoy with one listener for each policy.
struct Gates {
    protocol: Protocol,
    addresses: BTreeMap<String, SocketAddr>,
    _envoy: Running,
    _upstream: Upstream,
}

impl Gates {
    fn start<'a>(
        release: &str,
        protocol: Protocol,
        pki: &Pki,
        policies: impl Iterator<Item = &'a Value>,
    ) -> Self {
        let names: BTreeMap<String, (String, &Value)> = policies
            .map(|policy| (policy.to_string(), policy))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .enumerate()
            .map(|(index, (text, policy))| (text, (format!("gate{index}"), policy)))
            .collect();
        let upstream = Upstream::echo();
        let listeners = names.values().map(|(name, policy)| {
            let mut gate = listener(release, name, pki, protocol, peer_endpoint(policy));
            gate.vm_id = Some("parity".to_owned());
            gate.upstream = Some(upstream.address).filter(|_| protocol == Protocol::Tcp);
            gate
        });
        let envoy = start(release, listeners.collect());
        let addresses = names.into_iter().map(|(text, (name, _))| (text, envoy.address(&name))).collect();
        Self { protocol, addresses, _envoy: envoy, _upstream: upstream }
    }

    /// Whether the peer gets an answer; `Err` when that is neither an admission nor a denial by the filter.
    fn admits(&self, policy: &Value, pki: &Pki, credential: &Credential) -> Result<bool, String> {
        let address = self.addresses[&policy.to_string()];
        let mut client = Client::connect(address, pki.ca(), Some(credential))
            .map_err(|error| format!("handshake: {error}"))?;
        if self.protocol == Protocol::Tcp {
            // A refused client may fail to write already.
            client.write(b"x").ok();
            return match client.read_exact(&mut [0]) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Err("neither an answer nor an end".to_owned())
                }
                Err(_) => Ok(false),
            };
        }
        match client.get(PATH).map(|answer| answer.status()) {
            Ok(200) => Ok(true),
            Ok(403) => Ok(false),
            other => Err(format!("{other:?}")),
        }
    }
}
