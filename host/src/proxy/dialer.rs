//! Connections to servers that are judged like peers.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::port::Port;
use super::review;
use super::roster::{Member, Membership};
use super::socket::Socket;
use crate::audit::Whom;
use crate::clock::now;
use crate::tls::{ConnectError, Departure, Link, connect};

/// An open connection to the service or server.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) link: Link,
    /// Of a server: it may be dismissed.
    pub(super) standing: Option<Standing>,
}

/// A server's place in the roster of the port that led to it.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) member: Rc<Member>,
    _membership: Membership,
}

/// Shakes hands on the terms of now, whatever they were when the local program connected; with `only`, for that application
/// protocol and no other.
pub(super) async fn dial(
    port: &Rc<Port>,
    socket: Socket,
    only: Option<&'static [u8]>,
) -> Result<Reached, ConnectError> {
    let site = port.site();
    let missing = || ConnectError::Handshake(io::Error::other("the listener has no endpoint"));
    let endpoint = site.endpoint(None).cloned().ok_or_else(missing)?;
    if endpoint.plaintext {
        return Ok(Reached { link: Link::Plain(socket), standing: None });
    }
    let destination = socket.peer_address();
    let id = port.shared.ids.next();
    let whom = Whom {
        listener: Arc::clone(&site.name),
        endpoint: Some(endpoint.kind.as_str()),
        connection: id,
        source: destination,
    };
    let departure = Departure { id, socket, destination, only };
    let connected = match connect(departure, &endpoint.terms, Rc::clone(&endpoint.worker)).await {
        Ok(connected) => connected,
        Err(error) => {
            match &error {
                ConnectError::Denied(verdict) => {
                    port.tally.failed("denied");
                    port.shared.audit.connection(&whom, verdict);
                }
                ConnectError::Handshake(_) => port.tally.failed("server"),
                ConnectError::TimedOut => port.tally.failed("timed-out"),
            }
            return Err(error);
        }
    };
    port.shared.audit.connection(&whom, &connected.verdict);
    let member = Member::new(connected.connection, connected.chain, endpoint, now(), whom);
    member.was_admitted_by(&connected.verdict.decision);
    let membership = port.roster.enter(Rc::clone(&member));
    if !Rc::ptr_eq(&site, &port.site()) {
        review::latecomer(port, &member);
    }
    Ok(Reached { link: connected.link, standing: Some(Standing { member, _membership: membership }) })
}
