//! A request that the filter let pass, and whose service switched to WebSocket.

use std::rc::Rc;

use http::{HeaderMap, Response, StatusCode};
use http_body_util::Either;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;

use super::active_request::ActiveRequest;
use super::body::Answer;
use super::exchange::{Exchange, Withheld};
use super::headers;
use super::reply::Dialect;
use super::tunnel::{Tunnel, Waiting};
use super::upstream::Far;
use super::websocket::{self, Wish};

impl Exchange {
    /// Grants the client's wish, once the filter has seen the service's answer: the tunnel begins when the client has its own.
    pub(super) async fn switch(
        &self,
        wish: Wish,
        mut fields: HeaderMap,
        far: Far,
        active: Rc<ActiveRequest>,
        dialect: Dialect,
    ) -> Result<Response<Answer>, Withheld> {
        websocket::mark(&mut fields);
        let pairs = headers::response_to_pairs(StatusCode::SWITCHING_PROTOCOLS, &fields);
        let pairs = self.show_response(&active.stream, dialect, pairs, false).await?;
        let (status, fields) = headers::response_from_pairs(pairs, None).map_err(|error| {
            self.audit.fault(&self.member.whom, &error);
            Withheld::Judged(dialect.error(StatusCode::SERVICE_UNAVAILABLE))
        })?;
        if status != StatusCode::SWITCHING_PROTOCOLS {
            self.audit.fault(&self.member.whom, &"the filter took the 101 away");
            return Err(Withheld::Judged(dialect.error(StatusCode::SERVICE_UNAVAILABLE)));
        }
        let permit = wish.permit(&self.slot).map_err(|limit| {
            self.audit.over_limit(&self.member.whom, limit);
            Withheld::Judged(dialect.overloaded())
        })?;
        // Nothing begins on a connection that is to end.
        if self.member.is_ending() {
            return Err(Withheld::Judged(dialect.error(StatusCode::SERVICE_UNAVAILABLE)));
        }
        let (member, stream) = (Rc::clone(&self.member), Rc::clone(&active.stream));
        let tunnel = Tunnel::new(far, Some(stream), async move {
            tokio::select! {
                _ = active.ended() => {}
                () = member.cut_off() => {}
            }
            drop(permit);
        });
        Ok(hand_over(wish, fields, tunnel, &self.waiting).map(Either::Right))
    }
}

/// The answer that makes the client's connection, or its stream, the near end of a tunnel.
pub(super) fn hand_over(
    wish: Wish,
    fields: HeaderMap,
    tunnel: Tunnel,
    waiting: &Waiting,
) -> Response<Full<Bytes>> {
    let response = wish.granted(fields);
    match wish {
        Wish::Http1 => drop(waiting.replace(Some(tunnel))),
        Wish::Http2(stream) => drop(spawn_local(async move {
            // A client that is gone before its answer has no tunnel.
            if let Ok(stream) = stream.await {
                tunnel.run(TokioIo::new(stream), Bytes::new()).await;
            }
        })),
    }
    response.map(|()| Full::default())
}
