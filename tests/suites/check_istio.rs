//! `peergate check --envoy` of Istio's resources that stand beside the filter's: who comes first, what is replaced, what Istio ignores.

use std::{fs, path::PathBuf};

use peergate_host::lint::{Findings, Rule, Severity, lint};
use peergate_tests::{
    commands::{peergate, run},
    root,
};
use tempfile::TempDir;

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

    /// What is found in these texts, each a file.
    fn lint(&self, texts: &[&str]) -> Findings {
        let files: Vec<_> =
            (0..).zip(texts).map(|(index, text)| self.file(&format!("{index}.yaml"), text)).collect();
        lint(&files).expect("YAML")
    }

    fn rules(&self, texts: &[&str]) -> Vec<Rule> {
        let findings = self.lint(texts).list.into_iter();
        let mut rules: Vec<_> =
            findings.filter(|it| it.severity == Severity::Unsafe).map(|it| it.rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }
}

fn render(arguments: &[&str]) -> String {
    let mut command = peergate();
    command.arg("render").args(arguments).args(["--label", "app=vespa", "--policy"]);
    let rendered = run(command.arg(root().join("envoy/istio/policy.json")), b"");
    assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
    rendered.stdout
}

fn http() -> String {
    render(&["istio"])
}

fn plugin() -> String {
    let digest = "0".repeat(64);
    render(&["wasmplugin", "--url", "oci://registry.example.com/filter", "--sha256", &digest])
}

/// Seen in a real mesh: two files of one name for two ports of one workload, of which `kubectl apply` keeps the last.
#[test]
fn files_for_two_ports_of_one_workload_take_effect_together() {
    let scratch = Scratch::new();
    let tcp = render(&["istio", "--protocol", "tcp", "--port", "19100"]);
    assert_eq!(scratch.rules(&[&http(), &tcp]), []);
    assert_eq!(scratch.rules(&[&plugin(), &tcp]), []);
    let named = |arguments: &[&str]| render(&[arguments, &["--name", "peergate"]].concat());
    let (first, second) = (named(&["istio"]), named(&["istio", "--protocol", "tcp", "--port", "19100"]));
    let findings = scratch.lint(&[&first, &second]);
    let repeated: Vec<_> = findings.list.iter().filter(|it| it.rule == Rule::NameRepeated).collect();
    // The PeerAuthentications say the same.
    assert_eq!(repeated.len(), 1, "{findings:#?}");
    assert!(repeated[0].message.contains("EnvoyFilter `peergate`"), "{}", repeated[0].message);
    assert!(repeated[0].file.ends_with("1.yaml") && repeated[0].message.contains("0.yaml:"));
    assert!(!findings.is_safe());
}

const NAMES: [(&[&str], &str); 4] = [
    (&["istio"], "peergate-http-8080"),
    (&["istio", "--protocol", "tcp", "--port", "19100"], "peergate-tcp-19100"),
    (&["istio", "--gateway", "--port", "8443"], "peergate-http-8443"),
    (&["istio", "--name", "mine"], "mine"),
];

#[test]
fn names_carry_protocol_and_port() {
    for (arguments, name) in NAMES {
        let rendered = render(arguments);
        let names: Vec<_> = rendered.lines().filter_map(|line| line.strip_prefix("  name: ")).collect();
        assert!(!names.is_empty() && names.iter().all(|it| *it == name), "{arguments:?}: {names:?}");
        let id = rendered.lines().find_map(|line| line.trim().strip_prefix("vm_id: ")).expect("a VM");
        let expected = name.replace('-', "_");
        assert!(id == expected || id == format!("peergate_{expected}"), "{arguments:?}: {id}");
    }
    let rendered = plugin();
    let names: Vec<_> = rendered.lines().filter_map(|line| line.strip_prefix("  name: ")).collect();
    assert_eq!(names, ["peergate-http-8080", "peergate-http-8080", "peergate-http-8080-proxy"]);
}

/// An EnvoyFilter of somebody else with one patch.
fn other(metadata: &str, spec: &str, patch: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{{metadata}}}\nspec:\n{spec}  configPatches:\n  - {patch}\n"
    )
}

const LUA: &str = "{name: lua, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inline_code: x}}";
const RBAC: &str =
    "{name: rbac, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}}";
const TCP: &str = "{name: tcp, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: x}}";

fn insert(applies: &str, matched: &str, operation: &str, value: &str) -> String {
    format!("{{applyTo: {applies}, match: {{{matched}}}, patch: {{operation: {operation}, value: {value}}}}}")
}

#[test]
fn a_filter_that_others_insert_first_is_unsafe() {
    let scratch = Scratch::new();
    let (ours, plugin) = (http(), plugin());
    let inbound = "context: SIDECAR_INBOUND";
    let router = "context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}";
    let before_ours = router.replace("envoy.filters.http.router", "peergate");
    let port = |port: u16| {
        format!("context: SIDECAR_INBOUND, listener: {{filterChain: {{destinationPort: {port}}}}}")
    };
    let (first, first_of_plugin) = (&[Rule::FilterOrder][..], &[Rule::FilterOrder][..]);
    for (name, metadata, spec, patch, with_patch, with_plugin) in [
        (
            "first",
            "name: lua",
            "",
            insert("HTTP_FILTER", inbound, "INSERT_FIRST", LUA),
            first,
            first_of_plugin,
        ),
        ("anywhere", "name: lua", "", insert("HTTP_FILTER", "", "INSERT_FIRST", LUA), first, first_of_plugin),
        (
            "before",
            "name: lua",
            "",
            insert("HTTP_FILTER", inbound, "INSERT_BEFORE", LUA),
            first,
            first_of_plugin,
        ),
        (
            "before ours",
            "name: lua",
            "",
            insert("HTTP_FILTER", &before_ours, "INSERT_BEFORE", LUA),
            first,
            first_of_plugin,
        ),
        (
            "our port",
            "name: lua",
            "",
            insert("HTTP_FILTER", &port(8080), "INSERT_FIRST", LUA),
            first,
            first_of_plugin,
        ),
        (
            "later",
            "name: lua",
            "  priority: 1\n",
            insert("HTTP_FILTER", inbound, "INSERT_FIRST", LUA),
            first,
            first_of_plugin,
        ),
        (
            "network",
            "name: tcp",
            "",
            insert("NETWORK_FILTER", inbound, "INSERT_FIRST", TCP),
            first,
            first_of_plugin,
        ),
        (
            "earlier",
            "name: lua",
            "  priority: -1\n",
            insert("HTTP_FILTER", inbound, "INSERT_FIRST", LUA),
            &[],
            first_of_plugin,
        ),
        (
            "root",
            "name: lua, namespace: istio-system",
            "",
            insert("HTTP_FILTER", inbound, "INSERT_FIRST", LUA),
            &[],
            first_of_plugin,
        ),
        ("router", "name: lua", "", insert("HTTP_FILTER", router, "INSERT_BEFORE", LUA), &[], &[]),
        ("another port", "name: lua", "", insert("HTTP_FILTER", &port(9090), "INSERT_FIRST", LUA), &[], &[]),
        (
            "outbound",
            "name: lua",
            "",
            insert("HTTP_FILTER", "context: SIDECAR_OUTBOUND", "INSERT_FIRST", LUA),
            &[],
            &[],
        ),
        (
            "other pods",
            "name: lua",
            "  workloadSelector: {labels: {app: other}}\n",
            insert("HTTP_FILTER", inbound, "INSERT_FIRST", LUA),
            &[],
            &[],
        ),
        ("refuses only", "name: rbac", "", insert("HTTP_FILTER", inbound, "INSERT_FIRST", RBAC), &[], &[]),
    ] {
        let other = other(metadata, spec, &patch);
        for files in [[&*ours, &*other], [&*other, &*ours]] {
            assert_eq!(scratch.rules(&files), with_patch, "{name}");
        }
        assert_eq!(scratch.rules(&[&plugin, &other]), with_plugin, "{name}, plugin");
    }
}

/// A patch with the `match` of inbound listeners.
fn inbound(applies: &str, operation: &str, value: &str) -> String {
    other("name: other", "", &insert(applies, "context: SIDECAR_INBOUND", operation, value))
}

#[test]
fn patches_that_take_away_tls_or_add_ways_are_unsafe() {
    let scratch = Scratch::new();
    let ours = http();
    let raw = "{name: envoy.transport_sockets.raw_buffer, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}";
    let to = |cluster: &str| TCP.replace("cluster: x", &format!("cluster: '{cluster}'"));
    let chain = |cluster: &str| format!("{{filters: [{}]}}", to(cluster));
    let listener = |cluster: &str| {
        let address = "address: {socket_address: {address: 0.0.0.0, port_value: 9999}}";
        format!("{{name: more, {address}, filter_chains: [{}]}}", chain(cluster))
    };
    for (name, patch, rules) in [
        (
            "null",
            inbound("LISTENER", "MERGE", "{filter_chains: [{transport_socket: null}]}"),
            &[Rule::FilterPatched, Rule::Tls][..],
        ),
        ("no TLS", inbound("FILTER_CHAIN", "MERGE", &format!("{{transport_socket: {raw}}}")), &[Rule::Tls]),
        ("nothing", inbound("FILTER_CHAIN", "MERGE", "{transport_socket: null}"), &[Rule::Tls]),
        (
            "chains",
            inbound("LISTENER", "MERGE", &format!("{{default_filter_chain: {}}}", chain("x"))),
            &[Rule::FilterPatched],
        ),
        ("listener", inbound("LISTENER", "ADD", &listener("inbound|8080||")), &[Rule::ListenerUnguarded]),
        ("chain", inbound("FILTER_CHAIN", "ADD", &chain("inbound|8080||")), &[Rule::ListenerUnguarded]),
        ("unknown", inbound("LISTENER", "ADD", &listener("x")), &[Rule::Destination]),
        ("elsewhere", inbound("LISTENER", "ADD", &listener("inbound|9090||")), &[]),
        ("name", inbound("LISTENER", "MERGE", "{per_connection_buffer_limit_bytes: 1}"), &[]),
    ] {
        assert_eq!(scratch.rules(&[&ours, &patch]), rules, "{name}");
    }
    for (name, patch, rules) in [
        (
            "chain",
            "{applyTo: FILTER_CHAIN, match: {context: SIDECAR_INBOUND}, patch: {operation: REMOVE}}"
                .to_owned(),
            &[Rule::FilterPatched][..],
        ),
        (
            "upgrades",
            insert(
                "NETWORK_FILTER",
                "context: SIDECAR_INBOUND",
                "MERGE",
                "{name: envoy.filters.network.http_connection_manager, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, upgrade_configs: [{upgrade_type: websocket, filters: [{name: lua}]}]}}",
            ),
            &[Rule::FilterPatched, Rule::UpgradeFilters],
        ),
        (
            "bootstrap",
            insert(
                "BOOTSTRAP",
                "",
                "MERGE",
                &format!("{{static_resources: {{listeners: [{}]}}}}", listener("inbound|8080||")),
            ),
            &[Rule::ListenerUnguarded],
        ),
    ] {
        assert_eq!(scratch.rules(&[&ours, &other("name: other", "", &patch)]), rules, "{name}");
    }
    // A cluster of the same service that a patch adds.
    let cluster = "{name: mine, type: STATIC, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}}]}]}}";
    let both = [
        inbound("CLUSTER", "ADD", cluster),
        inbound("LISTENER", "ADD", &listener("mine")).replace("name: other", "name: third"),
    ];
    assert_eq!(scratch.rules(&[&ours, &both[0], &both[1]]), [Rule::ListenerUnguarded]);
}

/// The filter as an extension that the listener asks for, as in istio/istio#43800.
fn discovered(asks: bool, extension: Option<&str>) -> String {
    let rendered = http();
    let (head, rest) = rendered.split_once("      value:\n").expect("the patch");
    let (filter, tail) = rest.split_once("  - applyTo").expect("the next patch");
    let ask = "        name: peergate\n        config_discovery:\n          config_source: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}\n          type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]\n";
    let ask = if asks { ask } else { RBAC_LINES };
    let patch = extension.map(|operation| {
        format!("  - applyTo: EXTENSION_CONFIG\n    match: {{context: SIDECAR_INBOUND}}\n    patch:\n      operation: {operation}\n      value:\n{filter}")
    });
    format!("{head}      value:\n{ask}{}  - applyTo{tail}", patch.unwrap_or_default())
}

const RBAC_LINES: &str = "        name: rbac\n        typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}\n";

/// After istio/istio#43800, and istio/api#3034: the only operation of an EXTENSION_CONFIG is ADD.
#[test]
fn an_extension_is_added_and_asked_for() {
    let scratch = Scratch::new();
    assert_eq!(scratch.rules(&[&discovered(true, Some("ADD"))]), []);
    for operation in ["INSERT_FIRST", "MERGE", "REPLACE", "INSERT_BEFORE"] {
        let findings = scratch.lint(&[&discovered(true, Some(operation))]);
        assert!(!findings.is_safe(), "{operation}");
        let advice = findings.list.iter().find(|it| it.message.contains("knows only ADD")).expect(operation);
        assert_eq!(advice.rule, Rule::ExtensionConfig, "{operation}");
        assert!(!findings.list.iter().any(|it| it.rule == Rule::FilterOrder), "{operation}: {findings:#?}");
    }
    for (name, text) in [
        ("nothing delivers it", discovered(true, None)),
        ("nothing asks for it", discovered(false, Some("ADD"))),
    ] {
        assert_eq!(scratch.rules(&[&text]), [Rule::ExtensionConfig], "{name}");
    }
    let foreign = other(
        "name: other",
        "",
        &insert("EXTENSION_CONFIG", "", "ADD", &RBAC.replace("name: rbac", "name: peergate")),
    );
    assert_eq!(scratch.rules(&[&discovered(true, Some("ADD")), &foreign]), [Rule::Discovered]);
}

fn authentication(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{{name}}}\nspec: {{{spec}}}\n"
    )
}

/// Of several for one workload Istio takes the oldest, so each must be enough.
#[test]
fn any_authentication_that_may_be_the_oldest_must_be_strict() {
    let scratch = Scratch::new();
    let ours = http();
    let (start, alone) = ours.split_once("---\n").expect("two resources");
    let select = "selector: {matchLabels: {app: vespa}}";
    let cases = [
        ("a second one", "name: other", format!("{select}, mtls: {{mode: PERMISSIVE}}"), true),
        (
            "another port",
            "name: other",
            format!("{select}, mtls: {{mode: STRICT}}, portLevelMtls: {{9090: {{mode: DISABLE}}}}"),
            false,
        ),
        (
            "our port",
            "name: other",
            format!("{select}, mtls: {{mode: STRICT}}, portLevelMtls: {{8080: {{mode: DISABLE}}}}"),
            true,
        ),
        (
            "a few of the pods",
            "name: other",
            "selector: {matchLabels: {tier: x}}, mtls: {mode: DISABLE}".to_owned(),
            true,
        ),
        (
            "other pods",
            "name: other",
            "selector: {matchLabels: {app: x}}, mtls: {mode: DISABLE}".to_owned(),
            false,
        ),
        ("the namespace's", "name: default", "mtls: {mode: PERMISSIVE}".to_owned(), false),
        ("the mesh's", "name: default, namespace: istio-system", "mtls: {mode: DISABLE}".to_owned(), false),
    ];
    for (name, metadata, spec, lenient) in cases {
        let expected = if lenient { &[Rule::PeerAuthentication][..] } else { &[] };
        assert_eq!(scratch.rules(&[&ours, &authentication(metadata, &spec)]), expected, "{name}");
    }
    for (name, resources, lenient) in [
        ("the namespace's", vec![authentication("name: default", "mtls: {mode: STRICT}")], false),
        (
            "the mesh's",
            vec![authentication("name: default, namespace: istio-system", "mtls: {mode: STRICT}")],
            false,
        ),
        (
            "inherited",
            vec![
                authentication("name: default, namespace: istio-system", "mtls: {mode: STRICT}"),
                authentication("name: other", "selector: {matchLabels: {app: vespa}}, mtls: {mode: UNSET}"),
            ],
            false,
        ),
        ("nothing", vec![], true),
        (
            "a selector of the root namespace selects nothing",
            vec![authentication(
                "name: x, namespace: istio-system",
                &format!("{select}, mtls: {{mode: STRICT}}"),
            )],
            true,
        ),
    ] {
        let texts: Vec<_> = std::iter::once(alone).chain(resources.iter().map(String::as_str)).collect();
        let expected = if lenient { &[Rule::PeerAuthentication][..] } else { &[] };
        assert_eq!(scratch.rules(&texts), expected, "{name}");
    }
    assert!(start.contains("STRICT"));
}

#[test]
fn plugins_of_others_that_come_first_are_unsafe() {
    let scratch = Scratch::new();
    let ours = plugin();
    let other = |spec: &str| {
        format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: other}}\nspec: {{url: 'oci://x', {spec}}}\n"
        )
    };
    for (spec, first) in [
        ("phase: AUTHN", true),
        ("phase: AUTHZ", true),
        ("phase: AUTHZ, priority: 5", true),
        ("phase: AUTHZ, priority: -5", false),
        ("phase: STATS", false),
        ("pluginName: x", false),
        ("phase: AUTHN, type: NETWORK", false),
        ("phase: AUTHN, selector: {matchLabels: {app: other}}", false),
        ("phase: AUTHN, match: [{mode: CLIENT}]", false),
    ] {
        let expected = if first { &[Rule::FilterOrder][..] } else { &[] };
        assert_eq!(scratch.rules(&[&ours, &other(spec)]), expected, "{spec}");
    }
}

/// Istio 1.31 has the same under another kind.
#[test]
fn a_traffic_extension_is_looked_at() {
    let scratch = Scratch::new();
    let extension = |strategy: &str| {
        let plugin = plugin();
        let documents: Vec<_> = plugin.split("---\n").collect();
        let spec = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {{name: peergate-http-8080}}\nspec:\n  phase: AUTHZ\n  match: [{{mode: SERVER, ports: [{{number: 8080}}]}}]\n  selector: {{matchLabels: {{app: vespa}}}}\n  wasm:\n    url: oci://x\n    sha256: '0'\n    type: HTTP\n    failStrategy: {strategy}\n    pluginName: peergate_http\n    pluginConfig: {{endpoint: peer, policy: {{authorized-peers: [{{required-credentials: [{{field: CN, must-match: x}}]}}]}}}}\n"
        );
        [documents[0], &spec, documents[2]].join("---\n")
    };
    let findings = scratch.lint(&[&extension("FAIL_RELOAD")]);
    assert!(findings.is_safe() && findings.filters == 1, "{findings:#?}");
    assert_eq!(scratch.rules(&[&extension("FAIL_OPEN")]), [Rule::FailOpen]);
}
