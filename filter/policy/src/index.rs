//! Ordered maps. Each combination of key and value is some 3 kB of code in `filter.wasm`, so there are two: from text and
//! from digest to a number. Other values stand in a list, by that number.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BinaryHeap};

use crate::identity::Digest;

/// Numbers by text.
pub(crate) type Texts = BTreeMap<Box<str>, u32>;

/// Values by text.
pub(crate) type TextIndex<T> = Index<Box<str>, T>;

/// Values by digest.
pub type DigestIndex<T> = Index<Digest, T>;

/// Values by key. A tree, not a hash table: keys are chosen by peers, and none may be slow.
#[derive(Clone, Debug)]
pub struct Index<K, T> {
    places: BTreeMap<K, u32>,
    values: Vec<T>,
}

impl<K, T> Default for Index<K, T> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), values: Vec::new() }
    }
}

impl<K: Ord, T> Index<K, T> {
    /// The value of that key.
    pub fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
    {
        self.place(key).map(|place| self.at(place))
    }

    /// The place of that key.
    pub fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.places.get(key).copied()
    }

    /// The value at a place.
    ///
    /// # Panics
    /// It is of another index.
    pub fn at(&self, place: u32) -> &T {
        &self.values[place as usize]
    }

    /// The value of that key, made by `new` if there is none.
    ///
    /// # Panics
    /// There are 2^32 values.
    pub fn entry(&mut self, key: K, new: impl FnOnce() -> T) -> &mut T {
        let next = u32::try_from(self.values.len()).expect("memory is smaller");
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.values.push(new());
        }
        &mut self.values[place as usize]
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// In order, and each once. A heap: sorting a list in place is ten times the code.
pub(crate) fn sorted(numbers: Vec<u32>) -> Vec<u32> {
    let mut sorted = BinaryHeap::from(numbers).into_sorted_vec();
    sorted.dedup();
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_value() {
        let mut index = TextIndex::<Vec<u8>>::default();
        assert!(index.is_empty());
        for (key, value) in [("b", 1), ("a", 2), ("b", 3)] {
            index.entry(key.into(), Vec::new).push(value);
        }
        assert_eq!(index.len(), 2);
        assert_eq!((index.find("a"), index.find("b")), (Some(&vec![2]), Some(&vec![1, 3])));
        assert_eq!(index.find("c"), None);
    }

    #[test]
    fn numbers_are_sorted_and_told_once() {
        assert_eq!(sorted(vec![3, 1, 3, 2, 1]), [1, 2, 3]);
        assert_eq!(sorted(Vec::new()), [0_u32; 0]);
    }
}
