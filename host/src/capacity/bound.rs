//! A number that is counted up to a limit, with a share for each client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Capacity, Client, Limit};

/// What is counted. Nobody orders other memory by it.
const ORDER: Ordering = Ordering::Relaxed;

/// A client that holds this many times what is still free gets no more (dynamic thresholds, Choudhury and Hahne 1998): alone it may
/// take three quarters, and the next one three quarters of the rest.
const SHARE: u64 = 3;

/// One limit.
#[derive(Debug)]
pub(super) struct Bound {
    names: [Limit; 2],
    limit: AtomicU32,
    /// `u32::MAX` where only [`SHARE`] bounds a client.
    per_client: AtomicU32,
    used: AtomicU32,
    refused: [AtomicU64; 2],
}

/// A limit and its use, for the metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// `None` where a client is bounded only by what is left free.
    pub limit: Option<u32>,
    /// `None` for limits of each client or source: there is one number for each.
    pub used: Option<u32>,
    /// How often something was refused or closed because of it.
    pub refused: u64,
}

impl Bound {
    pub(super) fn new(in_all: Limit, per_client: Limit) -> Self {
        let (limit, used, refused) = Default::default();
        Self { names: [in_all, per_client], limit, per_client: AtomicU32::new(u32::MAX), used, refused }
    }

    pub(super) fn set(&self, limit: u32, per_client: Option<u32>) {
        self.limit.store(limit, ORDER);
        self.per_client.store(per_client.unwrap_or(u32::MAX), ORDER);
    }

    fn take(&self, held: Option<&AtomicU32>) -> Result<(), Limit> {
        let limit = self.limit.load(ORDER);
        let before = self.used.fetch_add(1, ORDER);
        if before >= limit {
            self.used.fetch_sub(1, ORDER);
            return Err(self.refuse(0));
        }
        let Some(held) = held else { return Ok(()) };
        let own = held.fetch_add(1, ORDER);
        let free = u64::from(limit - before);
        if own >= self.per_client.load(ORDER) || u64::from(own) >= SHARE * free {
            self.give_back(Some(held));
            return Err(self.refuse(1));
        }
        Ok(())
    }

    fn refuse(&self, which: usize) -> Limit {
        self.refused[which].fetch_add(1, ORDER);
        self.names[which]
    }

    fn give_back(&self, held: Option<&AtomicU32>) {
        if let Some(held) = held {
            held.fetch_sub(1, ORDER);
        }
        self.used.fetch_sub(1, ORDER);
    }

    pub(super) fn usage(&self) -> impl Iterator<Item = (Limit, Usage)> {
        let [in_all, per_client] = self.names;
        let [refused, refused_to_one] = self.refused.each_ref().map(|refused| refused.load(ORDER));
        let all = Usage { limit: Some(self.limit.load(ORDER)), used: Some(self.used.load(ORDER)), refused };
        let limit = Some(self.per_client.load(ORDER)).filter(|limit| *limit != u32::MAX);
        let one = Usage { limit, used: None, refused: refused_to_one };
        [(per_client, one), (in_all, all)].into_iter()
    }
}

/// A client, and its share of a bound.
type Held = (Arc<Client>, fn(&Client) -> &AtomicU32);

/// One of a [`Bound`], until it is dropped.
#[derive(Debug)]
pub struct Permit {
    capacity: Arc<Capacity>,
    bound: fn(&Capacity) -> &Bound,
    client: Option<Held>,
}

impl Permit {
    /// Takes one, for a client or for nobody in particular.
    pub(super) fn take(
        capacity: &Arc<Capacity>,
        bound: fn(&Capacity) -> &Bound,
        client: Option<Held>,
    ) -> Result<Self, Limit> {
        bound(capacity).take(client.as_ref().map(|(client, held)| held(client)))?;
        Ok(Self { capacity: Arc::clone(capacity), bound, client })
    }
}

impl Permit {
    /// What the permit is for was given up before it was complete.
    pub fn cancelled(&self) {
        if let Some((client, _)) = &self.client {
            client.cancelled();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let held = self.client.as_ref().map(|(client, held)| held(client));
        (self.bound)(&self.capacity).give_back(held);
    }
}
