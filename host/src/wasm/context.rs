//! Contexts: what a filter's identifiers stand for.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::connection::Connection;
use super::headers::HeaderMap;
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
    /// Maps of gRPC and HTTP calls, which this host does not make, are never there.
    pub(super) fn from_abi(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            _ => return None,
        })
    }
}

/// The two root contexts of every VM, and which kind of context they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// Answers as a network filter.
    Network,
    /// Answers as an HTTP filter.
    Http,
}

impl Root {
    pub(super) const ALL: [Self; 2] = [Self::Network, Self::Http];

    /// The root's own context id.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Http => 2,
        }
    }

    /// `plugin_root_id`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Network => "peergate_l4",
            Self::Http => "peergate_http",
        }
    }
}

/// What a filter may ask about or do to one connection, one request, or itself.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) root: Root,
    /// `None` for the root contexts themselves.
    pub(super) connection: Option<Rc<Connection>>,
    pub(super) maps: [Option<HeaderMap>; 4],
    pub(super) stored: Stored,
    pub(super) reply: Option<LocalReply>,
    pub(super) closed: bool,
    pub(super) resumed: bool,
    /// The exchange is over and `proxy_on_log` runs: maps that never came are empty instead of an error.
    pub(super) logging: bool,
}

impl Context {
    pub(super) fn new(root: Root, connection: Option<Rc<Connection>>) -> Self {
        Self {
            root,
            connection,
            maps: [const { None }; 4],
            stored: Stored::default(),
            reply: None,
            closed: false,
            resumed: false,
            logging: false,
        }
    }

    /// Whether this is a request's context.
    pub(super) fn is_http(&self) -> bool {
        self.root == Root::Http && self.connection.is_some()
    }

    pub(super) fn map(&self, kind: MapType) -> Option<&HeaderMap> {
        self.maps[kind as usize].as_ref()
    }
}

/// All contexts of a VM, and the one that host functions act on.
#[derive(Debug)]
pub(super) struct Contexts {
    all: BTreeMap<u32, Context>,
    effective: u32,
    next: u32,
}

impl Contexts {
    /// The root contexts alone.
    pub(super) fn new() -> Self {
        let all = Root::ALL.map(|root| (root.id(), Context::new(root, None))).into();
        Self { all, effective: 0, next: Root::ALL.len() as u32 + 1 }
    }

    /// Adds a context under an id never used before in this VM; `None` when there are no more.
    pub(super) fn open(&mut self, root: Root, connection: Rc<Connection>) -> Option<u32> {
        let id = self.next;
        self.next = id.checked_add(1)?;
        self.all.insert(id, Context::new(root, Some(connection)));
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
}
