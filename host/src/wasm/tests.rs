//! Faults are injected with filters written as WAT; what the real filter decides is tested where it is compiled in.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::{Connection, Filter, PeerCertificate, Tls, Worker};

mod abi;
mod bodies;
mod embedded;
mod events;
mod faults;
mod gate;
mod grants;
mod http;
mod imports;
mod load;
mod memory;
mod properties;

/// What every test filter has: the ABI's mark, memory, an allocator, and the imports that tests use.
const PRELUDE: &str = include_str!("tests/prelude.wat");

/// A filter with the prelude and these further parts.
fn filter(parts: &str) -> Filter {
    Filter::from_bytes(&module(parts)).unwrap()
}

fn module(parts: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {PRELUDE} {parts})")).unwrap()
}

fn worker(parts: &str) -> Rc<Worker> {
    Rc::new(Worker::start(&filter(parts), "{}").unwrap())
}

fn plain(id: u64) -> Rc<Connection> {
    let [source, destination] = [40_000, 443].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Rc::new(Connection::new(id, source, destination, None))
}

fn with_tls(id: u64, der: Option<&[u8]>) -> Rc<Connection> {
    with_peer(id, der.map(PeerCertificate::from_der))
}

fn with_peer(id: u64, peer: Option<PeerCertificate>) -> Rc<Connection> {
    let tls = Tls {
        version: "TLSv1.3",
        server_name: Some("node.example".to_owned()),
        alpn: Some("h2".to_owned()),
        peer,
        chain_verified: true,
    };
    let [source, destination] = [40_000, 443].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Rc::new(Connection::new(id, source, destination, Some(tls)))
}
