//! The dashboards and alerts under `host/observability` and `envoy/observability`: a real Prometheus scrapes a real host and a real
//! Envoy that clients of every kind have met, and is asked every query of every panel and the expression of every alert.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peergate_host::envoy::{Bootstrap, Envoy, Protocol};
use peergate_host::pki::{Authority, Credential, Leaf};
use peergate_tests::admin;
use peergate_tests::client::Client;
use peergate_tests::envoy::{CURRENT, binary, listener, skipped};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, peer_endpoint, stranger};
use peergate_tests::prometheus::{Prometheus, Sample, names_in, promtool};
use peergate_tests::upstream::Upstream;
use peergate_tests::{filter, root, wait};
use serde_json::{Value, json};

/// The directories of both.
const SIDES: [&str; 2] = ["host", "envoy"];

/// Alerts that must fire in the scene, each for one instance.
const FIRING: [(&str, &str); 16] = [
    ("PeergateCertificateExpiresSoon", "host"),
    ("PeergateCertificateExpiresSoon", "faulty host"),
    ("PeergateReloadRefused", "host"),
    ("PeergateInsecureMode", "host"),
    ("PeergateDenialsJump", "host"),
    ("PeergateNothingDecided", "faulty host"),
    ("PeergateVmRestarts", "faulty host"),
    ("PeergateEnvoyNothingDecided", "bypassed envoy"),
    ("PeergateEnvoyBypassed", "unasked envoy"),
    ("PeergateEnvoyCertificateExpiresSoon", "unasked envoy"),
    ("PeergateEnvoyListenerRejected", "envoy"),
    ("PeergateEnvoyVmReloads", "envoy"),
    ("PeergateEnvoyInsecureMode", "envoy"),
    ("PeergateEnvoyDenialsJump", "envoy"),
    ("PeergateEnvoyCertificateExpiresSoon", "envoy"),
    ("PeergateEnvoyCertificateExpiresSoon", "bypassed envoy"),
];

/// Series that a panel must have, by title of panel and label.
const LABELS: [(&str, &str, &[&str]); 6] = [
    ("Decisions by outcome", "outcome", &["allow", "deny", "would_deny"]),
    ("Refusals by reason", "reason", &["no_rule_matched", "capability_missing", "token_missing"]),
    ("Top rules", "rule", &["cluster", "monitoring"]),
    ("Dry run: would be refused", "reason", &["no_rule_matched"]),
    ("Shadow matches", "rule", &["candidates"]),
    ("Deprecated names in use", "name", &["old_example"]),
];
const HANDSHAKE_FAILURES: &[&str] =
    &["certificate-expired", "denied", "no-certificate", "not-tls", "unknown-authority"];

fn policy() -> Value {
    let dns = |name: &str| json!([{"field": "SAN_DNS", "must-match": name}]);
    json!({"authorized-peers": [
        {"name": "monitoring", "required-credentials": dns("*.monitor.example.com"), "capabilities": ["vespa.telemetry"]},
        {"name": "cluster", "required-credentials": dns("*.mycluster.vespa.example.com")},
        {"name": "candidates", "required-credentials": dns("node1.mycluster.vespa.example.com"), "mode": "log_only"},
    ]})
}

fn dry_run() -> Value {
    let mut policy = policy();
    policy["authorization-mode"] = json!("log_only");
    policy
}

/// Known to nobody: whatever comes is refused.
fn tokens() -> Value {
    json!({"data-plane": {"token-context": "context", "clients": []}})
}

fn token_names() -> Value {
    json!({"names": ["localhost"], "deprecated-names": ["old.example"]})
}

/// Where the listeners of one proxy are.
struct Doors {
    peers: SocketAddr,
    dry_run: SocketAddr,
    tokens: SocketAddr,
}

/// How often [`Clients::visit`] sends a request without a token: more than one in five seconds over five minutes.
const WITHOUT_TOKEN: usize = 100;

struct Clients {
    pki: Pki,
    node: Credential,
    monitor: Credential,
    stranger: Credential,
    expired: Credential,
    rogue: Credential,
}

impl Clients {
    /// The servers' certificate ends in two days.
    fn new() -> Self {
        let pki = Pki::new();
        let now = time::OffsetDateTime::now_utc();
        let server = Leaf::new().cn("localhost").dns("localhost").ip(std::net::Ipv4Addr::LOCALHOST);
        let server = server.valid(now - time::Duration::HOUR, now + 2 * time::Duration::DAY);
        let issue = |leaf: &Leaf| pki.authority().issue(leaf).expect("a certificate");
        issue(&server).write(pki.directory(), "server").expect("the server's files");
        let monitor = Leaf::new().cn("m").dns("m1.monitor.example.com");
        let (monitor, stranger) = (issue(&monitor), issue(&stranger()));
        let rogue = Authority::root("Other root").expect("a root").issue(&node()).expect("a certificate");
        let (node, expired) = (issue(&node()), issue(&node().expired()));
        Self { node, monitor, stranger, expired, rogue, pki }
    }

    /// Each kind of client comes three times: who is admitted, who is refused for each of several reasons, and who fails in the handshake.
    fn visit(&self, doors: &Doors) {
        for _ in 0..3 {
            assert_eq!(self.get(doors.peers, Some(&self.node), "/"), Some(200));
            assert_eq!(self.get(doors.peers, Some(&self.monitor), "/state/v1/health"), Some(200));
            assert_eq!(self.get(doors.peers, Some(&self.monitor), "/"), Some(403));
            assert_ne!(self.get(doors.peers, Some(&self.stranger), "/"), Some(200));
            assert_eq!(self.get(doors.dry_run, Some(&self.stranger), "/"), Some(200));
            for credential in [Some(&self.expired), Some(&self.rogue), None] {
                assert_eq!(self.get(doors.peers, credential, "/"), None);
            }
            speak_no_tls(doors.peers);
        }
        self.come_without_token(doors.tokens);
    }

    fn come_without_token(&self, address: SocketAddr) {
        let mut client = Client::connect(address, self.pki.ca(), None).expect("a connection");
        for host in ["localhost"; WITHOUT_TOKEN].into_iter().chain(["old.example"; 3]) {
            let request = format!("GET /search/ HTTP/1.1\r\nhost: {host}\r\n\r\n");
            assert_eq!(client.request(request.as_bytes()).expect("an answer").status(), 401);
        }
    }

    /// The status of a request, if there is an answer.
    fn get(&self, address: SocketAddr, credential: Option<&Credential>, path: &str) -> Option<u16> {
        let client = Client::connect(address, self.pki.ca(), credential);
        Some(client.and_then(|mut client| client.get(path)).ok()?.status())
    }
}

fn speak_no_tls(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("written");
    // Whatever comes, the connection ends.
    stream.read_to_end(&mut Vec::new()).ok();
}

/// A host with three listeners.
fn start_host(clients: &Clients, upstream: SocketAddr) -> (Host, Doors, PathBuf) {
    let pki = &clients.pki;
    let peers = write_policy(pki, &policy());
    let listener = |name: &str, endpoints: Value| {
        let upstream = json!({"address": upstream});
        json!({"name": name, "address": "127.0.0.1:0", "upstream": upstream, "endpoints": endpoints})
    };
    let peer = json!({"endpoint": "peer", "policy": peers});
    // Names matter where there are several endpoints.
    let (mut token, mut named) = (token_names(), peer.clone());
    (token["endpoint"], token["policy"]) = (json!("token"), json!(write_policy(pki, &tokens())));
    named["names"] = json!(["peer.example"]);
    let configuration = json!({
        "inbound": [
            listener("peers", json!([peer])),
            listener("dry-run", json!([{"endpoint": "peer", "policy": write_policy(pki, &dry_run())}])),
            listener("tokens", json!([token, named])),
        ],
        "admin": {"address": "127.0.0.1:0"},
    });
    let path = pki.file("host.json");
    fs::write(&path, configuration.to_string()).expect("the configuration");
    let host = Start::config(&path).start();
    wait::until("it listens everywhere", || host.addresses().len() == 3);
    let [peers_at, dry_run, tokens] = host.addresses()[..] else { unreachable!() };
    (host, Doors { peers: peers_at, dry_run, tokens }, peers)
}

/// A filter that traps for whom it does not like, and counts nothing.
fn faulty_filter(pki: &Pki) -> PathBuf {
    let path = pki.file("faulty.wasm");
    fs::write(&path, wat::parse_str(include_str!("faulty.wat")).expect("a module")).expect("the filter");
    path
}

/// An Envoy that takes its listeners from a file (LDS), with a limit of connections.
struct Dynamic {
    envoy: Envoy,
    listeners: Value,
    file: PathBuf,
}

impl Dynamic {
    fn start(clients: &Clients) -> Self {
        let pki = &clients.pki;
        let http =
            |name: &str, configuration: Value| listener(CURRENT, name, pki, Protocol::Http, configuration);
        let mut token = token_names();
        (token["endpoint"], token["policy"]) = (json!("token"), tokens());
        let listeners = vec![
            http("peers", peer_endpoint(&policy())),
            http("dry_run", peer_endpoint(&dry_run())),
            http("tokens", token),
            peergate_host::envoy::Listener {
                upstream: Some(Upstream::echo().address),
                ..listener(CURRENT, "faulty", pki, Protocol::Tcp, json!({}))
            },
        ];
        let mut bootstrap = Bootstrap { filter: filter(), listeners }.to_json();
        let mut listeners = bootstrap["static_resources"]["listeners"].take();
        for listener in listeners.as_array_mut().expect("listeners") {
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        }
        *plugin(&mut listeners[3]).pointer_mut("/vm_config/code/local/filename").expect("the module") =
            json!(faulty_filter(pki));
        let file = pki.file("lds.json");
        replace(&file, &json!({"resources": listeners}));
        bootstrap["static_resources"].as_object_mut().expect("an object").remove("listeners");
        // Histograms are shown after it.
        bootstrap["stats_flush_interval"] = json!("1s");
        bootstrap["node"] = json!({"id": "a", "cluster": "a"});
        bootstrap["dynamic_resources"] = json!({"lds_config": {"path_config_source": {"path": file}}});
        bootstrap["overload_manager"] = json!({"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": 1000,
            },
        }]});
        Self { envoy: start_envoy(pki, "dynamic", &bootstrap), listeners, file }
    }

    fn doors(&self) -> Doors {
        let at = |name: &str| self.envoy.listener(name).expect("its address");
        Doors { peers: at("peers"), dry_run: at("dry_run"), tokens: at("tokens") }
    }

    /// A trap; Envoy makes a new VM when somebody needs one.
    fn trap(&self, clients: &Clients, trap: &Credential) {
        let address = self.envoy.listener("faulty").expect("its address");
        assert_eq!(clients.get(address, Some(trap), "/"), None);
        wait::until("there is a new VM", || {
            assert_eq!(clients.get(address, Some(trap), "/"), None);
            let stats = self.envoy.admin_body("/stats?filter=vm_reload_success").expect("the statistics");
            stats.lines().any(|line| line.starts_with("wasm.peergate_l4_faulty.") && !line.ends_with(" 0"))
        });
    }

    /// An update with a policy that cannot be read.
    fn reject_an_update(&mut self) {
        plugin(&mut self.listeners[0])["configuration"]["value"] = json!(r#"{"authorised-peers": []}"#);
        replace(&self.file, &json!({"resources": self.listeners}));
    }
}

/// Callbacks and imports of the filter that are allowed where requests pass it.
const ALLOWED: [&str; 12] = [
    "proxy_on_context_create",
    "proxy_on_configure",
    "proxy_on_vm_start",
    "proxy_log",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_get_buffer_bytes",
    "proxy_send_local_response",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
];

/// An Envoy whose filter is never asked about requests, but may hear of them by `callbacks`.
fn start_bypassed(pki: &Pki, upstream: SocketAddr, callbacks: &[&str]) -> Envoy {
    let mut gate = listener(CURRENT, "bypassed", pki, Protocol::Http, peer_endpoint(&policy()));
    gate.upstream = Some(upstream);
    let mut bootstrap = Bootstrap { filter: filter(), listeners: vec![gate] }.to_json();
    let allowed: Value =
        ALLOWED.iter().chain(callbacks).map(|name| ((*name).to_owned(), json!({}))).collect();
    plugin(&mut bootstrap["static_resources"]["listeners"][0])["capability_restriction_config"] =
        json!({"allowed_capabilities": allowed});
    start_envoy(pki, &format!("bypassed-{}", callbacks.len()), &bootstrap)
}

fn start_envoy(pki: &Pki, name: &str, bootstrap: &Value) -> Envoy {
    let directory = pki.file(name);
    fs::create_dir(&directory).expect("a directory");
    let config = directory.join("bootstrap.json");
    fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
    Envoy::start_file(&binary(CURRENT), &config, &directory, &root()).expect("Envoy starts")
}

/// The configuration of the plugin in a listener of [`Bootstrap`].
fn plugin(listener: &mut Value) -> &mut Value {
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
    for filter in filters {
        let config = &mut filter["typed_config"];
        if config["config"].is_object() {
            return &mut config["config"];
        }
        if let Some(filters) = config["http_filters"].as_array_mut() {
            let wasm = filters.iter_mut().find(|filter| filter["typed_config"]["config"].is_object());
            return &mut wasm.expect("a plugin")["typed_config"]["config"];
        }
    }
    panic!("no plugin")
}

/// Renamed into place, as Envoy wants it.
fn replace(file: &Path, document: &Value) {
    let new = file.with_extension("new");
    fs::write(&new, document.to_string()).expect("written");
    fs::rename(&new, file).expect("renamed");
}

/// The shipped configurations as one, with these targets instead, every second.
fn scrape_configuration(targets: [&[SocketAddr]; 2]) -> Value {
    let mut all = json!({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [], "scrape_configs": []});
    for (side, targets) in SIDES.into_iter().zip(targets) {
        let mut shipped = yaml(side, "scrape.yaml");
        let job = shipped["scrape_configs"][0].take();
        assert_eq!(job["static_configs"][0]["targets"], json!(["127.0.0.1:9901"]));
        all["scrape_configs"].as_array_mut().expect("a list").push(job);
        let last = all["scrape_configs"].as_array_mut().expect("a list").last_mut().expect("a job");
        last["static_configs"] = json!([{"targets": targets}]);
        assert_eq!(shipped["rule_files"], json!(["alerts.yaml"]));
        all["rule_files"].as_array_mut().expect("a list").push(json!(path(side, "alerts.yaml")));
    }
    all
}

fn path(side: &str, file: &str) -> PathBuf {
    root().join(side).join("observability").join(file)
}

fn yaml(side: &str, file: &str) -> Value {
    let text = fs::read_to_string(path(side, file)).expect("the file");
    serde_saphyr::from_str(&text).expect("YAML")
}

fn dashboard(side: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path(side, "dashboard.json")).expect("the file")).expect("JSON")
}

/// The panels that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    list(&dashboard["panels"]).filter(|panel| panel["type"] != "row").collect()
}

fn alerts(side: &str) -> Vec<Value> {
    let document = yaml(side, "alerts.yaml");
    list(&document["groups"]).flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// A query as Grafana would send it for all targets of the job.
fn filled_in(query: &str, job: &str) -> String {
    let filled = query
        .replace("$__rate_interval", "1m")
        .replace("$__range", "5m")
        .replace("$job", job)
        .replace("$instance", ".+");
    assert!(!filled.contains('$'), "a variable that nobody fills in: {query}");
    filled
}

#[test]
fn every_panel_and_every_alert_says_what_happened() {
    if skipped("every panel and every alert says what happened") {
        return;
    }
    let clients = Clients::new();
    let upstream = Upstream::http();
    let (host, host_doors, host_policy) = start_host(&clients, upstream.address);
    let faulty = Start::new(&clients.pki, &json!({}), upstream.address).admin();
    let faulty = faulty.filter(&faulty_filter(&clients.pki)).start();
    let mut dynamic = Dynamic::start(&clients);
    let (envoy_doors, bypassed) = (dynamic.doors(), start_bypassed(&clients.pki, upstream.address, &[]));
    let unasked =
        start_bypassed(&clients.pki, upstream.address, &["proxy_on_done", "proxy_on_log", "proxy_on_delete"]);
    let instances = [
        ("host", host.admin()),
        ("faulty host", faulty.admin()),
        ("envoy", dynamic.envoy.admin()),
        ("bypassed envoy", bypassed.admin()),
        ("unasked envoy", unasked.admin()),
    ];
    let at = |name: &str| instances.iter().find(|(known, _)| *known == name).expect("an instance").1;
    let targets = [at("envoy"), at("bypassed envoy"), at("unasked envoy")];
    let prometheus = Prometheus::start(&scrape_configuration([&[at("host"), at("faulty host")], &targets]));
    wait::until("all are scraped", || prometheus.sum("sum(up)") == 5.0);

    // Series begin with what they count first, which no rate sees: so the clients come twice.
    for round in 1..=2 {
        clients.visit(&host_doors);
        clients.visit(&envoy_doors);
        let wanted = (round * 3) as f64;
        let counted = r#"sum(peergate_decisions_total{reason="no_rule_matched",outcome="deny"})"#;
        wait::until("the host's refusals are scraped", || prometheus.sum(counted) == wanted);
        let counted = r#"sum(peergate_decisions{reason="no_rule_matched",outcome="deny"})"#;
        wait::until("Envoy's refusals are scraped", || prometheus.sum(counted) == wanted);
    }
    for _ in 0..11 {
        assert_eq!(clients.get(faulty.address, Some(&clients.node), "/"), Some(200));
        let address = bypassed.listener("bypassed").expect("its address");
        assert_eq!(clients.get(address, Some(&clients.stranger), "/"), Some(200), "the filter was asked");
    }
    // It passes, and is noticed when it ends.
    let address = unasked.listener("bypassed").expect("its address");
    assert_eq!(clients.get(address, Some(&clients.stranger), "/"), Some(200), "the filter was asked");
    let trap = clients.pki.authority().issue(&Leaf::new().cn("trap")).expect("a certificate");
    assert_eq!(clients.get(faulty.address, Some(&trap), "/"), None);
    dynamic.trap(&clients, &trap);
    fs::write(&host_policy, "{").expect("a broken policy");
    dynamic.reject_an_update();

    assert_alerts(&prometheus, &instances);
    assert_counts(&prometheus, at("host"), at("envoy"));
    for (side, job) in SIDES.into_iter().zip(["peergate", "envoy"]) {
        let tokens = if side == "host" { host_doors.tokens } else { envoy_doors.tokens };
        assert_panels(&prometheus, &dashboard(side), job, || clients.come_without_token(tokens));
        assert_names(&prometheus, side);
    }
    assert_stats(&prometheus);
}

/// The alerts of the list fire or wait to, for their instances, and no others.
fn assert_alerts(prometheus: &Prometheus, instances: &[(&str, SocketAddr)]) {
    let name = |sample: &Sample| {
        let at = instances.iter().find(|(_, address)| address.to_string() == sample.label("instance"));
        (sample.label("alertname").to_owned(), at.map_or("", |(name, _)| name).to_owned())
    };
    let expected: BTreeSet<_> =
        FIRING.iter().map(|(alert, instance)| ((*alert).to_owned(), (*instance).to_owned())).collect();
    let mut seen = BTreeSet::new();
    let mut look = || {
        seen = prometheus.query("ALERTS").expect("alerts").iter().map(&name).collect();
        seen.is_superset(&expected)
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !look() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(seen, expected);

    let groups = prometheus.get("/api/v1/rules")["data"]["groups"].take();
    let rules: Vec<&Value> = list(&groups).flat_map(|group| list(&group["rules"])).collect();
    assert_eq!(rules.len(), SIDES.into_iter().map(|side| alerts(side).len()).sum::<usize>());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        for alert in list(&rule["alerts"]) {
            let annotations = alert["annotations"].to_string();
            assert!(!annotations.contains("{{") && !annotations.contains("error"), "{annotations}");
            assert!(!text(&alert["annotations"]["summary"]).contains("  "), "{annotations}");
        }
    }
}

/// What was driven, what the proxies say themselves, and what Prometheus has, is the same.
fn assert_counts(prometheus: &Prometheus, host: SocketAddr, envoy: SocketAddr) {
    // Each client came six times. The host decides about a connection before its requests.
    let twice = (2 * WITHOUT_TOKEN) as f64;
    for (selector, of_host, of_envoy) in [
        (r#"outcome="deny",reason="no_rule_matched""#, 6.0, 6.0),
        (r#"outcome="deny",reason="capability_missing",rule="monitoring""#, 6.0, 6.0),
        (r#"outcome="deny",reason="token_missing""#, twice + 6.0, twice + 6.0),
        (r#"outcome="would_deny",reason="no_rule_matched""#, 12.0, 6.0),
        (r#"outcome="allow",rule="cluster""#, 12.0, 6.0),
        (r#"outcome="allow",rule="monitoring""#, 18.0, 6.0),
    ] {
        for (name, instance, expected) in
            [("peergate_decisions_total", host, of_host), ("peergate_decisions", envoy, of_envoy)]
        {
            let expression = format!(r#"{name}{{instance="{instance}",{selector}}}"#);
            assert_eq!(prometheus.sum(&expression), expected, "{expression}");
        }
    }
    for (name, page, instance) in
        [("peergate_decisions_total", "/metrics", host), ("peergate_decisions", "/stats/prometheus", envoy)]
    {
        let page = admin::get(instance, page).text();
        let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let said: f64 = lines
            .map(|line| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number"))
            .sum();
        assert_eq!(prometheus.sum(&format!(r#"{name}{{instance="{instance}"}}"#)), said, "{page}");
    }
    for failure in HANDSHAKE_FAILURES {
        let expression =
            format!(r#"peergate_handshake_failures_total{{instance="{host}",failure="{failure}"}}"#);
        assert_eq!(prometheus.sum(&expression), 6.0, "{expression}");
    }
    for (kind, count) in
        [("fail_verify_error", 12.0), ("fail_verify_no_cert", 6.0), ("connection_error", 6.0)]
    {
        let expression = format!(r#"sum(envoy_listener_ssl_{kind}{{instance="{envoy}"}})"#);
        assert_eq!(prometheus.sum(&expression), count, "{expression}");
    }
}

/// `traffic` keeps rates above zero while a panel is waited for: histograms of Envoy come late.
fn assert_panels(prometheus: &Prometheus, dashboard: &Value, job: &str, traffic: impl Fn()) {
    for panel in panels(dashboard) {
        let title = text(&panel["title"]);
        for target in list(&panel["targets"]) {
            let query = filled_in(text(&target["expr"]), job);
            let ask = || prometheus.query(&query).unwrap_or_else(|error| panic!("{title}: {error}"));
            let mut samples = ask();
            wait::until(&format!("{title} has something to show: {query}"), || {
                let full = !samples.is_empty() && samples.iter().all(|sample| sample.value.is_finite());
                if !full {
                    traffic();
                    samples = ask();
                }
                full
            });
            let legend = text(&target["legendFormat"]);
            for label in legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)) {
                let some = samples.iter().any(|sample| !sample.label(label).is_empty());
                assert!(some, "{title}: no label {label}: {samples:?}");
            }
            let expected = LABELS.into_iter().chain((job == "peergate").then_some((
                "Handshake failures by kind",
                "failure",
                HANDSHAKE_FAILURES,
            )));
            for (_, label, values) in expected.filter(|(panel, ..)| *panel == title) {
                for value in values {
                    let found = samples.iter().find(|sample| sample.label(label) == *value);
                    assert!(found.is_some_and(|it| it.value > 0.0), "{title}: {label}={value}: {samples:?}");
                }
            }
        }
    }
}

/// The single numbers.
fn assert_stats(prometheus: &Prometheus) {
    let two_days = 2.0 * 86400.0;
    for (side, job, title, range) in [
        ("host", "peergate", "Hosts up", 2.0..=2.0),
        ("host", "peergate", "Files refused", 1.0..=1.0),
        ("host", "peergate", "Insecure modes", 1.0..=1.0),
        ("host", "peergate", "First certificate ends in", two_days - 600.0..=two_days),
        ("host", "peergate", "Workers silent", 0.0..=0.0),
        ("host", "peergate", "Lines lost", 0.0..=0.0),
        ("envoy", "envoy", "Envoys up", 3.0..=3.0),
        ("envoy", "envoy", "Listeners refused", 1.0..=1.5),
        ("envoy", "envoy", "Filter VMs", 5.0..=20.0),
        ("envoy", "envoy", "VMs replaced", 1.0..=1.5),
        ("envoy", "envoy", "First certificate ends in", two_days - 600.0..=two_days),
        ("envoy", "envoy", "Admitted by a dry run", 3.0..=7.0),
    ] {
        let dashboard = dashboard(side);
        let panel = panels(&dashboard).into_iter().find(|panel| panel["title"] == title).expect(title);
        let query = filled_in(text(&panel["targets"][0]["expr"]), job);
        let value = prometheus.sum(&query);
        assert!(range.contains(&value), "{title}: {query}: {value}");
    }
}

/// A name that nobody exposes is a misspelt one.
fn assert_names(prometheus: &Prometheus, side: &str) {
    let exposed = prometheus.names();
    let dashboard = dashboard(side);
    let queries = panels(&dashboard)
        .into_iter()
        .flat_map(|panel| list(&panel["targets"]))
        .map(|target| text(&target["expr"]));
    let alerts = alerts(side);
    // label_values(EXPRESSION, LABEL)
    let variables = list(&dashboard["templating"]["list"]).filter(|variable| variable["type"] == "query");
    let variables =
        variables.filter_map(|variable| text(&variable["definition"]).strip_prefix("label_values("));
    let variables = variables.filter_map(|call| Some(call.rsplit_once(", ")?.0));
    for expression in queries.chain(alerts.iter().map(|alert| text(&alert["expr"]))).chain(variables) {
        let names = names_in(expression);
        assert!(!names.is_empty(), "{side}: {expression}");
        for name in names {
            assert!(exposed.contains(&name), "{side}: {name} of {expression} is exposed by nobody");
        }
    }
}

#[test]
fn the_files_are_valid_and_each_alert_is_tested() {
    for side in SIDES {
        for (arguments, file) in [
            (&["check", "config"][..], "scrape.yaml"),
            (&["check", "rules"], "alerts.yaml"),
            (&["test", "rules"], "alerts.test.yaml"),
        ] {
            let finished = promtool(arguments, &path(side, file));
            assert_eq!(finished.code, Some(0), "{side}/{file}: {}", finished.output());
        }
        let tests = yaml(side, "alerts.test.yaml");
        for alert in alerts(side) {
            assert_described(side, &alert);
            let name = text(&alert["alert"]);
            let test = list(&tests["tests"])
                .find(|test| test["name"] == name)
                .unwrap_or_else(|| panic!("no test of {name}"));
            let fires = json!(format!(r#"{{alertname="{name}"}}"#));
            let [first, second, ..] = &list(&test["promql_expr_test"]).collect::<Vec<_>>()[..] else {
                panic!("{test}")
            };
            assert_eq!(first["expr"], r#"count by (alertname) (ALERTS{alertstate="firing"})"#, "{name}");
            assert_eq!(first["exp_samples"], json!([]), "{name} is quiet first");
            assert_eq!(
                (&second["expr"], second["exp_samples"].as_array().map(Vec::len)),
                (&first["expr"], Some(1)),
                "{name}"
            );
            assert_eq!(second["exp_samples"][0]["labels"], fires, "{name} fires then");
        }
    }
}

/// How bad it is, what it is, what to do, and where there is more.
fn assert_described(side: &str, alert: &Value) {
    assert!(["critical", "warning"].contains(&text(&alert["labels"]["severity"])), "{alert}");
    let annotations = &alert["annotations"];
    assert!(text(&annotations["summary"]).contains("{{ $labels.instance }}"), "{alert}");
    assert!(text(&annotations["description"]).len() > 60, "{alert}");
    let manual = format!("{}/blob/main/{side}/README.md#", env!("CARGO_PKG_REPOSITORY"));
    let anchor = text(&annotations["runbook_url"]).strip_prefix(&manual).unwrap_or_else(|| panic!("{alert}"));
    let readme = fs::read_to_string(root().join(side).join("README.md")).expect("the manual");
    let anchors = readme.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.replace(' ', "-").replace(|c: char| !c.is_alphanumeric() && c != '-', "")
    });
    assert!(anchors.into_iter().any(|it| it == anchor), "{side}/README.md has no heading for #{anchor}");
    assert!(
        readme.contains(&format!("`{}`", text(&alert["alert"]))),
        "{side}/README.md does not explain {}",
        alert["alert"]
    );
}

/// What Grafana asks of a dashboard, as far as that can be known without it.
#[test]
fn the_dashboards_are_well_formed() {
    const UNITS: [&str; 6] = ["short", "none", "cps", "s", "ns", "dtdurations"];
    const KINDS: [&str; 5] = ["timeseries", "stat", "table", "bargauge", "heatmap"];
    for side in SIDES {
        let dashboard = dashboard(side);
        assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 38), "Grafana 10");
        assert!(dashboard["id"].is_null() && !text(&dashboard["title"]).is_empty());
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard["panels"]) {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title}: {key}"));
            assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{title}");
            for (x, y) in
                (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(taken.insert((x, y)), "{title} lies on another panel");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(KINDS.contains(&text(&panel["type"])), "{title}");
            assert!(!text(&panel["description"]).is_empty(), "{title}");
            assert_eq!(panel["datasource"], source, "{title}");
            assert!(UNITS.contains(&text(&panel["fieldConfig"]["defaults"]["unit"])), "{title}");
            let mut references = BTreeSet::new();
            for target in list(&panel["targets"]) {
                assert_eq!(target["datasource"], source, "{title}");
                assert!(references.insert(text(&target["refId"]).to_owned()), "{title}");
                let expression = text(&target["expr"]);
                let selectors = expression.matches('{').count();
                assert_eq!(
                    expression.matches(r#"{job=~"$job", instance=~"$instance""#).count(),
                    selectors,
                    "{title}: {expression}"
                );
            }
            assert!(!references.is_empty(), "{title}");
        }
        let variables: Vec<_> =
            list(&dashboard["templating"]["list"]).map(|variable| text(&variable["name"])).collect();
        assert_eq!(variables, ["datasource", "job", "instance"]);
    }
}
