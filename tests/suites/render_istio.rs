//! `peergate render istio` and `wasmplugin`: what they write is of Istio's schemas, and each patch, put into a listener like that of
//! a sidecar, is driven in real Envoy. Istio itself is not run here.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use peergate_host::envoy::Envoy;
use peergate_host::pki::Leaf;
use peergate_tests::client::Client;
use peergate_tests::commands::{Finished, curl, peergate, run};
use peergate_tests::envoy::{binary, skipped};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::upstream::{GREETING, Upstream};
use peergate_tests::{filter, root};
use serde_json::{Value, json};

const HTTP: [&str; 4] = ["1.40.0", "1.39.3", "1.37.0", "1.36.4"];
const TCP: [&str; 3] = ["1.40.0", "1.39.3", "1.37.0"];

/// The files under `envoy/istio/`, and what they are made with.
const FILES: [(&str, &[&str]); 5] = [
    ("envoyfilter-http.yaml", &["istio", "--label", "app=vespa"]),
    ("envoyfilter-tcp.yaml", &["istio", "--label", "app=vespa", "--protocol", "tcp", "--port", "19100"]),
    (
        "envoyfilter-tcp-server-first.yaml",
        &["istio", "--label", "app=vespa", "--protocol", "tcp", "--port", "19100", "--server-speaks-first"],
    ),
    (
        "envoyfilter-gateway.yaml",
        &[
            "istio",
            "--gateway",
            "--label",
            "istio=ingressgateway",
            "--namespace",
            "istio-system",
            "--port",
            "8443",
        ],
    ),
    (
        "wasmplugin.yaml",
        &[
            "wasmplugin",
            "--label",
            "app=vespa",
            "--url",
            "oci://registry.example.com/peergate/filter:0.1.0",
            "--sha256",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
];

fn render(arguments: &[&str], more: &[&str]) -> Finished {
    let policy = root().join("envoy/istio/policy.json");
    run(peergate().arg("render").args(arguments).arg("--policy").arg(policy).args(more), b"")
}

/// The resources of a rendering.
fn resources(arguments: &[&str], more: &[&str]) -> Vec<Value> {
    let rendered = render(arguments, &[more, &["--format", "json"]].concat());
    assert_eq!((rendered.code, rendered.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    let list: Value = serde_json::from_str(&rendered.stdout).expect("JSON");
    assert_eq!(list["kind"], "List");
    list["items"].as_array().expect("resources").clone()
}

#[test]
fn the_files_are_what_is_rendered() {
    let mut names = vec!["README.md".to_owned(), "policy.json".to_owned()];
    for (file, arguments) in FILES {
        let rendered = render(arguments, &[]);
        assert_eq!((rendered.code, rendered.stderr.as_str()), (Some(0), ""), "{file}");
        let path = root().join("envoy/istio").join(file);
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            fs::write(&path, &rendered.stdout).expect("the file");
        }
        assert_eq!(fs::read_to_string(path).expect("the file"), rendered.stdout, "{file}: {arguments:?}");
        // The YAML says what the JSON says.
        let documents =
            rendered.stdout.split("---\n").map(|text| serde_saphyr::from_str(text).expect("YAML"));
        assert_eq!(documents.collect::<Vec<Value>>(), resources(arguments, &[]), "{file}");
        names.push(file.to_owned());
    }
    let directory = fs::read_dir(root().join("envoy/istio")).expect("envoy/istio");
    let mut found: Vec<_> =
        directory.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    found.sort();
    names.sort();
    assert_eq!(found, names);
}

#[test]
fn every_resource_is_of_its_schema() {
    for (file, arguments) in FILES {
        for resource in resources(arguments, &[]) {
            let kind = resource["kind"].as_str().expect("a kind");
            let version =
                resource["apiVersion"].as_str().and_then(|it| it.rsplit_once('/')).expect("a version").1;
            let schema = schema(kind, version);
            let mut faults = Vec::new();
            check(&schema["properties"]["spec"], &resource["spec"], "spec", &mut faults);
            assert_eq!(faults, Vec::<String>::new(), "{file}: {kind}");
        }
    }
    let mut wrong = resources(FILES[4].1, &[]).remove(1);
    wrong["spec"]["phase"] = json!("AUTH");
    wrong["spec"]["failstrategy"] = json!("FAIL_RELOAD");
    wrong["spec"]["sha256"] = json!(12);
    let mut faults = Vec::new();
    check(&schema("WasmPlugin", "v1alpha1")["properties"]["spec"], &wrong["spec"], "spec", &mut faults);
    assert_eq!(faults, ["spec.failstrategy: unknown", "spec.phase: \"AUTH\"", "spec.sha256: 12"]);
}

fn schema(kind: &str, version: &str) -> Value {
    let path = root().join("tests/vectors/istio-crds").join(format!("{kind}.yaml"));
    let definition: Value =
        serde_saphyr::from_str(&fs::read_to_string(path).expect("the schema")).expect("YAML");
    assert_eq!(definition["spec"]["names"]["kind"], kind);
    let versions = definition["spec"]["versions"].as_array().expect("versions");
    let version = versions.iter().find(|it| it["name"] == version).expect("the version");
    version["schema"]["openAPIV3Schema"].clone()
}

/// The part of OpenAPI that these schemas use. Unknown keys are faults: Kubernetes would drop them.
fn check(schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        other => panic!("{place}: type {other:?}"),
    };
    let listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let in_range = |bound: &str, holds: fn(i64, i64) -> bool| {
        schema[bound].as_i64().zip(value.as_i64()).is_none_or(|(bound, value)| holds(value, bound))
    };
    let long = |bound: &str| schema[bound].as_u64().zip(value.as_str().map(|text| text.len() as u64));
    let length = long("minLength").is_none_or(|(least, length)| length >= least)
        && long("maxLength").is_none_or(|(most, length)| length <= most);
    if !fits
        || !listed
        || !length
        || !in_range("minimum", |a, b| a >= b)
        || !in_range("maximum", |a, b| a <= b)
    {
        faults.push(format!("{place}: {value}"));
    }
    let one_of = schema["oneOf"].as_array();
    let holding = one_of.map(|branches| branches.iter().filter(|branch| holds(branch, value)).count());
    if holding.is_some_and(|count| count != 1) {
        faults.push(format!("{place}: {} of oneOf", holding.unwrap_or_default()));
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if value.get(key.as_str().expect("a key")).is_none() {
            faults.push(format!("{place}: without {key}"));
        }
    }
    for (key, member) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        let known = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
        match known {
            Some(known) => check(known, member, &place, faults),
            None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => faults.push(format!("{place}: unknown")),
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{place}[{index}]"), faults);
    }
}

/// A condition on which keys there are.
fn holds(branch: &Value, value: &Value) -> bool {
    let mut required = branch["required"].as_array().into_iter().flatten();
    let all = required.all(|key| value.get(key.as_str().expect("a key")).is_some());
    let any = branch["anyOf"].as_array().is_none_or(|any| any.iter().any(|branch| holds(branch, value)));
    let not = branch.get("not").is_none_or(|not| !holds(not, value));
    all && any && not
}

/// A mesh's certificates, and a listener like a sidecar's inbound one.
struct Sidecar {
    pki: Pki,
    feeder: Peer,
    other: Peer,
}

impl Sidecar {
    fn new() -> Self {
        let pki = Pki::new();
        let workload = |account: &str| {
            pki.peer(&Leaf::new().uri(&format!("spiffe://cluster.local/ns/search/sa/{account}")))
        };
        let (feeder, other) = (workload("feeder"), workload("feeder2"));
        Self { pki, feeder, other }
    }

    /// As Istio makes it, with the patches of the EnvoyFilters applied in their order.
    fn start(
        &self,
        release: &str,
        upstream: SocketAddr,
        tcp: bool,
        resources: &[Value],
    ) -> (Envoy, SocketAddr) {
        let socket = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": true,
                "common_tls_context": {
                    "alpn_protocols": if tcp { json!(["istio"]) } else { json!(["h2", "http/1.1"]) },
                    "tls_certificates": [{
                        "certificate_chain": {"filename": self.pki.file("server.pem")},
                        "private_key": {"filename": self.pki.file("server.key")},
                    }],
                    "validation_context": {"trusted_ca": {"filename": self.pki.file("ca.pem")}},
                },
            },
        });
        let network_filter = if tcp { tcp_proxy() } else { connection_manager() };
        let mut chain = json!({"transport_socket": socket, "filters": [network_filter]});
        for resource in resources {
            apply(resource, &mut chain);
        }
        let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        let endpoint = json!({"endpoint": {"address": address(upstream.port())}});
        let bootstrap = json!({
            "admin": {"address": address(0)},
            "static_resources": {
                "listeners": [{"name": "virtualInbound", "address": address(0), "filter_chains": [chain]}],
                "clusters": [{"name": "inbound", "type": "STATIC", "load_assignment":
                    {"cluster_name": "inbound", "endpoints": [{"lb_endpoints": [endpoint]}]}}],
            },
        });
        let config = self.pki.file(&format!("sidecar-{release}.json"));
        fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
        let envoy = Envoy::start_file(&binary(release), &config, self.pki.directory(), &root())
            .unwrap_or_else(|error| panic!("{release}: {error}\n{bootstrap:#}"));
        let address = envoy.listener("virtualInbound").expect("the listener");
        (envoy, address)
    }

    fn connect(&self, address: SocketAddr, peer: &Peer) -> Client {
        Client::connect(address, self.pki.ca(), Some(&peer.credential)).expect("a handshake")
    }
}

fn connection_manager() -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "inbound_0.0.0.0_8080",
            // The client's own header stays in front of what Envoy adds.
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": {"subject": true, "uri": true, "dns": true},
            "route_config": {"name": "inbound", "virtual_hosts": [{"name": "inbound|http|8080", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "inbound"}}]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        },
    })
}

fn tcp_proxy() -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "inbound|19100||",
            "cluster": "inbound",
        },
    })
}

/// What Istio's reference says of these operations.
fn apply(resource: &Value, chain: &mut Value) {
    let patches = resource["spec"]["configPatches"].as_array().into_iter().flatten();
    for patch in patches {
        let (place, operation) = (patch["applyTo"].as_str(), patch["patch"]["operation"].as_str());
        let value = &patch["patch"]["value"];
        match (place.expect("a place"), operation.expect("an operation")) {
            ("FILTER_CHAIN", "MERGE") => merge(chain, value),
            ("NETWORK_FILTER", "MERGE") => {
                let filters = chain["filters"].as_array_mut().expect("filters");
                let filter = filters.iter_mut().find(|filter| filter["name"] == value["name"]);
                merge(filter.expect("the filter"), value);
            }
            ("NETWORK_FILTER", "INSERT_FIRST") => {
                chain["filters"].as_array_mut().expect("filters").insert(0, value.clone());
            }
            ("HTTP_FILTER", "INSERT_FIRST") => {
                let filters = &mut chain["filters"][0]["typed_config"]["http_filters"];
                filters.as_array_mut().expect("filters").insert(0, value.clone());
            }
            other => panic!("{other:?}"),
        }
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into.as_object_mut(), change.as_object()) {
        (Some(into), Some(change)) => {
            change.iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        _ => *into = change.clone(),
    }
}

/// The plugin as Istio would put it into the listener: its configuration as the JSON of a string.
fn as_filter(plugin: &Value, filter: &Path) -> Value {
    let spec = &plugin["spec"];
    let value = json!({
        "name": "extensions.istio.io/wasmplugin/peergate",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "peergate",
                "root_id": spec["pluginName"],
                "failure_policy": spec["failStrategy"],
                "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": filter}}},
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": spec["pluginConfig"].to_string(),
                },
            },
        },
    });
    let patch = json!({"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_FIRST", "value": value}});
    json!({"spec": {"configPatches": [patch]}})
}

fn drive_http(sidecar: &Sidecar, release: &str, resources: &[Value]) {
    let upstream = Upstream::http();
    let (envoy, address) = sidecar.start(release, upstream.address, false, resources);
    let forged = ["--header", "x-forwarded-client-cert: By=x;URI=spiffe://cluster.local/ns/search/sa/feeder"];
    for (peer, status) in [(Some(&sidecar.feeder), 200), (Some(&sidecar.other), 403), (None, 0)] {
        let answer = curl(&sidecar.pki, address, peer, "/", &forged);
        assert_eq!(answer.status, status, "{release}: {}\n{}", answer.error, envoy.log());
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1, "{release}");
    // Neither the client's nor Envoy's own, which has the client's in front.
    assert_eq!(requests[0].header("x-forwarded-client-cert"), None, "{release}");
    let session = sidecar.pki.file("session");
    let arguments = ["-sess_out", session.to_str().expect("a path")];
    let get = peergate_tests::commands::GET;
    peergate_tests::commands::s_client(&sidecar.pki, address, Some(&sidecar.feeder), &arguments, get);
    assert!(!session.exists(), "{release}: nothing to resume");
}

#[test]
fn patches_of_http_listeners_admit_and_refuse() {
    if skipped("patches of HTTP listeners admit and refuse") {
        return;
    }
    let sidecar = Sidecar::new();
    let filter = filter();
    let local = ["--filter", filter.to_str().expect("a path")];
    for release in HTTP {
        drive_http(&sidecar, release, &resources(&["istio"], &local));
        drive_http(&sidecar, release, &resources(&["istio", "--gateway"], &local));
    }
    for release in ["1.40.0", "1.39.3"] {
        let arguments = ["--envoy-version", "1.39"];
        drive_http(&sidecar, release, &resources(&["istio"], &[&local[..], &arguments].concat()));
    }
}

#[test]
fn a_plugin_admits_and_refuses() {
    if skipped("a plugin admits and refuses") {
        return;
    }
    let sidecar = Sidecar::new();
    let filter = filter();
    for release in HTTP {
        let mut resources = resources(&["wasmplugin"], &["--filter", filter.to_str().expect("a path")]);
        let plugin = resources.iter_mut().find(|it| it["kind"] == "WasmPlugin").expect("a plugin");
        *plugin = as_filter(plugin, &filter);
        drive_http(&sidecar, release, &resources);
    }
}

#[test]
fn patches_of_tcp_listeners_admit_and_refuse() {
    if skipped("patches of TCP listeners admit and refuse") {
        return;
    }
    let sidecar = Sidecar::new();
    let filter = filter();
    let local = ["--protocol", "tcp", "--filter", filter.to_str().expect("a path")];
    for release in TCP {
        let upstream = Upstream::echo();
        let (_envoy, address) =
            sidecar.start(release, upstream.address, true, &resources(&["istio"], &local));
        let mut refused = sidecar.connect(address, &sidecar.other);
        refused.write(b"hello").ok();
        assert_eq!(refused.read_to_end().unwrap_or_default(), b"", "{release}");
        assert_eq!(upstream.connections(), 0, "{release}");
        let mut admitted = sidecar.connect(address, &sidecar.feeder);
        admitted.write(b"hello").expect("an open connection");
        admitted.read_exact(&mut [0; 5]).expect("the echo");

        let upstream = Upstream::greeting();
        let arguments = [&local[..], &["--server-speaks-first"]].concat();
        let (_envoy, address) =
            sidecar.start(release, upstream.address, true, &resources(&["istio"], &arguments));
        let heard = sidecar.connect(address, &sidecar.other).read_to_end().unwrap_or_default();
        assert_eq!(heard, b"", "{release}");
        let mut greeting = vec![0; GREETING.len()];
        sidecar.connect(address, &sidecar.feeder).read_exact(&mut greeting).expect("the greeting");
        assert_eq!(greeting, GREETING, "{release}");
    }
}

/// As `envoy/istio/README.md` moves from the old names: the new files are applied before the old ones are deleted.
#[test]
fn old_and_new_names_side_by_side_admit_and_refuse() {
    if skipped("old and new names side by side admit and refuse") {
        return;
    }
    let sidecar = Sidecar::new();
    let filter = filter();
    let local = ["--filter", filter.to_str().expect("a path")];
    let both = |arguments: &[&str]| {
        let old = resources(&["istio"], &[&local[..], arguments, &["--name", "peergate"]].concat());
        let new = resources(&["istio"], &[&local[..], arguments].concat());
        assert!(old.iter().zip(&new).all(|(old, new)| old["metadata"]["name"] != new["metadata"]["name"]));
        [old, new].concat()
    };
    for release in ["1.40.0", "1.36.4"] {
        let mut resources = both(&[]);
        drive_http(&sidecar, release, &resources);
        resources.reverse();
        drive_http(&sidecar, release, &resources);
    }
    for release in ["1.40.0", "1.37.0"] {
        let upstream = Upstream::echo();
        let resources = both(&["--protocol", "tcp"]);
        let (_envoy, address) = sidecar.start(release, upstream.address, true, &resources);
        let mut refused = sidecar.connect(address, &sidecar.other);
        refused.write(b"hello").ok();
        assert_eq!(refused.read_to_end().unwrap_or_default(), b"", "{release}");
        assert_eq!(upstream.connections(), 0, "{release}");
        let mut admitted = sidecar.connect(address, &sidecar.feeder);
        admitted.write(b"hello").expect("an open connection");
        admitted.read_exact(&mut [0; 5]).expect("the echo");
    }
}

#[test]
fn what_istio_has_no_tls_for_is_refused() {
    let pki = Pki::new();
    let policy = json!({"data-plane": {"token-context": "context", "clients": []}});
    fs::write(pki.file("policy.json"), policy.to_string()).expect("the policy");
    for (arguments, code) in [
        (&["istio", "--endpoint", "mtls"][..], 2),
        (&["istio", "--endpoint", "mtls", "--gateway"], 2),
        (&["istio", "--endpoint", "token"], 2),
        (&["istio", "--endpoint", "token", "--gateway"], 0),
        (&["istio", "--endpoint", "token", "--gateway", "--protocol", "tcp"], 2),
        (&["wasmplugin", "--endpoint", "mtls"], 2),
        (&["wasmplugin", "--endpoint", "peer"], 2),
        (&["wasmplugin", "--sha256", "sha256:00", "--endpoint", "token", "--gateway"], 2),
    ] {
        let rendered =
            run(peergate().arg("render").args(arguments).arg("--policy").arg(pki.file("policy.json")), b"");
        assert_eq!(rendered.code, Some(code), "{arguments:?}: {}", rendered.output());
        assert_eq!(rendered.stdout.is_empty(), code == 2, "{arguments:?}");
    }
}
