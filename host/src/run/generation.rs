//! Listeners, policies and files, read as one.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peergate_policy::{Endpoint as Kind, sha256};
use tracing::{info, warn};

use super::modes::Modes;
use super::policy_document::PolicyDocument;
use super::{Options, RunError, Source, guard, needs, upstream_probe};
use crate::audit::Target;
use crate::config::{self, Address, Boundary, Document, Protocol, Remote, Upstream, UpstreamProtocol};
use crate::files::{self, Audience, Trail};
use crate::proxy::{ALPN, Direction, Endpoint, Generation, Listener, Sockets};
use crate::sandbox::{Enforcement, Grants, Sandbox};
use crate::wasm::{Clock, Clusters, Filter, Worker};

/// Makes generations, one after the other. What may not change with a generation, and what is dear, it keeps.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) source: Source,
    /// Threads; the first generation says how many.
    workers: Option<u16>,
    loaded: u64,
    /// The configuration in use.
    document: Option<Document>,
    sockets: Vec<Arc<Sockets>>,
    filter: Option<(Option<Vec<u8>>, Filter)>,
    /// Those of all endpoints in use.
    configurations: Vec<Arc<str>>,
    /// Of the first generation.
    admin: Option<config::Admin>,
    /// What the first generation needs of the system besides its files.
    needs: Grants,
    sandbox: Option<Sandbox>,
}

impl Loader {
    pub(super) fn new(source: Source) -> Self {
        let sockets = Vec::new();
        let needs = Grants::default();
        Self {
            source,
            workers: None,
            loaded: 0,
            document: None,
            sockets,
            filter: None,
            configurations: Vec::new(),
            admin: None,
            needs,
            sandbox: None,
        }
    }

    /// How many workers there are, once there is a generation.
    pub(super) fn workers(&self) -> u16 {
        self.workers.unwrap_or_else(cores)
    }

    /// Where the admin pages are to be, once there is a generation.
    pub(super) fn admin(&self) -> Option<&config::Admin> {
        self.admin.as_ref()
    }

    /// Gives up what the configuration does not need; `trail` is what it was read from.
    ///
    /// # Errors
    /// The system does not let us.
    pub(super) fn confine(&mut self, options: &Options, trail: &Trail) -> Result<(), RunError> {
        if !options.sandbox {
            warn!("no sandbox: the host keeps all rights it was started with");
            return Ok(());
        }
        let mut grants = std::mem::take(&mut self.needs);
        if let Some(Target::File(path)) = &options.audit {
            grants.write_beside(path);
        }
        grants.read(trail);
        let sandbox = Sandbox::enter(grants).map_err(RunError::Sandbox)?;
        match sandbox.enforcement() {
            Enforcement::Full => info!("sandbox: files and ports of the configuration, nothing else"),
            Enforcement::Partial => {
                warn!("sandbox: this kernel's Landlock has only a part of it (all with Linux 6.12)")
            }
            Enforcement::None => {
                warn!("no sandbox but `no_new_privs`: this kernel has no Landlock, or `lsm=` is without it")
            }
        }
        self.sandbox = Some(sandbox);
        Ok(())
    }

    /// Why a load could not read its files, if it is for the sandbox's sake.
    pub(super) fn not_granted(&self, trail: &Trail) -> Option<RunError> {
        self.sandbox.as_ref()?.unreadable(trail).map(RunError::NotGranted)
    }

    /// Reads everything, tries the filter with it, and binds what is not bound.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing of what was read is kept then.
    pub(super) fn load(&mut self) -> Result<Generation, RunError> {
        let document = self.source.read()?;
        let needs = needs::of(&document);
        if let Some(missing) = self.sandbox.as_ref().and_then(|sandbox| sandbox.missing(&needs)) {
            return Err(RunError::NotGranted(missing));
        }
        if let Some(address) = upstream_probe::tls_service(&document, self.document.as_ref()) {
            return Err(RunError::TlsUpstream(address));
        }
        let filter = self.filter(document.filter.as_deref())?;
        let modes = Modes::from_environment().map_err(RunError::Mode)?;
        let known = self.configurations.clone();
        let judge = Judge { known, ..Judge::new(filter, modes, &document) };
        let mut endpoints = Vec::new();
        for inbound in &document.inbound {
            let loaded = inbound.endpoints.iter().map(|it| endpoint(inbound, it, &judge));
            endpoints.push(loaded.collect::<Result<Vec<_>, _>>()?);
        }
        let servers = document.outbound.iter().map(|it| server(it, &judge));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        for warning in judge.warnings.take() {
            warn!("policy: {warning}");
        }
        check_mixed_mode(endpoints.iter().flatten().chain(&servers), &judge.modes);
        let workers = document.workers.unwrap_or_else(cores);
        if *self.workers.get_or_insert(workers) != workers {
            warn!("`workers` changes at the next start");
        }
        let limits = needs::limits(&document, self.workers()).map_err(RunError::Limits)?;
        let admin = document.admin.clone();
        if self.loaded == 0 {
            (self.admin, self.needs) = (admin, needs);
        } else if self.admin != admin {
            warn!("`admin` changes at the next start");
        }
        let sockets = self.bind(&document)?;
        for (outbound, sockets) in document.outbound.iter().zip(&sockets[document.inbound.len()..]) {
            // A socket of systemd is where it is, whatever its name.
            if !sockets.address().is_local() {
                let error = io::Error::other(
                    "it is no loopback address, and whoever connects here speaks as this node",
                );
                return Err(RunError::Bind { address: outbound.address.clone(), error });
            }
        }
        self.document = Some(document.clone());
        let mut remaining = sockets.iter().cloned();
        let mut listeners = Vec::new();
        for ((inbound, sockets), endpoints) in document.inbound.into_iter().zip(&mut remaining).zip(endpoints)
        {
            listeners.push(Listener {
                name: inbound.name.unwrap_or_else(|| sockets.address().to_string()).into(),
                sockets,
                direction: Direction::Inbound,
                protocol: inbound.protocol,
                upstream: inbound.upstream,
                endpoints,
                admin_path: inbound.admin_path.map(Into::into),
                websocket: inbound.websocket,
            });
        }
        for ((outbound, sockets), endpoint) in document.outbound.into_iter().zip(remaining).zip(servers) {
            let Remote { address, server_name } = outbound.upstream;
            listeners.push(Listener {
                name: outbound.name.unwrap_or_else(|| sockets.address().to_string()).into(),
                sockets,
                direction: Direction::Outbound { rewrites_host: server_name.is_some() },
                protocol: outbound.protocol,
                upstream: Upstream { address, protocol: UpstreamProtocol::Http1, proxy_protocol: false },
                endpoints: vec![endpoint],
                admin_path: None,
                websocket: outbound.websocket,
            });
        }
        let in_use = listeners.iter().flat_map(|listener: &Listener| &listener.endpoints);
        self.configurations = in_use.map(|endpoint| Arc::clone(&endpoint.configuration)).collect();
        self.sockets = sockets;
        self.loaded += 1;
        Ok(Generation { number: self.loaded, listeners, limits })
    }

    /// The filter of before where it is the same: then its VMs may go on.
    pub(super) fn filter(&mut self, path: Option<&Path>) -> Result<Filter, RunError> {
        let wasm = match path {
            Some(path) => Some(files::read(path, Audience::Everybody).map_err(RunError::FilterFile)?),
            None => None,
        };
        if let Some((known, filter)) = &self.filter
            && *known == wasm
        {
            return Ok(filter.clone());
        }
        let filter = path.map_or_else(Filter::embedded, Filter::from_wasm).map_err(RunError::Filter)?;
        guard::warning(&filter).into_iter().for_each(|warning| warn!("{warning}"));
        self.filter = Some((wasm, filter.clone()));
        Ok(filter)
    }

    /// The sockets of all listeners; those of before are used again.
    fn bind(&self, document: &Document) -> Result<Vec<Arc<Sockets>>, RunError> {
        let mut before = self.sockets.clone();
        let mut bind = |address: &Address| {
            if let Some(known) = before.iter().position(|sockets| sockets.configured() == address) {
                return Ok(before.swap_remove(known));
            }
            let bound = Sockets::bind(address, self.workers().into()).map(Arc::new);
            bound.map_err(|error| RunError::Bind { address: address.clone(), error })
        };
        let inbound = document.inbound.iter().map(|inbound| &inbound.address);
        inbound.chain(document.outbound.iter().map(|outbound| &outbound.address)).map(&mut bind).collect()
    }
}

fn cores() -> u16 {
    std::thread::available_parallelism().ok().and_then(|cores| cores.get().try_into().ok()).unwrap_or(1)
}

/// What all endpoints of a generation have in common.
pub(super) struct Judge {
    pub(super) filter: Filter,
    modes: Modes,
    clusters: Arc<Clusters>,
    /// Configurations in use.
    known: Vec<Arc<str>>,
    /// What in the policies is allowed, and rarely meant.
    pub(super) warnings: RefCell<Vec<String>>,
}

impl Judge {
    pub(super) fn new(filter: Filter, modes: Modes, document: &Document) -> Self {
        let clusters = clusters(document);
        Self { filter, modes, clusters, known: Vec::new(), warnings: RefCell::default() }
    }

    /// The configuration in use that is the same, if there is one: each may have 32 MB.
    fn shared(&self, configuration: Arc<str>) -> Arc<str> {
        self.known.iter().find(|known| **known == configuration).map_or(configuration, Arc::clone)
    }
}

fn clusters(document: &Document) -> Arc<Clusters> {
    let address = |(name, cluster): (&String, &config::Cluster)| (name.clone(), cluster.address.to_string());
    Arc::new(document.clusters.iter().map(address).collect())
}

pub(super) fn endpoint(
    inbound: &config::Inbound,
    endpoint: &config::Endpoint,
    judge @ Judge { filter, modes, clusters, .. }: &Judge,
) -> Result<Endpoint, RunError> {
    let path = policy_path(&endpoint.policy, endpoint.boundary)?;
    let text = PolicyDocument::text(&path)?;
    let document = PolicyDocument::parse(&path, &text, endpoint.kind)?;
    let alpn = match inbound.protocol {
        Protocol::Http => ALPN,
        Protocol::Tcp => &[],
    };
    let terms = document.terms(alpn)?;
    guard::traffic(filter, endpoint.kind, inbound.protocol)?;
    guard::rules(filter, &path, document.policy())?;
    guard::names(filter, inbound)?;
    let filter = match inbound.protocol {
        Protocol::Http => filter.clone(),
        Protocol::Tcp => filter.clone().for_connections(),
    };
    // With one endpoint on a port any name will do, and no authority rule applies.
    let has_others = inbound.endpoints.len() > 1;
    let (names, deprecated): (&[_], &[_]) =
        if has_others { (&endpoint.names, &endpoint.deprecated_names) } else { (&[], &[]) };
    if !has_others && endpoint.all_names().next().is_some() {
        warn!("the names of the only endpoint on {} are not asked for", inbound.address);
    }
    // Vespa's variable is about Vespa's own file, and about peers.
    let is_vespas = endpoint.policy.is_none() && endpoint.boundary == Boundary::Node;
    let plaintext = modes.admits_plaintext() && is_vespas && endpoint.kind == Kind::Peer;
    let configuration = judge.shared(document.configuration(names, deprecated, plaintext, modes)?);
    let called = (**clusters).clone();
    Worker::start_with(&filter, &configuration, Clock::System, called).map_err(RunError::Start)?;
    judge.warnings.borrow_mut().extend(document.warnings_with(&terms));
    let names = endpoint.all_names().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
    Ok(Endpoint {
        kind: endpoint.kind,
        names,
        terms,
        plaintext,
        filter,
        configuration,
        clusters: Arc::clone(clusters),
        policy_sha256: hex(&sha256(text.as_bytes())),
        policy: path,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server, as the policy's `authorized-peers` know it.
pub(super) fn server(
    outbound: &config::Outbound,
    judge @ Judge { filter, modes, clusters, .. }: &Judge,
) -> Result<Endpoint, RunError> {
    let path = policy_path(&outbound.policy, Boundary::Node)?;
    let text = PolicyDocument::text(&path)?;
    let document = PolicyDocument::parse(&path, &text, Kind::Peer)?;
    let alpn = match outbound.protocol {
        Protocol::Http => ALPN,
        Protocol::Tcp => &[],
    };
    // The configuration was refused without a name.
    let name = outbound.upstream.server_name().ok_or(RunError::NoPolicy(Boundary::Node))?;
    let terms = document.client_terms(name, alpn)?;
    guard::traffic(filter, Kind::Peer, Protocol::Tcp)?;
    guard::rules(filter, &path, document.policy())?;
    // Servers are judged by their connection alone.
    let filter = filter.clone().for_connections();
    let plaintext = modes.sends_plaintext() && outbound.policy.is_none();
    let configuration = judge.shared(document.configuration(&[], &[], false, modes)?);
    let called = (**clusters).clone();
    Worker::start_with(&filter, &configuration, Clock::System, called).map_err(RunError::Start)?;
    judge.warnings.borrow_mut().extend(document.warnings_with(&terms));
    Ok(Endpoint {
        kind: Kind::Peer,
        names: Vec::new(),
        terms,
        plaintext,
        filter,
        configuration,
        clusters: Arc::clone(clusters),
        policy_sha256: hex(&sha256(text.as_bytes())),
        policy: path,
    })
}

/// Says that peers without TLS are admitted, or servers spoken to without; or that nobody is, though the variable asks.
fn check_mixed_mode<'a>(mut endpoints: impl Iterator<Item = &'a Endpoint>, modes: &Modes) {
    if modes.admits_plaintext() {
        match endpoints.any(|endpoint| endpoint.plaintext) {
            true => warn!("mixed mode: plaintext is admitted besides TLS, or sent in its place"),
            false => {
                warn!("mixed mode is asked for, and no listener of {} is there", Boundary::Node.variable())
            }
        }
    }
}

/// As the configuration says, or the environment.
fn policy_path(configured: &Option<PathBuf>, boundary: Boundary) -> Result<PathBuf, RunError> {
    configured.clone().or_else(|| boundary.policy()).ok_or(RunError::NoPolicy(boundary))
}
