//! A listener in one worker: it accepts, and knows who came in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep;
use tracing::warn;

use super::generation::{Direction, Listener};
use super::listener::Sockets;
use super::roster::{Ending, Roster};
use super::site::Site;
use super::slot::Slot;
use super::socket::Acceptor;
use super::tally::Tally;
use super::{connection, limits, review};
use crate::admin::{Board, CONNECTIONS_TOLD, ListenerReport};
use crate::audit::{Audit, Whom};
use crate::capacity::{Capacity, Place, Source};
use crate::tls::{Arrival, Lingering};

/// What the ports of one worker share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) audit: Rc<Audit>,
    pub(super) lingering: Lingering,
    pub(super) ids: Rc<Ids>,
    /// What the process takes at most.
    pub(super) capacity: Arc<Capacity>,
    /// What the admin pages show.
    pub(super) board: Arc<Board>,
}

/// An address that is listened on, whatever generation it serves.
#[derive(Debug)]
pub(super) struct Port {
    /// Until it is closed: then nobody accepts, and nobody should find it listening.
    sockets: RefCell<Option<Arc<Sockets>>>,
    site: RefCell<Rc<Site>>,
    pub(super) roster: Rc<Roster>,
    pub(super) tally: Rc<Tally>,
    pub(super) shared: Shared,
    /// How connections are to end; each accepted one has a receiver until it is closed.
    closing: watch::Sender<Ending>,
}

impl Port {
    /// Begins to accept. Connections are served on this thread.
    pub(super) fn open(
        sockets: Arc<Sockets>,
        acceptor: Acceptor,
        site: Rc<Site>,
        shared: Shared,
    ) -> Rc<Self> {
        let port = Rc::new(Self {
            sockets: Some(sockets).into(),
            site: site.into(),
            roster: Rc::default(),
            tally: Rc::default(),
            shared,
            closing: watch::Sender::default(),
        });
        port.site().upstream.belongs_to(&port);
        spawn_local(accept(Rc::clone(&port), acceptor));
        spawn_local(review::watch_time(Rc::clone(&port)));
        port
    }

    /// Whether this is the port of that listener, and still leads to the same kind of place: connections are not made over
    /// into what they were not begun as.
    pub(super) fn is_of(&self, listener: &Listener) -> bool {
        self.has(&listener.sockets) && self.site().is_kind_of(listener)
    }

    /// Whether it accepts on these sockets.
    pub(super) fn has(&self, sockets: &Arc<Sockets>) -> bool {
        self.sockets.borrow().as_ref().is_some_and(|own| Arc::ptr_eq(own, sockets))
    }

    /// What new connections get.
    pub(super) fn site(&self) -> Rc<Site> {
        Rc::clone(&self.site.borrow())
    }

    /// New connections get `site`; open ones are judged by it again.
    pub(super) fn renew(self: &Rc<Self>, site: Rc<Site>) {
        site.upstream.belongs_to(self);
        self.site.replace(Rc::clone(&site));
        spawn_local(review::all(Rc::clone(self), site));
    }

    /// Accepts no more, and lets what runs finish.
    pub(super) fn close(&self) {
        self.sockets.take();
        self.closing.send_replace(Ending::Graceful);
        for member in self.roster.members() {
            member.end(Ending::Graceful);
        }
    }

    /// Closes for good: nobody else will accept on the socket of this worker.
    pub(super) fn drain(&self, worker: u16) {
        let sockets = self.sockets.borrow().clone();
        self.close();
        if let Some(sockets) = sockets {
            sockets.stop(worker);
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow() != Ending::No
    }

    /// Waits until no more is to be begun.
    pub(super) async fn asked_to_close(&self) {
        self.wait_for(Ending::Graceful).await;
    }

    /// Waits until connections are to be closed, whatever runs on them.
    pub(super) async fn cut_off(&self) {
        self.wait_for(Ending::Cut).await;
    }

    async fn wait_for(&self, at_least: Ending) {
        // The sender lives as long as this port.
        let _ = self.closing.subscribe().wait_for(|closing| *closing >= at_least).await;
    }

    /// Waits until the last connection is closed.
    pub(super) async fn closed(&self) {
        self.closing.closed().await;
    }

    /// What is known of it here and now.
    pub(super) fn report(&self) -> ListenerReport {
        let name = Arc::clone(&self.site().name);
        let members = self.roster.members();
        let connections = members.iter().take(CONNECTIONS_TOLD).map(|member| member.report()).collect();
        ListenerReport { name, connections, ..self.tally.report() }
    }

    /// Closes, because its address leads elsewhere now: on the terms of before no server hears anything new.
    pub(super) fn give_way(&self) {
        let site = self.site();
        if site.direction != Direction::Inbound {
            site.upstream.abandon();
        }
        self.close();
    }

    /// Closes what is still open.
    pub(super) fn cut(&self) {
        self.closing.send_replace(Ending::Cut);
        for member in self.roster.members() {
            member.end(Ending::Cut);
        }
    }
}

async fn accept(port: Rc<Port>, acceptor: Acceptor) {
    let mut closing = port.closing.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            _ = closing.wait_for(|closing| *closing != Ending::No) => return,
        };
        match accepted {
            Ok((socket, source, destination)) => {
                let place = port.shared.capacity.handshake(Source::of(source.ip()));
                let has_evicted = place.has_evicted;
                let arrival = Arrival { id: port.shared.ids.next(), socket, source, destination };
                spawn_local(serve(Rc::clone(&port), arrival, place));
                if has_evicted {
                    // The one that is told to close gives its descriptor back before the next one takes it.
                    yield_now().await;
                }
            }
            Err(error) => {
                warn!(listener = %port.site().name, %error, "accept failed");
                sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection until it ends, or has to make room before its client is admitted.
async fn serve(port: Rc<Port>, arrival: Arrival, mut place: Place) {
    let _open = port.closing.subscribe();
    port.tally.opened();
    let (source, connection, evicted) = (arrival.source, arrival.id, place.evicted());
    let slot = Slot::new(&port.shared.capacity, place);
    tokio::select! {
        () = connection::serve(Rc::clone(&port), arrival, slot) => {}
        limit = evicted => {
            port.tally.failed("crowded-out");
            let listener = Arc::clone(&port.site().name);
            port.shared.audit.handshake(&Whom { listener, endpoint: None, connection, source }, &limit);
        }
    }
    port.tally.closed();
}

/// Connection ids: the worker in the upper 16 bits, a counter below.
#[derive(Debug)]
pub(super) struct Ids(Cell<u64>);

impl Ids {
    pub(super) fn of(worker: u16) -> Self {
        Self(Cell::new(u64::from(worker) << 48))
    }

    pub(super) fn next(&self) -> u64 {
        let id = self.0.get() + 1;
        self.0.set(id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_two_workers_never_meet() {
        assert_ne!(Ids::of(0).next(), Ids::of(1).next());
        let ids = Ids::of(3);
        assert_ne!(ids.next(), ids.next());
    }
}
