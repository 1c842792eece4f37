//! Connections whose client is not admitted yet. They have a share of their own, and a crowd of them loses its oldest one for
//! each that comes: the handshake of an honest client takes milliseconds, so it is not the oldest one for long.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::{Limit, Usage, lock};

/// Where connections come from: an address of IPv4, or a network of IPv6 (/64), which is what one subscriber has.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(Ipv6Addr::from(network).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// All of a process.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    sources: HashMap<Source, BTreeMap<u64, oneshot::Sender<Limit>>>,
    /// The same by number of connections; of equal ones the source with the oldest connection is last.
    crowds: BTreeSet<(usize, Reverse<u64>, Source)>,
    count: usize,
    /// Numbers connections in the order they came.
    next: u64,
    limit: u32,
    per_source: u32,
    evicted: [u64; 2],
}

/// A place among those that wait, until it is dropped.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Mutex<Waiting>>,
    source: Source,
    number: u64,
    evicted: Option<oneshot::Receiver<Limit>>,
    /// Whether another one lost its place for this.
    pub has_evicted: bool,
}

impl Place {
    /// Waits until the connection is to close, because a newer one needs its place: for ever, once this is dropped. To be called
    /// once.
    pub fn evicted(&mut self) -> impl Future<Output = Limit> + use<> {
        let evicted = self.evicted.take();
        async move {
            let told = match evicted {
                Some(evicted) => evicted.await.ok(),
                None => None,
            };
            match told {
                Some(limit) => limit,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.waiting).leave(self.source, self.number);
    }
}

impl Waiting {
    pub(super) fn set(&mut self, limit: u32, per_source: u32) {
        (self.limit, self.per_source) = (limit, per_source);
    }

    pub(super) fn enter(waiting: &Arc<Mutex<Self>>, source: Source) -> Place {
        let mut state = lock(waiting);
        state.next += 1;
        let number = state.next;
        let (tell, evicted) = oneshot::channel();
        state.change(source, |own| drop(own.insert(number, tell)));
        let has_evicted = state.make_room(source);
        Place { waiting: Arc::clone(waiting), source, number, evicted: Some(evicted), has_evicted }
    }

    fn leave(&mut self, source: Source, number: u64) {
        self.change(source, |own| drop(own.remove(&number)));
    }

    /// Tells the oldest connection of the largest crowd to close, if there are too many.
    fn make_room(&mut self, newest: Source) -> bool {
        let own = self.sources.get(&newest).map_or(0, BTreeMap::len);
        let (victim, limit) = if own > self.per_source as usize {
            (Some(newest), Limit::HandshakesPerSource)
        } else if self.count > self.limit as usize {
            (self.crowds.last().map(|(_, _, source)| *source), Limit::Handshakes)
        } else {
            return false;
        };
        let Some(victim) = victim else { return false };
        self.change(victim, |own| {
            if let Some((_, tell)) = own.pop_first() {
                // It may have ended in this moment.
                let _ = tell.send(limit);
            }
        });
        self.evicted[usize::from(limit == Limit::HandshakesPerSource)] += 1;
        true
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut BTreeMap<u64, oneshot::Sender<Limit>>)) {
        let own = self.sources.entry(source).or_default();
        if let Some((oldest, _)) = own.first_key_value() {
            self.crowds.remove(&(own.len(), Reverse(*oldest), source));
        }
        self.count -= own.len();
        change(own);
        self.count += own.len();
        match own.first_key_value() {
            Some((oldest, _)) => drop(self.crowds.insert((own.len(), Reverse(*oldest), source))),
            None => drop(self.sources.remove(&source)),
        }
    }

    pub(super) fn usage(&self) -> [(Limit, Usage); 2] {
        let used = u32::try_from(self.count).ok();
        let [in_all, of_one] = self.evicted;
        let all = Usage { limit: Some(self.limit), used, refused: in_all };
        let one = Usage { limit: Some(self.per_source), used: None, refused: of_one };
        [(Limit::Handshakes, all), (Limit::HandshakesPerSource, one)]
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    fn waiting(limit: u32, per_source: u32) -> Arc<Mutex<Waiting>> {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        lock(&waiting).set(limit, per_source);
        waiting
    }

    fn is_evicted(place: &mut Place) -> bool {
        let evicted = pin!(place.evicted());
        evicted.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_of_the_largest_crowd_makes_room() {
        let waiting = waiting(4, 4);
        let mut honest = Waiting::enter(&waiting, source(1));
        let mut crowd: Vec<_> = (0..3).map(|_| Waiting::enter(&waiting, source(2))).collect();
        let mut late = Waiting::enter(&waiting, source(3));
        assert!(late.has_evicted);
        assert!(is_evicted(&mut crowd[0]));
        assert!(![&mut honest, &mut late].into_iter().any(is_evicted));
        assert_eq!(lock(&waiting).usage()[0].1, Usage { limit: Some(4), used: Some(4), refused: 1 });
    }

    #[test]
    fn of_many_sources_the_oldest_connection_makes_room() {
        let waiting = waiting(3, 3);
        let mut places: Vec<_> = (0..5).map(|last| Waiting::enter(&waiting, source(last))).collect();
        let evicted: Vec<_> = places.iter_mut().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
    }

    #[test]
    fn a_source_has_a_limit_of_its_own() {
        let waiting = waiting(100, 2);
        let mut other = Waiting::enter(&waiting, source(1));
        let mut places: Vec<_> = (0..3).map(|_| Waiting::enter(&waiting, source(2))).collect();
        assert!(is_evicted(&mut places[0]));
        assert!(!is_evicted(&mut other));
        assert_eq!(lock(&waiting).usage()[1].1.refused, 1);
    }

    #[test]
    fn who_has_left_takes_no_place_and_is_not_remembered() {
        let waiting = waiting(2, 2);
        for last in 0..100 {
            drop(Waiting::enter(&waiting, source(last)));
        }
        let state = lock(&waiting);
        assert_eq!((state.count, state.sources.len(), state.crowds.len()), (0, 0, 0));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
