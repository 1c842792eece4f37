//! `peergate check --envoy`: every file that is shipped is safe, and each way to spoil one is found where it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use peergate_host::lint::Rule;
use peergate_tests::{
    commands::{Finished, peergate, run},
    root,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn check(files: &[PathBuf], arguments: &[&str]) -> Finished {
    run(peergate().args(["check", "--envoy"]).args(files).args(arguments), b"")
}

/// Exit code and report.
fn report(files: &[PathBuf]) -> (Option<i32>, Value) {
    let finished = check(files, &["--format", "json"]);
    let json = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.output()));
    (finished.code, json)
}

/// Rule and line of what is unsafe.
fn unsafe_findings(report: &Value) -> Vec<(String, usize)> {
    let findings = report["findings"].as_array().expect("findings").iter();
    findings
        .filter(|finding| finding["severity"] == "unsafe")
        .map(|finding| {
            let line = finding["line"].as_u64().and_then(|line| usize::try_from(line).ok()).expect("a line");
            (finding["rule"].as_str().expect("a rule").to_owned(), line)
        })
        .collect()
}

fn shipped() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for directory in ["envoy", "envoy/istio"] {
        let entries = fs::read_dir(root().join(directory)).expect("a directory");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    files
}

struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join("envoy").join(file)).expect("the file")
}

#[test]
fn every_shipped_file_is_safe() {
    let files = shipped();
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let finished = check(std::slice::from_ref(&file), &[]);
        assert_eq!(finished.code, Some(0), "{}\n{}", file.display(), finished.output());
        let last = finished.stdout.lines().last().expect("a line");
        assert!(last.starts_with("safe, ") && last != "safe, 0 filters", "{}: {last}", file.display());
        assert_eq!(unsafe_findings(&report(&[file]).1), []);
    }
}

#[test]
fn what_is_rendered_is_safe() {
    let scratch = Scratch::new();
    let policy = root().join("envoy/istio/policy.json");
    for arguments in
        [&["envoy"][..], &["envoy", "--envoy-version", "1.36"], &["istio"], &["istio", "--format", "json"]]
    {
        let policy = if arguments[0] == "envoy" { served(&scratch) } else { policy.clone() };
        let mut command = peergate();
        command.arg("render").args(arguments).arg("--policy");
        let rendered = run(command.arg(policy), b"");
        assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
        let finished = check(&[scratch.file("rendered", &rendered.stdout)], &[]);
        assert_eq!(finished.code, Some(0), "{}", finished.output());
    }
}

/// A policy with the files of a server.
fn served(scratch: &Scratch) -> PathBuf {
    let pki = root().join("target/pki");
    let policy = json!({
        "files": {
            "ca-certificates": pki.join("ca.pem"),
            "certificates": pki.join("server.pem"),
            "private-key": pki.join("server.key"),
        },
        "authorized-peers": [{"required-credentials": [{"field": "CN", "must-match": "x"}]}],
    });
    scratch.file("policy.json", &policy.to_string())
}

/// A way to spoil a file: what to put in the place of what, and the rule and a part of the line where it is found.
type Mutation = (&'static str, &'static str, &'static str, Rule, &'static str);

const HTTP: &str = "http-mtls.yaml";
const OLD: &str = "http-mtls.envoy-1.36.yaml";
const TCP: &str = "tcp-mtls.yaml";
const ENDPOINTS: &str = "endpoints.yaml";
const MESH: &str = "istio/envoyfilter-http.yaml";
const PLUGIN: &str = "istio/wasmplugin.yaml";

const CA: &str = "trusted_ca: {filename: target/pki/ca.pem}";
const RELOAD: &str = "failure_policy: FAIL_RELOAD";
const FILTER: &str = "          - name: peergate\n";
const ROUTER: &str = "          - name: router\n";
const STATELESS: &str = "disable_stateless_session_resumption: true";
const STATEFUL: &str = "disable_stateful_session_resumption: true";

const SELECTOR: &str = "  workloadSelector:\n";
const REMOVED: &str = "  - applyTo: HTTP_FILTER
    match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: peergate}}}}}
    patch: {operation: REMOVE}
  workloadSelector:\n";
const REMOVED_NETWORK_FILTER: &str = "  - applyTo: NETWORK_FILTER
    match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch: {operation: REMOVE}
  workloadSelector:\n";
const MERGED: &str = "  - applyTo: HTTP_FILTER
    match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: peergate}}}}}
    patch: {operation: MERGE, value: {disabled: true}}
  workloadSelector:\n";
const WEAKENED: &str = "  - applyTo: FILTER_CHAIN
    match: {context: SIDECAR_INBOUND}
    patch: {operation: MERGE, value: {transport_socket: {typed_config: {require_client_certificate: false}}}}
  workloadSelector:\n";
const REQUIRED: &str = "            require_client_certificate: true\n";
const UNTRUSTED: &str = "            require_client_certificate: true
            common_tls_context: {validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED}}\n";

const MUTATIONS: &[Mutation] = &[
    (
        HTTP,
        CA,
        "trusted_ca: {filename: ca.pem}\n              trust_chain_verification: ACCEPT_UNTRUSTED",
        Rule::AcceptUntrusted,
        "ACCEPT_UNTRUSTED",
    ),
    (
        TCP,
        CA,
        "trusted_ca: {filename: ca.pem}\n              trust_chain_verification: 1",
        Rule::AcceptUntrusted,
        "trust_chain_verification: 1",
    ),
    (
        HTTP,
        RELOAD,
        "failure_policy: FAIL_RELOAD\n                capability_restriction_config: {allowed_capabilities: {proxy_log: {}}}",
        Rule::CapabilityRestriction,
        "capability_restriction_config",
    ),
    (
        TCP,
        RELOAD,
        "failure_policy: FAIL_RELOAD\n            capabilityRestrictionConfig: {allowedCapabilities: {proxy_log: {}}}",
        Rule::CapabilityRestriction,
        "capabilityRestrictionConfig",
    ),
    (
        MESH,
        RELOAD,
        "failure_policy: FAIL_RELOAD\n            capability_restriction_config: {allowed_capabilities: {proxy_log: {}}}",
        Rule::CapabilityRestriction,
        "capability_restriction_config",
    ),
    (
        OLD,
        "%DOWNSTREAM_PEER_CERT%",
        "%REQ(x-certificate)%",
        Rule::CertificateSource,
        "object_key: peergate.pem",
    ),
    (OLD, "read_only: true", "read_only: false", Rule::CertificateSource, "object_key: peergate.pem"),
    (
        OLD,
        "object_key: peergate.pem",
        "object_key: wasm.peergate.decision",
        Rule::CertificateSource,
        "object_key: wasm",
    ),
    (
        TCP,
        "    filter_chains:\n",
        "    default_filter_chain: {filters: [{name: tcp, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: service}}]}\n    filter_chains:\n",
        Rule::ChainUnguarded,
        "default_filter_chain",
    ),
    (
        HTTP,
        "require_client_certificate: true",
        "require_client_certificate: false",
        Rule::ClientCertificate,
        "require_client_certificate",
    ),
    (TCP, "          require_client_certificate: true\n", "", Rule::ClientCertificate, "\"@type\""),
    (
        MESH,
        "require_client_certificate: true",
        "require_client_certificate: false",
        Rule::ClientCertificate,
        "require_client_certificate",
    ),
    (
        PLUGIN,
        "  sha256: \"0000000000000000000000000000000000000000000000000000000000000000\"\n",
        "",
        Rule::CodeNotPinned,
        "url: oci",
    ),
    (
        HTTP,
        "google.protobuf.StringValue",
        "google.protobuf.Struct",
        Rule::Configuration,
        "google.protobuf.Struct",
    ),
    (
        TCP,
        "            configuration:",
        "            configurations:",
        Rule::Configuration,
        "name: peergate_l4",
    ),
    (MESH, "context: SIDECAR_INBOUND", "context: SIDECAR_OUTBOUND", Rule::Context, "SIDECAR_OUTBOUND"),
    (
        HTTP,
        ROUTER,
        "          - name: peergate_too\n            config_discovery: {config_source: {ads: {}}, default_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}\n          - name: router\n",
        Rule::DiscoveryDefault,
        "default_config",
    ),
    (
        HTTP,
        CA,
        "trusted_ca: {filename: ca.pem}\n              allow_expired_certificate: true",
        Rule::ExpiredCertificates,
        "allow_expired_certificate",
    ),
    (HTTP, RELOAD, "failure_policy: FAIL_OPEN", Rule::FailOpen, "FAIL_OPEN"),
    (TCP, RELOAD, "failurePolicy: 3", Rule::FailOpen, "failurePolicy"),
    (HTTP, RELOAD, "fail_open: yes", Rule::FailOpen, "fail_open"),
    (PLUGIN, "failStrategy: FAIL_RELOAD", "failStrategy: FAIL_OPEN", Rule::FailOpen, "failStrategy"),
    (HTTP, RELOAD, "failure_policy: FAIL_CLOSED", Rule::FailurePolicy, "FAIL_CLOSED"),
    (TCP, "            failure_policy: FAIL_RELOAD\n", "", Rule::FailurePolicy, "name: peergate_l4"),
    (PLUGIN, "  failStrategy: FAIL_RELOAD\n", "", Rule::FailurePolicy, "match:"),
    (
        HTTP,
        FILTER,
        "          - name: peergate\n            disabled: true\n",
        Rule::FilterDisabled,
        "disabled: true",
    ),
    (
        HTTP,
        FILTER,
        "          - name: peergate\n            is_optional: true\n",
        Rule::FilterOptional,
        "is_optional: true",
    ),
    (
        HTTP,
        FILTER,
        "          - {name: auth, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz}}\n          - name: peergate\n",
        Rule::FilterOrder,
        "- name: peergate",
    ),
    (MESH, "operation: INSERT_FIRST", "operation: INSERT_BEFORE", Rule::FilterOrder, "INSERT_BEFORE"),
    (
        HTTP,
        "route: {cluster: service}",
        "route: {cluster: service}\n                typed_per_filter_config: {peergate: {\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}",
        Rule::FilterPerRoute,
        "typed_per_filter_config",
    ),
    (
        HTTP,
        "domains: [\"*\"]",
        "domains: [\"*\"]\n              typed_per_filter_config: {peergate: {\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}}",
        Rule::FilterPerRoute,
        "typed_per_filter_config",
    ),
    (
        HTTP,
        "details: SANITIZE",
        "details: APPEND_FORWARD",
        Rule::ForwardedClientCertificate,
        "APPEND_FORWARD",
    ),
    (HTTP, "details: SANITIZE", "details: FORWARD_ONLY", Rule::ForwardedClientCertificate, "FORWARD_ONLY"),
    (
        HTTP,
        "\"endpoint\": \"peer\",",
        "\"endpoint\": \"peer\", \"insecure-mixed-mode\": true,",
        Rule::InsecureMixedMode,
        "                    {",
    ),
    (PLUGIN, "mode: SERVER", "mode: CLIENT", Rule::Match, "mode: CLIENT"),
    (ENDPOINTS, "\"names\": [\"peer.peergate.test\"],", "", Rule::Names, "name: peergate_peer"),
    (
        ENDPOINTS,
        "\"names\": [\"peer.peergate.test\"]",
        "\"names\": [\"other.peergate.test\"]",
        Rule::Names,
        "server_names: [peer.peergate.test]",
    ),
    (MESH, "mode: STRICT", "mode: PERMISSIVE", Rule::PeerAuthentication, "PERMISSIVE"),
    (
        MESH,
        "    mode: STRICT",
        "    mode: STRICT\n  portLevelMtls: {8080: {mode: DISABLE}}",
        Rule::PeerAuthentication,
        "DISABLE",
    ),
    (
        MESH,
        "      app: vespa\n---",
        "      app: other\n---",
        Rule::PeerAuthentication,
        "apiVersion: networking",
    ),
    (PLUGIN, "kind: PeerAuthentication", "kind: Other", Rule::PeerAuthentication, "apiVersion: extensions"),
    (PLUGIN, "phase: AUTHZ", "phase: STATS", Rule::Phase, "STATS"),
    (HTTP, "\"authorized-peers\"", "\"authorised-peers\"", Rule::Policy, "authorised-peers"),
    (TCP, "\"field\": \"CN\"", "\"field\": \"CM\"", Rule::Policy, "\"CM\""),
    (PLUGIN, "field: SAN_URI", "field: SAN_UR", Rule::Policy, "endpoint: peer"),
    (HTTP, STATELESS, "disable_stateless_session_resumption: false", Rule::SessionResumption, "stateless"),
    (TCP, STATEFUL, "disable_stateful_session_resumption: false", Rule::SessionResumption, "stateful"),
    (MESH, STATEFUL, "disable_stateful_session_resumption: false", Rule::SessionResumption, "stateful"),
    (MESH, "applyTo: FILTER_CHAIN", "applyTo: LISTENER", Rule::SessionResumption, "configuration:"),
    (PLUGIN, "applyTo: FILTER_CHAIN", "applyTo: LISTENER", Rule::SessionResumption, "failStrategy"),
    (
        HTTP,
        STATELESS,
        "session_ticket_keys: {keys: [{filename: keys}]}",
        Rule::SessionTicketKeys,
        "session_ticket_keys",
    ),
    (
        HTTP,
        "    - transport_socket:",
        "    - transport_socket_of_nobody:",
        Rule::Tls,
        "- transport_socket_of_nobody",
    ),
    (
        TCP,
        "tls.v3.DownstreamTlsContext",
        "raw_buffer.v3.RawBuffer",
        Rule::Tls,
        "name: envoy.transport_sockets.tls",
    ),
    (ENDPOINTS, "    listener_filters:", "    no_listener_filters:", Rule::TlsInspector, "server_names"),
    (
        HTTP,
        "            tls_certificates:",
        "            tls_params: {tls_minimum_protocol_version: TLSv1_0}\n            tls_certificates:",
        Rule::TlsVersion,
        "TLSv1_0",
    ),
    (HTTP, CA, "match_typed_subject_alt_names: []", Rule::TrustedCa, "match_typed_subject_alt_names"),
    (
        TCP,
        "            validation_context:",
        "            validation_contexts:",
        Rule::TrustedCa,
        "tls_certificates",
    ),
    (
        HTTP,
        "          http_filters:\n",
        "          upgrade_configs: [{upgrade_type: websocket, filters: [{name: router, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}]\n          http_filters:\n",
        Rule::UpgradeFilters,
        "upgrade_configs",
    ),
    (HTTP, "port_value: 8443", "port_value: \"{{ .Values.port }}\"", Rule::Template, ".Values.port"),
    (
        MESH,
        "      app: vespa\n---",
        "      app: \"{{ include \\\"app\\\" . }}\"\n---",
        Rule::Template,
        "include",
    ),
    (HTTP, "          http_filters:\n", "          !ignore http_filters:\n", Rule::FieldIgnored, "!ignore"),
    (
        HTTP,
        "          http_filters:\n",
        "          httpFilters: []\n          http_filters:\n",
        Rule::FieldRepeated,
        "- name: peergate",
    ),
    (
        HTTP,
        "require_client_certificate: true",
        "require_client_certificate: true\n          requireClientCertificate: false",
        Rule::FieldRepeated,
        "requireClientCertificate: false",
    ),
    (TCP, STATEFUL, "!<!ignore> disable_stateful_session_resumption: true", Rule::FieldIgnored, "!<!ignore>"),
    (HTTP, "static_resources:\n", "---\nstatic_resources:\n", Rule::Documents, "static_resources"),
    (MESH, SELECTOR, REMOVED, Rule::FilterPatched, "operation: REMOVE"),
    (PLUGIN, SELECTOR, REMOVED_NETWORK_FILTER, Rule::FilterPatched, "operation: REMOVE"),
    (MESH, SELECTOR, MERGED, Rule::FilterPatched, "operation: MERGE, value: {disabled"),
    (MESH, SELECTOR, WEAKENED, Rule::ClientCertificate, "require_client_certificate: false"),
    (MESH, REQUIRED, UNTRUSTED, Rule::AcceptUntrusted, "ACCEPT_UNTRUSTED"),
    (MESH, "operation: MERGE", "operation: REMOVE", Rule::SessionResumption, "configuration:"),
    (
        PLUGIN,
        "  name: peergate-http-8080-proxy\n",
        "  name: peergate-http-8080-proxy\n  namespace: other\n",
        Rule::SessionResumption,
        "failStrategy",
    ),
    (PLUGIN, "kind: EnvoyFilter", "kind: Envoyfilter", Rule::SessionResumption, "failStrategy"),
    (HTTP, "                  vm_id: peergate_http\n", "", Rule::VmIdMissing, "runtime"),
    (ENDPOINTS, "vm_id: peergate_mtls", "vm_id: peergate_peer", Rule::VmIdShared, "vm_id: peergate_peer"),
];

/// The filter within a matcher: the list of filters has it under another name.
const CONDITIONAL: [(&str, &str); 2] = [
    (
        "          http_filters:\n          - name: peergate\n            typed_config:\n",
        "          elsewhere:\n          - name: peergate\n            typed_config: &wasm\n",
    ),
    (
        ROUTER,
        "          http_filters:\n          - {name: sometimes, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher, extension_config: {name: peergate, typed_config: *wasm}}}\n          - name: router\n",
    ),
];

fn assert_found(scratch: &Scratch, file: &str, text: &str, rule: Rule, line: &str) {
    let path = scratch.file("mutated.yaml", text);
    let (code, report) = report(&[path]);
    assert_eq!((code, &report["safe"]), (Some(2), &json!(false)), "{file}, {}", rule.as_str());
    let found = unsafe_findings(&report);
    let at = |number: usize| text.lines().nth(number - 1).unwrap_or_default();
    let fits = |(name, number): &(String, usize)| name == rule.as_str() && at(*number).contains(line);
    assert!(found.iter().any(fits), "{file}, {} at `{line}`: {report:#}", rule.as_str());
}

#[test]
fn each_way_to_spoil_a_file_is_found_where_it_is() {
    let scratch = Scratch::new();
    for (file, from, to, rule, line) in MUTATIONS {
        let original = text(file);
        assert!(original.contains(from), "{file} has no `{from}`");
        assert_found(&scratch, file, &original.replace(from, to), *rule, line);
    }
    let mut conditional = text(HTTP);
    for (from, to) in CONDITIONAL {
        assert!(conditional.contains(from), "`{from}`");
        conditional = conditional.replace(from, to);
    }
    assert_found(&scratch, HTTP, &conditional, Rule::FilterConditional, "sometimes");
    assert_found(
        &scratch,
        "nothing",
        "static_resources: {listeners: []}\n",
        Rule::NoFilter,
        "static_resources",
    );
}

#[test]
fn every_rule_has_a_mutation() {
    let mut tested: BTreeSet<_> = MUTATIONS.iter().map(|(_, _, _, rule, _)| *rule).collect();
    // Those below have tests of their own.
    tested.extend([Rule::FilterConditional, Rule::NoFilter, Rule::Discovered, Rule::NotLookedAt]);
    // In the suites `envoy_listeners` and `check_istio`.
    tested.extend([Rule::Destination, Rule::ListenerUnguarded, Rule::Listener, Rule::UpdateRefused]);
    tested.extend([Rule::ExtensionConfig, Rule::NameRepeated]);
    assert_eq!(tested.into_iter().collect::<Vec<_>>(), Rule::ALL);
}

/// What a single mutation causes is not buried under other findings.
#[test]
fn one_fault_is_one_finding() {
    let scratch = Scratch::new();
    for (file, from, to, rule) in [
        (HTTP, STATEFUL, "disable_stateful_session_resumption: false", "session-resumption"),
        (TCP, RELOAD, "failure_policy: FAIL_OPEN", "fail-open"),
        (MESH, "mode: STRICT", "mode: PERMISSIVE", "peer-authentication"),
        (ENDPOINTS, "    listener_filters:", "    none:", "tls-inspector"),
    ] {
        let path = scratch.file("mutated.yaml", &text(file).replace(from, to));
        let found = unsafe_findings(&report(&[path]).1);
        let mut rules: Vec<_> = found.iter().map(|(rule, _)| &**rule).collect();
        rules.dedup();
        assert_eq!(rules, [rule], "{file}: {found:?}");
    }
}

#[test]
fn a_policy_in_a_block_is_refused_at_its_line_and_column() {
    let scratch = Scratch::new();
    let spoilt = text(HTTP).replace("\"authorized-peers\"", "\"authorised-peers\"");
    let (line, text) =
        (1..).zip(spoilt.lines()).find(|(_, it)| it.contains("authorised-peers")).expect("a line");
    let column = text.find("\"authorised").expect("the key") + 1;
    let path = scratch.file("mutated.yaml", &spoilt);
    let finished = check(std::slice::from_ref(&path), &[]);
    let place = format!("{}:{line}:{column}: unsafe: the filter refuses this configuration", path.display());
    assert!(finished.stdout.contains(&place), "{place}\n{}", finished.stdout);
    assert!(finished.stdout.contains("authorized-peers"), "what would be right: {}", finished.stdout);
    assert!(finished.stdout.ends_with("unsafe, 1 filter\n"), "{}", finished.stdout);
}

fn json_of(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).expect("YAML")
}

#[test]
fn json_is_read_as_yaml_is() {
    let scratch = Scratch::new();
    for pretty in [true, false] {
        let json = json_of(HTTP);
        let text = if pretty { format!("{json:#}") } else { json.to_string() };
        assert_eq!(report(&[scratch.file("good.json", &text)]).0, Some(0));
        let spoilt = text.replace("failure_policy", "failurePolicy").replace("FAIL_RELOAD", "FAIL_OPEN");
        assert_found(&scratch, "JSON", &spoilt, Rule::FailOpen, "FAIL_OPEN");
    }
    let tabs = "{\n\t\"static_resources\": {\n\t\t\"listeners\": []\n\t}\n}\n";
    assert_found(&scratch, "tabs", tabs, Rule::NoFilter, "{");
}

/// Discovery files hold a list of resources, each with its type.
#[test]
fn files_of_lds_ecds_and_rds_are_understood() {
    let scratch = Scratch::new();
    let mut listener = json_of(HTTP)["static_resources"]["listeners"][0].take();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let manager = "/filter_chains/0/filters/0/typed_config";
    let filter =
        listener.pointer(&format!("{manager}/http_filters/0/typed_config")).expect("the filter").clone();
    let resources = |it: &Value| json!({"version_info": "1", "resources": [it]});
    assert_eq!(report(&[scratch.file("lds.json", &resources(&listener).to_string())]).0, Some(0));
    let tls = "/filter_chains/0/transport_socket/typed_config/require_client_certificate";
    *listener.pointer_mut(tls).expect("the switch") = json!(false);
    let lds = scratch.file("lds.json", &resources(&listener).to_string());
    assert_eq!(unsafe_findings(&report(&[lds]).1), [("client-certificate".to_owned(), 1)]);

    let extension = |filter: &Value| {
        let kind = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
        resources(&json!({"@type": kind, "name": "peergate", "typed_config": filter}))
    };
    assert_eq!(report(&[scratch.file("ecds.json", &extension(&filter).to_string())]).0, Some(0));
    let mut open = filter;
    open["config"]["failure_policy"] = json!("FAIL_OPEN");
    // As control planes send messages that they do not know.
    let kind = open["@type"].take();
    let open =
        json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": kind, "value": open});
    let ecds = scratch.file("ecds.json", &extension(&open).to_string());
    assert_eq!(unsafe_findings(&report(std::slice::from_ref(&ecds)).1), [("fail-open".to_owned(), 1)]);

    let off = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true});
    let routes = json!({"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "virtual_hosts":
        [{"routes": [{"match": {"prefix": "/"}, "typed_per_filter_config": {"peergate": off}}]}]});
    let rds = scratch.file("rds.json", &resources(&routes).to_string());
    let found = unsafe_findings(&report(&[ecds, rds]).1);
    assert_eq!(found, [("fail-open".to_owned(), 1), ("filter-per-route".to_owned(), 1)]);
}

/// What another file delivers to a filter that is safe by itself, wrapped as control planes do it or not.
#[test]
fn what_another_file_delivers_is_looked_at() {
    let scratch = Scratch::new();
    let file = scratch.file("http.yaml", &text(HTTP).replace(FILTER, "          - name: authz\n"));
    assert_eq!(report(std::slice::from_ref(&file)).0, Some(0));
    let filter = &json_of(HTTP)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let filter = &filter["typed_config"]["http_filters"][0]["typed_config"];
    let kind = |name: &str| json!(format!("type.googleapis.com/envoy.{name}"));
    let off = json!({"@type": kind("config.route.v3.FilterConfig"), "disabled": true});
    let hosts = json!([{"name": "all", "domains": ["*"], "typed_per_filter_config": {"authz": off}}]);
    let matcher = json!({"@type": kind("extensions.common.matching.v3.ExtensionWithMatcher"),
        "extension_config": {"name": "peergate", "typed_config": filter}});
    let extension = |config: Value| json!({"@type": kind("config.core.v3.TypedExtensionConfig"), "name": "peergate", "typed_config": config});
    let role = extension(json!({"@type": kind("extensions.filters.http.rbac.v3.RBAC")}));
    let route = json!({"name": "all", "virtual_hosts": hosts});
    let mut host = hosts[0].clone();
    host["@type"] = kind("config.route.v3.VirtualHost");
    let scope = json!({"@type": kind("config.route.v3.ScopedRouteConfiguration"), "name": "s", "route_configuration": route});
    let secret = json!({"@type": kind("extensions.transport_sockets.tls.v3.Secret"), "name": "authorities",
        "validation_context": {"trust_chain_verification": "ACCEPT_UNTRUSTED"}});
    for (resource, rule) in [
        (host, Rule::FilterPerRoute),
        (scope, Rule::FilterPerRoute),
        (secret, Rule::AcceptUntrusted),
        (extension(matcher), Rule::FilterConditional),
        (role, Rule::Discovered),
    ] {
        let wrapped =
            json!({"@type": kind("service.discovery.v3.Resource"), "name": "x", "resource": resource});
        for resource in [resource, wrapped] {
            let other = scratch.file("other.json", &json!({"resources": [resource]}).to_string());
            let (code, report) = report(&[file.clone(), other]);
            assert_eq!(code, Some(2), "{}: {report:#}", rule.as_str());
            assert_eq!(unsafe_findings(&report), [(rule.as_str().to_owned(), 1)], "{report:#}");
        }
    }
    let other = scratch.file("other.yaml", "kind: Service\napiVersion: v1\n");
    let (code, report) = report(&[file, other]);
    let findings = report["findings"].as_array().expect("findings");
    let found: Vec<_> = findings.iter().map(|it| (&it["severity"], &it["rule"])).collect();
    let note = json!("note");
    assert_eq!((code, found), (Some(0), vec![(&note, &json!("listener")), (&note, &json!("not-looked-at"))]));
}

/// Authorities by SDS: a secret in the file is looked at, another one is only noted.
#[test]
fn authorities_by_sds_are_looked_up_or_noted() {
    let scratch = Scratch::new();
    let mut bootstrap = json_of(HTTP);
    let common =
        "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config/common_tls_context";
    let common = bootstrap.pointer_mut(common).and_then(Value::as_object_mut).expect("the context");
    common.remove("validation_context").expect("authorities");
    common.insert("validation_context_sds_secret_config".to_owned(), json!({"name": "authorities"}));
    let unseen = report(&[scratch.file("sds.json", &bootstrap.to_string())]);
    assert_eq!(unseen.0, Some(0));
    let notes = |report: &Value| -> Vec<Value> {
        report["findings"].as_array().expect("findings").iter().map(|it| it["rule"].clone()).collect()
    };
    assert_eq!(notes(&unseen.1), ["listener", "trusted-ca"]);
    let secret = |validation: Value| json!([{"name": "authorities", "validation_context": validation}]);
    bootstrap["static_resources"]["secrets"] = secret(json!({"trusted_ca": {"filename": "ca.pem"}}));
    let seen = report(&[scratch.file("sds.json", &bootstrap.to_string())]);
    assert_eq!((seen.0, notes(&seen.1)), (Some(0), vec![json!("listener")]));
    bootstrap["static_resources"]["secrets"] =
        secret(json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"}));
    let found = unsafe_findings(&report(&[scratch.file("sds.json", &bootstrap.to_string())]).1);
    assert_eq!(found, [("trusted-ca".to_owned(), 1), ("accept-untrusted".to_owned(), 1)]);
}

#[test]
fn resources_of_several_files_belong_together() {
    let scratch = Scratch::new();
    let all = text(PLUGIN);
    let documents: Vec<_> = all.split("---\n").collect();
    let files: Vec<_> =
        (0..).zip(&documents).map(|(index, text)| scratch.file(&format!("{index}.yaml"), text)).collect();
    assert_eq!(report(&files).0, Some(0));
    let (code, alone) = report(&files[1..2]);
    assert_eq!(code, Some(2));
    let rules: Vec<_> = unsafe_findings(&alone).into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, ["peer-authentication", "session-resumption"], "{alone:#}");
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_place() {
    let scratch = Scratch::new();
    let broken = scratch.file("broken.yaml", "static_resources:\n  listeners: [\n  clusters: }\n");
    let twice = scratch.file("twice.yaml", "a: 1\nb: 2\na: 3\n");
    for (path, place) in [(&broken, ":2:14: "), (&twice, ":3:1: ")] {
        let finished = check(std::slice::from_ref(path), &[]);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{}", finished.output());
        let start = format!("peergate: {}{place}", path.display());
        assert!(finished.stderr.starts_with(&start), "{start}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    }
    let absent = Path::new("/nonexistent/envoy.yaml").to_owned();
    let finished = check(&[absent], &[]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("/nonexistent/envoy.yaml"), "{}", finished.stderr);
    let bytes = scratch.0.path().join("bytes.yaml");
    fs::write(&bytes, b"a: \xff\n").expect("a file");
    let finished = check(&[bytes], &[]);
    assert!(finished.code == Some(2) && finished.stderr.contains("UTF-8"), "{}", finished.stderr);
}

#[test]
fn what_is_no_text_is_named() {
    let scratch = Scratch::new();
    let template = "static_resources:\n  listeners: {{ .Values.listeners }}\n";
    for (name, bytes, words) in [
        ("packed.yaml.gz", &b"\x1f\x8b\x08\x00\x00"[..], "compressed"),
        ("utf16.yaml", b"\xff\xfea\x00:\x00", "not UTF-8"),
        ("bootstrap.pb", b"\x0a\x05\x0a\x03abc\x12\x00", "protobuf"),
        ("chart.yaml", template.as_bytes(), "helm template"),
    ] {
        let path = scratch.0.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let finished = check(std::slice::from_ref(&path), &[]);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{name}: {}", finished.output());
        assert!(finished.stderr.contains(words) && finished.stderr.contains(name), "{}", finished.stderr);
    }
    // A mark that editors put first is no text of the file.
    let marked = format!("\u{feff}{}", text(HTTP));
    assert_eq!(report(&[scratch.file("marked.yaml", &marked)]).0, Some(0));
}

/// A file that has the filter somewhere is never said to have none.
#[test]
fn a_filter_in_an_unknown_place_is_not_passed_over() {
    let scratch = Scratch::new();
    let listener = &json_of(HTTP)["static_resources"]["listeners"][0];
    let chain = &listener["filter_chains"][0];
    for (name, text) in [
        (
            "of another type",
            json!({"@type": "type.googleapis.com/example.Thing", "inner": chain}).to_string(),
        ),
        (
            "of another kind",
            json!({"kind": "Thing", "apiVersion": "example.com/v1", "spec": chain}).to_string(),
        ),
        ("a chain alone", chain.to_string()),
        ("text", "peergate is somewhere else\n".to_owned()),
    ] {
        let (code, report) = report(&[scratch.file("odd.json", &text)]);
        assert_eq!(code, Some(2), "{name}: {report:#}");
        let texts = report.to_string();
        assert!(!texts.contains("there is no filter"), "{name}: {texts}");
    }
    // Wrapped by a filter that nothing is known of.
    let mut bootstrap = json_of(HTTP);
    let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    let filters = bootstrap.pointer_mut(filters).expect("filters");
    let wrapper = json!({"@type": "type.googleapis.com/example.Wrapper", "inner": filters[0].take()});
    filters[0] = json!({"name": "wrapper", "typed_config": wrapper});
    let found = unsafe_findings(&report(&[scratch.file("wrapped.json", &bootstrap.to_string())]).1);
    assert_eq!(found, [("filter-conditional".to_owned(), 1)]);
}

/// Envoy's configuration as the text of a ConfigMap, in a list of Kubernetes, and by an alias.
#[test]
fn a_config_map_is_unpacked() {
    let scratch = Scratch::new();
    let indented = |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let list = |bootstrap: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: envoy}}\n  data:\n    envoy.yaml: |\n{}",
            indented(bootstrap)
        )
    };
    let good = list(&text(HTTP));
    let (code, report) = report(&[scratch.file("list.yaml", &good)]);
    assert_eq!((code, &report["filters"]), (Some(0), &json!(1)), "{report:#}");
    let spoilt = good.replace("FAIL_RELOAD", "FAIL_OPEN");
    assert_found(&scratch, "ConfigMap", &spoilt, Rule::FailOpen, "FAIL_OPEN");
    let spoilt = good.replace("\"authorized-peers\"", "\"authorised-peers\"");
    assert_found(&scratch, "ConfigMap", &spoilt, Rule::Policy, "authorised-peers");
    let broken = list("static_resources: {listeners: [}\n");
    assert_found(&scratch, "ConfigMap", &broken, Rule::NotLookedAt, "static_resources");
    let one_line =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"envoy.json": json_of(HTTP).to_string()}});
    assert_eq!(self::report(&[scratch.file("map.json", &one_line.to_string())]).0, Some(0));
}

/// A file of each discovery service next to the bootstrap, in every order: each is known by what it is.
#[test]
fn files_of_one_envoy_are_joined_by_name() {
    let scratch = Scratch::new();
    let mut bootstrap = json_of(HTTP);
    let kind = |name: &str| json!(format!("type.googleapis.com/envoy.{name}"));
    let mut listener = bootstrap["static_resources"]["listeners"][0].take();
    let mut cluster = bootstrap["static_resources"]["clusters"][0].take();
    bootstrap["static_resources"] = json!({});
    bootstrap["dynamic_resources"] = json!({"lds_config": {"ads": {}}, "cds_config": {"ads": {}}});
    listener["@type"] = kind("config.listener.v3.Listener");
    let manager = listener.pointer_mut("/filter_chains/0/filters/0/typed_config").expect("the manager");
    let mut routes = manager["route_config"].take();
    routes["@type"] = kind("config.route.v3.RouteConfiguration");
    manager.as_object_mut().expect("fields").remove("route_config");
    manager["rds"] = json!({"route_config_name": routes["name"], "config_source": {"ads": {}}});
    cluster["@type"] = kind("config.cluster.v3.Cluster");
    let mut endpoints = cluster["load_assignment"].take();
    endpoints["@type"] = kind("config.endpoint.v3.ClusterLoadAssignment");
    cluster.as_object_mut().expect("fields").remove("load_assignment");
    cluster["type"] = json!("EDS");
    // A forgotten one, to the same address by another name.
    let side = json!({"name": "side", "type": "STATIC", "load_assignment":
        {"cluster_name": "side", "endpoints": endpoints["endpoints"]}});
    let proxy = json!({"@type": kind("extensions.filters.network.tcp_proxy.v3.TcpProxy"), "cluster": "side"});
    let forgotten = json!({"@type": kind("config.listener.v3.Listener"), "name": "forgotten",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 8080}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}]});
    let file = |name: &str, resources: &[&Value]| {
        scratch.file(name, &json!({"version_info": "1", "resources": resources}).to_string())
    };
    let mut files = vec![
        scratch.file("bootstrap.json", &bootstrap.to_string()),
        file("lds.json", &[&listener]),
        file("cds.json", &[&cluster]),
        file("eds.json", &[&endpoints]),
        file("rds.json", &[&routes]),
    ];
    let good = report(&files);
    let notes: Vec<_> =
        good.1["findings"].as_array().expect("findings").iter().map(|it| &it["rule"]).collect();
    assert_eq!((good.0, notes), (Some(0), vec![&json!("listener")]), "{:#}", good.1);
    files.push(file("more.json", &[&forgotten, &json!({"@type": kind("config.cluster.v3.Cluster")})]));
    let mut side = side;
    side["@type"] = kind("config.cluster.v3.Cluster");
    files.push(file("side.json", &[&side]));
    for _ in 0..files.len() {
        files.rotate_left(1);
        let found = unsafe_findings(&report(&files).1);
        assert_eq!(found, [("listener-unguarded".to_owned(), 1)], "{files:?}");
    }
    files.retain(|path| !path.ends_with("eds.json"));
    assert_eq!(report(&files).0, Some(0), "the endpoints are not known");
}
