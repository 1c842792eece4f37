//! A local program's connection, on its way to a server.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::header::EXPECT;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use rustls_pki_types::ServerName;
use tokio::sync::watch;

use super::activity::{Activity, Guarded};
use super::client_body::ClientBody;
use super::generation::Direction;
use super::http::Complain;
use super::identity::{self, Unidentified};
use super::lane::Lane;
use super::port::Port;
use super::reply::{Dialect, Reply};
use super::request::{MALFORMED_BODY, MALFORMED_HTTP2, Refused};
use super::slot::Slot;
use super::tunnel::{Tunnel, Waiting};
use super::upstream::Far;
use super::websocket::{self, Answered, Wish};
use super::{hop, http as serving, request, tcp, upgrade};
use crate::audit::{Asked, Whom};
use crate::capacity::{ClientKey, Permit};
use crate::config::Protocol;
use crate::tls::Arrival;

/// What is answered: the server's body, or our own.
type Answer = Guarded<Either<Incoming, Full<Bytes>>>;
type Forwarded = Response<Either<Incoming, Full<Bytes>>>;

/// Serves a local program. Who it is nobody asks: the listener is for this machine only.
pub(super) async fn serve(port: Rc<Port>, arrival: Arrival, slot: Rc<Slot>) {
    let site = port.site();
    let Arrival { id: connection, mut socket, source, destination } = arrival;
    let whom = Whom { listener: Arc::clone(&site.name), endpoint: None, connection, source };
    let audit = Rc::clone(&port.shared.audit);
    if let Err(limit) = slot.admit(|| ClientKey::Local(Arc::clone(&site.name))) {
        port.tally.over_limit();
        return audit.over_limit(&whom, limit);
    }
    match site.protocol {
        Protocol::Tcp => {
            let _permit = match slot.request() {
                Ok(permit) => permit,
                Err(limit) => return audit.over_limit(&whom, limit),
            };
            let upstream = Rc::clone(&site.upstream);
            drop(site);
            tokio::select! {
                served = tcp::serve(socket, &upstream, None) => if let Err(error) = served {
                    audit.upstream(&whom, &error);
                },
                () = port.cut_off() => {}
            }
        }
        Protocol::Http => {
            let websocket = site.websocket;
            drop(site);
            let Ok(h2) = serving::begins_with_h2(&mut socket).await else { return };
            let activity = Activity::new(!h2);
            let waiting = Waiting::default();
            let version = match h2 {
                true => serving::Version::Http2 { websocket, complain: complain(&port, &whom) },
                false => serving::Version::Http1(Rc::clone(&waiting)),
            };
            let exchange = Rc::new(Exchange {
                port: Rc::clone(&port),
                lane: Lane::new(&slot),
                slot,
                whom,
                reached: request::reached(destination),
                activity: Rc::clone(&activity),
                websocket,
                waiting,
                connected: watch::Sender::default(),
            });
            let answer = {
                let exchange = Rc::clone(&exchange);
                move |request| Rc::clone(&exchange).answer(request)
            };
            let served = tokio::select! {
                served = serving::serve(socket, activity, answer, version, port.asked_to_close()) => served,
                () = port.cut_off() => return,
            };
            if let Err(error) = served
                && !serving::is_ordinary(&error)
            {
                audit.protocol(&exchange.whom, &error);
            }
        }
    }
}

/// Counts and logs requests of a program that h2 refuses.
fn complain(port: &Rc<Port>, whom: &Whom) -> Complain {
    let (port, whom) = (Rc::clone(port), whom.clone());
    Box::new(move |why| {
        port.tally.refused(MALFORMED_HTTP2);
        port.shared.audit.stream(&whom, &why);
    })
}

/// What the requests of one connection share.
struct Exchange {
    port: Rc<Port>,
    slot: Rc<Slot>,
    lane: Lane,
    whom: Whom,
    /// What a request of HTTP/1.0 is for that names no authority.
    reached: Option<Authority>,
    activity: Rc<Activity>,
    websocket: bool,
    waiting: Waiting,
    /// Dropped with the connection: streams of it that became tunnels have tasks of their own.
    connected: watch::Sender<()>,
}

impl Exchange {
    /// Answers one request; a failure is an answer too.
    async fn answer(self: Rc<Self>, mut request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let in_flight = self.activity.request();
        let wish = self.websocket.then(|| Wish::of(&mut request)).flatten();
        let dialect = Dialect::of(request.method(), wish.is_some(), request.headers());
        let (parts, body) = request.into_parts();
        let body = ClientBody::new(body, &parts.headers, Rc::clone(&in_flight));
        let (progress, version) = (body.progress(), parts.version);
        let (answered, permit) = match self.slot.request().map(Rc::new) {
            Ok(permit) => (self.forward(parts, body, wish, &permit).await, Some(permit)),
            Err(limit) => {
                drop(body);
                self.port.shared.audit.over_limit(&self.whom, limit);
                (Err(StatusCode::SERVICE_UNAVAILABLE), None)
            }
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(StatusCode::SERVICE_UNAVAILABLE) => ours(dialect.overloaded()),
            Err(status) => ours(dialect.error(status)),
        };
        progress.tell(&mut response, version);
        Ok(response.map(|body| Guarded::new(body, in_flight, permit)))
    }

    async fn forward(
        &self,
        parts: Parts,
        body: ClientBody,
        wish: Option<Wish>,
        permit: &Rc<Permit>,
    ) -> Result<Forwarded, StatusCode> {
        let audit = &self.port.shared.audit;
        let head = request::head(parts, self.reached.clone());
        let mut head = head.map_err(|refused| {
            let Refused { why, method, path } = &*refused;
            self.tell_malformed(Asked { method, path }, why.status(), why.reason());
            why.status()
        })?;
        let (method, path) = (head.method.clone(), head.path.clone());
        head.headers.remove(EXPECT);
        identity::strip(&mut head.headers);
        let site = self.port.site();
        if let Some(authority) = authority(&site.direction, site.endpoint(None).map(|it| &it.terms)) {
            head.authority = authority;
        }
        let upstream = Rc::clone(&site.upstream);
        drop(site);
        let body = Either::Right(Unidentified(body));
        let sent = match wish {
            Some(_) => websocket::offer(&upstream, head, body).await,
            None => upstream.send(head, body, &self.lane).await.map(Answered::Plain),
        };
        let sent = match (sent, wish) {
            (Ok(Answered::Switched(fields, far)), Some(wish)) => {
                return self.switch(wish, fields, far, Rc::clone(permit));
            }
            (Ok(Answered::Plain(response)), wish) if !websocket::is_misleading(&wish, response.status()) => {
                Ok(response)
            }
            (Ok(_), _) => {
                audit.upstream(&self.whom, &"its answer is for another protocol");
                return Err(StatusCode::BAD_GATEWAY);
            }
            (Err(error), _) => Err(error),
        };
        match sent {
            Ok(response) if !request::is_framed_once(response.headers()) => {
                audit.upstream(&self.whom, &"two lengths, or a transfer coding besides chunked");
                Err(StatusCode::BAD_GATEWAY)
            }
            Ok(mut response) => {
                hop::strip(response.headers_mut());
                Ok(response.map(Either::Left))
            }
            Err(error) if error.is_of_body() => {
                audit.protocol(&self.whom, &error);
                let asked = Asked { method: method.as_str(), path: path.path() };
                self.tell_malformed(asked, error.status(), MALFORMED_BODY);
                Err(error.status())
            }
            Err(error) => {
                audit.upstream(&self.whom, &error);
                Err(error.status())
            }
        }
    }

    fn tell_malformed(&self, asked: Asked<'_>, status: StatusCode, reason: &'static str) {
        self.port.tally.refused(reason);
        self.port.shared.audit.malformed(&self.whom, asked, status, reason);
    }

    /// Grants a program's wish; nothing begins on a port that is to close.
    fn switch(
        &self,
        wish: Wish,
        fields: HeaderMap,
        far: Far,
        request: Rc<Permit>,
    ) -> Result<Forwarded, StatusCode> {
        let connection = wish.permit(&self.slot).map_err(|limit| {
            self.port.shared.audit.over_limit(&self.whom, limit);
            StatusCode::SERVICE_UNAVAILABLE
        })?;
        if self.port.is_closing() {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let (port, mut connected) = (Rc::clone(&self.port), self.connected.subscribe());
        let tunnel = Tunnel::new(far, None, async move {
            tokio::select! {
                () = port.cut_off() => {}
                _ = connected.changed() => {}
            }
            drop((connection, request));
        });
        Ok(upgrade::hand_over(wish, fields, tunnel, &self.waiting).map(Either::Right))
    }
}

/// An answer of ours.
#[expect(clippy::boxed_local, reason = "replies are boxed, so that a failure is no larger than a success")]
fn ours(reply: Reply) -> Forwarded {
    (*reply).map(|body| Either::Right(Full::new(body)))
}

/// The server's name in place of ours, where the configuration says what it is called.
fn authority(direction: &Direction, terms: Option<&crate::tls::Terms>) -> Option<Authority> {
    if !matches!(direction, Direction::Outbound { rewrites_host: true }) {
        return None;
    }
    match terms?.server_name()? {
        ServerName::DnsName(name) => name.as_ref().parse().ok(),
        _ => None,
    }
}
