//! `peergate demo`: real clients against a real host, and against Envoy with the same filter.

mod client;
mod host;
mod report;
mod upstream;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::envoy::{Bootstrap, Envoy, Identity, Listener, Protocol, ServerTls};
use crate::pki::DevelopmentPki;
use client::Client;
use host::HostProcess;
use report::Decided;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where PKI, policy and logs go.
    pub directory: PathBuf,
    /// Envoy's binary, and the filter it loads.
    pub envoy: Option<(PathBuf, PathBuf)>,
    /// Leave everything running until the user presses enter.
    pub keep: bool,
}

/// The clients, in the order of the story: who is admitted, then who is not.
const CLIENTS: [(&str, Option<&str>); 7] = [
    ("cluster node", Some("node")),
    ("monitoring, us-east", Some("monitor-us-east")),
    ("monitoring, eu-west", Some("monitor-eu-west")),
    ("stranger, same CA", Some("stranger")),
    ("node, expired", Some("expired-node")),
    ("node, of another CA", Some("rogue-node")),
    ("no certificate", None),
];

/// Runs the whole story and prints it.
///
/// # Errors
/// Something could not be started. A surprising decision is no error: it is printed.
pub fn demo(settings: &Settings) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&settings.directory)?;
    // The policy names files, and names of files in a policy are absolute.
    let directory = settings.directory.canonicalize()?;
    let (pki, _) = DevelopmentPki::open_or_create(&directory.join("pki"))?;
    let policy = policy(&pki);
    let policy_file = directory.join("policy.json");
    fs::write(&policy_file, format!("{policy:#}\n"))?;
    let upstream = upstream::start()?;

    println!("policy {}", settings.directory.join("policy.json").display());
    for (index, peer) in policy["authorized-peers"].as_array().into_iter().flatten().enumerate() {
        let text = peer["description"].as_str().unwrap_or_default();
        println!("  authorized-peers[{index}]  {text}");
    }
    let host = HostProcess::start(&policy_file, upstream)?;
    println!("\npeergate run, rustls and filter.wasm in wasmtime, at {}", host.address());
    tell(&pki, host.address(), |peer| host.decision(peer))?;

    let envoy = match &settings.envoy {
        Some((binary, filter)) => Some(start_envoy(binary, filter, &directory, &pki, &policy, upstream)?),
        None => {
            println!("\nEnvoy is left out: `make demo` installs it, or name its binary with --envoy");
            None
        }
    };
    let envoy_address = envoy.as_ref().map(|envoy| envoy.listener("demo")).transpose()?;
    if let (Some(envoy), Some(address)) = (&envoy, envoy_address) {
        println!("\nEnvoy and the same filter.wasm in V8, at {address}");
        tell(&pki, address, |peer| envoy_decision(envoy, peer))?;
    }
    if settings.keep {
        keep(&settings.directory, host.address(), envoy_address)?;
    }
    Ok(())
}

fn policy(pki: &DevelopmentPki) -> Value {
    json!({
        "files": {
            "ca-certificates": pki.ca(),
            "certificates": pki.chain("server"),
            "private-key": pki.key("server"),
        },
        "authorized-peers": [
            {
                "description": "Backend monitoring service access",
                "required-credentials": [
                    {"field": "CN", "must-match": "vespa-monitoring.example.com"},
                    {"field": "SAN_DNS", "must-match": "*.us-east-*.monitor.example.com"},
                ],
            },
            {
                "description": "Cluster-internal node P2P access",
                "required-credentials": [{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}],
            },
        ],
    })
}

/// Lets every client connect, and prints what it saw and why.
fn tell(
    pki: &DevelopmentPki,
    server: SocketAddr,
    decision: impl Fn(SocketAddr) -> Option<Value>,
) -> Result<(), Box<dyn Error>> {
    for (name, certificate) in CLIENTS {
        let client = Client::new(pki, certificate)?;
        let (seen, address) = client.get(server)?;
        println!("  {}", Decided { name, seen: &seen, decision: decision(address) });
    }
    Ok(())
}

fn start_envoy(
    binary: &Path,
    filter: &Path,
    directory: &Path,
    pki: &DevelopmentPki,
    policy: &Value,
    upstream: SocketAddr,
) -> Result<Envoy, Box<dyn Error>> {
    let tls = ServerTls {
        certificate: pki.chain("server"),
        key: pki.key("server"),
        ca: pki.ca(),
        accept_untrusted: false,
    };
    let listener = Listener {
        name: "demo".to_owned(),
        protocol: Protocol::Http,
        tls,
        configuration: json!({"endpoint": "peer", "policy": policy}),
        identity: Identity::Property,
        upstream: Some(upstream),
        websocket: false,
        vm_id: None,
    };
    let bootstrap = Bootstrap { filter: filter.canonicalize()?, listeners: vec![listener] };
    Ok(Envoy::start(binary, &bootstrap, directory)?)
}

/// What the filter told Envoy, from Envoy's access log: there it is filter state `wasm.peergate.decision`.
fn envoy_decision(envoy: &Envoy, peer: SocketAddr) -> Option<Value> {
    let prefix = format!("access {peer} ");
    within(Duration::from_secs(2), || {
        let log = envoy.log();
        let line = log.lines().find_map(|line| line.strip_prefix(&prefix))?;
        serde_json::from_str(line).ok()
    })
}

/// Asks until there is an answer, or the time is over.
fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        match ask() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
}

fn keep(directory: &Path, host: SocketAddr, envoy: Option<SocketAddr>) -> io::Result<()> {
    let pki = directory.join("pki");
    let pki = pki.display();
    for (what, address) in [("the host", Some(host)), ("Envoy", envoy)] {
        let Some(address) = address else { continue };
        let port = address.port();
        println!("\nTry {what}; `node` is admitted, `stranger` is not:");
        println!(
            "  curl --cacert {pki}/ca.pem --cert {pki}/node.pem --key {pki}/node.key https://localhost:{port}/"
        );
        println!(
            "  curl --cacert {pki}/ca.pem --cert {pki}/stranger.pem --key {pki}/stranger.key https://localhost:{port}/"
        );
        println!(
            "  openssl s_client -connect localhost:{port} -CAfile {pki}/ca.pem -cert {pki}/node.pem -cert_chain {pki}/node.pem -key {pki}/node.key"
        );
    }
    print!("\nPress enter to stop. ");
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
