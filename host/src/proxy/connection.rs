//! One accepted connection from first byte to last.

use std::rc::Rc;
use std::sync::Arc;

use peergate_policy::{Endpoint as Kind, UnixTime};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::activity::Activity;
use super::admin_pages::AdminPages;
use super::exchange::Exchange;
use super::port::Port;
use super::roster::{Ending, Member};
use super::site::Site;
use super::{http, review, tcp};
use crate::admin::failure;
use crate::audit::Whom;
use crate::config::Protocol;
use crate::tls::{Admission, Arrival, Refusal, handshake};

/// Shakes hands and serves, or refuses so that the refusal is seen.
pub(super) async fn serve(port: Rc<Port>, arrival: Arrival) {
    let site = port.site();
    let (source, connection) = (arrival.source, arrival.id);
    let mut whom = Whom { listener: Arc::clone(&site.name), endpoint: None, connection, source };
    let choose = |name: Option<&str>| {
        site.endpoint(name).map(|endpoint| (endpoint.terms.clone(), Rc::clone(&endpoint.worker)))
    };
    let audit = &port.shared.audit;
    match handshake(arrival, choose).await {
        Ok(admission) => {
            let name = admission.connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
            whom.endpoint = site.endpoint(name).map(|endpoint| endpoint.kind.as_str());
            if let Some(verdict) = &admission.verdict {
                audit.connection(&whom, verdict);
            }
            admitted(&port, site, admission, whom).await;
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

/// Enters the roster and serves until the connection ends, or is ended.
async fn admitted(port: &Rc<Port>, site: Rc<Site>, admission: Admission, whom: Whom) {
    let Admission { stream, connection, verdict, chain } = admission;
    let audit = &port.shared.audit;
    let name = connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
    let Some(endpoint) = site.endpoint(name).cloned() else {
        // INVARIANT: the handshake was on the terms of an endpoint of this site.
        return audit.fault(&whom, &"the endpoint is gone");
    };
    let not_after = not_after(&chain);
    let member = Member::new(connection, chain, not_after, endpoint, whom);
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
    let (protocol, upstream) = (site.protocol, Rc::clone(&site.upstream));
    let admin =
        site.admin_path.clone().map(|path| AdminPages { path, board: Arc::clone(&port.shared.board) });
    drop(site);
    let ending = member.ending();
    let serving = async {
        match (protocol, verdict) {
            // INVARIANT: bytes are forwarded only of a peer that was judged.
            (Protocol::Tcp, None) => audit.fault(&member.whom, &"nobody judged the connection"),
            (Protocol::Tcp, Some(_)) => {
                if let Err(error) = tcp::serve(stream, &upstream).await {
                    audit.upstream(&member.whom, &error);
                }
            }
            (Protocol::Http, _) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(http::H2);
                let exchange = Exchange {
                    member: Rc::clone(&member),
                    upstream,
                    activity: Activity::new(!h2),
                    audit: Rc::clone(audit),
                    admin,
                };
                if let Err(error) = http::serve(stream, Rc::new(exchange), h2, member.ending()).await
                    && !http::is_ordinary(&error)
                {
                    audit.protocol(&member.whom, &error);
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = is_cut(ending) => {}
    }
}

async fn is_cut(mut ending: watch::Receiver<Ending>) {
    // The sender lives as long as the connection.
    let _ = ending.wait_for(|ending| *ending == Ending::Cut).await;
}

/// When the first of these certificates ends; what cannot be read has been refused, or is not asked.
fn not_after(chain: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let ends = chain.iter().filter_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(UnixTime::from_seconds(certificate.validity().not_after.timestamp()))
    });
    ends.min()
}
