//! CPU per decision, by number of rules: the engine in this process, and filter.wasm in the host.
//!
//! `make bench`. CPU time of this thread, not wall time, so other load disturbs little. `new` is a certificate the
//! filter has not seen, `known` one whose decision it remembers; `every rule` asks each rule in turn, as a filter
//! without an index would.

use std::hint::black_box;
use std::rc::Rc;

use peergate_host::pki::{Credential, Leaf};
use peergate_host::wasm::{Connection, Filter, PeerCertificate, Tls, Worker};
use peergate_policy::{Certificate, Policy};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const PEERS: usize = 1_000;
const ROUNDS: usize = 7;

fn main() {
    let certificates: Vec<Vec<u8>> = (0..PEERS).map(certificate).collect();
    println!("{PEERS} peers with 16 names each, median of {ROUNDS} rounds, microseconds of CPU per decision");
    println!(
        "{:>7}  {:>12}  {:>12}  {:>12}  {:>12}",
        "rules", "native", "every rule", "wasm, new", "wasm, known"
    );
    for rules in [10, 100, 1_000, 10_000] {
        let document = policy(rules);
        let policy = Policy::parse(&document).expect("a valid policy");
        let identities: Vec<_> = certificates
            .iter()
            .map(|der| Certificate::from_der(der).expect("a certificate").identity)
            .collect();
        let native = median(|| {
            identities.iter().for_each(|identity| drop(black_box(policy.authorize(black_box(identity)))));
        });
        // Some of the peers: with ten thousand rules this is slow, which is the point.
        let some = &identities[..PEERS / 100];
        let naive = per_peer(some.len(), || {
            for identity in some {
                black_box(policy.explain(black_box(identity)).filter(|rule| rule.failed.is_none()).count());
            }
        });
        let (new, known) = filter(&document, &certificates);
        println!("{rules:>7}  {native:>12.2}  {naive:>12.2}  {new:>12.2}  {known:>12.2}");
    }
    println!("\nthe same for requests; `granted` takes over what another VM decided about the connection");
    println!("{:>7}  {:>12}  {:>12}  {:>12}", "rules", "new", "granted", "known");
    for rules in [10, 1_000] {
        let [new, granted, known] = requests(&policy(rules), &certificates);
        println!("{rules:>7}  {new:>12.2}  {granted:>12.2}  {known:>12.2}");
    }
}

/// With VMs that know no peer, on connections that nobody judged and on those that another VM did; then with one that knows all.
fn requests(document: &str, certificates: &[Vec<u8>]) -> [f64; 3] {
    let filter = Filter::embedded().expect("the embedded filter");
    let configuration = format!(r#"{{"endpoint":"peer","policy":{document}}}"#);
    let start = || Rc::new(Worker::start(&filter, &configuration).expect("a VM"));
    let all = || certificates.iter().map(|der| connection(der)).collect::<Vec<_>>();
    let (undecided, decided) = (all(), all());
    judge(&start(), &decided);
    let [mut new, mut granted] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (one, other) = (start(), start());
        new.push(per_peer(PEERS, || ask(&one, &undecided)));
        granted.push(per_peer(PEERS, || ask(&other, &decided)));
    }
    let knows = start();
    [middle(new), middle(granted), median(|| ask(&knows, &decided))]
}

fn ask(worker: &Rc<Worker>, connections: &[Rc<Connection>]) {
    let head = [(":authority", "localhost"), (":path", "/"), (":method", "GET"), (":scheme", "https")];
    let head = head.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
    for connection in connections {
        black_box(worker.open_stream(connection).request_headers(head.clone(), true));
    }
}

fn certificate(index: usize) -> Vec<u8> {
    let names = (0..15).map(|other| format!("alias-{other}.node-{index}.example"));
    let leaf = names
        .fold(Leaf::new().cn("peer"), |leaf, name| leaf.dns(&name))
        .dns(&format!("x.tenant-{}.example", index % 10));
    Credential::self_signed(&leaf).expect("a certificate").leaf().to_vec()
}

fn policy(rules: usize) -> String {
    let peers: Vec<_> = (0..rules)
        .map(|index| {
            let pattern = format!("*.tenant-{index}.example");
            json!({"name": format!("tenant-{index}"), "required-credentials": [{"field": "SAN_DNS", "must-match": pattern}]})
        })
        .collect();
    json!({"authorized-peers": peers}).to_string()
}

/// First with a VM that knows no peer, then with one that knows all of them.
fn filter(document: &str, certificates: &[Vec<u8>]) -> (f64, f64) {
    let filter = Filter::embedded().expect("the embedded filter");
    let configuration = format!(r#"{{"endpoint":"peer","policy":{document}}}"#);
    let connections: Vec<Rc<Connection>> = certificates.iter().map(|der| connection(der)).collect();
    let mut worker = None;
    let mut new = Vec::new();
    for _ in 0..ROUNDS {
        let fresh = Worker::start(&filter, &configuration).expect("a VM");
        new.push(per_peer(PEERS, || judge(&fresh, &connections)));
        worker = Some(fresh);
    }
    let worker = worker.expect("at least one round");
    (middle(new), median(|| judge(&worker, &connections)))
}

fn judge(worker: &Worker, connections: &[Rc<Connection>]) {
    for connection in connections {
        black_box(worker.judge_connection(connection));
    }
}

fn connection(der: &[u8]) -> Rc<Connection> {
    let tls = Tls {
        version: "TLSv1.3",
        server_name: None,
        alpn: None,
        peer: Some(PeerCertificate::from_der(der)),
        chain_verified: true,
    };
    let address = ([127, 0, 0, 1], 1).into();
    Rc::new(Connection::new(1, address, address, Some(tls)))
}

fn median(mut work: impl FnMut()) -> f64 {
    work();
    middle((0..ROUNDS).map(|_| per_peer(PEERS, &mut work)).collect())
}

/// Microseconds of this thread's CPU for each of `peers`.
#[expect(clippy::cast_precision_loss, reason = "a printed figure")]
fn per_peer(peers: usize, work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    (cpu() - before) as f64 / 1_000.0 / peers as f64
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn cpu() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
