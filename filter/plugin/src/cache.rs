//! What is known of certificates, bounded.

use std::collections::BTreeMap;
use std::rc::Rc;

use peergate_policy::Digest;

use crate::verdict::Verdict;

/// Entries per half: a VM keeps at most twice as many.
const CAPACITY: usize = 1024;

/// Least-recently-used, approximately: when the young half is full it becomes the old one, and what is not asked for
/// again is dropped with it. A tree, not a hash map: peers choose their certificates, so no key may be slow.
///
/// What changes without the certificate changing (validity, chain trust) is never cached.
#[derive(Default)]
pub(crate) struct Cache {
    young: BTreeMap<Digest, Rc<Verdict>>,
    old: BTreeMap<Digest, Rc<Verdict>>,
}

impl Cache {
    pub(crate) fn find(&mut self, digest: &Digest) -> Option<Rc<Verdict>> {
        if let Some(value) = self.young.get(digest) {
            return Some(value.clone());
        }
        let value = self.old.remove(digest)?;
        self.insert(*digest, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, digest: Digest, value: Rc<Verdict>) {
        if self.young.len() >= CAPACITY {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, value);
    }
}
