//! Who holds a credential, found by its digest.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;

use subtle::ConstantTimeEq;

use crate::identity::Digest;

/// A client that holds a credential.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Holder {
    /// SHA-256 of a leaf, or a token's check hash.
    pub(crate) digest: Digest,
    /// Number of the client.
    pub(crate) client: u32,
    /// Number of the version, where the credential is a token's.
    pub(crate) version: u32,
}

/// By digest, and of one digest in policy order.
impl Ord for Holder {
    // Inlined into each step of a sort it is a hundredth of filter.wasm.
    #[inline(never)]
    fn cmp(&self, other: &Self) -> Ordering {
        self.digest.cmp(&other.digest).then((self.client, self.version).cmp(&(other.client, other.version)))
    }
}

impl PartialOrd for Holder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All holders. A sorted list, because there may be a hundred thousand of them in the memory of a VM: 40 bytes each, where a
/// tree of lists takes 250.
#[derive(Clone, Default)]
pub(crate) struct Holders(Box<[Holder]>);

/// Bytes of a digest by which it is looked for. Those of a check hash are the output of a one-way function: how long a
/// look-up takes tells nothing about a token.
const KEY: usize = 16;

impl Holders {
    pub(crate) fn new(holders: Vec<Holder>) -> Self {
        // A heap: sorting a list in place is ten times the code.
        Self(BinaryHeap::from(holders).into_sorted_vec().into())
    }

    /// The holders of a credential, in policy order. The whole digests are compared in constant time.
    pub(crate) fn of<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = &'a Holder> {
        let start = self.0.partition_point(|holder| holder.digest[..KEY] < digest[..KEY]);
        let near = self.0[start..].iter().take_while(|holder| holder.digest[..KEY] == digest[..KEY]);
        near.filter(|holder| holder.digest.ct_eq(digest).into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Without the digests: among them are check hashes.
impl fmt::Debug for Holders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Holders({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_found_by_the_whole_digest_in_policy_order() {
        let digest = |first: u8, last: u8| {
            let mut digest = [0; 32];
            (digest[0], digest[31]) = (first, last);
            digest
        };
        let holder = |digest, client| Holder { digest, client, version: client };
        let holders = Holders::new(vec![
            holder(digest(2, 1), 5),
            holder(digest(1, 0), 1),
            holder(digest(2, 0), 4),
            holder(digest(2, 1), 2),
            holder(digest(3, 0), 3),
        ]);
        let clients = |digest| holders.of(&digest).map(|holder| holder.client).collect::<Vec<_>>();
        assert_eq!(clients(digest(2, 1)), [2, 5]);
        assert_eq!(clients(digest(2, 0)), [4]);
        assert_eq!(clients(digest(1, 0)), [1]);
        for absent in [digest(2, 2), digest(0, 0), digest(4, 0)] {
            assert_eq!(clients(absent), [0_u32; 0]);
        }
        assert!(Holders::default().of(&digest(1, 0)).next().is_none());
        assert!(!format!("{holders:?}").contains('['));
    }
}
