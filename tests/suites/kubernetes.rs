//! `envoy/kubernetes`: the overlays against Kubernetes' own schemas, and their pods without a cluster, with certificates that
//! change while clients are served.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use peergate_host::pki::Leaf;
use peergate_tests::admin::{json as page, metric};
use peergate_tests::client::Client;
use peergate_tests::commands::{GET, curl, run, s_client};
use peergate_tests::host::Host;
use peergate_tests::kustomize::{build, documents, sorted};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::pod::{ADMIN, Pod, attribute, host_container, list, text};
use peergate_tests::upstream::Upstream;
use peergate_tests::{root, wait};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

const OVERLAYS: [&str; 3] = ["sidecar", "ingress", "daemonset"];
/// The first release with `preStop.sleep`, and the newest that kubernetes-validate knows.
const RELEASES: [&str; 2] = ["1.30", "1.37"];

fn overlay(name: &str) -> PathBuf {
    root().join("envoy/kubernetes/overlays").join(name)
}

fn of_kind<'a>(resources: &'a [Value], kind: &str) -> Vec<&'a Value> {
    resources.iter().filter(|it| it["kind"] == kind).collect()
}

/// Workloads with a host.
fn workloads(resources: &[Value]) -> Vec<&Value> {
    resources.iter().filter(|it| it["metadata"]["labels"]["peergate/host"] == "true").collect()
}

/// The mounted files of a ConfigMap.
fn config<'a>(resources: &'a [Value], name: &str, file: &str) -> &'a str {
    let map = of_kind(resources, "ConfigMap").into_iter().find(|it| it["metadata"]["name"] == name);
    text(&map.unwrap_or_else(|| panic!("no ConfigMap {name}"))["data"][file])
}

/// The merge of these tests is kustomize's own, where there is one to ask.
#[test]
fn kustomize_merges_the_overlays_to_the_same() {
    let version = Command::new("kubectl").args(["version", "--client"]).output();
    let version = version.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
    if !version.contains("Kustomize Version: v5.") {
        let note = "overlays not compared with kustomize: there is no kubectl with kustomize 5, and no registry has one";
        writeln!(io::stderr(), "{note}").expect("standard error");
        return;
    }
    for name in OVERLAYS {
        let built = run(Command::new("kubectl").arg("kustomize").arg(overlay(name)), b"");
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        assert_eq!(build(&overlay(name)), sorted(documents(&built.stdout)), "{name}");
    }
}

/// Kubernetes' own schemas, with unknown fields refused, by `kubernetes-validate`.
fn validate(release: &str, resources: &[Value]) -> String {
    let program = root().join("target/venv-kubernetes/bin/kubernetes-validate");
    assert!(program.is_file(), "kubernetes-validate is missing; install it: make kubernetes");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("resources.yaml");
    let resources: Vec<_> = resources.iter().map(ToString::to_string).collect();
    fs::write(&file, resources.join("\n---\n")).expect("written");
    run(Command::new(program).args(["--strict", "-k", release]).arg(&file), b"").output()
}

#[test]
fn kubernetes_schemas_accept_every_resource() {
    for name in OVERLAYS {
        let resources = build(&overlay(name));
        let own = resources.iter().filter(|it| !text(&it["apiVersion"]).starts_with("cert-manager.io/"));
        let own: Vec<_> = own.cloned().collect();
        assert!(own.len() >= 7, "{name}: {}", own.len());
        for release in RELEASES {
            let said = validate(release, &own);
            assert_eq!(said.matches(" passed for resource ").count(), own.len(), "{name}, {release}: {said}");
        }
        // The schemas would have seen it.
        let mut wrong = own.clone();
        let workload = wrong.iter_mut().find(|it| it["metadata"]["labels"]["peergate/host"] == "true");
        workload.expect("a workload")["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] =
            json!({});
        let said = validate(RELEASES[1], &wrong);
        assert!(said.contains("readynessProbe") && said.contains("ERROR"), "{said}");
    }
}

/// `deploy/crds/cert-manager.io_certificates.yaml` and `..._issuers.yaml` of cert-manager, for the fields that are used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Certificate {
    #[serde(default, rename = "isCA")]
    is_ca: bool,
    common_name: String,
    #[serde(default)]
    dns_names: Vec<String>,
    #[serde(default)]
    usages: Vec<String>,
    secret_name: String,
    duration: String,
    renew_before: Option<String>,
    private_key: PrivateKey,
    issuer_ref: IssuerRef,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PrivateKey {
    algorithm: String,
    size: u32,
    encoding: String,
    rotation_policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerRef {
    name: String,
    kind: String,
    group: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum Issuer {
    SelfSigned {},
    Ca {
        #[serde(rename = "secretName")]
        secret_name: String,
    },
}

fn specs<T: for<'de> Deserialize<'de>>(resources: &[Value], kind: &str) -> Vec<(String, T)> {
    let parse = |it: &Value| {
        assert_eq!(it["apiVersion"], "cert-manager.io/v1");
        let spec = serde_json::from_value(it["spec"].clone()).unwrap_or_else(|error| panic!("{error}: {it}"));
        (text(&it["metadata"]["name"]).to_owned(), spec)
    };
    of_kind(resources, kind).into_iter().map(parse).collect()
}

/// Self-signed issuer, certificate of the authority, issuer of the authority; and who asks for what is there.
#[test]
fn authorities_are_made_before_they_issue() {
    for name in OVERLAYS {
        let resources = build(&overlay(name));
        let certificates: Vec<(String, Certificate)> = specs(&resources, "Certificate");
        let issuers: Vec<(String, Issuer)> = specs(&resources, "Issuer");
        let issuer = |name: &str| issuers.iter().find(|(it, _)| it == name).map(|(_, issuer)| issuer);
        for (name, certificate) in &certificates {
            let IssuerRef { name: issued_by, kind, group } = &certificate.issuer_ref;
            assert_eq!((kind.as_str(), group.as_str()), ("Issuer", "cert-manager.io"), "{name}");
            let self_signed = matches!(issuer(issued_by).expect("an issuer"), Issuer::SelfSigned {});
            assert_eq!(self_signed, certificate.is_ca, "{name}");
            let key = &certificate.private_key;
            assert_eq!((&*key.algorithm, key.size, &*key.encoding), ("ECDSA", 256, "PKCS8"), "{name}");
            if certificate.is_ca {
                assert_eq!((&*certificate.duration, &*key.rotation_policy), ("87600h", "Never"), "{name}");
            } else {
                assert_eq!(certificate.usages, ["digital signature", "client auth"], "{name}");
                assert_eq!(certificate.dns_names.join(","), certificate.common_name, "{name}");
                assert_eq!(certificate.renew_before.as_deref(), Some("72h"), "{name}");
            }
        }
        for (name, issuer) in &issuers {
            if let Issuer::Ca { secret_name } = issuer {
                let signer = certificates.iter().find(|(_, it)| it.secret_name == *secret_name);
                assert!(signer.is_some_and(|(_, it)| it.is_ca), "{name}");
            }
        }
        for attributes in certificate_volumes(&resources) {
            let issued_by = issuer(attribute(attributes, "issuer-name")).expect("an issuer");
            assert!(matches!(issued_by, Issuer::Ca { .. }), "csi-driver cannot use self-signed issuers");
        }
    }
}

fn certificate_volumes(resources: &[Value]) -> Vec<&Value> {
    let volumes =
        workloads(resources).into_iter().flat_map(|it| list(&it["spec"]["template"]["spec"]["volumes"]));
    volumes.filter(|it| it["csi"].is_object()).map(|it| &it["csi"]["volumeAttributes"]).collect()
}

/// What Vespa's guide asks the driver for (docs.vespa.ai, "Enable TLS Encryption for Vespa on Kubernetes").
#[test]
fn volumes_ask_for_certificates_as_vespas_guide_does() {
    for (name, issuers) in [
        ("sidecar", &["ca-issuer"][..]),
        ("ingress", &["ingress-issuer", "ca-issuer"]),
        ("daemonset", &["ca-issuer"]),
    ] {
        let resources = build(&overlay(name));
        let volumes = certificate_volumes(&resources);
        assert_eq!(volumes.len(), issuers.len(), "{name}");
        for (attributes, issuer) in volumes.into_iter().zip(issuers) {
            let mut attributes = attributes.clone();
            let names =
                attributes.as_object_mut().expect("attributes").remove("csi.cert-manager.io/dns-names");
            let names = names.expect("names");
            let names: Vec<_> = text(&names).split(',').collect();
            assert!(
                names.contains(&"*.vespa.svc.cluster.local") && names.contains(&"localhost"),
                "{names:?}"
            );
            let expected = json!({
                "csi.cert-manager.io/issuer-name": issuer,
                "csi.cert-manager.io/issuer-kind": "Issuer",
                "csi.cert-manager.io/issuer-group": "cert-manager.io",
                "csi.cert-manager.io/common-name": "${POD_NAME}.vespa.svc.cluster.local",
                "csi.cert-manager.io/duration": "720h",
                "csi.cert-manager.io/renew-before": "72h",
                "csi.cert-manager.io/fs-group": "1000",
                "csi.cert-manager.io/key-algorithm": "ECDSA",
                "csi.cert-manager.io/key-size": "256",
                "csi.cert-manager.io/key-encoding": "PKCS8",
            });
            assert_eq!(attributes, expected, "{name}");
        }
    }
}

#[test]
fn hosts_are_hardened_and_end_in_order() {
    for name in OVERLAYS {
        let resources = build(&overlay(name));
        let [workload] = workloads(&resources)[..] else { panic!("{name}: one workload") };
        let pod = &workload["spec"]["template"]["spec"];
        let host = host_container(workload);
        assert_eq!(host["image"], "registry.example.com/peergate:0.1.0");
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(
            pod["securityContext"],
            json!({"runAsNonRoot": true, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}})
        );
        let mut security = host["securityContext"].clone();
        let user = security.as_object_mut().expect("an object").remove("runAsUser");
        assert!(user.is_some_and(|user| user != 0 && user != 1000), "{name}: another user than Vespa's");
        assert_eq!(
            security,
            json!({"runAsGroup": 65532, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                   "capabilities": {"drop": ["ALL"]}})
        );
        assert!(
            host["resources"]["requests"].is_object() && host["resources"]["limits"]["memory"].is_string()
        );
        // Nothing is left of the drain when the service stops, nor of the service when the kubelet kills.
        let sleep = |container: &Value| container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        let drained = sleep(host).expect("a preStop") + DRAIN;
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
        for container in list(&pod["containers"]).iter().filter(|it| it["name"] != "peergate") {
            assert!(sleep(container).is_some_and(|sleep| drained < sleep && sleep < grace), "{name}");
        }
        assert!(drained < grace, "{name}");
    }
}

/// Seconds; see the host's limits.
const DRAIN: u64 = 60;

/// Files are where the policies look for them, and no mount is a single file.
#[test]
fn directories_are_mounted_where_policies_look() {
    for name in OVERLAYS {
        let resources = build(&overlay(name));
        let workload = workloads(&resources)[0];
        let host = host_container(workload);
        let mounts = list(&host["volumeMounts"]);
        assert!(mounts.iter().all(|it| it["subPath"].is_null() && it["readOnly"] == true), "{name}");
        let mounted = |path: &str| {
            mounts.iter().any(|it| Path::new(path).parent() == Some(Path::new(text(&it["mountPath"]))))
        };
        let boundaries = [("VESPA_TLS_CONFIG_FILE", "tls"), ("VESPA_TLS_CONFIG_FILE_INGRESS", "tls-ingress")];
        let boundaries = &boundaries[..list(&host["env"]).len()];
        for (variable, directory) in boundaries {
            let variable = list(&host["env"]).iter().find(|it| it["name"] == *variable).expect("a variable");
            assert_eq!(
                variable["value"],
                format!("/etc/{}/tls-config.json", directory.replace("tls", "tls-config"))
            );
            assert!(mounted(text(&variable["value"])));
            let policy: Value =
                serde_json::from_str(config(&resources, &format!("peergate-{directory}"), "tls-config.json"))
                    .expect("JSON");
            for (key, file) in
                [("ca-certificates", "ca.crt"), ("certificates", "tls.crt"), ("private-key", "tls.key")]
            {
                assert_eq!(policy["files"][key], format!("/etc/{directory}/{file}"));
                assert!(mounted(text(&policy["files"][key])));
            }
        }
        assert_eq!(boundaries.len(), certificate_volumes(&resources).len(), "{name}");
        // The configuration's variables, `args`, probes and ports speak of the same.
        assert_eq!(host["args"], json!(["run", "--config", "/etc/peergate/host.json"]));
        assert!(mounted("/etc/peergate/host.json"));
        for probe in ["livenessProbe", "readinessProbe"] {
            let command = list(&host[probe]["exec"]["command"]);
            assert_eq!(command[..4], [json!("/peergate"), json!("probe"), json!("--admin"), json!(ADMIN)]);
        }
    }
}

/// Where the network leads in, a host listens with mTLS, and nowhere else.
#[test]
fn only_the_ports_of_the_host_are_open() {
    let set = |ports: &[Value], key: &str| ports.iter().map(|it| it[key].as_u64()).collect::<BTreeSet<_>>();
    for name in OVERLAYS {
        let resources = build(&overlay(name));
        let workload = workloads(&resources)[0];
        let configuration: Value =
            serde_json::from_str(config(&resources, "peergate", "host.json")).expect("JSON");
        let listening = list(&configuration["inbound"]).iter();
        let listening: BTreeSet<_> = listening
            .map(|it| text(&it["address"]).strip_prefix("0.0.0.0:").and_then(|port| port.parse().ok()))
            .collect();
        assert_eq!(set(list(&host_container(workload)["ports"]), "containerPort"), listening, "{name}");
        let policies = of_kind(&resources, "NetworkPolicy");
        let policy = policies.iter().find(|it| it["metadata"]["name"] == "peergate").expect("a policy");
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"], json!({"peergate/host": "true"}));
        assert_eq!(workload["spec"]["template"]["metadata"]["labels"]["peergate/host"], "true");
        let [rule] = list(&policy["spec"]["ingress"]) else { panic!("{name}: one rule") };
        assert_eq!(set(list(&rule["ports"]), "port"), listening, "{name}");
        let selector = &workload["spec"]["selector"]["matchLabels"];
        let services = of_kind(&resources, "Service");
        let service = services.iter().find(|it| it["spec"]["selector"] == *selector).expect("a service");
        assert_eq!(set(list(&service["spec"]["ports"]), "port"), listening, "{name}");
    }
}

/// What a host forwards in plaintext stays within its pod, or, of a DaemonSet, on its node.
#[test]
fn plaintext_goes_nowhere_else() {
    for name in OVERLAYS {
        let resources = build(&overlay(name));
        let configuration: Value =
            serde_json::from_str(config(&resources, "peergate", "host.json")).expect("JSON");
        for inbound in list(&configuration["inbound"]) {
            let upstream = text(&inbound["upstream"]["address"]);
            let Some(service) = upstream.strip_suffix(".vespa.svc.cluster.local:8080") else {
                assert_eq!(upstream, "127.0.0.1:8080", "{name}");
                continue;
            };
            let services = of_kind(&resources, "Service");
            let service = services.iter().find(|it| it["metadata"]["name"] == service).expect("a service");
            assert_eq!(service["spec"]["internalTrafficPolicy"], "Local");
            let policies = of_kind(&resources, "NetworkPolicy");
            let selected =
                |it: &&&Value| it["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"];
            let policy = policies.iter().find(selected).expect("a policy for the pods behind it");
            let vespa = json!({"podSelector": {"matchLabels": service["spec"]["selector"]}});
            let host = json!({"podSelector": {"matchLabels": {"peergate/host": "true"}}});
            let expected = json!([
                {"from": [host], "ports": [{"port": 8080, "protocol": "TCP"}]},
                {"from": [vespa]},
            ]);
            assert_eq!(policy["spec"]["ingress"], expected);
        }
    }
}

/// A pod with its host, a service behind it, and clients.
struct Running {
    pod: Pod,
    host: Host,
    upstream: Upstream,
}

impl Running {
    fn start(name: &str, pod_name: &str) -> Self {
        let resources = build(&overlay(name));
        let upstream = Upstream::http();
        let pod = Pod::new(&resources, workloads(&resources)[0], pod_name, upstream.address);
        let host = pod.start();
        let running = Self { pod, host, upstream };
        let boundaries = running.pod.issuers.len();
        wait::until("all ports listen", || running.host.addresses().len() == boundaries);
        running
    }

    fn pki(&self, issuer: &str) -> &Pki {
        &self.pod.issuers[issuer]
    }

    /// A client with the certificate that cert-manager makes of a `Certificate`.
    fn client(&self, issuer: &str, cn: &str) -> Peer {
        let pki = self.pki(issuer);
        pki.store(pki.root().issue(&Leaf::new().cn(cn).dns(cn)).expect("a certificate"))
    }

    fn status(&self, issuer: &str, address: SocketAddr, cn: &str, path: &str) -> u16 {
        curl(self.pki(issuer), address, Some(&self.client(issuer, cn)), path, &[]).status
    }
}

const NAMES: &str = "vespa.svc.cluster.local";

#[test]
fn the_sidecar_admits_and_refuses() {
    let running = Running::start("sidecar", "vespa-0");
    let inner = running.host.address;
    let status =
        |name: &str, path: &str| running.status("ca-issuer", inner, &format!("{name}.{NAMES}"), path);
    assert_eq!(status("feeder", "/document/v1/"), 200, "{}", running.host.log());
    assert_eq!(status("vespa-1", "/state/v1/metrics"), 200);
    assert_eq!(running.upstream.requests().len(), 2);
    // The same authority, and no rule.
    assert_eq!(status("stranger", "/"), 0);
    // A scraper gets metrics, and nothing else.
    assert_eq!(status("prometheus", "/peergate-admin/metrics"), 200);
    assert_eq!(status("prometheus", "/document/v1/"), 403);
    assert_eq!(status("feeder", "/peergate-admin/metrics"), 403);
    assert_eq!(running.upstream.requests().len(), 2);
    let pki = running.pki("ca-issuer");
    let refused = s_client(pki, inner, Some(&running.client("ca-issuer", "stranger")), &[], GET);
    // access_denied.
    assert_eq!(refused.alert(), Some(49), "{}", refused.output());
    // certificate_required.
    assert_eq!(s_client(pki, inner, None, &[], GET).alert(), Some(116));
    let log = running.host.log();
    assert!(!log.contains("sandbox is not enforced") && !log.contains("warning"), "{log}");
}

#[test]
fn the_daemonset_admits_and_refuses() {
    let running = Running::start("daemonset", "peergate-x7k2p");
    let status =
        |name: &str| running.status("ca-issuer", running.host.address, &format!("{name}.{NAMES}"), "/");
    assert_eq!((status("feeder"), status("stranger")), (200, 0), "{}", running.host.log());
}

#[test]
fn each_boundary_has_its_own_authority_and_policy() {
    let running = Running::start("ingress", "vespa-0");
    let (inner, outer) = (running.host.addresses()[0], running.host.addresses()[1]);
    let feeder = format!("feeder.{NAMES}");
    assert_eq!(running.status("ca-issuer", inner, &feeder, "/"), 200, "{}", running.host.log());
    assert_eq!(running.status("ingress-issuer", outer, "client.local", "/"), 200, "{}", running.host.log());
    assert_eq!(running.status("ingress-issuer", outer, "intruder.local", "/"), 0);
    // Names of one boundary mean nothing at the other, whatever authority says them.
    assert_eq!(running.status("ingress-issuer", outer, &feeder, "/"), 0);
    assert_eq!(running.status("ca-issuer", inner, "client.local", "/"), 0);
    // And who is admitted at one is not trusted at the other.
    let foreign = |ours: &str, theirs: &str, address, cn| {
        curl(running.pki(ours), address, Some(&running.client(theirs, cn)), "/", &[]).status
    };
    assert_eq!(foreign("ca-issuer", "ingress-issuer", inner, &feeder), 0);
    assert_eq!(foreign("ingress-issuer", "ca-issuer", outer, "client.local"), 0);
}

/// The kubelet's view: both probes, while it serves, drains, and is gone.
#[test]
fn probes_tell_serving_from_draining_and_from_nothing() {
    let mut running = Running::start("sidecar", "vespa-0");
    let admin = running.host.admin();
    let codes = |running: &Running| {
        ["livenessProbe", "readinessProbe"].map(|kind| running.pod.probe(kind, admin).code)
    };
    assert_eq!(codes(&running), [Some(0), Some(0)], "{}", running.host.log());
    let ready = running.pod.probe("readinessProbe", admin);
    assert_eq!((ready.stdout.as_str(), ready.stderr.as_str()), ("ready\n", ""));
    let peer = running.client("ca-issuer", &format!("feeder.{NAMES}"));
    let mut client =
        Client::connect(running.host.address, running.pki("ca-issuer").ca(), Some(&peer.credential))
            .expect("a connection");
    // Half a request keeps the drain waiting.
    client.write(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n1").expect("written");
    wait::until("it is in flight", || running.upstream.connections() == 1);
    running.host.signal(Signal::TERM);
    wait::until("it drains", || running.pod.probe("readinessProbe", admin).code == Some(1));
    let draining = running.pod.probe("readinessProbe", admin);
    assert_eq!(draining.stdout, "draining\n");
    assert_eq!(draining.stderr, format!("peergate: {admin}/readyz: 503 Service Unavailable\n"));
    assert_eq!(running.pod.probe("livenessProbe", admin).code, Some(0));
    client.write(b"2").expect("written");
    assert_eq!(running.host.ended(), Some(0), "{}", running.host.log());
    assert_eq!(codes(&running), [Some(2), Some(2)]);
    assert!(running.pod.probe("livenessProbe", admin).stderr.contains("/healthz: no answer: "));
}

/// Clients that do nothing but ask, on a connection they keep and on new ones.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(running: &Running, clients: &[(&str, SocketAddr, &str)]) -> Self {
        let (stop, answered) = (Arc::default(), Arc::default());
        let ask = |(issuer, address, cn): &(&str, SocketAddr, &str)| {
            let (stop, answered): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                (Arc::clone(&stop), Arc::clone(&answered));
            let (ca, peer) = (running.pki(issuer).ca().clone(), running.client(issuer, cn));
            let (address, cn) = (*address, (*cn).to_owned());
            thread::spawn(move || {
                let fail = |error: std::io::Error| format!("{cn}: {error}");
                let connect = || Client::connect(address, &ca, Some(&peer.credential)).map_err(fail);
                let mut kept = connect()?;
                while !stop.load(Ordering::SeqCst) {
                    for client in [&mut kept, &mut connect()?] {
                        let status = client.get("/").map_err(fail)?.status();
                        if status != 200 {
                            return Err(format!("{cn}: {status}"));
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
                Ok(())
            })
        };
        let clients = clients.iter().map(ask).collect();
        Self { stop, answered, clients }
    }

    /// Waits until everybody has been answered a few times more.
    fn goes_on(&self) {
        let goal = self.answered.load(Ordering::SeqCst) + 8 * self.clients.len();
        wait::until("clients are served", || {
            self.answered.load(Ordering::SeqCst) >= goal || self.clients.iter().any(|it| it.is_finished())
        });
    }

    fn end(self) -> Vec<Result<(), String>> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().map(|client| client.join().expect("a thread")).collect()
    }
}

/// The certificate that the host presents, as `openssl` sees it.
fn presented(running: &Running, issuer: &str, address: SocketAddr) -> String {
    s_client(running.pki(issuer), address, None, &[], b"").stdout
}

/// cert-manager renews the certificates of both boundaries, five times, and no admitted client notices.
#[test]
fn certificates_are_renewed_under_load() {
    let mut running = Running::start("ingress", "vespa-0");
    let (inner, outer) = (running.host.addresses()[0], running.host.addresses()[1]);
    let feeder = format!("feeder.{NAMES}");
    let load = Load::start(
        &running,
        &[
            ("ca-issuer", inner, &feeder),
            ("ingress-issuer", outer, "client.local"),
            ("ca-issuer", inner, &feeder),
        ],
    );
    load.goes_on();
    for _ in 0..5 {
        for (path, issuer, address) in
            [("/etc/tls", "ca-issuer", inner), ("/etc/tls-ingress", "ingress-issuer", outer)]
        {
            let renewed = running.pod.renew(path);
            // The signature, which no other certificate has.
            let body: Vec<_> = renewed.chain_pem.lines().filter(|line| !line.starts_with("-----")).collect();
            let signature = body[body.len() - 2].to_owned();
            wait::until("the new certificate is presented", || {
                presented(&running, issuer, address).contains(&signature)
            });
        }
        load.goes_on();
    }
    let failed: Vec<_> = load.end().into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", running.host.log());
    let admin = running.host.admin();
    assert_eq!(metric(admin, "peergate_reload_failures_total"), 0.0, "{}", running.host.log());
    assert_eq!(metric(admin, "peergate_reload_generation"), 11.0);
}

/// `kubectl apply` of another policy: who is new comes in, and who has lost the rule is out, without a restart.
#[test]
fn a_changed_config_map_is_live() {
    let mut running = Running::start("ingress", "vespa-0");
    let outer = running.host.addresses()[1];
    let admitted = |running: &Running, cn: &str| running.status("ingress-issuer", outer, cn, "/") == 200;
    assert!(admitted(&running, "client.local") && !admitted(&running, "intruder.local"));
    let resources = build(&overlay("ingress"));
    let policy = config(&resources, "peergate-tls-ingress", "tls-config.json").to_owned();
    running.pod.apply(
        "peergate-tls-ingress",
        "tls-config.json",
        &policy.replace("client.local", "intruder.local"),
    );
    wait::until("the other one is admitted", || admitted(&running, "intruder.local"));
    assert!(!admitted(&running, "client.local"));
    // One that cannot be read is refused, and said.
    running.pod.apply(
        "peergate-tls-ingress",
        "tls-config.json",
        &policy.replace("authorized-peers", "authorised-peers"),
    );
    let admin = running.host.admin();
    wait::until("it is refused", || metric(admin, "peergate_reload_failures_total") == 1.0);
    let error = page(admin, "/config")["last-attempt"]["error"].to_string();
    assert!(error.contains("did you mean `authorized-peers`?"), "{error}");
    assert!(admitted(&running, "intruder.local"));
}

/// A `subPath` mount is of a file, not of a name: what the kubelet swaps does not reach it. A hard link is as faithful.
#[test]
fn a_sub_path_stays_what_it_was() {
    let mut running = Running::start("sidecar", "vespa-0");
    let policy = running.pod.place("/etc/tls-config/tls-config.json");
    let stuck = running.pod.place("/etc/stuck.json");
    fs::hard_link(policy.canonicalize().expect("a file"), &stuck).expect("a link");
    let resources = build(&overlay("sidecar"));
    let changed = config(&resources, "peergate-tls", "tls-config.json").replace("feeder.", "feeder2.");
    running.pod.apply("peergate-tls", "tls-config.json", &changed);
    let status =
        |name: &str| running.status("ca-issuer", running.host.address, &format!("{name}.{NAMES}"), "/");
    wait::until("the directory is live", || status("feeder2") == 200);
    assert_eq!(status("feeder"), 0);
    let old = fs::read_to_string(&stuck).expect("the old policy");
    assert!(old.contains("feeder.") && !old.contains("feeder2."), "{old}");
}

/// What everybody may write is refused where it is not mounted read-only: mode 0777 is what the kubelet gives ConfigMaps.
#[test]
fn a_writable_directory_is_refused_and_a_read_only_mount_of_it_is_not() {
    if !Pod::can_mount() {
        return;
    }
    let resources = build(&overlay("sidecar"));
    let pod = Pod::new(&resources, workloads(&resources)[0], "vespa-0", Upstream::http().address);
    drop(pod.start());
    let mut command = Command::new(pod.place("peergate"));
    command.args(["run", "--config"]).arg(pod.place("/etc/peergate/host.json"));
    command.env("VESPA_TLS_CONFIG_FILE", pod.place("/etc/tls-config/tls-config.json"));
    let refused = run(&mut command, b"");
    assert_eq!(refused.code, Some(2), "{}", refused.output());
    assert!(refused.stderr.contains("is writable by others"), "{}", refused.stderr);
}
