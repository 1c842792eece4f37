//! What an accepted connection counts as: an unfinished handshake until its client is admitted, then one of its client's
//! connections.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::capacity::{Capacity, Client, ClientKey, Limit, Permit, Place};
use crate::wasm::Connection;

/// Held as long as the connection is open.
#[derive(Debug)]
pub(super) struct Slot {
    capacity: Arc<Capacity>,
    waiting: RefCell<Option<Place>>,
    admitted: OnceCell<(Arc<Client>, Permit)>,
}

impl Slot {
    pub(super) fn new(capacity: &Arc<Capacity>, place: Place) -> Rc<Self> {
        let (capacity, waiting) = (Arc::clone(capacity), Some(place).into());
        Rc::new(Self { capacity, waiting, admitted: OnceCell::new() })
    }

    /// The client is admitted: from now on nobody closes the connection to make room for others. Where only requests are
    /// judged, that is the first one that is allowed. Later calls do nothing.
    ///
    /// # Errors
    /// There are too many connections, of this client or in all.
    pub(super) fn admit(&self, key: impl FnOnce() -> ClientKey) -> Result<(), Limit> {
        if self.admitted.get().is_some() {
            return Ok(());
        }
        let client = self.capacity.client(key());
        let permit = client.connection()?;
        // It was empty before, and nothing waits in between.
        let _ = self.admitted.set((client, permit));
        self.waiting.take();
        Ok(())
    }

    /// Who is admitted.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.admitted.get().map(|(client, _)| client)
    }

    /// A request under way, or what counts as one.
    ///
    /// # Errors
    /// There are too many, of this client or in all.
    pub(super) fn request(&self) -> Result<Permit, Limit> {
        // INVARIANT: requests of clients that are not admitted are not forwarded.
        self.client().ok_or(Limit::Connections)?.request()
    }

    /// One more connection of the same client.
    ///
    /// # Errors
    /// As [`Slot::admit`].
    pub(super) fn connection(&self) -> Result<Permit, Limit> {
        self.client().ok_or(Limit::Connections)?.connection()
    }
}

/// Whose connection this is: of who holds the certificate, or comes from the address.
pub(super) fn client_key(connection: &Connection) -> ClientKey {
    match connection.tls.as_ref().and_then(|tls| tls.peer.as_ref()) {
        Some(peer) => ClientKey::Certificate(peergate_policy::sha256(peer.der())),
        None => ClientKey::address(connection.source.ip()),
    }
}
