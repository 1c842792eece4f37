//! A listener in one worker: its endpoints with their VMs, and the connections to its service.

use std::rc::Rc;
use std::sync::Arc;

use super::generation::{self, Direction, Listener};
use super::upstream::Upstream;
use crate::capacity::Capacity;
use crate::config::Protocol;
use crate::tls::Terms;
use crate::wasm::{Clock, Clusters, Filter, StartError, Worker};

/// One generation of one listener in one worker.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: Arc<str>,
    pub(super) direction: Direction,
    pub(super) protocol: Protocol,
    pub(super) upstream: Rc<Upstream>,
    pub(super) admin_path: Option<Arc<str>>,
    pub(super) websocket: bool,
    endpoints: Vec<Rc<Endpoint>>,
}

/// Who may come in, and the VM that says so.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) kind: peergate_policy::Endpoint,
    names: Vec<String>,
    pub(super) terms: Terms,
    pub(super) plaintext: bool,
    pub(super) worker: Rc<Worker>,
    filter: Filter,
    configuration: Arc<str>,
    clusters: Arc<Clusters>,
}

impl Site {
    /// Starts the VMs that are not there yet: an endpoint of `known` with the same filter and configuration has one that
    /// goes on, with all it has learnt.
    ///
    /// # Errors
    /// A VM that does not start.
    pub(super) fn start(
        listener: &Listener,
        known: &[Rc<Endpoint>],
        capacity: &Arc<Capacity>,
    ) -> Result<Rc<Self>, StartError> {
        let mut endpoints: Vec<Rc<Endpoint>> = Vec::new();
        for endpoint in &listener.endpoints {
            let started = Endpoint::start(endpoint, known.iter().chain(&endpoints))?;
            endpoints.push(Rc::new(started));
        }
        Ok(Rc::new(Self {
            name: Arc::clone(&listener.name),
            direction: listener.direction,
            protocol: listener.protocol,
            upstream: Upstream::new(listener.upstream.clone(), listener.direction, capacity),
            admin_path: listener.admin_path.clone(),
            websocket: listener.websocket,
            endpoints,
        }))
    }

    /// As [`Site::start`], in place of `before`, whose upstream connections stay if they lead to the same place.
    pub(super) fn succeed(
        listener: &Listener,
        before: &Self,
        known: &[Rc<Endpoint>],
        capacity: &Arc<Capacity>,
    ) -> Result<Rc<Self>, StartError> {
        let mut site = Self::start(listener, known, capacity)?;
        if before.upstream.is_to(&listener.upstream)
            && let Some(site) = Rc::get_mut(&mut site)
        {
            site.upstream = Rc::clone(&before.upstream);
        }
        Ok(site)
    }

    /// Whether connections of this site may go on as those of `listener`: begun by the same side, of the same protocol, with
    /// WebSockets in both or in none, and, towards a server, by the same name and with as much TLS.
    pub(super) fn is_kind_of(&self, listener: &Listener) -> bool {
        let server =
            |it: Option<(&Terms, bool)>| it.map(|(terms, plain)| (terms.server_name().cloned(), plain));
        let own = self.endpoints.first().map(|it| (&it.terms, it.plaintext));
        let other = listener.endpoints.first().map(|it| (&it.terms, it.plaintext));
        self.direction == listener.direction
            && self.protocol == listener.protocol
            && self.websocket == listener.websocket
            && (self.direction == Direction::Inbound || server(own) == server(other))
    }

    pub(super) fn endpoints(&self) -> &[Rc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint of clients that come without TLS, in mixed mode.
    pub(super) fn plaintext_endpoint(&self) -> Option<&Rc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| endpoint.plaintext)
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
        let generation::Endpoint { kind, names, terms, plaintext, filter, configuration, clusters, .. } =
            endpoint.clone();
        let same = known
            .find(|it| it.filter.is(&filter) && it.configuration == configuration && it.clusters == clusters);
        let worker = match same {
            Some(known) => Rc::clone(&known.worker),
            None => {
                let worker = Worker::start_with(&filter, &configuration, Clock::System, (*clusters).clone())?;
                let worker = Rc::new(worker);
                worker.attend();
                worker
            }
        };
        Ok(Self { kind, names, terms, plaintext, worker, filter, configuration, clusters })
    }
}

#[cfg(test)]
pub(super) mod testing {
    use peergate_policy::RequiredFiles;

    use super::*;
    use crate::files::Credentials;
    use crate::pki::{Authority, Leaf};
    use crate::tls::{self, Authentication};

    /// An endpoint that asks its clients for nothing.
    pub(crate) fn endpoint(filter: &Filter, configuration: &str) -> Rc<Endpoint> {
        let plan = plan(filter, configuration, &[]);
        Rc::new(Endpoint::start(&plan, std::iter::empty()).expect("a VM"))
    }

    fn plan(filter: &Filter, configuration: &str, names: &[&str]) -> generation::Endpoint {
        let directory = tempfile::tempdir().expect("a directory");
        let leaf =
            Authority::root("root").and_then(|root| root.issue(&Leaf::new().cn("node"))).expect("a leaf");
        let (certificates, key) = leaf.write(directory.path(), "node").expect("written");
        let text = |path: std::path::PathBuf| path.to_str().expect("text").to_owned();
        let files = RequiredFiles {
            ca_certificates: None,
            certificates: text(certificates),
            private_key: text(key),
            crls: Vec::new(),
        };
        let credentials = Credentials::load(&files).expect("credentials");
        let terms = tls::server_config(credentials, Authentication::Nothing, &[], &[], &[]);
        generation::Endpoint {
            kind: peergate_policy::Endpoint::Token,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            terms: terms.expect("a configuration"),
            plaintext: false,
            filter: filter.clone(),
            configuration: configuration.into(),
            clusters: Arc::default(),
            policy: "policy.json".into(),
            policy_sha256: String::new(),
        }
    }

    fn site(plans: &[&generation::Endpoint], known: &[Rc<Endpoint>]) -> Site {
        let start =
            |plan: &&generation::Endpoint| Rc::new(Endpoint::start(plan, known.iter()).expect("a VM"));
        let upstream = crate::config::Upstream {
            address: "127.0.0.1:1".parse().expect("an address"),
            protocol: Default::default(),
            proxy_protocol: false,
        };
        Site {
            name: "site".into(),
            direction: Direction::Inbound,
            protocol: Protocol::Http,
            upstream: Upstream::new(upstream, Direction::Inbound, &Capacity::new(&Default::default())),
            admin_path: None,
            websocket: false,
            endpoints: plans.iter().map(start).collect(),
        }
    }

    /// A site with one endpoint, which takes plaintext besides TLS or does not.
    pub(crate) fn site_of_one(plaintext: bool) -> Site {
        let filter = Filter::embedded().expect("a filter");
        let plan = generation::Endpoint { plaintext, ..plan(&filter, "{}", &[]) };
        site(&[&plan], &[])
    }

    #[test]
    fn one_endpoint_is_for_every_name_and_several_are_for_their_own() {
        let filter = Filter::embedded().expect("a filter");
        let (first, second) =
            (plan(&filter, "{}", &["a.example"]), plan(&filter, "{}", &["b.example", "c.example"]));
        let one = site(&[&first], &[]);
        for name in [None, Some("a.example"), Some("x.example")] {
            assert!(one.endpoint(name).is_some(), "{name:?}");
        }
        let two = site(&[&first, &second], &[]);
        for (name, index) in [
            (Some("a.example"), Some(0)),
            (Some("A.Example."), Some(0)),
            (Some("c.example"), Some(1)),
            (Some("x.example"), None),
            (Some("a.example.x"), None),
            (Some(""), None),
            (None, None),
        ] {
            let chosen = two.endpoint(name).map(|it| usize::from(Rc::ptr_eq(it, &two.endpoints[1])));
            assert_eq!(chosen, index, "{name:?}");
        }
    }

    #[test]
    fn a_vm_goes_on_where_filter_and_configuration_are_the_same() {
        let filter = Filter::embedded().expect("a filter");
        let before = site(&[&plan(&filter, "{}", &[])], &[]);
        for (filter, configuration, same) in [
            (&filter, "{}", true),
            (&filter, r#"{"authorization-mode": "enforce"}"#, false),
            (&Filter::embedded().expect("a filter"), "{}", false),
        ] {
            let after = site(&[&plan(filter, configuration, &[])], &before.endpoints);
            assert_eq!(
                Rc::ptr_eq(&after.endpoints[0].worker, &before.endpoints[0].worker),
                same,
                "{configuration}"
            );
        }
    }
}
