//! A local program's connection, on its way to a server.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use http::header::EXPECT;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use rustls_pki_types::ServerName;

use super::activity::{Activity, Guarded};
use super::generation::Direction;
use super::port::Port;
use super::reply::Dialect;
use super::{hop, http as serving, request, tcp};
use crate::audit::Whom;
use crate::config::Protocol;
use crate::tls::Arrival;

/// What is answered: the server's body, or our own.
type Answer = Guarded<Either<Incoming, Full<Bytes>>>;

/// Serves a local program. Who it is nobody asks: the listener is for this machine only.
pub(super) async fn serve(port: Rc<Port>, arrival: Arrival) {
    let site = port.site();
    let Arrival { id: connection, mut socket, source, .. } = arrival;
    let whom = Whom { listener: Arc::clone(&site.name), endpoint: None, connection, source };
    let audit = Rc::clone(&port.shared.audit);
    match site.protocol {
        Protocol::Tcp => {
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
            drop(site);
            let Ok(h2) = serving::begins_with_h2(&mut socket).await else { return };
            let activity = Activity::new(!h2);
            let exchange = Rc::new(Exchange { port: Rc::clone(&port), whom, activity: Rc::clone(&activity) });
            let answer = {
                let exchange = Rc::clone(&exchange);
                move |request| Rc::clone(&exchange).answer(request)
            };
            let served = tokio::select! {
                served = serving::serve(socket, activity, answer, h2, port.asked_to_close()) => served,
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

/// What the requests of one connection share.
struct Exchange {
    port: Rc<Port>,
    whom: Whom,
    activity: Rc<Activity>,
}

impl Exchange {
    /// Answers one request; a failure is an answer too.
    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        let in_flight = self.activity.request();
        let dialect = Dialect::of(request.headers());
        let response = match self.forward(request).await {
            Ok(response) => response.map(Either::Left),
            Err(status) => (*dialect.error(status)).map(|body| Either::Right(Full::new(body))),
        };
        Ok(response.map(|body| Guarded::new(body, in_flight)))
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Incoming>, StatusCode> {
        let (parts, body) = request.into_parts();
        let mut head = request::head(parts).map_err(request::BadRequest::status)?;
        head.headers.remove(EXPECT);
        let site = self.port.site();
        if let Some(authority) = authority(&site.direction, site.endpoint(None).map(|it| &it.terms)) {
            head.authority = authority;
        }
        let upstream = Rc::clone(&site.upstream);
        drop(site);
        let audit = &self.port.shared.audit;
        match upstream.send(head, Either::Right(body)).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                audit.upstream(&self.whom, &"switched protocols unasked");
                Err(StatusCode::BAD_GATEWAY)
            }
            Ok(response) if !request::is_framed_once(response.headers()) => {
                audit.upstream(&self.whom, &"two lengths, or a transfer coding besides chunked");
                Err(StatusCode::BAD_GATEWAY)
            }
            Ok(mut response) => {
                hop::strip(response.headers_mut());
                Ok(response)
            }
            Err(error) if error.is_of_body() => Err(StatusCode::BAD_REQUEST),
            Err(error) => {
                audit.upstream(&self.whom, &error);
                Err(StatusCode::BAD_GATEWAY)
            }
        }
    }
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
