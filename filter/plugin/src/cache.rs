//! What is known of certificates, bounded.

use std::rc::Rc;

use peergate_policy::{Digest, DigestIndex};

use crate::verdict::Verdict;

/// Entries per half: a VM keeps at most twice as many.
const CAPACITY: usize = 1024;

/// Bytes of texts per half. A certificate may have thousands of names, and what is said about it is as long.
const TEXT_BYTES: usize = 2 * 1024 * 1024;

/// Least-recently-used, approximately: when the young half is full it becomes the old one, and what is not asked for
/// again is dropped with it.
///
/// What changes without the certificate changing (validity, chain trust) is never cached.
#[derive(Default)]
pub(crate) struct Cache {
    young: DigestIndex<Rc<Verdict>>,
    young_bytes: usize,
    old: DigestIndex<Rc<Verdict>>,
}

impl Cache {
    pub(crate) fn find(&mut self, digest: &Digest) -> Option<Rc<Verdict>> {
        if let Some(value) = self.young.find(digest) {
            return Some(value.clone());
        }
        let value = self.old.find(digest)?.clone();
        self.insert(*digest, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, digest: Digest, value: Rc<Verdict>) {
        let bytes = value.text_bytes();
        if self.young.len() >= CAPACITY || self.young_bytes + bytes > TEXT_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.entry(digest, || value);
    }
}
