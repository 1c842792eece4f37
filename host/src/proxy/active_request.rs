//! A request that is being answered: it can be judged again, and ended.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use peergate_policy::UnixTime;
use tokio::time::Instant;

use super::body::SharedStream;
use super::headers::RequestHead;
use super::roster::Member;
use crate::capacity::Permit;
use crate::wasm::{Direction, LocalReply};

/// One request from the filter's "continue" to the end of both bodies, which hold it.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    /// As the filter was shown it, secrets included.
    pub(super) head: RequestHead,
    pub(super) stream: SharedStream,
    pub(super) since: Instant,
    /// Once somebody asked; a newer policy may say otherwise of the same token.
    token_end: Cell<Option<Option<UnixTime>>>,
    is_refused: Cell<bool>,
    ended: RefCell<Option<Ended>>,
    wakers: RefCell<[Option<Waker>; 2]>,
    permit: OnceCell<Permit>,
    requests: Weak<Member>,
}

/// How a request is to be answered that ends before its time; what is answered already breaks off.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// By 403, without the filter's words.
    Forbidden,
    /// As the filter says.
    Reply(LocalReply),
}

impl ActiveRequest {
    /// Enters it in the list of its connection, until it is dropped.
    pub(super) fn enter(member: &Rc<Member>, head: RequestHead, stream: SharedStream) -> Rc<Self> {
        let request = Rc::new(Self {
            head,
            stream,
            since: Instant::now(),
            token_end: Cell::new(None),
            is_refused: Cell::new(false),
            ended: RefCell::default(),
            wakers: RefCell::default(),
            permit: OnceCell::new(),
            requests: Rc::downgrade(member),
        });
        member.requests.borrow_mut().push(Rc::downgrade(&request));
        request
    }

    /// It counts as a request under way until it is dropped.
    pub(super) fn counts(&self, permit: Permit) {
        // A second one would be for the same request, and is given back.
        let _ = self.permit.set(permit);
    }

    /// Its answer was given up before it was complete.
    pub(super) fn cancelled(&self) {
        if let Some(permit) = self.permit.get() {
            permit.cancelled();
        }
    }

    /// When the token ends that it was admitted by, as the decision says; a token without end is none.
    pub(super) fn token_end(&self) -> Option<UnixTime> {
        self.token_end.get().unwrap_or_else(|| self.admitted_by(self.stream.decision()))
    }

    /// Notes what the decision says that admits it from now on.
    pub(super) fn admitted_by(&self, decision: Option<String>) -> Option<UnixTime> {
        let end = decision.and_then(|decision| token_end(&decision));
        self.token_end.set(Some(end));
        end
    }

    /// Whether nobody refused it before; from now on somebody has.
    pub(super) fn is_first_refusal(&self) -> bool {
        !self.is_refused.replace(true)
    }

    /// Ends it: who waits for its answer gets `how`, and its bodies break off.
    pub(super) fn end(&self, how: Ended) {
        self.ended.borrow_mut().get_or_insert(how);
        let wakers = self.wakers.take();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// How it is to end, if it is.
    pub(super) fn how_it_ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// Ready once it is to end. One task for each direction may wait.
    pub(super) fn poll_ended(&self, side: Direction, context: &Context<'_>) -> Poll<Ended> {
        if let Some(how) = self.how_it_ended() {
            return Poll::Ready(how);
        }
        let waker = &mut self.wakers.borrow_mut()[usize::from(side == Direction::Response)];
        match waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits until it is to end before its answer has begun.
    pub(super) async fn ended(&self) -> Ended {
        poll_fn(|context| self.poll_ended(Direction::Response, context)).await
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if let Some(member) = self.requests.upgrade() {
            let own: *const Self = self;
            member.requests.borrow_mut().retain(|it| it.as_ptr() != own);
        }
    }
}

/// `client.token.expiration` of a decision.
fn token_end(decision: &str) -> Option<UnixTime> {
    let decision: serde_json::Value = serde_json::from_str(decision).ok()?;
    decision.pointer("/client/token/expiration")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_when_the_token_ends() {
        let decision = |expiration: &str| {
            format!(
                r#"{{"decision":"allow","client":{{"ids":["c"],"token":{{"id":"t","expiration":"{expiration}"}}}}}}"#
            )
        };
        assert_eq!(token_end(&decision("1970-01-01T00:01:00Z")), Some(UnixTime::from_seconds(60)));
        assert_eq!(token_end(&decision("<none>")), None);
        for other in [r#"{"decision":"allow","matched":["x"]}"#, "none", ""] {
            assert_eq!(token_end(other), None);
        }
    }
}
