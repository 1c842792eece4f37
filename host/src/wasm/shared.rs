//! Shared data: what the VMs of one filter tell each other, across workers.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::limits;
use super::queue::SharedQueues;
use super::status::Status;

/// What the VMs of one filter share across workers.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) data: SharedData,
    pub(super) queues: SharedQueues,
}

impl Shared {
    /// That of the filter with this digest. It outlives a reload, and goes with the last VM, as Envoy's goes with the last
    /// of a `vm_id`.
    pub(super) fn of(digest: [u8; 32]) -> Arc<Self> {
        static KNOWN: Mutex<Vec<([u8; 32], Weak<Shared>)>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, shared)| shared.strong_count() > 0);
        let found = known.iter().find(|(other, _)| *other == digest).and_then(|(_, shared)| shared.upgrade());
        found.unwrap_or_else(|| {
            let shared = Arc::default();
            known.push((digest, Arc::downgrade(&shared)));
            shared
        })
    }
}

/// What an entry costs besides its bytes: its place in the map, and two allocations.
const ENTRY: usize = 160;

/// Key-value pairs with a number that changes at every write, for compare-and-swap. Numbers start at 1: 0 means that
/// the writer does not care.
#[derive(Debug, Default)]
pub(super) struct SharedData {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: HashMap<Box<[u8]>, Entry>,
    bytes: usize,
    last_cas: u32,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Arc<[u8]>,
    cas: u32,
}

impl SharedData {
    pub(super) fn value(&self, key: &[u8]) -> Result<(Arc<[u8]>, u32), Status> {
        if key.len() > limits::KEY {
            return Err(Status::NotFound);
        }
        let entry = self.lock().values.get(key).cloned().ok_or(Status::NotFound)?;
        Ok((entry.value, entry.cas))
    }

    /// Writes unless `cas` is a number other than the current one.
    pub(super) fn insert(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        if key.len() > limits::KEY {
            return Err(Status::BadArgument);
        }
        let mut inner = self.lock();
        let known = inner.values.get(key).map(|entry| (cost(key, &entry.value), entry.cas));
        if let Some((_, current)) = known
            && cas != 0
            && cas != current
        {
            return Err(Status::CasMismatch);
        }
        let bytes = inner.bytes - known.map_or(0, |(size, _)| size) + cost(key, value);
        if bytes > limits::SHARED_BYTES {
            limits::reached(&SAID, "shared data", limits::SHARED_BYTES);
            return Err(Status::InternalFailure);
        }
        inner.bytes = bytes;
        inner.last_cas = inner.last_cas.checked_add(1).unwrap_or(1);
        let cas = inner.last_cas;
        inner.values.insert(key.into(), Entry { value: value.into(), cas });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every write leaves the map whole, so a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY
}

/// Whether the log has it.
static SAID: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_lives_as_long_as_a_filter_uses_it() {
        let shared = Shared::of([7; 32]);
        shared.data.insert(b"k", b"1", 0).unwrap();
        let again = Shared::of([7; 32]);
        drop(shared);
        assert_eq!(&*again.data.value(b"k").unwrap().0, b"1");
        assert_eq!(Shared::of([8; 32]).data.value(b"k").unwrap_err(), Status::NotFound);
        drop(again);
        assert_eq!(Shared::of([7; 32]).data.value(b"k").unwrap_err(), Status::NotFound);
    }

    #[test]
    fn a_stale_number_does_not_overwrite() {
        let shared = SharedData::default();
        assert_eq!(shared.value(b"k").unwrap_err(), Status::NotFound);
        shared.insert(b"k", b"1", 0).unwrap();
        let (_, cas) = shared.value(b"k").unwrap();
        shared.insert(b"k", b"2", cas).unwrap();
        assert_eq!(shared.insert(b"k", b"3", cas), Err(Status::CasMismatch));
        assert_eq!(&*shared.value(b"k").unwrap().0, b"2");
        assert_eq!(shared.insert(b"big", &vec![0; limits::SHARED_BYTES], 0), Err(Status::InternalFailure));
        assert_eq!(shared.insert(&vec![0; limits::KEY + 1], b"", 0), Err(Status::BadArgument));
        assert_eq!(shared.value(&vec![0; limits::KEY + 1]).unwrap_err(), Status::NotFound);
    }

    #[test]
    fn empty_values_have_a_cost() {
        let shared = SharedData::default();
        let kept = (0..1_000_000_u32).take_while(|key| shared.insert(&key.to_le_bytes(), b"", 0).is_ok());
        assert_eq!(kept.count(), limits::SHARED_BYTES / (ENTRY + 4));
    }
}
