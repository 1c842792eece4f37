//! A listener in one worker: its endpoints with their VMs, and the connections to its service.

use std::rc::Rc;
use std::sync::Arc;

use super::generation::{self, Listener};
use super::upstream::Upstream;
use crate::config::Protocol;
use crate::tls::Terms;
use crate::wasm::{Filter, StartError, Worker};

/// One generation of one listener in one worker.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) upstream: Rc<Upstream>,
    endpoints: Vec<Rc<Endpoint>>,
}

/// Who may come in, and the VM that says so.
#[derive(Debug)]
pub(super) struct Endpoint {
    names: Vec<String>,
    pub(super) terms: Terms,
    pub(super) worker: Rc<Worker>,
    filter: Filter,
    configuration: Arc<str>,
}

impl Site {
    /// Starts the VMs that are not there yet: an endpoint of `known` with the same filter and configuration has one that
    /// goes on, with all it has learnt.
    ///
    /// # Errors
    /// A VM that does not start.
    pub(super) fn start(listener: &Listener, known: &[Rc<Endpoint>]) -> Result<Rc<Self>, StartError> {
        let mut endpoints: Vec<Rc<Endpoint>> = Vec::new();
        for endpoint in &listener.endpoints {
            let started = Endpoint::start(endpoint, known.iter().chain(&endpoints))?;
            endpoints.push(Rc::new(started));
        }
        Ok(Rc::new(Self {
            name: Arc::clone(&listener.name),
            protocol: listener.protocol,
            upstream: Upstream::new(listener.upstream.clone()),
            endpoints,
        }))
    }

    /// As [`Site::start`], in place of `before`, whose upstream connections stay if they lead to the same place.
    pub(super) fn succeed(
        listener: &Listener,
        before: &Self,
        known: &[Rc<Endpoint>],
    ) -> Result<Rc<Self>, StartError> {
        let mut site = Self::start(listener, known)?;
        if before.upstream.is_to(&listener.upstream)
            && let Some(site) = Rc::get_mut(&mut site)
        {
            site.upstream = Rc::clone(&before.upstream);
        }
        Ok(site)
    }

    pub(super) fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint for the name a client asked for (SNI, RFC 6066 section 3). With one endpoint any name will do, and
    /// none.
    pub(super) fn endpoint(&self, server_name: Option<&str>) -> Option<&Rc<Endpoint>> {
        if let [only] = self.endpoints.as_slice() {
            return Some(only);
        }
        let asked = server_name?;
        let asked = asked.strip_suffix('.').unwrap_or(asked);
        let is_asked = |name: &String| name.eq_ignore_ascii_case(asked);
        self.endpoints.iter().find(|endpoint| endpoint.names.iter().any(is_asked))
    }
}

impl Endpoint {
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn start<'a>(
        endpoint: &generation::Endpoint,
        mut known: impl Iterator<Item = &'a Rc<Self>>,
    ) -> Result<Self, StartError> {
        let generation::Endpoint { names, terms, filter, configuration, .. } = endpoint.clone();
        let same = known.find(|it| it.filter.is(&filter) && it.configuration == configuration);
        let worker = match same {
            Some(known) => Rc::clone(&known.worker),
            None => Rc::new(Worker::start(&filter, &configuration)?),
        };
        Ok(Self { names, terms, worker, filter, configuration })
    }
}
