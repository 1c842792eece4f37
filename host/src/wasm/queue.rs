//! Shared queues: what the VMs of one filter send each other, across workers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::limits;
use super::status::Status;

/// What an item costs besides its bytes.
const ITEM: usize = 64;

/// Items for which an empty queue keeps room.
const ROOM: usize = 64;

/// Something was put into a queue: for the root that registered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) root: u32,
    pub(super) queue: u32,
}

/// The queues, by id and by name. Ids start at 1.
#[derive(Debug, Default)]
pub(super) struct SharedQueues {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ids: HashMap<Box<[u8]>, u32>,
    queues: BTreeMap<u32, Queue>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Box<[u8]>>,
    /// Those who registered it; the last one still there is told, as in Envoy.
    listeners: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    root: u32,
    notices: Sender<Notice>,
}

impl SharedQueues {
    /// The queue of this name, made if need be. What is in it stays.
    pub(super) fn register(&self, name: &[u8], root: u32, notices: &Sender<Notice>) -> Result<u32, Status> {
        if name.len() > limits::NAME {
            return Err(Status::BadArgument);
        }
        let mut inner = self.lock();
        let id = match inner.ids.get(name) {
            Some(id) => *id,
            None if inner.ids.len() == limits::QUEUES => {
                limits::reached(&SAID_QUEUES, "1024 shared queues", limits::QUEUES * limits::NAME);
                return Err(Status::InternalFailure);
            }
            None => {
                let id = u32::try_from(inner.ids.len() + 1).map_err(|_| Status::InternalFailure)?;
                inner.ids.insert(name.into(), id);
                id
            }
        };
        let queue = inner.queues.entry(id).or_default();
        queue.listeners.retain(|known| !known.notices.is_closed() && !known.notices.same_channel(notices));
        queue.listeners.push(Listener { root, notices: notices.clone() });
        Ok(id)
    }

    pub(super) fn resolve(&self, name: &[u8]) -> Result<u32, Status> {
        if name.len() > limits::NAME {
            return Err(Status::NotFound);
        }
        self.lock().ids.get(name).copied().ok_or(Status::NotFound)
    }

    pub(super) fn enqueue(&self, id: u32, item: &[u8]) -> Result<(), Status> {
        let mut inner = self.lock();
        let bytes = inner.bytes + item.len() + ITEM;
        let queue = inner.queues.get_mut(&id).ok_or(Status::NotFound)?;
        if bytes > limits::SHARED_BYTES {
            limits::reached(&SAID_ITEMS, "items of shared queues", limits::SHARED_BYTES);
            return Err(Status::InternalFailure);
        }
        queue.items.push_back(item.into());
        while let Some(listener) = queue.listeners.last() {
            // A worker that has this many notices before it finds the item when it comes to them.
            match listener.notices.try_send(Notice { root: listener.root, queue: id }) {
                Err(TrySendError::Closed(_)) => queue.listeners.pop(),
                Ok(()) | Err(TrySendError::Full(_)) => break,
            };
        }
        inner.bytes = bytes;
        Ok(())
    }

    pub(super) fn dequeue(&self, id: u32) -> Result<Box<[u8]>, Status> {
        let mut inner = self.lock();
        let items = &mut inner.queues.get_mut(&id).ok_or(Status::NotFound)?.items;
        let item = items.pop_front().ok_or(Status::Empty)?;
        // A queue that was long once would keep its room, and there may be many.
        if items.capacity() > ROOM.max(4 * items.len()) {
            items.shrink_to(ROOM.max(2 * items.len()));
        }
        inner.bytes -= item.len() + ITEM;
        Ok(item)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change leaves the queues whole, so a panic elsewhere does not spoil them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the log has it.
static SAID_QUEUES: AtomicBool = AtomicBool::new(false);
static SAID_ITEMS: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;

    #[test]
    fn items_come_out_in_order_and_the_last_listener_is_told() {
        let queues = SharedQueues::default();
        let (first, mut told_first) = channel(8);
        let (second, mut told_second) = channel(8);
        assert_eq!(queues.resolve(b"q"), Err(Status::NotFound));
        let id = queues.register(b"q", 1, &first).unwrap();
        assert_eq!(queues.register(b"q", 2, &second), Ok(id));
        assert_eq!(queues.resolve(b"q"), Ok(id));
        queues.enqueue(id, b"a").unwrap();
        queues.enqueue(id, b"b").unwrap();
        assert_eq!(told_second.try_recv(), Ok(Notice { root: 2, queue: id }));
        assert!(told_first.try_recv().is_err());

        drop(told_second);
        queues.enqueue(id, b"").unwrap();
        assert_eq!(told_first.try_recv(), Ok(Notice { root: 1, queue: id }));
        let items: Vec<_> = (0..3).map(|_| queues.dequeue(id).unwrap()).collect();
        assert_eq!(items, [Box::from(*b"a"), Box::from(*b"b"), Box::from(*b"")]);
        assert_eq!(queues.dequeue(id), Err(Status::Empty));
        assert_eq!(queues.dequeue(id + 1), Err(Status::NotFound));
        assert_eq!(queues.enqueue(id + 1, b"x"), Err(Status::NotFound));
    }

    #[test]
    fn queues_do_not_grow_without_end() {
        let queues = SharedQueues::default();
        let id = queues.register(b"q", 1, &channel(1).0).unwrap();
        let put = (0..100).filter(|_| queues.enqueue(id, &[0; 1 << 20]).is_ok()).count();
        assert_eq!(put, 15);
        queues.dequeue(id).unwrap();
        queues.enqueue(id, &[0; 1 << 20]).unwrap();
        let (notices, _told) = channel(1);
        assert_eq!(queues.register(&[b'x'; limits::NAME + 1], 1, &notices), Err(Status::BadArgument));
        assert_eq!(queues.resolve(&[b'x'; limits::NAME + 1]), Err(Status::NotFound));
        let made = (0..2000_u32).filter(|name| queues.register(&name.to_le_bytes(), 1, &notices).is_ok());
        assert_eq!(made.count(), limits::QUEUES - 1);
    }

    #[test]
    fn a_queue_that_was_long_gives_its_room_back() {
        let queues = SharedQueues::default();
        let id = queues.register(b"q", 1, &channel(1).0).unwrap();
        (0..100_000).for_each(|_| queues.enqueue(id, b"").unwrap());
        (0..99_999).for_each(|_| drop(queues.dequeue(id).unwrap()));
        assert!(queues.lock().queues[&id].items.capacity() <= 2 * ROOM);
    }
}
