//! What the filter leaves in Envoy's filter state: fields for access logs, and the grant of a connection for its requests.

use std::{collections::BTreeMap, fs, io, path::PathBuf, rc::Rc};

use peergate_host::{
    envoy::{Bootstrap, Envoy, Identity, Listener, Protocol},
    pki::{Credential, Leaf},
    wasm::{Connection, Filter, MetricKind, Outcome, PeerCertificate, Tls, Worker},
};
use peergate_policy::{sha256, token::Derivation};
use peergate_tests::{
    client::Client,
    data_plane::hex,
    envoy::{CURRENT, OLD, binary, listener, skipped},
    filter,
    http1::Message,
    http2::{Frame, Http2},
    pki::Pki,
    policies::{node, stranger},
    root,
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};

/// Releases whose network filters can have the certificate.
const RELEASES: [(&str, Identity); 3] =
    [("1.40.0", Identity::Property), ("1.39.3", Identity::Property), ("1.37.0", Identity::FilterState)];

const TOKEN: &str = "vespa_cloud_OnlyForTheSuiteOfFilterState12345678901234567";

/// A cluster that may do all, and monitoring that may not. The order matters to those who forge numbers of rules.
fn rules() -> Value {
    json!({"authorized-peers": [
        {
            "name": "cluster",
            "required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}],
        },
        {
            "name": "monitoring",
            "required-credentials": [{"field": "CN", "must-match": "monitor*"}],
            "capabilities": ["vespa.telemetry"],
        },
    ]})
}

fn monitor(name: &str) -> Leaf {
    Leaf::new().cn(&format!("monitor-{name}")).dns("monitor.example.com")
}

const METRICS: &str = "/state/v1/metrics";
const DOCUMENT: &str = "/document/v1/a/b/docid/c";

fn start(release: &str, pki: &Pki, bootstrap: &Value) -> Envoy {
    let config = pki.file(&format!("filter-state-{release}.json"));
    fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
    Envoy::start_file(&binary(release), &config, pki.directory(), &root())
        .unwrap_or_else(|error| panic!("{release}: {error}"))
}

/// Writes a line with these fields for each request of every listener.
fn log_fields(bootstrap: &mut Value) {
    let format = "fields %REQ(:PATH)% outcome=%FILTER_STATE(wasm.peergate.outcome:PLAIN)% \
                  rule=%FILTER_STATE(wasm.peergate.rule:PLAIN)% client=%FILTER_STATE(wasm.peergate.client:PLAIN)% \
                  token=%FILTER_STATE(wasm.peergate.token:PLAIN)%.\n";
    for listener in bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners") {
        let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
        let manager = filters.last_mut().expect("a connection manager");
        manager["typed_config"]["access_log"][0]["typed_config"]["log_format"] =
            json!({"text_format_source": {"inline_string": format}});
    }
}

#[test]
fn access_logs_can_have_each_field() {
    if skipped("fields of the access log") {
        return;
    }
    let pki = Pki::new();
    let [node, other, pinned] = [node(), stranger(), Leaf::new().cn("feed")]
        .map(|leaf| pki.authority().issue(&leaf).expect("a certificate"));
    let derivation = Derivation::of(TOKEN);
    let version = |expiration: &str| {
        let (fingerprint, hash) = (derivation.fingerprint(), derivation.check_hash("suite").to_hex());
        json!({"fingerprint": fingerprint.to_string(), "check-access-hash": hash, "expiration": expiration})
    };
    let token = |expiration: &str| {
        json!({"data-plane": {"token-context": "suite", "clients": [{"id": "query", "permissions": ["read"],
            "tokens": [{"id": "query-token", "versions": [version(expiration)]}]}]}})
    };
    let pin = json!({"data-plane": {"clients": [{"id": "feed", "permissions": ["read"],
        "certificates": [{"sha256": hex(&sha256(pinned.leaf()))}]}]}});
    let mut tolerant = rules();
    tolerant["authorization-mode"] = json!("log_only");
    let endpoints = [
        ("peer", json!({"endpoint": "peer", "policy": rules()})),
        ("tolerant", json!({"endpoint": "peer", "policy": tolerant})),
        ("mtls", json!({"endpoint": "mtls", "policy": pin})),
        ("token", json!({"endpoint": "token", "policy": token("<none>")})),
        ("expired", json!({"endpoint": "token", "policy": token("2001-01-01T00:00:00Z")})),
    ];
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    for release in [CURRENT, OLD] {
        let gates = endpoints.iter().map(|(name, configuration)| {
            listener(release, name, &pki, Protocol::Http, configuration.clone())
        });
        let mut bootstrap = Bootstrap { filter: filter(), listeners: gates.collect() }.to_json();
        log_fields(&mut bootstrap);
        let envoy = start(release, &pki, &bootstrap);
        for (index, (name, credential, header, status, fields)) in [
            ("peer", Some(&node), "", 200, "outcome=allow rule=cluster client=- token=-."),
            ("peer", Some(&other), "", 403, "outcome=deny rule= client=- token=-."),
            ("tolerant", Some(&other), "", 200, "outcome=would_deny rule= client=- token=-."),
            ("mtls", Some(&pinned), "", 200, "outcome=allow rule=- client=feed token=."),
            ("mtls", Some(&node), "", 403, "outcome=deny rule=- client= token=."),
            ("token", None, &bearer, 200, "outcome=allow rule=- client=query token=query-token."),
            ("token", None, "", 401, "outcome=deny rule=- client= token=."),
            ("expired", None, &bearer, 403, "outcome=deny rule=- client= token=query-token."),
        ]
        .into_iter()
        .enumerate()
        {
            let address = envoy.listener(name).expect("the listener");
            let request = format!("GET /{index} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
            let answer = Client::connect(address, pki.ca(), credential)
                .and_then(|mut client| client.request(request.as_bytes()));
            assert_eq!(answer.expect("an answer").status(), status, "{name} in {release}");
            let line = format!("fields /{index} {fields}");
            wait::until(&format!("`{line}` in {release}:\n{}", envoy.log()), || envoy.log().contains(&line));
        }
    }
}

/// An Envoy that decides about connections and about requests, in two VMs.
struct Layers {
    release: &'static str,
    pki: Pki,
    upstream: Upstream,
    envoy: Envoy,
}

impl Layers {
    fn start(release: (&'static str, Identity), l4: &Value, http: &Value) -> Self {
        Self::with_filters(release, l4, http, |_| ())
    }

    /// Both decisions in one VM, which remembers the first.
    fn in_one_vm(release: (&'static str, Identity), policy: &Value) -> Self {
        Self::with(release, policy, policy, Some("one".to_owned()), |_| ())
    }

    /// `change` may add to the HTTP filters.
    fn with_filters(
        release: (&'static str, Identity),
        l4: &Value,
        http: &Value,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Self {
        Self::with(release, l4, http, None, change)
    }

    fn with(
        (release, identity): (&'static str, Identity),
        l4: &Value,
        http: &Value,
        vm_id: Option<String>,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let gate = |name, protocol, policy: &Value| Listener {
            identity,
            upstream: Some(upstream.address),
            vm_id: vm_id.clone(),
            ..listener(release, name, &pki, protocol, json!({"endpoint": "peer", "policy": policy}))
        };
        let listeners = vec![gate("connection", Protocol::Tcp, l4), gate("gate", Protocol::Http, http)];
        let mut bootstrap = Bootstrap { filter: filter(), listeners }.to_json();
        let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners");
        let connection = listeners.remove(0);
        let network = connection["filter_chains"][0]["filters"].as_array().expect("filters").clone();
        let filters = listeners[0]["filter_chains"][0]["filters"].as_array_mut().expect("filters");
        let (_proxy, decisions) = network.split_last().expect("a TCP proxy");
        filters.splice(0..0, decisions.iter().cloned());
        let manager = filters.last_mut().expect("a connection manager");
        let requests = manager["typed_config"]["http_filters"].as_array_mut().expect("HTTP filters");
        // The connection's filter state is all there is.
        requests.retain(|filter| filter["name"] != "peer_certificate");
        change(requests);
        log_fields(&mut bootstrap);
        let envoy = start(release, &pki, &bootstrap);
        Self { release, pki, upstream, envoy }
    }

    fn issue(&self, leaf: &Leaf) -> Credential {
        self.pki.authority().issue(leaf).expect("a certificate")
    }

    fn connect(&self, credential: &Credential) -> io::Result<Client> {
        let address = self.envoy.listener("gate").expect("the listener");
        Client::connect(address, self.pki.ca(), Some(credential))
    }

    fn get(&self, credential: &Credential, path: &str, header: &str) -> io::Result<Message> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
        self.connect(credential)?.request(request.as_bytes())
    }

    /// The status; 0 where the connection is closed without an answer.
    fn status(&self, credential: &Credential, path: &str, header: &str) -> u16 {
        self.get(credential, path, header).map_or(0, |answer| answer.status())
    }

    /// How many grants of connections were taken over, and how many not for which reason.
    #[track_caller]
    fn assert_grants(&self, taken_over: u32, judged_again: &[(&str, u32)]) {
        let stats = self.envoy.admin_body("/stats?filter=peergate_connection_grants").expect("the counters");
        let mut seen: Vec<_> = stats.lines().map(str::to_owned).collect();
        let family = "wasmcustom.peergate_connection_grants.outcome";
        let mut expected: Vec<_> = judged_again
            .iter()
            .map(|(reason, count)| format!("{family}.judged_again.reason.{reason}: {count}"))
            .collect();
        if taken_over > 0 {
            expected.push(format!("{family}.taken_over: {taken_over}"));
        }
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{}\n{}", self.release, self.envoy.log());
    }
}

#[test]
fn requests_take_over_the_grant_of_their_connection() {
    if skipped("grants of connections") {
        return;
    }
    for release in RELEASES {
        let layers = Layers::start(release, &rules(), &rules());
        let monitor = layers.issue(&monitor("a"));
        let mut client = layers.connect(&monitor).expect("a connection");
        for (path, status) in [(METRICS, 200), (DOCUMENT, 403), (METRICS, 200)] {
            assert_eq!(client.get(path).expect("an answer").status(), status, "{path} in {release:?}");
        }
        layers.assert_grants(1, &[]);
        // The same certificate again is known.
        assert_eq!(layers.status(&monitor, DOCUMENT, ""), 403, "{release:?}");
        layers.assert_grants(1, &[]);
        let node = layers.issue(&node());
        assert_eq!(layers.status(&node, DOCUMENT, ""), 200, "{release:?}");
        layers.assert_grants(2, &[]);
        let stranger = layers.issue(&stranger());
        assert_eq!(layers.status(&stranger, METRICS, ""), 0, "{release:?}");
        layers.assert_grants(2, &[]);
        let stats = layers.envoy.admin_body("/stats/prometheus").expect("the counters");
        let line = r#"peergate_connection_grants{outcome="taken_over"} 2"#;
        assert!(stats.contains(line), "{release:?}: {stats}");
    }
}

#[test]
fn a_grant_of_another_policy_is_none() {
    if skipped("grants of another policy") {
        return;
    }
    // Everybody, and the rules in another spelling.
    let mut described = rules();
    described["authorized-peers"][0]["description"] = json!("the same");
    for release in RELEASES {
        for (wider, document) in [(json!({}), 403), (described.clone(), 403)] {
            let layers = Layers::start(release, &wider, &rules());
            let monitor = layers.issue(&monitor("a"));
            assert_eq!(layers.status(&monitor, DOCUMENT, ""), document, "{release:?}, {wider}");
            layers.assert_grants(0, &[("other_policy", 1)]);
            assert_eq!(layers.status(&monitor, METRICS, ""), 200, "{release:?}, {wider}");
            let stranger = layers.issue(&stranger());
            let expected = if wider == json!({}) { 403 } else { 0 };
            assert_eq!(layers.status(&stranger, METRICS, ""), expected, "{release:?}, {wider}");
        }
    }
}

#[test]
fn a_policy_that_needs_the_certificate_reads_it() {
    if skipped("grants that are not handed over") {
        return;
    }
    let mut policy = rules();
    policy["upstream-headers"] = json!({"policy": true, "subject": true});
    let layers = Layers::start(RELEASES[0], &policy, &policy);
    let monitor = layers.issue(&monitor("a"));
    assert_eq!(layers.status(&monitor, METRICS, ""), 200);
    layers.assert_grants(0, &[]);
    let told = layers.upstream.last_request();
    let subject = told.header("x-peergate-subject").map(String::from_utf8_lossy);
    assert_eq!(subject.as_deref(), Some("CN=monitor-a;DNS=monitor.example.com"));

    policy["upstream-headers"] = json!({"policy": true, "capabilities": true});
    let layers = Layers::start(RELEASES[0], &policy, &policy);
    let monitor = layers.issue(&self::monitor("a"));
    assert_eq!(layers.status(&monitor, METRICS, ""), 200);
    layers.assert_grants(1, &[]);
    let told = layers.upstream.last_request();
    assert_eq!(told.header("x-peergate-policy").map(String::from_utf8_lossy).as_deref(), Some("monitoring"));
    assert!(told.header("x-peergate-capabilities").is_some_and(|it| it.starts_with(b"vespa.")), "{told:?}");
}

/// A filter of `tests/filters` in front of ours, in a VM of its own.
fn foreign(name: &str) -> Value {
    let path: PathBuf = root().join("target/wasm32-wasip1/wasm").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing; build it: make filters", path.display());
    json!({"name": name, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"name": name, "vm_config": {
            "vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": path}},
        }},
    }})
}

#[test]
fn what_another_plugin_writes_is_no_grant() {
    if skipped("forged grants") {
        return;
    }
    for release in RELEASES {
        let layers = Layers::with_filters(release, &rules(), &rules(), |filters| {
            filters.insert(0, foreign("tamper"));
        });
        // Each with a certificate that the filter of requests has not seen yet. What it reads in the certificate is right again.
        for (how, count) in [("rule", 1), ("one-rule-more", 2), ("tag", 3), ("cut", 4), ("long", 5)] {
            let monitor = layers.issue(&monitor(how));
            let header = format!("x-tamper: {how}\r\n");
            assert_eq!(layers.status(&monitor, DOCUMENT, &header), 403, "{how} in {release:?}");
            let mut expected = vec![("broken", count.min(4))];
            if how == "long" {
                expected.push(("other_policy", 1));
            }
            layers.assert_grants(0, &expected);
            assert_eq!(layers.status(&monitor, METRICS, &header), 200, "{how} in {release:?}");
            layers.assert_grants(0, &expected);
        }
        // Nothing there is nothing to count.
        let monitor_without = layers.issue(&monitor("empty"));
        assert_eq!(layers.status(&monitor_without, DOCUMENT, "x-tamper: empty\r\n"), 403, "{release:?}");
        layers.assert_grants(0, &[("broken", 4), ("other_policy", 1)]);
        // The grant of a node on the connection of a monitor.
        assert_eq!(layers.status(&layers.issue(&node()), DOCUMENT, "x-tamper: keep\r\n"), 200, "{release:?}");
        let monitor = layers.issue(&monitor("replay"));
        assert_eq!(layers.status(&monitor, DOCUMENT, "x-tamper: replay\r\n"), 403, "{release:?}");
        layers.assert_grants(1, &[("broken", 4), ("other_policy", 1), ("other_certificate", 1)]);
    }
}

/// What an operator could do who wants to: a client's header in the grant's place.
#[test]
fn a_client_cannot_write_a_grant_through_set_filter_state() {
    if skipped("grants from headers") {
        return;
    }
    let setter = json!({"name": "setter", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
        "on_request_headers": [{
            "object_key": "wasm.peergate.grant",
            "factory_key": "envoy.string",
            "format_string": {"text_format_source": {"inline_string": "%REQ(x-grant)%"}},
        }],
    }});
    let layers = Layers::with_filters(RELEASES[0], &rules(), &rules(), |filters| filters.insert(0, setter));
    let monitor = layers.issue(&monitor("a"));
    assert_eq!(layers.status(&monitor, DOCUMENT, "x-grant: everything\r\n"), 403);
    assert_eq!(layers.status(&monitor, METRICS, "x-grant: everything\r\n"), 200);
    // Envoy lets nobody put a request's object where the connection has one.
    layers.assert_grants(1, &[]);
}

/// Envoy keeps what a network filter wrote in one place for the connection and all of its requests.
#[test]
fn each_request_is_logged_with_its_own_decision() {
    if skipped("requests of one connection") {
        return;
    }
    let layers = RELEASES.into_iter().flat_map(|release| {
        [Layers::start(release, &rules(), &rules()), Layers::in_one_vm(release, &rules())]
    });
    for layers in layers {
        let release = layers.release;
        let monitor = layers.issue(&monitor("a"));
        let address = layers.envoy.listener("gate").expect("the listener");
        let mut client = Http2::connect(address, layers.pki.ca(), Some(&monitor)).expect("a connection");
        let slow = client.request("POST", METRICS, &[], false).expect("sent");
        wait::until("the first request is decided", || {
            let stats = layers.envoy.admin_body("/stats?filter=peergate_decisions").expect("the counters");
            stats.contains("outcome.allow.rule.monitoring: 2")
        });
        let refused = client.request("GET", DOCUMENT, &[], true).expect("sent");
        let frame = head_of(&mut client, refused);
        assert_eq!(frame.status(), 403, "{release:?}");
        client.end(slow).expect("sent");
        assert_eq!(head_of(&mut client, slow).status(), 200, "{release:?}");
        for line in [
            format!("fields {DOCUMENT} outcome=deny rule=monitoring client=- token=-."),
            format!("fields {METRICS} outcome=allow rule=monitoring client=- token=-."),
        ] {
            wait::until(&format!("`{line}` in {release:?}:\n{}", layers.envoy.log()), || {
                layers.envoy.log().contains(&line)
            });
        }
    }
}

fn head_of(client: &mut Http2, stream: u32) -> Frame {
    loop {
        let frame = client.frame().expect("a frame");
        if frame.stream == stream && frame.kind == Frame::HEADERS {
            return frame;
        }
    }
}

/// The same clients, asked of two VMs of our host: the same answers, and the same counters.
#[test]
fn our_host_hands_grants_over_as_envoy_does() {
    if skipped("grants of connections in both") {
        return;
    }
    let layers = Layers::start(RELEASES[0], &rules(), &rules());
    let other = Layers::start(RELEASES[0], &json!({}), &rules());
    let filter = Filter::embedded().expect("the embedded filter");
    let worker = |policy: &Value| {
        let configuration = json!({"endpoint": "peer", "policy": policy}).to_string();
        Rc::new(Worker::start(&filter, &configuration).expect("a VM"))
    };
    for (envoy, [connections, requests]) in
        [(&layers, [worker(&rules()), worker(&rules())]), (&other, [worker(&json!({})), worker(&rules())])]
    {
        let peers = [monitor("a"), node(), stranger()].map(|leaf| envoy.issue(&leaf));
        for peer in peers.iter().chain(&peers) {
            for path in [METRICS, DOCUMENT] {
                let host = status_in_host(&connections, &requests, peer, path);
                assert_eq!(host, envoy.status(peer, path, ""), "{path}");
            }
        }
        let mut counted: Vec<String> = Vec::new();
        for worker in [&connections, &requests] {
            let counters = worker.metrics().into_iter().filter(|it| it.kind == MetricKind::Counter);
            counted.extend(counters.map(|it| format!("{}: {}", it.name, it.value)));
        }
        let stats = envoy.envoy.admin_body("/stats?type=Counters&filter=^wasmcustom").expect("the counters");
        assert_eq!(sums(counted.iter().map(String::as_str)), sums(stats.lines()), "{}", envoy.envoy.log());
    }
}

/// Values by name, without Envoy's prefix.
fn sums<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let (name, value) = line.rsplit_once(": ").expect("a counter");
        let name = name.trim_start_matches("wasmcustom.").to_owned();
        *sums.entry(name).or_default() += value.parse::<u64>().expect("a number");
    }
    assert!(sums.len() > 2, "{sums:?}");
    sums
}

fn status_in_host(connections: &Rc<Worker>, requests: &Rc<Worker>, peer: &Credential, path: &str) -> u16 {
    let tls = Tls {
        version: "TLSv1.3",
        server_name: None,
        alpn: None,
        peer: Some(PeerCertificate::from_der(peer.leaf())),
        chain_verified: true,
    };
    let localhost = ([127, 0, 0, 1], 1).into();
    let connection = Rc::new(Connection::new(1, localhost, localhost, Some(tls)));
    if !connections.judge_connection(&connection).allow {
        return 0;
    }
    let head = [(":authority", "localhost"), (":path", path), (":method", "GET"), (":scheme", "https")];
    let head = head.map(|(name, value)| (name.into(), value.into()));
    match requests.open_stream(&connection).request_headers(head.into(), true) {
        Outcome::Continue(_) => 200,
        Outcome::Reply(reply) => reply.status,
        Outcome::Failed(reason) => panic!("{reason}"),
    }
}
