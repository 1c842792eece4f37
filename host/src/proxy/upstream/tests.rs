use std::cell::Cell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use tokio::io::duplex;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::*;
use crate::audit::{Audit, Whom};
use crate::capacity::{Capacity, ClientKey, Plan, Source};
use crate::config::Address;
use crate::proxy::activity::Activity;
use crate::proxy::exchange::Exchange;
use crate::proxy::http;
use crate::proxy::lane::Lane;
use crate::proxy::roster::Member;
use crate::proxy::site::testing;
use crate::proxy::slot::Slot;
use crate::proxy::tunnel::Waiting;
use crate::wasm::{Connection, Filter};

/// Larger than a stream's window and smaller than a peer's connection window.
const LARGE: usize = 512 * 1024;

/// A service on a port of its own that answers everything with [`LARGE`] bytes over HTTP/2.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = service_fn(async |_| {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(vec![b'x'; LARGE])))
            });
            let builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            spawn_local(builder.serve_connection(TokioIo::new(socket), answer));
        }
    });
    address
}

/// A connection that a filter without callbacks lets pass.
fn member() -> Rc<Member> {
    let module = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_context_create") (param i32 i32)))"#;
    let filter = Filter::from_bytes(&wat::parse_str(module).expect("a module")).expect("a filter");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let connection = Rc::new(Connection::new(1, address, address, None));
    let whom = Whom { listener: "in".into(), endpoint: None, connection: 1, source: address };
    Member::new(connection, Vec::new(), testing::endpoint(&filter, "{}"), crate::clock::now(), whom)
}

fn slot() -> Rc<Slot> {
    let capacity = Capacity::new(&Plan::default());
    let address = Ipv4Addr::LOCALHOST.into();
    let slot = Slot::new(&capacity, capacity.handshake(Source::of(address)));
    slot.admit(|| ClientKey::address(address)).expect("a first connection");
    slot
}

/// A peer's HTTP/2 connection through the proxy.
async fn peer(upstream: &Rc<Upstream>) -> http2::SendRequest<Empty<Bytes>> {
    let member = member();
    let slot = slot();
    let exchange = Exchange {
        member: Rc::clone(&member),
        upstream: Rc::clone(upstream),
        activity: Activity::new(false),
        audit: Rc::new(Audit::default()),
        tally: Rc::default(),
        reached: None,
        admin: None,
        websocket: false,
        waiting: Waiting::default(),
        lane: Lane::new(&slot),
        slot,
    };
    let (ours, theirs) = duplex(64 * 1024);
    let (activity, exchange) = (Rc::clone(&exchange.activity), Rc::new(exchange));
    let version = http::Version::Http2 { websocket: false, complain: Box::new(|_| {}) };
    let answer = move |request| Rc::clone(&exchange).answer(request);
    spawn_local(async move { http::serve(ours, activity, answer, version, member.asked_to_end()).await });
    let client =
        http2::Builder::new(LocalExecutor).initial_stream_window_size(1024).handshake(TokioIo::new(theirs));
    let (sender, connection) = client.await.expect("a connection");
    spawn_local(connection);
    sender
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("https://localhost/").body(Empty::new()).expect("a request")
}

/// All peers of a worker share one connection to the service. Its default window is 5 MiB.
#[test]
fn peers_that_do_not_read_stop_nobody_else() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let address = Address::Tcp(service().await.to_string());
        let service = config::Upstream { address, protocol: UpstreamProtocol::H2c, proxy_protocol: false };
        let upstream = Upstream::new(service, Direction::Inbound, &Capacity::new(&Plan::default()));
        let mut unread = Vec::new();
        for _ in 0..30 {
            let mut slow = peer(&upstream).await;
            unread.push((slow.send_request(get()).await.expect("a head"), slow));
        }
        let mut other = peer(&upstream).await;
        let answer = other.send_request(get()).await.expect("a head").into_body().collect();
        let body = timeout(Duration::from_secs(20), answer).await.expect("not held up").expect("a body");
        assert_eq!(body.to_bytes().len(), LARGE);
    });
}

/// Resets that [`punishing`] bears on one connection: more than a client may cause on a shared one, fewer than one that cancels
/// does.
const BORNE: usize = 16;

/// A service that answers when `released` is told, and ends a connection with all that is on it after [`BORNE`] requests of it
/// were given up.
async fn punishing(released: Rc<Notify>) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let (address, punished) = (listener.local_addr().expect("bound"), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&punished);
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (released, counted) = (Rc::clone(&released), Rc::clone(&counted));
            let given_up = Rc::new((Cell::new(0), Notify::new()));
            let noted = Rc::clone(&given_up);
            let answer = service_fn(move |_| {
                let (released, waiting) = (Rc::clone(&released), GivenUp(Some(Rc::clone(&noted))));
                async move {
                    released.notified().await;
                    waiting.answered();
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer")))
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(LocalExecutor)
                .serve_connection(TokioIo::new(socket), answer);
            spawn_local(async move {
                tokio::select! {
                    _ = serving => {}
                    () = given_up.1.notified() => counted.set(counted.get() + 1),
                }
            });
        }
    });
    (address, punished)
}

struct GivenUp(Option<Rc<(Cell<usize>, Notify)>>);

impl GivenUp {
    fn answered(mut self) {
        self.0.take();
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(given_up) = self.0.take() {
            given_up.0.set(given_up.0.get() + 1);
            if given_up.0.get() >= BORNE {
                given_up.1.notify_one();
            }
        }
    }
}

/// As servers do since CVE-2023-44487: Netty, nghttp2, nginx, Envoy, Go.
#[test]
fn a_client_that_cancels_ends_no_requests_of_others() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let released = Rc::new(Notify::new());
        let (address, punished) = punishing(Rc::clone(&released)).await;
        let service = config::Upstream {
            address: Address::Tcp(address.to_string()),
            protocol: UpstreamProtocol::H2c,
            proxy_protocol: false,
        };
        let upstream = Upstream::new(service, Direction::Inbound, &Capacity::new(&Plan::default()));
        let (mut honest, mut attacker) = (peer(&upstream).await, peer(&upstream).await);
        let asked = spawn_local(honest.send_request(get()));
        // Many at once, and one after the other.
        for count in [64, 1, 1, 1, 64] {
            let sent: Vec<_> = (0..count).map(|_| spawn_local(attacker.send_request(get()))).collect();
            sleep(Duration::from_millis(100)).await;
            sent.iter().for_each(|sent| sent.abort());
            sleep(Duration::from_millis(100)).await;
        }
        wait_until(|| punished.get() > 0).await;
        released.notify_waiters();
        let answer = timeout(Duration::from_secs(20), asked).await.expect("in time").expect("not aborted");
        assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    });
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("in time");
}
