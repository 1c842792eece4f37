//! Values a filter stores with `proxy_set_property`.

use std::sync::Arc;

use super::status::Status;

/// Keys and values together: enough for decisions and certificates, too little to fill the host's memory.
const MAX_BYTES: usize = 256 << 10;

/// Where the filter leaves its decision.
pub(super) const DECISION: &[u8] = b"peergate.decision";

/// What one context stored. Few keys, so a list.
#[derive(Debug, Default)]
pub(super) struct Stored {
    entries: Vec<Entry>,
    bytes: usize,
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
    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), Status> {
        let known = self.entries.iter().position(|entry| *entry.key == *key);
        let before = known.map_or(0, |index| key.len() + self.entries[index].value.len());
        let bytes = self.bytes - before + key.len() + value.len();
        if bytes > MAX_BYTES {
            return Err(Status::BadArgument);
        }
        self.bytes = bytes;
        match known {
            Some(index) => self.entries[index].value = value.into(),
            None => self.entries.push(Entry { key: key.into(), value: value.into() }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_the_sum_is_bounded() {
        let mut stored = Stored::default();
        for _ in 0..100 {
            stored.insert(b"a", &[1; 100_000]).unwrap();
        }
        stored.insert(b"a", b"").unwrap();
        assert_eq!(stored.value(b"a").map(|value| value.len()), Some(0));
        stored.insert(b"b", &[0; 200_000]).unwrap();
        assert_eq!(stored.insert(b"c", &[0; 100_000]), Err(Status::BadArgument));
        assert!(stored.value(b"c").is_none());
    }
}
