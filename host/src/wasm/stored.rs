//! Values a filter stores with `proxy_set_property`.

use std::sync::Arc;

use super::account::{Account, Share};
use super::limits;
use super::status::Status;

/// What an entry costs besides its bytes.
const ENTRY: usize = 64;

/// Where the filter leaves its decision.
pub(super) const DECISION: &[u8] = b"peergate.decision";

/// What one context stored. Few keys, so a list.
#[derive(Debug, Default)]
pub(super) struct Stored {
    entries: Vec<Entry>,
    bytes: usize,
    /// Once there is an entry.
    share: Option<Share>,
}

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    value: Arc<[u8]>,
}

impl Stored {
    pub(super) fn value(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.value)
    }

    /// Stores a value; the last one under a key counts.
    pub(super) fn insert(&mut self, key: &[u8], value: &[u8], account: &Account) -> Result<(), Status> {
        let known = self.entries.iter().position(|entry| *entry.key == *key);
        let before = known.map_or(0, |index| cost(key, &self.entries[index].value));
        let bytes = self.bytes - before + cost(key, value);
        if bytes > limits::PROPERTIES_BYTES || (known.is_none() && self.entries.len() == limits::PROPERTIES) {
            return Err(Status::BadArgument);
        }
        account.room_for(bytes.saturating_sub(self.bytes))?;
        self.share.get_or_insert_with(|| account.share()).set(bytes);
        self.bytes = bytes;
        match known {
            Some(index) => self.entries[index].value = value.into(),
            None => self.entries.push(Entry { key: key.into(), value: value.into() }),
        }
        Ok(())
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_the_sum_is_bounded() {
        let account = Account::new("test", 1 << 20);
        let mut stored = Stored::default();
        let mut insert = |key: &[u8], value: &[u8]| stored.insert(key, value, &account);
        (0..100).for_each(|_| insert(b"a", &[1; 100_000]).unwrap());
        insert(b"a", b"").unwrap();
        insert(b"b", &[0; 200_000]).unwrap();
        assert_eq!(insert(b"c", &[0; 100_000]), Err(Status::BadArgument));
        assert_eq!(stored.value(b"a").map(|value| value.len()), Some(0));
        assert!(stored.value(b"c").is_none());
        drop(stored);
        assert_eq!(account.bytes(), 0);
    }

    #[test]
    fn many_small_values_and_many_contexts_are_bounded() {
        let account = Account::new("test", 1 << 20);
        let mut stored = Stored::default();
        let kept = (0..1000_u32).filter(|key| stored.insert(&key.to_le_bytes(), b"", &account).is_ok());
        assert_eq!(kept.count(), limits::PROPERTIES);
        let mut others: Vec<_> = (0..10).map(|_| Stored::default()).collect();
        let kept = others.iter_mut().filter_map(|it| it.insert(b"k", &[0; 250_000], &account).ok());
        assert_eq!(kept.count(), 4);
    }
}
