//! One VM: an instance of the filter with its two root contexts. Good until the first fault.

use std::rc::Rc;

use tokio::sync::Notify;
use wasmtime::{Store, TypedFunc, WasmParams, WasmResults};

use super::connection::Connection;
use super::context::{Context, Root};
use super::deadline::{DECISION, Deadline, START, TICKS, thread_cpu_time};
use super::error::{Fault, StartError};
use super::exports::Exports;
use super::filter::Filter;
use super::host::{Host, Surroundings};
use super::signal::Signal;
use super::stored;
use super::verdict::Verdict;

/// The action of the ABI that is a permission. Anything else is none.
pub(super) const CONTINUE: u32 = 0;

pub(super) struct Vm {
    pub(super) store: Store<Host>,
    pub(super) exports: Exports,
    has_events: bool,
}

/// A request's context.
pub(super) struct Opened {
    pub(super) id: u32,
    /// Rung when its request may go on, where the filter can be called by anything but requests.
    pub(super) bell: Option<Rc<Notify>>,
    pub(super) interest: Interest,
}

/// Which phases of a request a filter has callbacks for, besides those of the request's head and trailers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interest {
    pub(super) request_body: bool,
    pub(super) response_head: bool,
    pub(super) response_body: bool,
}

impl Vm {
    /// Instantiates the filter and configures both root contexts.
    pub(super) fn start(filter: &Filter, surroundings: &Surroundings) -> Result<Self, StartError> {
        let size = u32::try_from(surroundings.configuration.len())
            .map_err(|_| StartError::Instantiate("the configuration exceeds 4 GiB".to_owned()))?;
        let host =
            Host::new(surroundings.clone(), filter.shared(), filter.abi(), filter.roots(), filter.is_both());
        let mut store = Store::new(filter.engine(), host);
        store.limiter(|host| &mut host.limits);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().deadline.look(thread_cpu_time())));
        store.set_epoch_deadline(TICKS);

        let no_vm = |error: wasmtime::Error| StartError::Instantiate(format!("{error:#}"));
        let instance = filter.instance().instantiate(&mut store).map_err(no_vm)?;
        let exports = Exports::find(&instance, &mut store, filter.abi()).map_err(no_vm)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        store.data_mut().allocate = exports.allocate.clone();

        let mut vm = Self { store, exports, has_events: filter.has_events() };
        vm.initialize()?;
        for root in filter.roots() {
            vm.configure(*root, size)?;
        }
        vm.store.data_mut().journal.take();
        Ok(vm)
    }

    fn initialize(&mut self) -> Result<(), StartError> {
        let entry = self.exports.initialize.as_ref().or(self.exports.start.as_ref());
        call(&mut self.store, 0, entry, (), ()).map_err(|error| self.failed(&error))
    }

    fn configure(&mut self, root: Root, size: u32) -> Result<(), StartError> {
        let (store, exports, id) = (&mut self.store, &self.exports, root.id());
        store.data_mut().configuring = true;
        let create = call(store, id, exports.context_create.as_ref(), (id, 0), ());
        create.map_err(|error| self.failed(&error))?;
        let (store, exports) = (&mut self.store, &self.exports);
        store.data_mut().configuring = false;
        match call(store, id, exports.vm_start.as_ref(), (id, 0), 1) {
            Ok(0) => return Err(self.refused("proxy_on_vm_start", root)),
            Ok(_) => {}
            Err(error) => return Err(self.failed(&error)),
        }
        let (store, exports) = (&mut self.store, &self.exports);
        store.data_mut().configuring = true;
        let configured = call(store, id, exports.configure.as_ref(), (id, size), 1);
        store.data_mut().configuring = false;
        match configured {
            Ok(0) => Err(self.refused("proxy_on_configure", root)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn refused(&mut self, callback: &'static str, root: Root) -> StartError {
        StartError::Refused { callback, root: root.name(), log: self.store.data_mut().journal.take() }
    }

    fn failed(&mut self, error: &wasmtime::Error) -> StartError {
        let reason = match Fault::from(error) {
            Fault::Timeout => format!("it used more than {START:?} of CPU time"),
            _ => format!("{error:#}"),
        };
        StartError::Failed { reason, log: self.store.data_mut().journal.take() }
    }

    /// The network gate for one peer, from context to deletion.
    pub(super) fn judge(&mut self, connection: &Rc<Connection>) -> Result<Verdict, Fault> {
        self.begin();
        if !self.store.data().contexts.contains(Root::Network.id()) {
            // An HTTP filter has nothing to say about connections; it judges every request.
            return Ok(Verdict::answered(true, None));
        }
        let id = self.create(Root::Network, connection)?;
        let (store, exports) = (&mut self.store, &self.exports);
        let mut allow = guarded(store, id, exports.new_connection.as_ref(), id, CONTINUE)? == CONTINUE;
        if self.context(id)?.refused().is_none() {
            let (store, exports) = (&mut self.store, &self.exports);
            allow &= guarded(store, id, exports.downstream_data.as_ref(), (id, 0, 0), CONTINUE)? == CONTINUE;
        }
        self.done(id)?;
        self.log(id)?;
        let context = self.delete(id)?;
        let allow = allow && context.refused().is_none();
        let verdict = Verdict::answered(allow, decision(&context));
        if let Ok(mut state) = connection.filter_state.try_borrow_mut() {
            *state = context.stored;
        }
        Ok(verdict)
    }

    /// A context for one request. A network filter has nothing to say about requests; it judged the connection.
    pub(super) fn open(&mut self, connection: &Rc<Connection>) -> Result<Option<Opened>, Fault> {
        self.begin();
        if !self.store.data().contexts.contains(Root::Http.id()) {
            return Ok(None);
        }
        let id = self.create(Root::Http, connection)?;
        let bell = self.has_events.then(|| {
            let signal = Signal::default();
            let bell = signal.bell();
            self.context(id).map(|context| context.signal = Some(signal)).map(|()| bell)
        });
        Ok(Some(Opened { id, bell: bell.transpose()?, interest: self.exports.interest() }))
    }

    /// As [`Vm::open`], for a request that nobody made.
    pub(super) fn open_trial(&mut self, connection: &Rc<Connection>) -> Result<Option<Opened>, Fault> {
        let opened = self.open(connection)?;
        if let Some(Opened { id, .. }) = &opened {
            self.context(*id)?.is_trial = true;
        }
        Ok(opened)
    }

    /// Ends a request's context. Envoy's HTTP filters log first: their access log is written before they are destroyed.
    pub(super) fn close(&mut self, id: u32) -> Result<(), Fault> {
        self.begin();
        self.log(id)?;
        self.done(id)?;
        self.delete(id).map(drop)
    }

    /// How many contexts there are.
    #[cfg(test)]
    pub(super) fn contexts(&self) -> usize {
        self.store.data().contexts.len()
    }

    /// One decision, one budget.
    pub(super) fn begin(&mut self) {
        self.store.data_mut().deadline = Deadline::new(DECISION);
        self.store.set_epoch_deadline(TICKS);
    }

    fn create(&mut self, root: Root, connection: &Rc<Connection>) -> Result<u32, Fault> {
        // A VM that ran out of ids is replaced, like one that trapped.
        let id = self.store.data_mut().contexts.open(root, Rc::clone(connection)).ok_or(Fault::Trap)?;
        let (store, exports) = (&mut self.store, &self.exports);
        guarded(store, id, exports.context_create.as_ref(), (id, root.id()), ())?;
        Ok(id)
    }

    fn done(&mut self, id: u32) -> Result<(), Fault> {
        guarded(&mut self.store, id, self.exports.done.as_ref(), id, 1).map(drop)
    }

    fn log(&mut self, id: u32) -> Result<(), Fault> {
        self.context(id)?.logging = true;
        guarded(&mut self.store, id, self.exports.log.as_ref(), id, ())?;
        self.context(id)?.logging = false;
        Ok(())
    }

    /// Without it the SDK keeps the context for ever.
    fn delete(&mut self, id: u32) -> Result<Context, Fault> {
        guarded(&mut self.store, id, self.exports.delete.as_ref(), id, ())?;
        self.store.data_mut().contexts.close(id).ok_or(Fault::Trap)
    }

    pub(super) fn context(&mut self, id: u32) -> Result<&mut Context, Fault> {
        self.store.data_mut().contexts.by_id(id).ok_or(Fault::Trap)
    }
}

pub(super) fn decision(context: &Context) -> Option<String> {
    String::from_utf8(context.stored.value(stored::DECISION)?.to_vec()).ok()
}

/// As [`call`], for a VM that is up: faults are logged here, where their cause is known.
pub(super) fn guarded<P: WasmParams, R: WasmResults>(
    store: &mut Store<Host>,
    context: u32,
    callback: Option<&TypedFunc<P, R>>,
    parameters: P,
    absent: R,
) -> Result<R, Fault> {
    call(store, context, callback, parameters, absent).map_err(|error| {
        let fault = Fault::from(&error);
        tracing::error!(target: "filter", context, "{}: {error:#}", fault.reason());
        fault
    })
}

fn call<P: WasmParams, R: WasmResults>(
    store: &mut Store<Host>,
    context: u32,
    callback: Option<&TypedFunc<P, R>>,
    parameters: P,
    absent: R,
) -> wasmtime::Result<R> {
    let Some(callback) = callback else { return Ok(absent) };
    store.data_mut().contexts.enter(context);
    callback.call(&mut *store, parameters)
}
