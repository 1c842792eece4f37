//! What can be wrong around the filter in real Envoy: nothing may pass for it, and somebody must hear of it.
//!
//! Every configuration here that Envoy starts with is looked at by `peergate check --envoy` too.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use peergate_host::{
    envoy::{Bootstrap, Envoy, EnvoyError, Listener, Protocol},
    lint::{Rule, lint},
    pki::Credential,
    render::envoy::Identity,
};
use peergate_tests::{
    commands::{Finished, GET, s_client},
    envoy::{binary, listener, skipped},
    filter,
    pki::{Peer, Pki},
    policies::{node, peer_endpoint, stranger, vespa_example},
    root,
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};

/// Releases that say whether a chain was verified.
const TELLING: [&str; 2] = ["1.40.0", "1.39.3"];
/// Older releases, with one use of the filter each.
const SILENT: [(&str, &[Protocol]); 2] = [("1.37.0", &[Protocol::Tcp]), ("1.36.4", &[Protocol::Http])];
const BOTH: &[Protocol] = &[Protocol::Http, Protocol::Tcp];

/// An Envoy whose configuration was changed for the worse, in front of a service.
struct Damaged {
    what: String,
    pki: Pki,
    upstream: Upstream,
    envoy: Envoy,
    config: PathBuf,
}

impl Damaged {
    fn start(release: &str, protocol: Protocol, change: impl FnOnce(&mut Value)) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let mut bootstrap = bootstrap(release, protocol, &pki, &upstream);
        change(&mut bootstrap["static_resources"]["listeners"][0]);
        let config = write(&pki, &bootstrap);
        let envoy = start(release, &pki, &config).unwrap_or_else(|error| panic!("{release}: {error}"));
        Self { what: format!("{protocol:?} in {release}"), pki, upstream, envoy, config }
    }

    fn address(&self) -> SocketAddr {
        self.envoy.listener("gate").expect("the listener")
    }

    fn tls(&self, peer: Option<&Peer>, arguments: &[&str]) -> Finished {
        s_client(&self.pki, self.address(), peer, arguments, GET)
    }

    fn status(&self, peer: &Peer) -> Option<u16> {
        self.tls(Some(peer), &[]).status()
    }

    /// How often the log has it.
    fn said(&self, text: &str) -> usize {
        self.envoy.log().matches(text).count()
    }

    #[track_caller]
    fn assert_said_once(&self, text: &str) {
        wait::until(&format!("the log has `{text}`"), || self.said(text) > 0);
        assert_eq!(self.said(text), 1, "{}\n{}", self.what, self.envoy.log());
    }

    fn counter(&self, name: &str) -> u64 {
        counter(&self.envoy, name)
    }

    /// What `peergate check --envoy` finds in its configuration.
    fn rules(&self) -> Vec<Rule> {
        rules(&self.config)
    }
}

fn rules(config: &Path) -> Vec<Rule> {
    let findings = lint(&[config.to_owned()]).expect("JSON").list;
    // What each listener does is always noted.
    let mut rules: Vec<_> = findings.iter().map(|it| it.rule).filter(|it| *it != Rule::Listener).collect();
    rules.dedup();
    rules
}

fn bootstrap(release: &str, protocol: Protocol, pki: &Pki, upstream: &Upstream) -> Value {
    let told = TELLING.contains(&release);
    let mut gate = Listener {
        identity: if told { Identity::Property } else { Identity::FilterState },
        upstream: Some(upstream.address),
        ..listener(release, "gate", pki, protocol, peer_endpoint(&vespa_example()))
    };
    gate.vm_id = Some("peergate".to_owned());
    prompt(Bootstrap { filter: filter(), listeners: vec![gate] })
}

/// By default Envoy keeps a connection that it closes for another second.
fn prompt(bootstrap: Bootstrap) -> Value {
    let mut json = bootstrap.to_json();
    for listener in json["static_resources"]["listeners"].as_array_mut().expect("a list") {
        if let Some(manager) = holder(listener, "http_filters") {
            manager["delayed_close_timeout"] = json!("0s");
        }
    }
    json
}

fn write(pki: &Pki, bootstrap: &Value) -> PathBuf {
    let config = pki.file("bootstrap.json");
    fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
    config
}

fn start(release: &str, pki: &Pki, config: &Path) -> Result<Envoy, EnvoyError> {
    Envoy::start_file(&binary(release), config, pki.directory(), &root())
}

fn counter(envoy: &Envoy, name: &str) -> u64 {
    let stats = envoy.admin_body(&format!("/stats?filter=^{name}$")).expect("the statistics");
    stats.rsplit_once(": ").and_then(|(_, count)| count.trim().parse().ok()).unwrap_or_default()
}

/// The first object that has this member.
fn holder<'a>(json: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if json.get(key).is_some() {
        return Some(json);
    }
    match json {
        Value::Object(members) => members.values_mut().find_map(|it| holder(it, key)),
        Value::Array(items) => items.iter_mut().find_map(|it| holder(it, key)),
        _ => None,
    }
}

/// The configuration of the filter's plugin.
fn plugin(listener: &mut Value) -> &mut Value {
    holder(listener, "vm_config").expect("the plugin")
}

fn tls(listener: &mut Value) -> &mut Value {
    &mut listener["filter_chains"][0]["transport_socket"]["typed_config"]
}

fn validation(listener: &mut Value) -> &mut Value {
    &mut tls(listener)["common_tls_context"]["validation_context"]
}

/// How a listener lets in whom it should not.
struct Fault {
    name: &'static str,
    change: fn(&mut Value),
    client: Presents,
    reason: &'static str,
    said: &'static str,
    rule: Rule,
}

#[derive(Clone, Copy, PartialEq)]
enum Presents {
    Plaintext,
    Nothing,
    Node,
    /// The names of a node in a certificate of nobody.
    Forged,
}

const NO_TLS: &str = "peergate: listener without TLS";
const NOT_ASKED: &str = "peergate: listener that lets clients in without a certificate";
const UNVERIFIED: &str = "peergate: listener that does not verify certificates";
const HIDDEN: &str = "peergate: listener that hides the certificates";
const UNTOLD: &str = "peergate: this proxy does not tell whether it verified a certificate";

const WITHOUT_CERTIFICATE: [Fault; 5] = [
    Fault {
        name: "no TLS",
        change: |listener| {
            let chain = listener["filter_chains"][0].as_object_mut().expect("a chain");
            chain.remove("transport_socket").expect("a socket");
        },
        client: Presents::Plaintext,
        reason: "no-certificate",
        said: NO_TLS,
        rule: Rule::Tls,
    },
    Fault {
        name: "no require_client_certificate",
        change: |listener| tls(listener)["require_client_certificate"] = json!(false),
        client: Presents::Nothing,
        reason: "no-certificate",
        said: NOT_ASKED,
        rule: Rule::ClientCertificate,
    },
    Fault {
        name: "no validation_context, and a client with a certificate",
        change: |listener| *validation(listener) = Value::Null,
        client: Presents::Node,
        reason: "no-certificate",
        said: NOT_ASKED,
        rule: Rule::TrustedCa,
    },
    Fault {
        name: "no trusted_ca",
        change: |listener| *validation(listener) = json!({}),
        client: Presents::Nothing,
        reason: "no-certificate",
        said: NOT_ASKED,
        rule: Rule::TrustedCa,
    },
    Fault {
        name: "no trusted_ca, and a forged certificate",
        change: |listener| *validation(listener) = json!({}),
        client: Presents::Forged,
        reason: "no-certificate",
        said: NOT_ASKED,
        rule: Rule::TrustedCa,
    },
];

const UNTRUSTED: [Fault; 2] = [
    Fault {
        name: "ACCEPT_UNTRUSTED",
        change: |listener| *validation(listener) = json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"}),
        client: Presents::Forged,
        reason: "chain-not-verified",
        said: UNVERIFIED,
        rule: Rule::AcceptUntrusted,
    },
    Fault {
        name: "ACCEPT_UNTRUSTED with a trusted_ca",
        change: |listener| validation(listener)["trust_chain_verification"] = json!("ACCEPT_UNTRUSTED"),
        client: Presents::Forged,
        reason: "chain-not-verified",
        said: UNVERIFIED,
        rule: Rule::AcceptUntrusted,
    },
];

impl Fault {
    fn start(&self, release: &str, protocol: Protocol) -> Damaged {
        let damaged = Damaged::start(release, protocol, self.change);
        let what = format!("{}, {}", self.name, damaged.what);
        Damaged { what, ..damaged }
    }

    /// The status that the client gets; `None` where the connection is closed without an answer.
    fn ask(&self, damaged: &Damaged) -> Option<u16> {
        let pki = &damaged.pki;
        match self.client {
            Presents::Plaintext => plaintext(damaged.address()),
            Presents::Nothing => damaged.tls(None, &[]).status(),
            Presents::Node => damaged.status(&pki.peer(&node())),
            Presents::Forged => {
                damaged.status(&pki.store(Credential::self_signed(&node()).expect("a certificate")))
            }
        }
    }

    fn assert_refused(&self, release: &str, protocol: Protocol) {
        let damaged = self.start(release, protocol);
        for _ in 0..2 {
            assert_eq!(self.ask(&damaged), denied(protocol), "{}\n{}", damaged.what, damaged.envoy.log());
        }
        let reason = format!(r#""decision":"deny","reason":"{}""#, self.reason);
        wait::until("each refusal is logged", || damaged.said(&format!("peergate: {{{reason}")) == 2);
        damaged.assert_said_once(self.said);
        assert_eq!(damaged.upstream.bytes(), 0, "{}", damaged.what);
        assert!(damaged.rules().contains(&self.rule), "{}: {:?}", damaged.what, damaged.rules());
    }
}

fn denied(protocol: Protocol) -> Option<u16> {
    (protocol == Protocol::Http).then_some(403)
}

fn plaintext(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream.write_all(GET).expect("sent");
    let mut answer = String::new();
    // A refused connection may be reset.
    stream.read_to_string(&mut answer).ok();
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[test]
fn without_a_verified_certificate_nobody_passes_and_the_listener_is_named() {
    if skipped("without a verified certificate nobody passes") {
        return;
    }
    for protocol in BOTH {
        for fault in &WITHOUT_CERTIFICATE {
            fault.assert_refused("1.40.0", *protocol);
        }
        for (release, fault) in TELLING.iter().zip(&UNTRUSTED) {
            fault.assert_refused(release, *protocol);
        }
    }
}

#[test]
fn without_a_certificate_nobody_passes_in_older_releases() {
    if skipped("without a certificate nobody passes in older releases") {
        return;
    }
    for (release, protocols) in SILENT {
        for protocol in protocols {
            for fault in &WITHOUT_CERTIFICATE {
                fault.assert_refused(release, *protocol);
            }
        }
    }
}

/// What these releases do not tell nobody can know: a warning, and `peergate check --envoy`, are all there is.
#[test]
fn older_releases_do_not_tell_that_a_certificate_is_forged() {
    if skipped("older releases do not tell that a certificate is forged") {
        return;
    }
    for (release, protocols) in SILENT {
        for protocol in protocols {
            for fault in &UNTRUSTED {
                let damaged = fault.start(release, *protocol);
                for _ in 0..2 {
                    assert_eq!(fault.ask(&damaged), Some(200), "{}", damaged.what);
                }
                damaged.assert_said_once(UNTOLD);
                assert!(damaged.rules().contains(&fault.rule), "{}", damaged.what);
            }
        }
    }
}

/// Ways to resume a session: what to leave switched on, and the version that uses it.
const RESUMPTIONS: [(&str, &str, &str); 3] = [
    ("session ids of TLS 1.2", "disable_stateful_session_resumption", "-tls1_2"),
    ("tickets of TLS 1.2", "disable_stateless_session_resumption", "-tls1_2"),
    ("tickets of TLS 1.3", "disable_stateless_session_resumption", "-tls1_3"),
];

/// The status of a full handshake, and of one that resumes its session.
fn resume(damaged: &Damaged, version: &str) -> [Option<u16>; 2] {
    let peer = damaged.pki.peer(&node());
    let session = damaged.pki.file("session");
    let path = session.to_str().expect("a path");
    let first = damaged.tls(Some(&peer), &[version, "-sess_out", path]);
    assert!(first.stdout.contains("\nNew, TLSv1."), "{}: {}", damaged.what, first.output());
    let second = damaged.tls(Some(&peer), &[version, "-sess_in", path]);
    assert!(second.stdout.contains("\nReused, TLSv1."), "{}: {}", damaged.what, second.output());
    [first.status(), second.status()]
}

fn resuming(release: &str, protocol: Protocol, switch: &str) -> Damaged {
    Damaged::start(release, protocol, |listener| tls(listener)[switch] = json!(false))
}

#[test]
fn resumed_sessions_are_refused_and_the_listener_is_named() {
    if skipped("resumed sessions are refused") {
        return;
    }
    for (release, protocols) in [("1.40.0", BOTH), ("1.39.3", &[Protocol::Http])] {
        for protocol in protocols {
            for (name, switch, version) in RESUMPTIONS {
                let damaged = resuming(release, *protocol, switch);
                for _ in 0..2 {
                    let statuses = resume(&damaged, version);
                    assert_eq!(statuses, [Some(200), denied(*protocol)], "{name}, {}", damaged.what);
                }
                damaged.assert_said_once(UNVERIFIED);
                assert_eq!(damaged.rules(), [Rule::SessionResumption], "{name}");
            }
        }
    }
}

#[test]
fn older_releases_do_not_tell_that_a_session_was_resumed() {
    if skipped("older releases do not tell that a session was resumed") {
        return;
    }
    for (release, protocols) in SILENT {
        for protocol in protocols {
            for (name, switch, version) in RESUMPTIONS {
                let damaged = resuming(release, *protocol, switch);
                assert_eq!(resume(&damaged, version), [Some(200); 2], "{name}, {}", damaged.what);
                damaged.assert_said_once(UNTOLD);
                assert_eq!(damaged.rules(), [Rule::SessionResumption], "{name}");
            }
        }
    }
}

#[test]
fn an_older_release_that_hides_certificates_refuses_everybody() {
    if skipped("an older release that hides certificates refuses everybody") {
        return;
    }
    for (release, protocols) in SILENT {
        for protocol in protocols {
            let damaged = Damaged::start(release, *protocol, |listener| {
                let key = if *protocol == Protocol::Http { "http_filters" } else { "filters" };
                let filters = holder(listener, key).expect("filters")[key].as_array_mut().expect("a list");
                assert_eq!(filters.remove(0)["name"], "peer_certificate");
            });
            let peer = damaged.pki.peer(&node());
            for _ in 0..2 {
                assert_eq!(damaged.status(&peer), denied(*protocol), "{}", damaged.what);
            }
            damaged.assert_said_once(HIDDEN);
        }
    }
}

#[test]
fn a_listener_as_it_should_be_says_nothing() {
    if skipped("a listener as it should be says nothing") {
        return;
    }
    for release in TELLING {
        for protocol in BOTH {
            let good = Damaged::start(release, *protocol, |_| ());
            assert_eq!(good.status(&good.pki.peer(&node())), Some(200), "{}", good.what);
            assert_eq!(good.status(&good.pki.peer(&stranger())), denied(*protocol), "{}", good.what);
            wait::until("the refusal is logged", || good.said("no-rule-matched") > 0);
            assert_eq!(good.said("listener"), 0, "{}\n{}", good.what, good.envoy.log());
            assert_eq!(good.said("BYPASSED"), 0, "{}\n{}", good.what, good.envoy.log());
            assert_eq!(good.rules(), [], "{}", good.what);
        }
    }
}

/// Changes a plugin; modules are in the directory.
type Change = fn(&mut Value, &Path);

/// What a plugin can be given that is no filter with a policy.
fn unusable(pki: &Pki) -> Vec<(&'static str, Change)> {
    let module = fs::read(filter()).expect("the filter");
    fs::write(pki.file("truncated.wasm"), &module[..module.len() / 2]).expect("half of it");
    fs::write(pki.file("garbage.wasm"), b"\0asm\x01\0\0\0and then nothing that is a module")
        .expect("garbage");
    fn module_in(plugin: &mut Value, directory: &Path, name: &str) {
        plugin["vm_config"]["code"]["local"]["filename"] = json!(directory.join(name));
    }
    vec![
        ("no module", |plugin, directory| module_in(plugin, directory, "absent.wasm")),
        ("half a module", |plugin, directory| module_in(plugin, directory, "truncated.wasm")),
        ("garbage", |plugin, directory| module_in(plugin, directory, "garbage.wasm")),
        ("a bad policy", |plugin, _| {
            plugin["configuration"]["value"] = json!(r#"{"authorised-peers": []}"#);
        }),
        ("no policy", |plugin, _| plugin["configuration"] = Value::Null),
        ("a Struct", |plugin, _| {
            let kind = "type.googleapis.com/google.protobuf.Struct";
            plugin["configuration"] = json!({"@type": kind, "value": vespa_example()});
        }),
    ]
}

#[test]
fn envoy_does_not_start_without_a_filter_that_has_a_policy() {
    if skipped("Envoy does not start without a filter that has a policy") {
        return;
    }
    let (pki, upstream) = (Pki::new(), Upstream::http());
    let runs = [("1.40.0", BOTH), ("1.39.3", &[Protocol::Http])].into_iter().chain(SILENT);
    for (release, protocols) in runs {
        for protocol in protocols {
            for (name, change) in unusable(&pki) {
                // The worst of the policies: with the others it starts even less.
                let mut bootstrap = bootstrap(release, *protocol, &pki, &upstream);
                let plugin = plugin(&mut bootstrap);
                plugin["failure_policy"] = json!("FAIL_OPEN");
                change(plugin, pki.directory());
                let refused = start(release, &pki, &write(&pki, &bootstrap));
                assert!(
                    matches!(refused, Err(EnvoyError::Ended(_))),
                    "{name}, {protocol:?} in {release}: {refused:?}"
                );
            }
        }
    }
    assert_eq!(upstream.connections(), 0);
}

/// An Envoy whose listeners come from a file.
struct Delivered {
    pki: Pki,
    upstream: Upstream,
    envoy: Envoy,
    release: &'static str,
    protocol: Protocol,
}

impl Delivered {
    fn start(release: &'static str, protocol: Protocol) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let mut bootstrap = bootstrap(release, protocol, &pki, &upstream);
        let mut listeners = bootstrap["static_resources"]["listeners"].take();
        deliver(&pki, &listeners[0].take());
        bootstrap["static_resources"].as_object_mut().expect("resources").remove("listeners");
        bootstrap["node"] = json!({"id": "test", "cluster": "test"});
        let source =
            json!({"path_config_source": {"path": pki.file("lds.json")}, "resource_api_version": "V3"});
        bootstrap["dynamic_resources"] = json!({"lds_config": source});
        let config = write(&pki, &bootstrap);
        let envoy = start_delivered(release, &pki, &config);
        Self { pki, upstream, envoy, release, protocol }
    }

    /// Writes the listener with another plugin.
    fn update(&self, change: impl FnOnce(&mut Value, &Path)) {
        let mut bootstrap = bootstrap(self.release, self.protocol, &self.pki, &self.upstream);
        let listener = &mut bootstrap["static_resources"]["listeners"][0];
        change(plugin(listener), self.pki.directory());
        deliver(&self.pki, listener);
    }

    fn status(&self, leaf: &peergate_host::pki::Leaf) -> Option<u16> {
        let address = self.envoy.listener("gate").expect("the listener");
        s_client(&self.pki, address, Some(&self.pki.peer(leaf)), &[], GET).status()
    }
}

fn start_delivered(release: &str, pki: &Pki, config: &Path) -> Envoy {
    let envoy = start(release, pki, config).unwrap_or_else(|error| panic!("{release}: {error}"));
    wait::until("the listener is there", || envoy.listener("gate").is_ok());
    envoy
}

/// As Envoy wants it: another file that takes the place of the old one.
fn deliver(pki: &Pki, listener: &Value) {
    let mut resource = listener.clone();
    resource["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let next = pki.file("lds.next");
    fs::write(&next, json!({"resources": [resource]}).to_string()).expect("the listener");
    fs::rename(&next, pki.file("lds.json")).expect("in its place");
}

#[test]
fn a_bad_update_leaves_the_old_listener() {
    if skipped("a bad update leaves the old listener") {
        return;
    }
    for (release, protocol) in [
        ("1.40.0", Protocol::Http),
        ("1.40.0", Protocol::Tcp),
        ("1.39.3", Protocol::Http),
        ("1.37.0", Protocol::Tcp),
        ("1.36.4", Protocol::Http),
    ] {
        let delivered = Delivered::start(release, protocol);
        let rejected = || counter(&delivered.envoy, "listener_manager.lds.update_rejected");
        for (index, (name, change)) in (0..).zip(unusable(&delivered.pki)) {
            delivered.update(change);
            wait::until(&format!("{name} is rejected in {release}"), || rejected() > index);
            let log = || delivered.envoy.log();
            assert_eq!(delivered.status(&node()), Some(200), "{name}, {protocol:?} in {release}\n{}", log());
            assert_eq!(
                delivered.status(&stranger()),
                denied(protocol),
                "{name}, {protocol:?} in {release}\n{}",
                log()
            );
        }
        // That updates arrive at all.
        let all = json!([{"required-credentials": [{"field": "CN", "must-match": "stranger"}]}]);
        delivered.update(|plugin, _| {
            plugin["configuration"]["value"] =
                json!(peer_endpoint(&json!({"authorized-peers": all})).to_string());
        });
        wait::until("the new policy is in force", || delivered.status(&stranger()) == Some(200));
        assert_eq!(delivered.status(&node()), denied(protocol), "{release}");
    }
}

/// Callbacks and imports of the filter.
const CAPABILITIES: [&str; 24] = [
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_vm_start",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_done",
    "proxy_on_delete",
    "proxy_on_log",
    "proxy_log",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_remove_header_map_value",
    "proxy_add_header_map_value",
    "proxy_send_local_response",
    "proxy_close_stream",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
];

/// Allows all capabilities but some.
fn restrict(plugin: &mut Value, omitted: &[&str]) {
    let allowed = CAPABILITIES.into_iter().filter(|name| !omitted.contains(name));
    let allowed: serde_json::Map<_, _> = allowed.map(|name| (name.to_owned(), json!({}))).collect();
    plugin["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
}

fn restricted(release: &str, protocol: Protocol, omitted: &[&str], failure: &str) -> Damaged {
    let damaged = Damaged::start(release, protocol, |listener| {
        let plugin = plugin(listener);
        restrict(plugin, omitted);
        plugin["failure_policy"] = json!(failure);
    });
    assert!(damaged.rules().contains(&Rule::CapabilityRestriction), "{:?}", damaged.rules());
    damaged
}

#[test]
fn a_complete_restriction_changes_nothing() {
    if skipped("a complete restriction changes nothing") {
        return;
    }
    for protocol in BOTH {
        let complete = restricted("1.40.0", *protocol, &[], "FAIL_RELOAD");
        assert_eq!(complete.status(&complete.pki.peer(&stranger())), denied(*protocol), "{protocol:?}");
        assert_eq!(complete.status(&complete.pki.peer(&node())), Some(200), "{protocol:?}");
        assert_eq!(complete.counter("wasmcustom.peergate_bypassed"), 0);
    }
}

/// The first request passes: nobody asks the filter. It hears of its end, says so, and lets no other request pass.
#[test]
fn a_filter_that_is_not_asked_says_so_and_closes() {
    if skipped("a filter that is not asked says so and closes") {
        return;
    }
    let requests: &[&str] = &["proxy_on_request_headers"];
    let quietly: &[&str] = &["proxy_on_request_headers", "proxy_on_done"];
    let connections: &[&str] = &["proxy_on_downstream_data", "proxy_on_upstream_data"];
    for (release, protocol, omitted) in [
        ("1.40.0", Protocol::Http, requests),
        ("1.40.0", Protocol::Http, quietly),
        ("1.40.0", Protocol::Tcp, connections),
        ("1.39.3", Protocol::Http, requests),
        ("1.37.0", Protocol::Tcp, connections),
        ("1.36.4", Protocol::Http, requests),
    ] {
        let damaged = restricted(release, protocol, omitted, "FAIL_CLOSED");
        let peer = damaged.pki.peer(&stranger());
        assert_eq!(damaged.status(&peer), Some(200), "{omitted:?}, {}", damaged.what);
        damaged.assert_said_once("peergate: BYPASSED");
        assert!(damaged.envoy.log().contains("[critical][wasm]"), "{}", damaged.envoy.log());
        wait::until("it is counted", || damaged.counter("wasmcustom.peergate_bypassed") == 1);
        for _ in 0..3 {
            let status = damaged.status(&peer);
            let failed = (protocol == Protocol::Http).then_some(503);
            assert_eq!(status, failed, "{omitted:?}, {}\n{}", damaged.what, damaged.envoy.log());
        }
    }
}

/// With no callback at all the filter cannot notice. `peergate check --envoy` does.
#[test]
fn a_filter_that_hears_nothing_lets_everybody_pass() {
    if skipped("a filter that hears nothing lets everybody pass") {
        return;
    }
    let callbacks: Vec<_> = CAPABILITIES.into_iter().filter(|name| name.starts_with("proxy_on_")).collect();
    for protocol in BOTH {
        let damaged = restricted("1.40.0", *protocol, &callbacks, "FAIL_RELOAD");
        for _ in 0..2 {
            assert_eq!(damaged.status(&damaged.pki.peer(&stranger())), Some(200), "{protocol:?}");
        }
        assert_eq!(damaged.rules(), [Rule::CapabilityRestriction]);
        assert_eq!(damaged.said("peergate: BYPASSED"), 0);
    }
}

/// A filter that was never configured traps in each of its streams.
#[test]
fn when_the_filter_traps_nothing_passes_but_with_fail_open() {
    if skipped("when the filter traps nothing passes") {
        return;
    }
    for (failure, admitted) in
        [("FAIL_RELOAD", false), ("FAIL_CLOSED", false), ("UNSPECIFIED", false), ("FAIL_OPEN", true)]
    {
        for protocol in BOTH {
            let damaged = restricted("1.40.0", *protocol, &["proxy_on_configure"], failure);
            let statuses: Vec<_> = (0..4).map(|_| damaged.status(&damaged.pki.peer(&stranger()))).collect();
            wait::until("the trap is logged", || damaged.said("peergate: panic at") > 0);
            let passed = statuses.contains(&Some(200));
            assert_eq!(passed, admitted, "{failure}, {protocol:?}: {statuses:?}\n{}", damaged.envoy.log());
            assert_eq!(damaged.rules().contains(&Rule::FailOpen), admitted, "{failure}");
            let reload = failure == "FAIL_RELOAD" || admitted;
            assert_eq!(damaged.rules().contains(&Rule::FailurePolicy), !reload, "{failure}");
        }
    }
}

/// A filter that traps when a request asks it to, in the place of ours.
fn trapping(plugin: &mut Value, failure: &str) {
    let module = root().join("target/wasm32-wasip1/wasm/trace.wasm");
    assert!(module.is_file(), "{} is missing; build it: make filters", module.display());
    plugin["vm_config"]["code"]["local"]["filename"] = json!(module);
    plugin["failure_policy"] = json!(failure);
}

fn get(damaged: &Damaged, listener: &str, path: &str) -> Option<u16> {
    let address = damaged.envoy.listener(listener).expect("the listener");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let peer = damaged.pki.peer(&node());
    s_client(&damaged.pki, address, Some(&peer), &[], request.as_bytes()).status()
}

#[test]
fn after_a_trap_only_fail_reload_recovers() {
    if skipped("after a trap only FAIL_RELOAD recovers") {
        return;
    }
    for release in ["1.40.0", "1.36.4"] {
        for failure in ["FAIL_RELOAD", "FAIL_CLOSED", "UNSPECIFIED"] {
            let damaged = Damaged::start(release, Protocol::Http, |it| trapping(plugin(it), failure));
            assert_eq!(get(&damaged, "gate", "/"), Some(200), "{failure} in {release}");
            assert_eq!(get(&damaged, "gate", "/panic"), Some(503), "{failure} in {release}");
            if failure == "FAIL_RELOAD" {
                wait::until("the filter is back", || get(&damaged, "gate", "/") == Some(200));
                continue;
            }
            // Longer than FAIL_RELOAD of the same configuration needs.
            for _ in 0..8 {
                assert_eq!(get(&damaged, "gate", "/"), Some(503), "{failure} in {release}");
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Two listeners with the same code.
fn twice(pki: &Pki, upstream: &Upstream, vm_ids: [&str; 2]) -> Value {
    let listeners = ["gate", "other"].into_iter().zip(vm_ids).map(|(name, vm_id)| Listener {
        upstream: Some(upstream.address),
        vm_id: Some(vm_id.to_owned()),
        ..listener("1.40.0", name, pki, Protocol::Http, peer_endpoint(&vespa_example()))
    });
    prompt(Bootstrap { filter: filter(), listeners: listeners.collect() })
}

#[test]
fn a_trap_stops_all_filters_of_its_vm_and_no_other() {
    if skipped("a trap stops all filters of its VM") {
        return;
    }
    for (vm_ids, other) in [(["one", "one"], Some(503)), (["one", "two"], Some(200))] {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let mut bootstrap = twice(&pki, &upstream, vm_ids);
        for listener in bootstrap["static_resources"]["listeners"].as_array_mut().expect("a list") {
            trapping(plugin(listener), "FAIL_CLOSED");
        }
        let config = write(&pki, &bootstrap);
        let envoy = start("1.40.0", &pki, &config).expect("Envoy starts");
        let damaged = Damaged { what: format!("{vm_ids:?}"), pki, upstream, envoy, config };
        assert_eq!(get(&damaged, "other", "/"), Some(200));
        assert_eq!(get(&damaged, "gate", "/panic"), Some(503));
        assert_eq!(get(&damaged, "other", "/"), other, "{vm_ids:?}");
        assert_eq!(get(&damaged, "gate", "/"), Some(503));
        // The check does not know this module, but ours in its place.
        write(&damaged.pki, &twice(&damaged.pki, &damaged.upstream, vm_ids));
        let shared = damaged.rules().contains(&Rule::VmIdShared);
        assert_eq!(shared, vm_ids[0] == vm_ids[1], "{:?}", damaged.rules());
    }
}
