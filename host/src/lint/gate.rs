//! The listeners of an Envoy as ways to its services: which have the filter, and which lead past it.

use std::collections::BTreeSet;

use super::cluster::{Endpoint, members, written};
use super::file::File;
use super::node::Node;
use super::resource::{Kind, Resource};
use super::route::{Follower, Open, Spot, Ways, named};
use super::{Findings, Report, Rule};

/// A listener.
pub(super) struct Gate<'a> {
    pub(super) file: &'a File,
    pub(super) resource: &'a Resource,
    pub(super) chains: Vec<Chain<'a>>,
}

/// A filter chain of it, or what stands in the place of one.
pub(super) struct Chain<'a> {
    pub(super) node: &'a Node,
    /// Whether the filter is in it.
    pub(super) guarded: bool,
}

/// What chains lead to.
#[derive(Default)]
struct Destination<'a> {
    /// Clusters by Envoy and name.
    clusters: BTreeSet<(usize, String)>,
    endpoints: BTreeSet<Endpoint>,
    open: Vec<Open<'a>>,
}

impl Destination<'_> {
    /// What both lead to, in words.
    fn shared(&self, other: &Self) -> Option<String> {
        let cluster = self.clusters.intersection(&other.clusters).next();
        if let Some((_, name)) = cluster {
            return Some(format!("the cluster `{}`", name.escape_debug()));
        }
        let meets = |it: &&Endpoint| other.endpoints.iter().any(|known| known.meets(it));
        self.endpoints.iter().find(meets).map(|it| format!("`{}`", it.to_string().escape_debug()))
    }

    fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.endpoints.is_empty() && self.open.is_empty()
    }
}

impl<'a> Gate<'a> {
    fn listener(&self) -> &'a Node {
        self.resource.node.typed().1
    }

    fn name(&self) -> &'a str {
        self.listener().text_of("name")
    }

    /// Its name and address, for people.
    fn title(&self) -> String {
        let name = match self.name() {
            "" => "without a name".to_owned(),
            name => format!("`{}`", name.escape_debug()),
        };
        let internal = self.is_internal().then(|| "internal".to_owned());
        let bound = self.places().into_iter().filter_map(written).map(|it| it.escape_debug().to_string());
        let shown: Vec<_> = bound.chain(internal).collect();
        if shown.is_empty() {
            format!("listener {name}")
        } else {
            format!("listener {name} ({})", shown.join(", "))
        }
    }

    /// Where it is bound.
    fn places(&self) -> Vec<&'a Node> {
        let more = self.listener().list("additional_addresses").iter().filter_map(|it| it.get("address"));
        self.listener().get("address").into_iter().chain(more).collect()
    }

    /// Reached through clusters only.
    fn is_internal(&self) -> bool {
        self.listener().get("internal_listener").is_some()
    }

    /// For what the service itself connects to.
    fn is_outbound(&self) -> bool {
        self.listener().is_one_of("traffic_direction", &["OUTBOUND"], &[2])
    }

    fn is_reached_by(&self, endpoint: &Endpoint) -> bool {
        match endpoint {
            Endpoint::Internal(name) => self.is_internal() && name == self.name(),
            Endpoint::Address(..) | Endpoint::Pipe(_) => {
                self.places().into_iter().filter_map(Endpoint::of).any(|it| it == *endpoint)
            }
            Endpoint::Original(_) => false,
        }
    }
}

/// The port that a filter chain is for.
fn destination_port(chain: &Node) -> Option<u64> {
    chain.at(&["filter_chain_match", "destination_port"])?.number()
}

/// What Istio's own names of clusters say: `inbound|8080||` is the service beside the sidecar, `outbound|...` is one of others.
fn of_istio(cluster: &str) -> Option<Vec<Endpoint>> {
    let mut parts = cluster.split('|');
    match (parts.next()?, parts.next()) {
        ("inbound", Some(port)) => Some(vec![Endpoint::Original(port.parse().ok())]),
        ("outbound", Some(_)) => Some(Vec::new()),
        _ => None,
    }
}

/// Finds listeners that lead to what others guard, and says of each what it does.
pub(super) fn check(gates: &[Gate<'_>], files: &[File], names: &[String], findings: &mut Findings) {
    let map = Map { gates, files };
    let chains = gates.iter().flat_map(|gate| gate.chains.iter().map(move |chain| (gate, chain)));
    let guarded = chains.filter(|(_, chain)| chain.guarded);
    let mut guarded: Vec<_> = guarded
        .map(|(gate, chain)| Guarded { title: gate.title(), service: map.services(gate, chain) })
        .collect();
    for (title, port) in &findings.patched {
        let mut service = Destination::default();
        service.endpoints.insert(Endpoint::Original(Some(*port)));
        guarded.push(Guarded { title: title.clone(), service });
    }
    for gate in gates {
        let mut report = Report { file: gate.file, files, names, findings, filters: 0 };
        map.describe(gate, &mut report);
        if guarded.is_empty() || gate.is_internal() {
            continue;
        }
        for chain in gate.chains.iter().filter(|it| !it.guarded) {
            map.check_chain(gate, chain, &guarded, &mut report);
        }
    }
}

/// What the filter guards, and where it is.
struct Guarded<'a> {
    title: String,
    service: Destination<'a>,
}

struct Map<'a> {
    gates: &'a [Gate<'a>],
    files: &'a [File],
}

impl<'a> Map<'a> {
    fn follower(&self, gate: &Gate<'a>) -> Follower<'a> {
        Follower::new(self.files, gate.resource.proxy, gate.file)
    }

    fn services(&self, gate: &Gate<'a>, chain: &Chain<'a>) -> Destination<'a> {
        let ways = self.follower(gate).services(chain.node);
        self.destination(gate, chain, ways)
    }

    fn everything(&self, gate: &Gate<'a>, chain: &Chain<'a>) -> Destination<'a> {
        let ways = self.follower(gate).everything(chain.node);
        self.destination(gate, chain, ways)
    }

    fn destination(&self, gate: &Gate<'a>, chain: &Chain<'a>, ways: Ways<'a>) -> Destination<'a> {
        let mut destination = Destination::default();
        let mut visited = vec![std::ptr::from_ref(gate.resource)];
        self.extend(gate, chain, ways, &mut visited, &mut destination);
        destination
    }

    fn extend(
        &self,
        gate: &Gate<'a>,
        chain: &Chain<'a>,
        ways: Ways<'a>,
        visited: &mut Vec<*const Resource>,
        destination: &mut Destination<'a>,
    ) {
        destination.open.extend(ways.open);
        let spot = Spot { file: gate.file, place: chain.node.place };
        let mut names: Vec<String> = ways.clusters.into_iter().map(|way| way.cluster).collect();
        while let Some(name) = names.pop() {
            let found = named(self.files, gate.resource.proxy, Kind::Cluster, &name);
            let proxy = found.map_or(gate.resource.proxy, |(_, cluster)| cluster.proxy);
            if !destination.clusters.insert((proxy, name.clone())) {
                continue;
            }
            let shown = name.escape_debug();
            let Some((_, cluster)) = found else {
                if let Some(endpoint) = of_istio(&name) {
                    destination.endpoints.extend(endpoint);
                    continue;
                }
                let reason = format!("the cluster `{shown}` is not in these files; give it too");
                destination.open.push(Open { spot, reason, of_cluster: true });
                continue;
            };
            let members = members(&cluster.node, proxy, destination_port(chain.node), self.files);
            if let Some(reason) = members.unknown {
                let reason = format!("the cluster `{shown}`: {reason}");
                destination.open.push(Open { spot, reason, of_cluster: true });
            }
            names.extend(members.clusters);
            for endpoint in members.endpoints {
                self.pass_through(&endpoint, visited, destination);
                destination.endpoints.insert(endpoint);
            }
        }
    }

    /// A cluster can lead to another listener of this Envoy, and on from there unless the filter is in the way.
    fn pass_through(
        &self,
        endpoint: &Endpoint,
        visited: &mut Vec<*const Resource>,
        destination: &mut Destination<'a>,
    ) {
        for next in self.gates.iter().filter(|it| it.is_reached_by(endpoint)) {
            let resource = std::ptr::from_ref(next.resource);
            if visited.contains(&resource) {
                continue;
            }
            visited.push(resource);
            for chain in next.chains.iter().filter(|it| !it.guarded) {
                let ways = self.follower(next).everything(chain.node);
                self.extend(next, chain, ways, visited, destination);
            }
        }
    }

    fn check_chain(
        &self,
        gate: &Gate<'a>,
        chain: &Chain<'a>,
        guarded: &[Guarded<'a>],
        report: &mut Report<'_>,
    ) {
        let mut own = self.everything(gate, chain);
        if gate.is_outbound() || self.is_rest_of_ports(gate, chain) {
            // What connects to any address here is no client of a guarded port.
            own.endpoints.retain(|it| !matches!(it, Endpoint::Original(None)));
        }
        if own.is_empty() {
            return;
        }
        let among_guarded = gate.chains.iter().any(|it| it.guarded);
        for Guarded { title: guard, service } in guarded {
            let Some(what) = own.shared(service) else { continue };
            let (rule, place, title) = if among_guarded {
                (Rule::ChainUnguarded, chain.node.place, format!("this filter chain of {}", gate.title()))
            } else {
                (Rule::ListenerUnguarded, gate.resource.node.place, gate.title())
            };
            let message = format!(
                "{title} leads to {what} without the filter, and {guard} guards it; put the filter first there too, or \
                 remove the way"
            );
            return report.add(place, rule, message);
        }
        if !gate.is_outbound() {
            self.check_open(gate, &own, guarded, report);
        }
    }

    /// Nobody knows where it leads, or what is guarded.
    fn check_open(
        &self,
        gate: &Gate<'a>,
        own: &Destination<'a>,
        guarded: &[Guarded<'a>],
        report: &mut Report<'_>,
    ) {
        let title = gate.title();
        if let Some(open) = own.open.first() {
            let message = format!(
                "{title} has no filter, and may lead to what is guarded: {}; put the filter into it, or route it to \
                 clusters by name",
                open.reason
            );
            return report.of(open.spot.file).add(open.spot.place, Rule::Destination, message);
        }
        let unknown = guarded.iter().flat_map(|it| it.service.open.iter().map(move |open| (&it.title, open)));
        for (guard, open) in unknown {
            let message =
                format!("{title} has no filter, and where {guard} leads is not known: {}", open.reason);
            if !open.of_cluster {
                return report.add(gate.resource.node.place, Rule::Destination, message);
            }
            // It is known by its name, under which the other leads nowhere.
            report.note(gate.resource.node.place, Rule::Destination, message);
        }
    }

    /// Whether other chains of the listener take the guarded ports: Envoy chooses by port first, and does not come back to a chain
    /// without one.
    fn is_rest_of_ports(&self, gate: &Gate<'a>, chain: &Chain<'a>) -> bool {
        let mut guarded = gate.chains.iter().filter(|it| it.guarded).peekable();
        guarded.peek().is_some()
            && destination_port(chain.node).is_none()
            && guarded.all(|it| destination_port(it.node).is_some())
    }

    /// A note: who is judged, and where the others get to.
    fn describe(&self, gate: &Gate<'a>, report: &mut Report<'_>) {
        let title = gate.title();
        let guarded = gate.chains.iter().filter(|it| it.guarded).count();
        let others: Vec<_> = gate.chains.iter().filter(|it| !it.guarded).collect();
        let mut message = match (guarded, others.len()) {
            (0, _) => format!("{title} has no filter"),
            (_, 0) => format!("{title} has the filter"),
            (some, rest) => format!("{title} has the filter in {some} of {} filter chains", some + rest),
        };
        if gate.is_internal() {
            message += "; only clusters of this Envoy lead to it";
        }
        if gate.listener().get("bind_to_port").is_some() && !gate.listener().is_true("bind_to_port") {
            message += "; it is not bound, and gets what other listeners hand over";
        }
        let mut clusters = BTreeSet::new();
        let mut open = false;
        for chain in others {
            let destination = self.everything(gate, chain);
            clusters
                .extend(destination.clusters.into_iter().map(|(_, name)| name.escape_debug().to_string()));
            open |= !destination.open.is_empty();
        }
        if guarded < gate.chains.len() || gate.chains.is_empty() {
            message += &unfiltered(&clusters, open);
        }
        report.note(gate.resource.node.place, Rule::Listener, message);
    }
}

/// Where a listener leads without the filter.
fn unfiltered(clusters: &BTreeSet<String>, open: bool) -> String {
    const SHOWN: usize = 4;
    let mut names: Vec<_> = clusters.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if clusters.len() > SHOWN {
        names.push(format!("{} more", clusters.len() - SHOWN));
    }
    match (names.is_empty(), open) {
        (true, false) => "; without it, clients reach no cluster".to_owned(),
        (true, true) => "; where its clients get to is not in these files".to_owned(),
        (false, false) => format!("; without it, clients reach {}", names.join(", ")),
        (false, true) => {
            format!("; without it, clients reach {}, and what is not in these files", names.join(", "))
        }
    }
}
