//! Ways past the filter in real Envoy: a second listener that leads to the guarded service. Where `peergate check --envoy` says unsafe a
//! stranger gets through, where it says safe nobody does, and it says the same of the file and of the `/config_dump` of that Envoy.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use peergate_host::{
    envoy::{Bootstrap, Envoy, Listener, Protocol},
    lint::{Rule, Severity, lint},
};
use peergate_tests::{
    commands::{GET, s_client},
    envoy::{CURRENT, binary, listener, skipped},
    filter,
    pki::Pki,
    policies::{node, peer_endpoint, stranger, vespa_example},
    root,
    upstream::Upstream,
    wait,
};
use serde_json::{Value, json};

/// A guarded listener `gate`, and what a case adds to it.
struct Scene {
    pki: Pki,
    guarded: Upstream,
    other: Upstream,
    bootstrap: Value,
}

const TYPES: &str = "type.googleapis.com/envoy";

impl Scene {
    fn new() -> Self {
        let (pki, guarded, other) = (Pki::new(), Upstream::http(), Upstream::http());
        let gate = Listener {
            upstream: Some(guarded.address),
            ..listener(CURRENT, "gate", &pki, Protocol::Http, peer_endpoint(&vespa_example()))
        };
        let bootstrap = Bootstrap { filter: filter(), listeners: vec![gate] }.to_json();
        let mut scene = Self { pki, guarded, other, bootstrap };
        let elsewhere = scene.other.address;
        scene.cluster("elsewhere", "STATIC", Some(elsewhere));
        scene
    }

    fn listeners(&mut self) -> &mut Vec<Value> {
        self.bootstrap["static_resources"]["listeners"].as_array_mut().expect("a list")
    }

    fn clusters(&mut self) -> &mut Vec<Value> {
        self.bootstrap["static_resources"]["clusters"].as_array_mut().expect("a list")
    }

    fn cluster(&mut self, name: &str, kind: &str, endpoint: Option<SocketAddr>) -> &mut Value {
        let endpoints = endpoint.map(|it| endpoints(&socket(it)));
        let mut cluster = json!({"name": name, "type": kind});
        if let Some(endpoints) = endpoints {
            cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": endpoints});
        }
        self.clusters().push(cluster);
        self.clusters().last_mut().expect("the cluster")
    }

    /// A plaintext listener with this network filter.
    fn side(&mut self, filter: &Value) -> &mut Value {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let side = json!({"name": "side", "address": address, "filter_chains": [{"filters": [filter]}]});
        self.listeners().push(side);
        self.listeners().last_mut().expect("the listener")
    }

    fn write(&self, name: &str, value: &Value) -> PathBuf {
        self.write_text(name, &value.to_string())
    }

    fn write_text(&self, name: &str, text: &str) -> PathBuf {
        let path = self.pki.file(name);
        fs::write(&path, text).expect("a file");
        path
    }

    fn start(&self) -> (Envoy, PathBuf) {
        let config = self.write("bootstrap.json", &self.bootstrap);
        let envoy = Envoy::start_file(&binary(CURRENT), &config, self.pki.directory(), &root())
            .unwrap_or_else(|error| panic!("{error}\n{:#}", self.bootstrap));
        (envoy, config)
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn endpoints(address: &Value) -> Value {
    json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}])
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("{TYPES}.{kind}"));
    json!({"name": name, "typed_config": config})
}

fn tcp_proxy(cluster: &str) -> Value {
    let config = json!({"stat_prefix": "side", "cluster": cluster});
    typed("tcp", "extensions.filters.network.tcp_proxy.v3.TcpProxy", config)
}

fn router() -> Value {
    typed("router", "extensions.filters.http.router.v3.Router", json!({}))
}

/// A connection manager with one route for all.
fn http(route: Value) -> Value {
    let mut all = json!({"match": {"prefix": "/"}});
    all.as_object_mut().expect("a route").extend(route.as_object().expect("an action").clone());
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [all]}]);
    manager(json!({"route_config": {"name": "side", "virtual_hosts": hosts}}), vec![router()])
}

fn manager(mut config: Value, filters: Vec<Value>) -> Value {
    config["stat_prefix"] = json!("side");
    config["http_filters"] = Value::from(filters);
    typed("http", "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", config)
}

/// Rules of what is unsafe.
fn rules(files: &[&Path]) -> Vec<Rule> {
    let files: Vec<_> = files.iter().map(|it| it.to_path_buf()).collect();
    let findings = lint(&files).expect("JSON").list;
    let mut rules: Vec<_> =
        findings.iter().filter(|it| it.severity == Severity::Unsafe).map(|it| it.rule).collect();
    rules.dedup();
    rules
}

/// The status of a plaintext request with these headers.
fn plaintext(address: SocketAddr, headers: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let request = format!("GET / HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// How a case is set up, and what clients of the second listener send.
struct Case {
    name: &'static str,
    add: fn(&mut Scene),
    headers: fn(&Scene) -> String,
    /// What the check finds, if it is unsafe.
    rule: Option<Rule>,
    /// The status that everybody gets at the second listener.
    status: u16,
}

const HOST: fn(&Scene) -> String = |_| "host: localhost\r\n".to_owned();
const TO_UPSTREAM: fn(&Scene) -> String = |scene| format!("host: {}\r\n", scene.guarded.address);

const CASES: &[Case] = &[
    Case {
        name: "the same cluster",
        add: |scene| {
            scene.side(&http(json!({"route": {"cluster": "gate"}})));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "another cluster of the same endpoint",
        add: |scene| {
            let address = scene.guarded.address;
            scene.cluster("alias", "STATIC", Some(address));
            scene.side(&http(json!({"route": {"cluster": "alias"}})));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "the same endpoint by the name of this machine",
        add: |scene| {
            let port = scene.guarded.address.port();
            let endpoint = json!({"socket_address": {"address": "localhost", "port_value": port}});
            let cluster = scene.cluster("alias", "STRICT_DNS", None);
            cluster["dns_lookup_family"] = json!("V4_ONLY");
            cluster["load_assignment"] = json!({"cluster_name": "alias", "endpoints": endpoints(&endpoint)});
            scene.side(&http(json!({"route": {"cluster": "alias"}})));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "one of several weighted clusters",
        add: |scene| {
            let clusters = json!([{"name": "elsewhere", "weight": 0}, {"name": "gate", "weight": 100}]);
            scene.side(&http(json!({"route": {"weighted_clusters": {"clusters": clusters}}})));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "a cluster that the client names",
        add: |scene| {
            scene.side(&http(json!({"route": {"cluster_header": "x-cluster"}})));
        },
        headers: |_| "host: localhost\r\nx-cluster: gate\r\n".to_owned(),
        rule: Some(Rule::Destination),
        status: 200,
    },
    Case {
        name: "an aggregate of clusters",
        add: |scene| {
            let aggregate = json!({"clusters": ["gate", "elsewhere"]});
            let aggregate = typed("aggregate", "extensions.clusters.aggregate.v3.ClusterConfig", aggregate);
            let cluster = json!({"name": "both", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": aggregate});
            scene.clusters().push(cluster);
            scene.side(&http(json!({"route": {"cluster": "both"}})));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "a TCP proxy",
        add: |scene| {
            scene.side(&tcp_proxy("gate"));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "a TCP proxy of weighted clusters",
        add: |scene| {
            let clusters = json!({"clusters": [{"name": "gate", "weight": 1}]});
            let config = json!({"stat_prefix": "side", "weighted_clusters": clusters});
            scene.side(&typed("tcp", "extensions.filters.network.tcp_proxy.v3.TcpProxy", config));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "an internal listener in between",
        add: |scene| {
            let bootstrap = "extensions.bootstrap.internal_listener.v3.InternalListener";
            scene.bootstrap["bootstrap_extensions"] = json!([typed("internal", bootstrap, json!({}))]);
            let inner = json!({"name": "inner", "internal_listener": {}, "filter_chains": [{"filters": [tcp_proxy("gate")]}]});
            scene.listeners().push(inner);
            let address = json!({"envoy_internal_address": {"server_listener_name": "inner"}});
            let cluster = scene.cluster("hop", "STATIC", None);
            cluster["load_assignment"] = json!({"cluster_name": "hop", "endpoints": endpoints(&address)});
            scene.side(&tcp_proxy("hop"));
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "an address that the client names",
        add: |scene| {
            let cluster = scene.cluster("original", "ORIGINAL_DST", None);
            cluster["lb_policy"] = json!("CLUSTER_PROVIDED");
            cluster["original_dst_lb_config"] = json!({"use_http_header": true});
            scene.side(&http(json!({"route": {"cluster": "original"}})));
        },
        headers: |scene| {
            format!("host: localhost\r\nx-envoy-original-dst-host: {}\r\n", scene.guarded.address)
        },
        rule: Some(Rule::Destination),
        status: 200,
    },
    Case {
        name: "a forward proxy",
        add: |scene| {
            let cache = json!({"dns_cache_config": {"name": "cache", "dns_lookup_family": "V4_ONLY"}});
            let kind = "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";
            let cluster = json!({"name": "forward", "lb_policy": "CLUSTER_PROVIDED",
                "cluster_type": typed("envoy.clusters.dynamic_forward_proxy", kind, cache.clone())});
            scene.clusters().push(cluster);
            let hosts = json!([{"name": "all", "domains": ["*"], "routes":
                [{"match": {"prefix": "/"}, "route": {"cluster": "forward"}}]}]);
            let kind = "extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig";
            let filters = vec![typed("envoy.filters.http.dynamic_forward_proxy", kind, cache), router()];
            let routes = json!({"route_config": {"name": "side", "virtual_hosts": hosts}});
            scene.side(&manager(routes, filters));
        },
        headers: TO_UPSTREAM,
        rule: Some(Rule::Destination),
        status: 200,
    },
    Case {
        name: "a default filter chain",
        add: |scene| {
            let side = scene.side(&http(json!({"route": {"cluster": "elsewhere"}})));
            side["filter_chains"][0]["filter_chain_match"] = json!({"transport_protocol": "tls"});
            side["default_filter_chain"] = json!({"filters": [http(json!({"route": {"cluster": "gate"}}))]});
        },
        headers: HOST,
        rule: Some(Rule::ListenerUnguarded),
        status: 200,
    },
    Case {
        name: "another service",
        add: |scene| {
            scene.side(&http(json!({"route": {"cluster": "elsewhere"}})));
        },
        headers: HOST,
        rule: None,
        status: 200,
    },
    Case {
        name: "a redirect",
        add: |scene| {
            scene.side(&http(json!({"redirect": {"https_redirect": true}})));
        },
        headers: HOST,
        rule: None,
        status: 301,
    },
    Case {
        name: "an answer of Envoy's own",
        add: |scene| {
            scene.side(&http(json!({"direct_response": {"status": 204}})));
        },
        headers: HOST,
        rule: None,
        status: 204,
    },
];

#[test]
fn a_listener_past_the_filter_is_unsafe_where_a_stranger_gets_through() {
    if skipped("a listener past the filter is unsafe where a stranger gets through") {
        return;
    }
    for case in CASES {
        let mut scene = Scene::new();
        (case.add)(&mut scene);
        let (envoy, config) = scene.start();
        let side = envoy.listener("side").expect("the second listener");
        assert_eq!(
            plaintext(side, &(case.headers)(&scene)),
            Some(case.status),
            "{}\n{}",
            case.name,
            envoy.log()
        );
        let passed = !scene.guarded.requests().is_empty();
        assert_eq!(passed, case.rule.is_some(), "{}", case.name);
        let expected: Vec<_> = case.rule.into_iter().collect();
        assert_eq!(rules(&[&config]), expected, "{}", case.name);
        let dump = envoy.admin_body("/config_dump?include_eds").expect("the dump");
        let dump = scene.write_text("dump.json", &dump);
        assert_eq!(rules(&[&dump]), expected, "{}: the dump", case.name);
        // The guarded listener itself is as it should be.
        let gate = envoy.listener("gate").expect("the guarded listener");
        let status = |leaf| s_client(&scene.pki, gate, Some(&scene.pki.peer(leaf)), &[], GET).status();
        assert_eq!([status(&node()), status(&stranger())], [Some(200), Some(403)], "{}", case.name);
    }
}

/// A shadow of each request goes to the guarded service.
#[test]
fn a_mirror_of_requests_is_a_way_past_the_filter() {
    if skipped("a mirror of requests is a way past the filter") {
        return;
    }
    let mut scene = Scene::new();
    let mirrors = json!([{"cluster": "gate"}]);
    scene.side(&http(json!({"route": {"cluster": "elsewhere", "request_mirror_policies": mirrors}})));
    let (envoy, config) = scene.start();
    let side = envoy.listener("side").expect("the second listener");
    assert_eq!(plaintext(side, "host: localhost\r\n"), Some(200));
    wait::until("the guarded service gets the shadow", || !scene.guarded.requests().is_empty());
    assert_eq!(rules(&[&config]), [Rule::ListenerUnguarded]);
}

/// The name in the handshake is that of the cluster.
#[test]
fn clients_that_name_the_cluster_in_the_handshake_get_past_the_filter() {
    if skipped("clients that name the cluster in the handshake get past the filter") {
        return;
    }
    let mut scene = Scene::new();
    let by_name = typed("sni", "extensions.filters.network.sni_cluster.v3.SniCluster", json!({}));
    let socket = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {"tls_certificates": [{
            "certificate_chain": {"filename": scene.pki.file("server.pem")},
            "private_key": {"filename": scene.pki.file("server.key")},
        }]},
    }});
    let side = scene.side(&tcp_proxy("elsewhere"));
    // What it reads is the name for sni_cluster.
    let inspector = "extensions.filters.listener.tls_inspector.v3.TlsInspector";
    side["listener_filters"] = json!([typed("tls_inspector", inspector, json!({}))]);
    let chain = &mut side["filter_chains"][0];
    chain["filters"].as_array_mut().expect("filters").insert(0, by_name);
    chain["transport_socket"] = socket;
    let (envoy, config) = scene.start();
    let side = envoy.listener("side").expect("the second listener");
    let finished = s_client(&scene.pki, side, None, &["-servername", "gate"], GET);
    assert_eq!(finished.status(), Some(200), "{}\n{}", finished.output(), envoy.log());
    assert_eq!(scene.guarded.requests().len(), 1);
    assert_eq!(rules(&[&config]), [Rule::Destination]);
}

/// Routes by RDS from a file, which is given to the check or not, before the bootstrap or after it.
#[test]
fn routes_given_beside_are_followed() {
    if skipped("routes given beside are followed") {
        return;
    }
    for (cluster, found, status) in [("gate", Some(Rule::ListenerUnguarded), 200), ("elsewhere", None, 200)] {
        let mut scene = Scene::new();
        scene.bootstrap["node"] = json!({"id": "test", "cluster": "test"});
        let hosts = json!([{"name": "all", "domains": ["*"], "routes":
            [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]);
        let routes = json!({"@type": format!("{TYPES}.config.route.v3.RouteConfiguration"), "name": "delivered",
            "virtual_hosts": hosts});
        let rds = scene.write("rds.json", &json!({"version_info": "1", "resources": [routes]}));
        let source = json!({"path_config_source": {"path": rds}, "resource_api_version": "V3"});
        let config = json!({"rds": {"route_config_name": "delivered", "config_source": source}});
        scene.side(&manager(config, vec![router()]));
        let (envoy, config) = scene.start();
        let side = envoy.listener("side").expect("the second listener");
        wait::until("the routes are delivered", || plaintext(side, "host: localhost\r\n") == Some(status));
        assert_eq!(!scene.guarded.requests().is_empty(), found.is_some(), "{cluster}");
        let expected: Vec<_> = found.into_iter().collect();
        assert_eq!(rules(&[&config, &rds]), expected, "{cluster}");
        assert_eq!(rules(&[&rds, &config]), expected, "{cluster}");
        // Without the file nobody knows.
        assert_eq!(rules(&[&config]), [Rule::Destination], "{cluster}");
        let dump = envoy.admin_body("/config_dump").expect("the dump");
        assert_eq!(rules(&[&scene.write_text("dump.json", &dump)]), expected, "{cluster}: the dump");
    }
}

/// A listener and the filter that a control plane delivers, as Envoy's own dump shows them; what it refused is said.
#[test]
fn a_dump_shows_what_is_delivered_and_what_was_refused() {
    if skipped("a dump shows what is delivered and what was refused") {
        return;
    }
    let mut scene = Scene::new();
    scene.bootstrap["node"] = json!({"id": "test", "cluster": "test"});
    let source = |path: &Path| json!({"path_config_source": {"path": path}, "resource_api_version": "V3"});
    let mut gate = scene.listeners().remove(0);
    gate["@type"] = json!(format!("{TYPES}.config.listener.v3.Listener"));
    let filters = "/filter_chains/0/filters/0/typed_config/http_filters/0";
    let config = gate.pointer_mut(filters).expect("the filter")["typed_config"].take();
    let extension = |config: &Value| {
        let kind = format!("{TYPES}.config.core.v3.TypedExtensionConfig");
        json!({"resources": [{"@type": kind, "name": "authz", "typed_config": config}]})
    };
    let ecds = scene.write("ecds.json", &extension(&config));
    let discovery = json!({"config_source": source(&ecds), "type_urls": [config["@type"]]});
    *gate.pointer_mut(filters).expect("the filter") = json!({"name": "authz", "config_discovery": discovery});
    let lds = scene.write("lds.json", &json!({"resources": [gate]}));
    scene.bootstrap["dynamic_resources"] = json!({"lds_config": source(&lds)});
    let (envoy, bootstrap) = scene.start();
    wait::until("the listener is there", || envoy.listener("gate").is_ok());
    let address = envoy.listener("gate").expect("the listener");
    let status = |leaf| s_client(&scene.pki, address, Some(&scene.pki.peer(leaf)), &[], GET).status();
    assert_eq!([status(&node()), status(&stranger())], [Some(200), Some(403)], "{}", envoy.log());
    // The filter has no name that tells.
    assert_eq!(rules(&[&bootstrap, &lds, &ecds]), []);
    let dumped = || {
        let dump = envoy.admin_body("/config_dump").expect("the dump");
        scene.write_text("dump.json", &dump)
    };
    let findings = lint(&[dumped()]).expect("JSON");
    assert!(findings.is_safe() && findings.filters > 0, "{findings:#?}");
    assert!(findings.list.iter().any(|it| it.rule == Rule::Listener && it.message.contains("`gate`")));

    let mut broken = gate.clone();
    broken["filter_chains"][0]["filters"] = json!([]);
    broken["per_connection_buffer_limit_bytes"] = json!(1);
    broken["listener_filters"] = json!([{"name": "nobody.knows.it"}]);
    let next = scene.write("lds.next", &json!({"resources": [broken]}));
    fs::rename(next, &lds).expect("in its place");
    wait::until("the dump has the refused update", || {
        let findings = lint(&[dumped()]).expect("JSON");
        findings.list.iter().any(|it| it.rule == Rule::UpdateRefused)
    });
    assert!(lint(&[dumped()]).expect("JSON").is_safe());
}
