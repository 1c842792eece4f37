//! The functions a proxy calls (proxy-wasm ABI 0.2.1). Numbers in, numbers out; all meaning is in [`crate::context`].

use std::cell::RefCell;
use std::rc::Rc;

use crate::context::{self, Action, Peer, Root};
use crate::envoy::{self, Level};
use crate::gate::Gate;

thread_local! {
    /// A wasm module has one thread. The proxy names contexts by number and never uses a number twice.
    static CONTEXTS: RefCell<Contexts> = const { RefCell::new(Contexts(Vec::new())) };
}

/// Sorted by number. Proxies count upwards, so a new one is the last.
struct Contexts(Vec<(u32, Context)>);

impl Contexts {
    fn place(&self, id: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(known, _)| *known)
    }

    fn find(&mut self, id: u32) -> Option<&mut Context> {
        let place = self.place(id).ok()?;
        Some(&mut self.0[place].1)
    }

    fn insert(&mut self, id: u32, context: Context) {
        match self.place(id) {
            Ok(place) => self.0[place].1 = context,
            Err(place) => self.0.insert(place, (id, context)),
        }
    }

    fn end(&mut self, id: u32) {
        if let Some(Context::Peer(peer)) = self.find(id) {
            peer.on_done();
        }
    }

    fn remove(&mut self, id: u32) {
        if let Ok(place) = self.place(id) {
            self.0.remove(place);
        }
    }

    fn gates(&self) -> impl Iterator<Item = Rc<Gate>> {
        self.0.iter().filter_map(|(_, context)| context.gate())
    }
}

enum Context {
    Root(Root),
    /// A request or a connection.
    Peer(Peer),
}

impl Context {
    fn gate(&self) -> Option<Rc<Gate>> {
        match self {
            Self::Root(root) => root.gate(),
            Self::Peer(_) => None,
        }
    }
}

const ACCEPTED: u32 = 1;
const REFUSED: u32 = 0;

/// The ABI version is the name of this function.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Says to our own host that this module is a network filter and an HTTP filter, for its roots `peergate_l4` and
/// `peergate_http`. Callbacks alone do not say it: most SDKs export them all. Other proxies are told by configuration.
#[unsafe(no_mangle)]
extern "C" fn peergate_filters_connections_and_requests() {}

/// Says to our own host that this module enforces the rules of the policy that it is given. The host runs other filters only with
/// policies that have none.
#[unsafe(no_mangle)]
extern "C" fn peergate_enforces_policy() {}

/// Called once before anything else.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // A panic ends the VM, and the proxy refuses what was under way. Say where it was; not what was in hand.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        envoy::log(Level::Error, &format!("peergate: panic at {place}"));
    }));
}

/// Memory for the proxy to write an answer into; [`crate::envoy`] takes it over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
    CONTEXTS.with_borrow_mut(|contexts| {
        let context = if parent == 0 {
            Context::Root(Root::default())
        } else {
            // INVARIANT: no context without a configuration. A proxy that asks for one is stopped here, and denies.
            let gate =
                contexts.find(parent).and_then(|it| it.gate()).expect("a root context is configured first");
            // What was not asked once will not be asked again: stopped here, it is refused.
            assert!(!gate.was_bypassed(), "the proxy asks for decisions");
            Context::Peer(Peer::new(gate))
        };
        contexts.insert(id, context);
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_root: u32, _size: usize) -> u32 {
    ACCEPTED
}

/// [`REFUSED`] makes Envoy refuse to start, or keep the listener it has.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, _size: usize) -> u32 {
    CONTEXTS.with_borrow_mut(|contexts| {
        let gate = context::configured(contexts.gates());
        match (contexts.find(root), gate) {
            (Some(Context::Root(root)), Ok(gate)) => {
                root.configure(gate);
                ACCEPTED
            }
            (_, Err(message)) => {
                envoy::log(Level::Error, &format!("peergate: configuration refused: {message}"));
                REFUSED
            }
            (Some(Context::Peer(_)) | None, Ok(_)) => REFUSED,
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _count: u32, _end_of_stream: u32) -> u32 {
    with(id, Peer::on_request_headers)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(id: u32, _count: u32) -> u32 {
    with(id, Peer::on_request_trailers)
}

/// The handshake has not happened yet: nothing to decide, and nothing may be read (see [`crate::peer`]).
#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(_id: u32) -> u32 {
    Action::Continue as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(id: u32, _size: usize, _end_of_stream: u32) -> u32 {
    with(id, Peer::on_data)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(id: u32, _size: usize, _end_of_stream: u32) -> u32 {
    with(id, Peer::on_data)
}

/// The proxy calls its own access logs after those of its filters.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(id: u32) {
    CONTEXTS.with_borrow_mut(|contexts| {
        if let Some(Context::Peer(peer)) = contexts.find(id) {
            peer.on_log();
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> u32 {
    CONTEXTS.with_borrow_mut(|contexts| contexts.end(id));
    ACCEPTED
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    CONTEXTS.with_borrow_mut(|contexts| {
        // A capability restriction may have left out `proxy_on_done`.
        contexts.end(id);
        contexts.remove(id);
    });
}

fn with(id: u32, callback: impl FnOnce(&mut Peer) -> Action) -> u32 {
    CONTEXTS.with_borrow_mut(|contexts| match contexts.find(id) {
        Some(Context::Peer(peer)) => callback(peer) as u32,
        // A trap, which every proxy turns into a refusal: nobody else can be meant.
        Some(Context::Root(_)) | None => panic!("the proxy created no such context"),
    })
}
