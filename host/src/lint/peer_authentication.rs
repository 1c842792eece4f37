//! Which mode of mutual TLS is in force for a port: without STRICT a sidecar takes plaintext too, and clients without a certificate.
//!
//! As Istio composes it (`ComposePeerAuthentication` in istio/istio, pilot/pkg/security/authn/policy_applier.go): of the resources with a
//! selector the oldest counts, alone and with its ports; else the oldest of the namespace; else the oldest of the root namespace. A
//! selector in the root namespace selects nothing. Files do not tell ages, so whichever may be the oldest must be STRICT.

use super::file::File;
use super::node::{Node, Place};
use super::workload::{ROOT_NAMESPACE, label, namespace, of_kind};
use super::{Report, Rule};

/// One of the modes that may be in force, and where it is written.
#[derive(Clone, Copy)]
struct Outcome<'a> {
    strict: bool,
    /// `None` where nothing is written.
    written: Option<(&'a File, Place)>,
}

/// Whether a resource is for the pods of another one.
#[derive(Clone, Copy, PartialEq)]
enum Selects {
    Surely,
    /// Some of them, as far as the files tell.
    Perhaps,
}

/// Checks the mode for the pods of `resource`, which have these labels.
pub(super) fn check(
    resource: &Node,
    labels: Option<&Node>,
    port: Option<u64>,
    files: &[File],
    report: &mut Report<'_>,
) {
    for outcome in outcomes(resource, labels, port, files).into_iter().filter(|it| !it.strict) {
        match outcome.written {
            Some((file, place)) => lenient(place, &mut report.of(file)),
            None => lenient(resource.place, report),
        }
    }
}

fn outcomes<'a>(
    resource: &Node,
    labels: Option<&Node>,
    port: Option<u64>,
    files: &'a [File],
) -> Vec<Outcome<'a>> {
    let all: Vec<_> = of_kind(files, "PeerAuthentication").collect();
    let without_selector = |root: bool| {
        let mine = |it: &Node| namespace(it) == namespace(resource);
        let fits = move |it: &Node| (namespace(it) == ROOT_NAMESPACE) == root && (root || mine(it));
        all.iter().filter(move |(_, it)| selector(it).is_none() && fits(it))
    };
    let mut inherited = vec![Outcome { strict: false, written: None }];
    for root in [true, false] {
        let own: Vec<_> =
            without_selector(root).flat_map(|&(file, it)| modes(file, it, None, &inherited)).collect();
        if !own.is_empty() {
            inherited = own;
        }
    }
    let mut chosen = Vec::new();
    let mut sure = false;
    for &(file, it) in &all {
        let same = namespace(it) == namespace(resource) && namespace(it) != ROOT_NAMESPACE;
        if let Some(selects) = selector(it).filter(|_| same).and_then(|wanted| selects(wanted, labels)) {
            sure |= selects == Selects::Surely;
            chosen.extend(modes(file, it, Some(port), &inherited));
        }
    }
    if !sure {
        chosen.extend(inherited);
    }
    chosen
}

/// The modes of one resource: that of the workload, or of the port. `port` is `None` where ports do not count, and `Some(None)` where any
/// port may be meant.
fn modes<'a>(
    file: &'a File,
    authentication: &'a Node,
    port: Option<Option<u64>>,
    inherited: &[Outcome<'a>],
) -> Vec<Outcome<'a>> {
    let resolve = |mode: Option<&Node>, parent: &[Outcome<'a>]| match mode.and_then(Node::text) {
        None | Some("UNSET") => {
            let here = (file, mode.map_or(authentication.place, |it| it.place));
            parent.iter().map(|it| Outcome { written: it.written.or(Some(here)), ..*it }).collect()
        }
        Some(word) => {
            let place = mode.map_or(authentication.place, |it| it.place);
            vec![Outcome { strict: word == "STRICT", written: Some((file, place)) }]
        }
    };
    let whole = resolve(authentication.at(&["spec", "mtls", "mode"]), inherited);
    let ports = authentication.at(&["spec", "port_level_mtls"]).filter(|_| port.is_some());
    let number = port.flatten().map(|number| number.to_string());
    let meant = |key: &str| number.as_deref().is_none_or(|number| number == key);
    let ports: Vec<_> = ports.into_iter().flat_map(Node::members).filter(|(key, _)| meant(key)).collect();
    let mut modes: Vec<_> = ports.iter().flat_map(|(_, it)| resolve(it.get("mode"), &whole)).collect();
    if ports.is_empty() || number.is_none() {
        modes.extend(whole);
    }
    modes
}

fn selector(authentication: &Node) -> Option<&Node> {
    authentication.at(&["spec", "selector", "match_labels"]).filter(|it| it.members().next().is_some())
}

fn selects(wanted: &Node, labels: Option<&Node>) -> Option<Selects> {
    let mut sure = Selects::Surely;
    for (key, value) in wanted.members() {
        match label(labels, key) {
            Some(own) if own.text() == value.text() => {}
            Some(_) => return None,
            None => sure = Selects::Perhaps,
        }
    }
    Some(sure)
}

fn lenient(place: Place, report: &mut Report<'_>) {
    report.add(
        place,
        Rule::PeerAuthentication,
        "sidecars take plaintext and clients without a \
        certificate; use a PeerAuthentication with `mtls: {mode: STRICT}` for these pods",
    );
}
