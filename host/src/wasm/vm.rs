//! One VM: an instance of the filter with its two root contexts. Good until the first fault.

use std::cell::RefCell;
use std::rc::Rc;

use wasmtime::{Store, TypedFunc, WasmParams, WasmResults};

use super::clock::Clock;
use super::connection::Connection;
use super::context::{Context, MapType, Root};
use super::deadline::{DECISION, Deadline, START, TICKS, thread_cpu_time};
use super::error::{Fault, StartError};
use super::exports::Exports;
use super::filter::Filter;
use super::headers::HeaderMap;
use super::host::Host;
use super::metrics::Metrics;
use super::stored;
use super::verdict::{HeaderPairs, Outcome, Verdict};

/// Actions of the ABI. Anything else is no permission.
const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

pub(super) struct Vm {
    store: Store<Host>,
    exports: Exports,
}

impl Vm {
    /// Instantiates the filter and configures both root contexts.
    pub(super) fn start(
        filter: &Filter,
        configuration: &Rc<str>,
        clock: Clock,
        metrics: &Rc<RefCell<Metrics>>,
    ) -> Result<Self, StartError> {
        let size = u32::try_from(configuration.len())
            .map_err(|_| StartError::Instantiate("the configuration exceeds 4 GiB".to_owned()))?;
        let host = Host::new(Rc::clone(configuration), clock, Rc::clone(metrics), filter.shared());
        let mut store = Store::new(filter.engine(), host);
        store.limiter(|host| &mut host.limits);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().deadline.look(thread_cpu_time())));
        store.set_epoch_deadline(TICKS);

        let no_vm = |error: wasmtime::Error| StartError::Instantiate(format!("{error:#}"));
        let instance = filter.instance().instantiate(&mut store).map_err(no_vm)?;
        let exports = Exports::find(&instance, &mut store).map_err(no_vm)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        store.data_mut().allocate = exports.allocate.clone();

        let mut vm = Self { store, exports };
        vm.initialize()?;
        for root in Root::ALL {
            vm.configure(root, size)?;
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
        let create = call(store, id, exports.context_create.as_ref(), (id, 0), ());
        create.map_err(|error| self.failed(&error))?;
        let (store, exports) = (&mut self.store, &self.exports);
        match call(store, id, exports.vm_start.as_ref(), (id, 0), 1) {
            Ok(0) => return Err(self.refused("proxy_on_vm_start", root)),
            Ok(_) => {}
            Err(error) => return Err(self.failed(&error)),
        }
        let (store, exports) = (&mut self.store, &self.exports);
        match call(store, id, exports.configure.as_ref(), (id, size), 1) {
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
        let id = self.create(Root::Network, connection)?;
        let (store, exports) = (&mut self.store, &self.exports);
        let mut allow = guarded(store, id, exports.new_connection.as_ref(), id, CONTINUE)? == CONTINUE;
        if !self.context(id)?.closed {
            let (store, exports) = (&mut self.store, &self.exports);
            allow &= guarded(store, id, exports.downstream_data.as_ref(), (id, 0, 0), CONTINUE)? == CONTINUE;
        }
        let context = self.delete(id)?;
        let verdict = Verdict::answered(allow && !context.closed, decision(&context));
        if let Ok(mut state) = connection.filter_state.try_borrow_mut() {
            *state = context.stored;
        }
        Ok(verdict)
    }

    /// A context for one request.
    pub(super) fn open(&mut self, connection: &Rc<Connection>) -> Result<u32, Fault> {
        self.begin();
        self.create(Root::Http, connection)
    }

    /// Shows one header map to the filter.
    pub(super) fn show(
        &mut self,
        id: u32,
        kind: MapType,
        headers: HeaderPairs,
        end_of_stream: bool,
    ) -> Result<(Outcome, Option<String>), Fault> {
        self.begin();
        let count = u32::try_from(headers.len()).map_err(|_| Fault::Trap)?;
        let context = self.context(id)?;
        context.maps[kind as usize] = Some(HeaderMap::new(headers));
        context.resumed = false;

        let (store, exports, end) = (&mut self.store, &self.exports, u32::from(end_of_stream));
        let action = match kind {
            MapType::RequestHeaders => {
                guarded(store, id, exports.request_headers.as_ref(), (id, count, end), CONTINUE)?
            }
            MapType::RequestTrailers => {
                guarded(store, id, exports.request_trailers.as_ref(), (id, count), CONTINUE)?
            }
            MapType::ResponseHeaders => {
                guarded(store, id, exports.response_headers.as_ref(), (id, count, end), CONTINUE)?
            }
            MapType::ResponseTrailers => {
                guarded(store, id, exports.response_trailers.as_ref(), (id, count), CONTINUE)?
            }
        };
        let context = self.context(id)?;
        Ok((outcome(context, kind, action), decision(context)))
    }

    /// Ends a request's context.
    pub(super) fn close(&mut self, id: u32) -> Result<(), Fault> {
        self.begin();
        self.delete(id).map(drop)
    }

    /// How many contexts there are.
    #[cfg(test)]
    pub(super) fn contexts(&self) -> usize {
        self.store.data().contexts.len()
    }

    /// One decision, one budget.
    fn begin(&mut self) {
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

    /// Done, log, delete. Without the last the SDK keeps the context for ever.
    fn delete(&mut self, id: u32) -> Result<Context, Fault> {
        let exports = &self.exports;
        guarded(&mut self.store, id, exports.done.as_ref(), id, 1)?;
        self.context(id)?.logging = true;
        let (store, exports) = (&mut self.store, &self.exports);
        guarded(store, id, exports.log.as_ref(), id, ())?;
        guarded(store, id, exports.delete.as_ref(), id, ())?;
        self.store.data_mut().contexts.close(id).ok_or(Fault::Trap)
    }

    fn context(&mut self, id: u32) -> Result<&mut Context, Fault> {
        self.store.data_mut().contexts.by_id(id).ok_or(Fault::Trap)
    }
}

/// What the filter's answer to one phase means. A reply counts whatever the action beside it; a pause that nobody can
/// end is no permission.
fn outcome(context: &mut Context, kind: MapType, action: u32) -> Outcome {
    if let Some(reply) = context.reply.take() {
        return Outcome::Reply(reply);
    }
    if context.closed {
        return Outcome::Failed("filter-close");
    }
    let goes_on = action == CONTINUE || (action == PAUSE && context.resumed);
    match context.map(kind) {
        // The filter may still ask for this map in a later phase, so it keeps its own.
        Some(map) if goes_on => Outcome::Continue(map.pairs().clone()),
        _ => Outcome::Failed("filter-pause"),
    }
}

fn decision(context: &Context) -> Option<String> {
    String::from_utf8(context.stored.value(stored::DECISION)?.to_vec()).ok()
}

/// As [`call`], for a VM that is up: faults are logged here, where their cause is known.
fn guarded<P: WasmParams, R: WasmResults>(
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
