//! Sending requests to the local service or the server.

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;

use super::{Outgoing, Sender, Upstream, UpstreamError};
use crate::proxy::headers::RequestHead;
use crate::proxy::lane::Lane;

impl Upstream {
    /// Sends a request and returns when the response's head is there.
    pub(in crate::proxy) async fn send(
        self: &Rc<Self>,
        head: RequestHead,
        body: Outgoing,
        lane: &Lane,
    ) -> Result<Response<Incoming>, UpstreamError> {
        match self.sender(lane).await? {
            Sender::Http2(sender) => self.send_http2(sender, head.into_h2(body)?, lane).await,
            sender => self.send_http1(sender, head.into_http1(body)?, lane).await,
        }
    }

    async fn send_http2(
        self: &Rc<Self>,
        mut sender: http2::SendRequest<Outgoing>,
        mut request: Request<Outgoing>,
        lane: &Lane,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let sent = lane.sent();
        let mut is_first = true;
        let error = loop {
            let error = match sender.ready().await {
                Ok(()) => match sender.try_send_request(request).await {
                    Ok(response) => {
                        sent.finished();
                        return Ok(response);
                    }
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => {
                            request = unsent;
                            error.into_error()
                        }
                        None => break error.into_error(),
                    },
                },
                Err(error) => error,
            };
            // The connection closed before any of the request was written.
            if !std::mem::take(&mut is_first) {
                break error;
            }
            sender = match self.sender(lane).await? {
                Sender::Http2(sender) => sender,
                Sender::Http1 { .. } => return Err(UpstreamError::Changed),
            };
        };
        if !error.is_user() {
            sent.finished();
        }
        Err(UpstreamError::Exchange(error))
    }

    async fn send_http1(
        self: &Rc<Self>,
        mut chosen: Sender,
        mut request: Request<Outgoing>,
        lane: &Lane,
    ) -> Result<Response<Incoming>, UpstreamError> {
        loop {
            let Sender::Http1 { mut sender, server, reused } = chosen else {
                return Err(UpstreamError::Changed);
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.give_back(sender, server);
                    return Ok(response);
                }
                // The upstream closed a kept connection under us. A message is handed back only when none of it
                // was written, so sending it again does nothing twice.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(UpstreamError::Exchange(error.into_error())),
                },
            }
            chosen = self.sender(lane).await?;
        }
    }
}
