//! One accepted connection from first byte to last.

use std::rc::Rc;

use tokio::sync::watch;

use super::activity::Activity;
use super::exchange::{Exchange, Judge};
use super::upstream::Upstream;
use super::worker::{Newest, Protocol};
use super::{http, tcp};
use crate::audit::Audit;
use crate::tls::{Admission, Arrival, Lingering, Refusal, handshake};

/// What the connections of one worker share, whatever generation judges them.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) protocol: Protocol,
    pub(super) upstream: Rc<Upstream>,
    pub(super) audit: Rc<Audit>,
    pub(super) lingering: Lingering,
}

/// Shakes hands and serves, or refuses so that the refusal is seen.
pub(super) async fn serve(
    newest: Rc<Newest>,
    shared: Shared,
    arrival: Arrival,
    drain: watch::Receiver<bool>,
) {
    let source = arrival.source;
    let site = newest.site();
    match handshake(arrival, site.tls.clone(), Rc::clone(&site.worker)).await {
        Ok(admission) => {
            let judge = match &admission.verdict {
                Some(verdict) => {
                    shared.audit.connection(source, verdict);
                    Judge::Of(Rc::clone(&site.worker))
                }
                // A token revoked, or a certificate removed, is refused on open connections too.
                None => Judge::Newest(newest),
            };
            drop(site);
            admitted(judge, shared, admission, drain).await;
        }
        Err(Refusal::Denied(verdict, socket)) => {
            shared.audit.connection(source, &verdict);
            shared.lingering.close(socket).await;
        }
        Err(Refusal::Failed(error, socket)) => {
            shared.audit.handshake(source, &error);
            if let Some(socket) = socket {
                shared.lingering.close(socket).await;
            }
        }
        Err(Refusal::TimedOut) => shared.audit.handshake(source, &"timed out"),
        Err(Refusal::Silent) => {}
    }
}

async fn admitted(judge: Judge, shared: Shared, admission: Admission, drain: watch::Receiver<bool>) {
    let Shared { protocol, upstream, audit, .. } = shared;
    let Admission { stream, connection, .. } = admission;
    let source = connection.source;
    match (protocol, judge) {
        // INVARIANT: bytes are forwarded only of a peer that was judged.
        (Protocol::Tcp, Judge::Newest(_)) => audit.fault(source, &"nobody judged the connection"),
        (Protocol::Tcp, Judge::Of(worker)) => {
            // Nothing is left to ask the filter: an old policy's VM must not live as long as this connection.
            drop(worker);
            if let Err(error) = tcp::serve(stream, &upstream).await {
                audit.upstream(source, &error);
            }
        }
        (Protocol::Http, judge) => {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(http::H2);
            let exchange = Exchange {
                judge,
                connection,
                upstream,
                activity: Activity::new(!h2),
                audit: Rc::clone(&audit),
            };
            if let Err(error) = http::serve(stream, Rc::new(exchange), h2, drain).await
                && !http::is_ordinary(&error)
            {
                audit.protocol(source, &error);
            }
        }
    }
}
