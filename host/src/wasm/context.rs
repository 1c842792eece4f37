//! Contexts: what a filter's identifiers stand for.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::account::{Account, Share};
use super::connection::Connection;
use super::headers::HeaderMap;
use super::signal::Signal;
use super::status::Status;
use super::stored::Stored;
use super::verdict::LocalReply;

/// One of the four maps of an HTTP exchange, numbered as in the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapType {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    ResponseTrailers = 3,
}

impl MapType {
    /// The maps of calls are not a stream's; [`super::callout`] has them.
    pub(super) fn from_abi(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            _ => return None,
        })
    }

    pub(super) fn side(self) -> Side {
        match self {
            Self::RequestHeaders | Self::RequestTrailers => Side::Request,
            Self::ResponseHeaders | Self::ResponseTrailers => Side::Response,
        }
    }
}

/// One direction of an HTTP exchange, numbered as the ABI's stream and buffer types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request = 0,
    Response = 1,
}

impl Side {
    pub(super) fn from_abi(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Request),
            1 => Some(Self::Response),
            _ => None,
        }
    }

    pub(super) fn trailers(self) -> MapType {
        match self {
            Self::Request => MapType::RequestTrailers,
            Self::Response => MapType::ResponseTrailers,
        }
    }
}

/// How one direction of an exchange stands.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The filter said "go on" (`proxy_continue_stream`) since the last callback of this direction began.
    pub(super) resumed: bool,
    /// The bytes the filter may look at: the last chunk, behind all that was held back before.
    pub(super) body: Vec<u8>,
    /// Whether it may: during a body's callback, and while it holds the body back.
    pub(super) body_shown: bool,
    /// The chunk shown is the last one and no trailers follow, so the filter may add some.
    pub(super) ends: bool,
}

/// The root contexts of a VM, and which kind of context they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Answers as a network filter.
    Network,
    /// Answers as an HTTP filter.
    Http,
}

impl Root {
    /// The root's own context id.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Http => 2,
        }
    }

    /// The name under which a filter that is both learns which root this is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Network => "peergate_l4",
            Self::Http => "peergate_http",
        }
    }
}

/// The reason of a stream that the filter closed.
pub(super) const CLOSED: &str = "filter-close";

/// The reason of a stream that the filter tried to refuse and could not.
const REFUSAL_FAILED: &str = "filter-refusal-failed";

/// What a filter may ask about or do to one connection, one request, or itself.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) root: Root,
    /// `None` for the root contexts themselves.
    pub(super) connection: Option<Rc<Connection>>,
    /// Every map the filter has seen: properties and `proxy_on_log` read them to the end.
    pub(super) maps: [Option<HeaderMap>; 4],
    /// Which of them it may read and change now: during their callback, and while it pauses there.
    pub(super) shown: [bool; 4],
    pub(super) flows: [Flow; 2],
    pub(super) stored: Stored,
    pub(super) reply: Option<LocalReply>,
    pub(super) closed: bool,
    /// The filter tried to refuse, and could not say how: it does not admit whatever it does next.
    pub(super) refusal_failed: bool,
    /// What the filter added to the maps and bodies, and its reply.
    share: Share,
    /// Of a request that nobody made: it leaves neither numbers nor lines.
    pub(super) is_trial: bool,
    /// The exchange is over and `proxy_on_log` runs: maps that never came are empty instead of an error.
    pub(super) logging: bool,
    /// Rung when something about this context changes outside of its own callbacks, and when it ends.
    pub(super) signal: Option<Signal>,
}

impl Context {
    fn new(root: Root, connection: Option<Rc<Connection>>, account: &Account) -> Self {
        Self {
            root,
            connection,
            maps: [const { None }; 4],
            shown: [false; 4],
            flows: Default::default(),
            stored: Stored::default(),
            reply: None,
            closed: false,
            refusal_failed: false,
            share: account.share(),
            is_trial: false,
            logging: false,
            signal: None,
        }
    }

    /// Counts what the filter made the host keep here, after a change.
    pub(super) fn settle(&mut self) {
        let maps: usize = self.maps.iter().flatten().map(HeaderMap::added).sum();
        let bodies: usize = self.flows.iter().map(|flow| flow.body.len()).sum();
        let reply = self.reply.as_ref().map_or(0, LocalReply::bytes);
        self.share.set(maps + bodies + reply);
    }

    /// Refuses what would be more than the host keeps for a filter.
    pub(super) fn room_for(&self, bytes: usize) -> Result<(), Status> {
        self.share.account().room_for(bytes)
    }

    /// Stores a property.
    pub(super) fn store(&mut self, key: &[u8], value: &[u8]) -> Result<(), Status> {
        self.stored.insert(key, value, self.share.account())
    }

    /// Whether this is a request's context.
    pub(super) fn is_http(&self) -> bool {
        self.root == Root::Http && self.connection.is_some()
    }

    pub(super) fn map(&self, kind: MapType) -> Option<&HeaderMap> {
        self.maps[kind as usize].as_ref()
    }

    /// A map as the filter may see it now.
    pub(super) fn shown_map(&self, kind: MapType) -> Option<&HeaderMap> {
        (self.logging || self.shown[kind as usize]).then(|| self.map(kind)).flatten()
    }

    pub(super) fn flow(&mut self, side: Side) -> &mut Flow {
        &mut self.flows[side as usize]
    }

    /// `proxy_continue_stream`. As in Envoy, whichever direction goes on, the request is out of the filter's hands.
    pub(super) fn resume(&mut self, side: Side) {
        self.flow(side).resumed = true;
        self.shown[MapType::RequestHeaders as usize] = false;
        self.shown[MapType::RequestTrailers as usize] = false;
        self.flow(Side::Request).body_shown = false;
        self.ring();
    }

    /// `proxy_close_stream`.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.ring();
    }

    /// A refusal of the filter that is none: a reply that makes no message, or a stream that does not exist. The filter may not see
    /// the status, or ignore it, and go on; Envoy would have sent what it was given.
    pub(super) fn fail_refusal(&mut self) {
        if self.connection.is_some() {
            self.refusal_failed = true;
            self.ring();
        }
    }

    /// Why the filter refuses without a reply, if it does.
    pub(super) fn refused(&self) -> Option<&'static str> {
        match (self.closed, self.refusal_failed) {
            (true, _) => Some(CLOSED),
            (false, true) => Some(REFUSAL_FAILED),
            (false, false) => None,
        }
    }

    /// Wakes whoever waits for this context.
    pub(super) fn ring(&self) {
        if let Some(signal) = &self.signal {
            signal.ring();
        }
    }
}

/// All contexts of a VM, and the one that host functions act on.
#[derive(Debug)]
pub(super) struct Contexts {
    all: BTreeMap<u32, Context>,
    effective: u32,
    next: u32,
    account: Account,
}

impl Contexts {
    /// The root contexts alone.
    pub(super) fn new(roots: &[Root], account: &Account) -> Self {
        let all = roots.iter().map(|root| (root.id(), Context::new(*root, None, account))).collect();
        Self { all, effective: 0, next: Root::Http.id() + 1, account: account.clone() }
    }

    /// Adds a context under an id never used before in this VM; `None` when there are no more.
    pub(super) fn open(&mut self, root: Root, connection: Rc<Connection>) -> Option<u32> {
        let id = self.next;
        self.next = id.checked_add(1)?;
        self.all.insert(id, Context::new(root, Some(connection), &self.account));
        Some(id)
    }

    pub(super) fn close(&mut self, id: u32) -> Option<Context> {
        self.all.remove(&id)
    }

    /// Makes `id` the context that host functions act on.
    pub(super) fn enter(&mut self, id: u32) {
        self.effective = id;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.all.contains_key(&id)
    }

    pub(super) fn by_id(&mut self, id: u32) -> Option<&mut Context> {
        self.all.get_mut(&id)
    }

    pub(super) fn current(&self) -> Option<&Context> {
        self.all.get(&self.effective)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Context> {
        self.all.get_mut(&self.effective)
    }

    /// Wakes all that wait: nothing is left that could end a pause.
    pub(super) fn ring_all(&self) {
        self.all.values().for_each(Context::ring);
    }
}
