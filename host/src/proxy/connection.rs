//! One accepted connection from first byte to last.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use peergate_policy::Endpoint as Kind;
use tokio::time::timeout;

use super::activity::Activity;
use super::admin_pages::AdminPages;
use super::exchange::Exchange;
use super::generation::Direction;
use super::http::Complain;
use super::lane::Lane;
use super::port::Port;
use super::request::MALFORMED_HTTP2;
use super::roster::{Ending, Member};
use super::site::{Endpoint, Site};
use super::slot::{Slot, client_key};
use super::tunnel::Waiting;
use super::upstream::UpstreamError;
use super::{http, limits, outbound, proxy_protocol, request, review, tcp};
use crate::admin::failure;
use crate::audit::Whom;
use crate::clock::now;
use crate::config::Protocol;
use crate::tls::{Admission, Arrival, First, Link, Refusal, Terms, handshake, sniff};
use crate::wasm::{Connection, Worker};

/// Shakes hands and serves, or refuses so that the refusal is seen.
pub(super) async fn serve(port: Rc<Port>, arrival: Arrival, slot: Rc<Slot>) {
    let site = port.site();
    if site.direction != Direction::Inbound {
        drop(site);
        return outbound::serve(port, arrival, slot).await;
    }
    let (source, connection) = (arrival.source, arrival.id);
    let mut whom = Whom { listener: Arc::clone(&site.name), endpoint: None, connection, source };
    let audit = &port.shared.audit;
    match arrived(arrival, &site, limits::HANDSHAKE).await {
        Ok(admission) => {
            whom.endpoint = endpoint(&site, &admission.connection).map(|endpoint| endpoint.kind.as_str());
            if let Some(verdict) = &admission.verdict {
                audit.connection(&whom, verdict);
            }
            admitted(&port, site, admission, whom, slot).await;
        }
        Err(Refusal::Denied(verdict, socket)) => {
            port.tally.failed("denied");
            whom.endpoint = Some(Kind::Peer.as_str());
            audit.connection(&whom, &verdict);
            port.shared.lingering.close(socket).await;
        }
        Err(Refusal::Failed(error, socket)) => {
            port.tally.failed(failure(&error));
            audit.handshake(&whom, &error);
            if let Some(socket) = socket {
                port.shared.lingering.close(socket).await;
            }
        }
        Err(Refusal::TimedOut) => {
            port.tally.failed("timed-out");
            audit.handshake(&whom, &"timed out");
        }
        Err(Refusal::Silent) => port.tally.failed("closed"),
    }
}

/// Who comes, if that is known within `limit` from the first byte on: one limit for all that there is to do.
async fn arrived(arrival: Arrival, site: &Site, limit: Duration) -> Result<Admission, Refusal> {
    let choose = |name: Option<&str>| {
        site.endpoint(name).map(|endpoint| (endpoint.terms.clone(), Rc::clone(&endpoint.worker)))
    };
    let all = async {
        match site.plaintext_endpoint() {
            Some(endpoint) => mixed(arrival, &endpoint.worker, choose).await,
            None => handshake(arrival, choose).await,
        }
    };
    timeout(limit, all).await.unwrap_or(Err(Refusal::TimedOut))
}

/// In mixed mode: a handshake with who begins one, and the filter's word about who does not.
async fn mixed(
    mut arrival: Arrival,
    worker: &Rc<Worker>,
    choose: impl FnOnce(Option<&str>) -> Option<(Terms, Rc<Worker>)>,
) -> Result<Admission, Refusal> {
    match sniff(&mut arrival.socket).await {
        Ok(First::Tls) => handshake(arrival, choose).await,
        Ok(First::Plaintext) => {
            let Arrival { id, socket, source, destination } = arrival;
            let connection = Rc::new(Connection::new(id, source, destination, None));
            let verdict = worker.judge_connection(&connection);
            if !verdict.allow {
                return Err(Refusal::Denied(verdict, socket));
            }
            let link = Link::Plain(socket);
            Ok(Admission { link, connection, verdict: Some(verdict), chain: Vec::new() })
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Refusal::Silent),
        Err(error) => Err(Refusal::Failed(error, None)),
    }
}

/// Whose terms a connection was admitted on.
fn endpoint<'a>(site: &'a Site, connection: &Connection) -> Option<&'a Rc<Endpoint>> {
    match &connection.tls {
        Some(tls) => site.endpoint(tls.server_name.as_deref()),
        None => site.plaintext_endpoint(),
    }
}

/// Enters the roster and serves until the connection ends, or is ended.
async fn admitted(port: &Rc<Port>, site: Rc<Site>, admission: Admission, whom: Whom, slot: Rc<Slot>) {
    let Admission { link, connection, verdict, chain } = admission;
    let audit = &port.shared.audit;
    let Some(endpoint) = endpoint(&site, &connection).cloned() else {
        // INVARIANT: the handshake was on the terms of an endpoint of this site.
        return audit.fault(&whom, &"the endpoint is gone");
    };
    // Who is not judged yet stays one of those that are not admitted.
    if verdict.is_some()
        && let Err(limit) = slot.admit(|| client_key(&connection))
    {
        port.tally.over_limit();
        return audit.over_limit(&whom, limit);
    }
    let member = Member::new(connection, chain, endpoint, now(), whom);
    if let Some(verdict) = &verdict {
        member.was_admitted_by(&verdict.decision);
    }
    let _membership = port.roster.enter(Rc::clone(&member));
    if !Rc::ptr_eq(&site, &port.site()) {
        review::latecomer(port, &member);
    }
    if port.is_closing() {
        member.end(Ending::Graceful);
    }
    let (protocol, websocket, upstream) = (site.protocol, site.websocket, Rc::clone(&site.upstream));
    // INVARIANT: where requests for some authorities are refused, none is made up.
    let reached = match site.endpoints() {
        [_] => request::reached(member.connection.destination),
        _ => None,
    };
    let admin =
        site.admin_path.clone().map(|path| AdminPages { path, board: Arc::clone(&port.shared.board) });
    drop(site);
    let serving = async {
        match (protocol, verdict) {
            // INVARIANT: bytes are forwarded only of a peer that was judged.
            (Protocol::Tcp, None) => audit.fault(&member.whom, &"nobody judged the connection"),
            (Protocol::Tcp, Some(_)) => {
                let header = match upstream.takes_proxy_protocol() {
                    true => proxy_protocol::header(&member.connection).map(Some),
                    false => Ok(None),
                };
                let served = match (header, slot.request()) {
                    (Ok(header), Ok(_permit)) => tcp::serve(link, &upstream, header).await,
                    (Err(error), _) => Err(UpstreamError::Connect(error)),
                    (_, Err(limit)) => return audit.over_limit(&member.whom, limit),
                };
                if let Err(error) = served {
                    audit.upstream(&member.whom, &error);
                }
            }
            (Protocol::Http, _) => {
                let mut link = link;
                let Ok(h2) = http::is_h2(&mut link).await else { return };
                let exchange = Exchange {
                    member: Rc::clone(&member),
                    upstream,
                    activity: Activity::new(!h2),
                    audit: Rc::clone(audit),
                    tally: Rc::clone(&port.tally),
                    reached,
                    admin,
                    websocket,
                    waiting: Waiting::default(),
                    lane: Lane::new(&slot),
                    slot,
                };
                let version = match h2 {
                    true => http::Version::Http2 { websocket, complain: complain(port, &member) },
                    false => http::Version::Http1(Rc::clone(&exchange.waiting)),
                };
                let (activity, exchange) = (Rc::clone(&exchange.activity), Rc::new(exchange));
                let answer = move |request| Rc::clone(&exchange).answer(request);
                if let Err(error) = http::serve(link, activity, answer, version, member.asked_to_end()).await
                    && !http::is_ordinary(&error)
                {
                    audit.protocol(&member.whom, &error);
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = member.cut_off() => {}
    }
    // Streams that became tunnels have tasks of their own, and nobody judges who is not on the roster.
    member.end(Ending::Cut);
}

/// Counts and logs requests of a peer that h2 refuses.
fn complain(port: &Rc<Port>, member: &Rc<Member>) -> Complain {
    let (port, member) = (Rc::clone(port), Rc::clone(member));
    Box::new(move |why| {
        port.tally.refused(MALFORMED_HTTP2);
        port.shared.audit.stream(&member.whom, &why);
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::runtime::Builder;
    use tokio::task::LocalSet;
    use tokio::time::sleep;

    use super::*;
    use crate::proxy::site::testing;
    use crate::proxy::socket::{NO_ADDRESS, Socket};

    /// Longer than anything here takes, so that a limit that does not end anything ends the test.
    const NEVER: Duration = Duration::from_secs(20);

    /// A ClientHello in a record of 16 KiB, byte by byte, more slowly than it could be read.
    async fn drip(mut client: UnixStream) {
        for byte in [22, 3, 1, 64, 0, 1, 0, 63, 252].into_iter().chain(std::iter::repeat(0)) {
            if client.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn silent(mut client: UnixStream) {
        // Until it is closed.
        let _ = client.read_u8().await;
    }

    fn arrives(client: impl AsyncFnOnce(UnixStream), plaintext: bool) -> Result<Admission, Refusal> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let (theirs, socket) = Socket::pair();
            let arrival = Arrival { id: 1, socket, source: NO_ADDRESS, destination: NO_ADDRESS };
            let site = testing::site_of_one(plaintext);
            let arrived = timeout(NEVER, arrived(arrival, &site, Duration::from_millis(200)));
            tokio::select! {
                arrived = arrived => arrived.expect("the limit ends it"),
                () = async { client(theirs).await; std::future::pending().await } => unreachable!(),
            }
        })
    }

    #[test]
    fn one_limit_ends_sniffing_and_handshake() {
        for plaintext in [false, true] {
            assert!(matches!(arrives(silent, plaintext), Err(Refusal::TimedOut)), "silent, {plaintext}");
            assert!(matches!(arrives(drip, plaintext), Err(Refusal::TimedOut)), "drip, {plaintext}");
        }
    }
}
