//! The open connections of the admin port: a crowd of idle ones must not keep a health check out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Seats(RefCell<Vec<Rc<Seat>>>);

/// One connection.
#[derive(Debug)]
pub(super) struct Seat {
    /// When it was accepted, or got its last answer.
    since: Cell<Instant>,
    answering: Cell<bool>,
    given_away: Notify,
}

impl Seats {
    /// Takes a new connection. Where there are `limit`, the one that is idle longest is told to close; if all are being
    /// answered, the oldest one.
    pub(super) fn enter(&self, limit: usize) -> Rc<Seat> {
        let mut seats = self.0.borrow_mut();
        if seats.len() >= limit {
            let longest = (0..seats.len()).min_by_key(|index| {
                let seat = &seats[*index];
                (seat.answering.get(), seat.since.get())
            });
            if let Some(index) = longest {
                seats.swap_remove(index).given_away.notify_one();
            }
        }
        let seat =
            Seat { since: Instant::now().into(), answering: Cell::default(), given_away: Notify::new() };
        let seat = Rc::new(seat);
        seats.push(Rc::clone(&seat));
        seat
    }

    pub(super) fn leave(&self, seat: &Rc<Seat>) {
        self.0.borrow_mut().retain(|it| !Rc::ptr_eq(it, seat));
    }
}

impl Seat {
    /// Waits until a newer connection needs its place.
    pub(super) async fn given_away(&self) {
        self.given_away.notified().await;
    }

    /// A request is being answered, or no longer.
    pub(super) fn answers(&self, answering: bool) {
        self.answering.set(answering);
        self.since.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_given_away(seat: &Seat) -> bool {
        pin!(seat.given_away()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_idle_connection_makes_room() {
        let seats = Seats::default();
        let (first, second, third) = (seats.enter(3), seats.enter(3), seats.enter(3));
        first.answers(true);
        let fourth = seats.enter(3);
        assert!(is_given_away(&second));
        assert!(![&first, &third, &fourth].into_iter().any(|seat| is_given_away(seat)));
        seats.leave(&third);
        let fifth = seats.enter(3);
        assert!(![&first, &fourth, &fifth].into_iter().any(|seat| is_given_away(seat)));
    }

    #[test]
    fn where_all_are_being_answered_the_oldest_makes_room() {
        let seats = Seats::default();
        let all = [seats.enter(2), seats.enter(2)];
        all.iter().for_each(|seat| seat.answers(true));
        seats.enter(2);
        assert!(is_given_away(&all[0]) && !is_given_away(&all[1]));
    }
}
