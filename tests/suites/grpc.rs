//! gRPC, by the client and the server that others use: what it gives by way of the host is what it gives without.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use peergate_host::envoy::Protocol;
use peergate_host::pki::Leaf;
use peergate_policy::token::Derivation;
use peergate_tests::commands::{run, spawn};
use peergate_tests::envoy::{CURRENT, listener, skipped, start};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::policies::peer_endpoint;
use peergate_tests::root;
use serde_json::{Value, json};

const CALLS: [&str; 6] = ["unary", "server-stream", "client-stream", "both-stream", "fails", "unknown"];

fn python(script: &str) -> Command {
    let python = root().join("target/venv-clients/bin/python");
    assert!(python.is_file(), "grpcio is missing; install it: make clients");
    let mut command = Command::new(python);
    command.arg(root().join("tests/clients").join(script));
    command
}

/// A service without TLS; it ends with this value.
struct Service {
    address: SocketAddr,
    called: Arc<Mutex<Vec<String>>>,
    child: Child,
    /// It runs until this is closed.
    input: Option<ChildStdin>,
}

impl Service {
    fn start() -> Self {
        let mut child = spawn(python("grpc_server.py").stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next().expect("a line").expect("text").parse().expect("a port");
        let called = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&called);
        thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| copy.lock().expect("kept").push(line));
        });
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), called, input: child.stdin.take(), child }
    }

    /// The methods that were called since this was asked last.
    fn called(&self) -> Vec<String> {
        std::mem::take(&mut *self.called.lock().expect("kept"))
    }

    /// What the calls give where nothing is in between.
    fn directly(&self) -> Value {
        let given = calls(&json!({"target": self.address.to_string()}));
        assert_eq!(given["large"], 1_000_006, "{given}");
        for (call, status) in
            CALLS.into_iter().zip(["OK", "OK", "OK", "OK", "FAILED_PRECONDITION", "UNIMPLEMENTED"])
        {
            assert_eq!(given[call]["status"], status, "{call}: {given}");
        }
        self.called();
        given
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok();
    }
}

/// What each kind of call gives.
fn calls(options: &Value) -> Value {
    let finished = run(&mut python("grpc_calls.py"), options.to_string().as_bytes());
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.output()))
}

struct Stage {
    pki: Pki,
    service: Service,
    node: Peer,
}

/// Nodes may call all, readers two of the methods.
fn policy() -> Value {
    let cn = |name: &str| json!([{"field": "CN", "must-match": name}]);
    json!({
        "authorized-peers": [
            {"name": "nodes", "required-credentials": cn("node")},
            {"name": "readers", "required-credentials": cn("reader"), "capabilities": ["vespa.content.metrics_api"]},
        ],
        "http-capabilities": [
            {"paths": ["/test.Service/Unary", "/test.Service/Count"], "requires": []},
            {"paths": ["/**"], "requires": ["vespa.http.unclassified"]},
        ],
    })
}

impl Stage {
    fn new() -> Self {
        let pki = Pki::new();
        let node = pki.peer(&Leaf::new().cn("node").dns("localhost"));
        Self { service: Service::start(), node, pki }
    }

    fn inbound(&self, policy: &Value) -> Host {
        let start = Start::new(&self.pki, policy, self.service.address);
        start.argument("--upstream-protocol").argument("h2c").start()
    }

    fn by(&self, peer: Option<&Peer>, address: SocketAddr) -> Value {
        let mut options =
            json!({"target": format!("localhost:{}", address.port()), "ca": self.pki.file("ca.pem")});
        if let Some(peer) = peer {
            (options["cert"], options["key"]) = (json!(peer.chain), json!(peer.key));
        }
        options
    }

    /// An outbound host that leads to `server`, as the node.
    fn outbound(&self, server: SocketAddr, admits: &str) -> Host {
        let admitted =
            json!([{"name": "servers", "required-credentials": [{"field": "CN", "must-match": admits}]}]);
        let mut policy = self.pki.with_files(&json!({"authorized-peers": admitted}));
        policy["files"]["certificates"] = json!(self.node.chain);
        policy["files"]["private-key"] = json!(self.node.key);
        let (policy_file, config) = (self.pki.file("outbound.json"), self.pki.file("host.json"));
        fs::write(&policy_file, policy.to_string()).expect("the policy");
        let server = json!({"address": format!("localhost:{}", server.port())});
        let outbound = json!([{"address": "127.0.0.1:0", "upstream": server, "policy": "outbound.json"}]);
        fs::write(&config, json!({"outbound": outbound}).to_string()).expect("the configuration");
        Start::config(&config).start()
    }
}

fn statuses(given: &Value) -> Vec<&str> {
    CALLS.into_iter().map(|call| given[call]["status"].as_str().unwrap_or_default()).collect()
}

#[test]
fn an_admitted_peers_calls_give_what_they_give_without_the_host() {
    let stage = Stage::new();
    let directly = stage.service.directly();
    let host = stage.inbound(&policy());
    let given = calls(&stage.by(Some(&stage.node), host.address));
    assert_eq!(given, directly, "{}", host.log());
    assert_eq!(stage.service.called().len(), CALLS.len() + 1);
}

#[test]
fn calls_pass_from_node_to_node() {
    let stage = Stage::new();
    let directly = stage.service.directly();
    let inbound = stage.inbound(&policy());
    let outbound = stage.outbound(inbound.address, "localhost");
    let given = calls(&json!({"target": outbound.address.to_string()}));
    assert_eq!(given, directly, "{} {}", outbound.log(), inbound.log());
    // A server that is not admitted hears nothing; the program is told as of one that is not there.
    stage.service.called();
    let outbound = stage.outbound(inbound.address, "somebody-else");
    let given = calls(&json!({"target": outbound.address.to_string()}));
    assert_eq!(statuses(&given), ["UNAVAILABLE"; 6], "{given}");
    assert!(stage.service.called().is_empty());
}

/// A refused call is a status of gRPC, as Envoy makes it of 403; a refused peer has no connection.
#[test]
fn refused_calls_have_the_status_that_envoy_gives_them() {
    let stage = Stage::new();
    let host = stage.inbound(&policy());
    let reader = stage.pki.peer(&Leaf::new().cn("reader"));
    let given = calls(&stage.by(Some(&reader), host.address));
    let refused = "PERMISSION_DENIED";
    assert_eq!(statuses(&given), ["OK", "OK", refused, refused, refused, refused], "{given}");
    assert_eq!(given["fails"]["answers"], json!([]));
    let called = stage.service.called();
    assert!(
        !called.is_empty() && called.iter().all(|it| it.ends_with("Unary") || it.ends_with("Count")),
        "{called:?}"
    );
    let stranger = stage.pki.peer(&Leaf::new().cn("stranger"));
    let nobody = calls(&stage.by(Some(&stranger), host.address));
    assert_eq!(statuses(&nobody), ["UNAVAILABLE"; 6], "{nobody}");
    assert!(stage.service.called().is_empty());
    if skipped("the status of a refused call in Envoy") {
        return;
    }
    let gate = listener(CURRENT, "grpc", &stage.pki, Protocol::Http, peer_endpoint(&policy()));
    let envoy = start(CURRENT, vec![gate]);
    let in_envoy = calls(&stage.by(Some(&reader), envoy.address("grpc")));
    for call in &CALLS[2..] {
        assert_eq!(given[call], in_envoy[call], "{call}");
    }
}

#[test]
fn tokens_are_metadata_and_their_refusals_statuses() {
    const TOKEN: &str = "vespa_cloud_reads_0123456789abcdefghijklmnopqrstuv";
    let stage = Stage::new();
    let directly = stage.service.directly();
    let (token, context) = (Derivation::of(TOKEN), "Vespa Cloud tenant data plane:test");
    let version = json!({"fingerprint": token.fingerprint().to_string(), "expiration": "<none>",
        "check-access-hash": token.check_hash(context).to_hex()});
    let client =
        json!({"id": "c", "permissions": ["read", "write"], "tokens": [{"id": "t", "versions": [version]}]});
    let policy =
        write_policy(&stage.pki, &json!({"data-plane": {"token-context": context, "clients": [client]}}));
    let start = Start::endpoint("token", &policy, stage.service.address);
    let host = start.argument("--upstream-protocol").argument("h2c").start();
    for (authorization, status) in
        [(None, "UNAUTHENTICATED"), (Some("Bearer vespa_cloud_other"), "PERMISSION_DENIED")]
    {
        let mut options = stage.by(None, host.address);
        options["metadata"] = authorization.map_or(json!({}), |it| json!({"authorization": it}));
        let given = calls(&options);
        assert_eq!(statuses(&given), [status; 6], "{given}");
        assert!(stage.service.called().is_empty());
    }
    let mut options = stage.by(None, host.address);
    options["metadata"] = json!({"authorization": format!("Bearer {TOKEN}")});
    assert_eq!(calls(&options), directly, "{}", host.log());
}
