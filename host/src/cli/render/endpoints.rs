//! `--endpoint KIND --name NAME... --endpoint KIND --name NAME...`: each name belongs to the endpoint before it.

use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind};
use peergate_host::config::Endpoint;
use peergate_host::render::RenderError;
use peergate_policy::Endpoint as Kind;

use crate::cli::endpoint::endpoint;

/// In the order of the command line. None: the one that the policy can be for.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoints(Vec<Named>);

#[derive(Clone, Debug)]
struct Named {
    kind: Option<Kind>,
    names: Vec<String>,
    deprecated_names: Vec<String>,
}

impl Endpoints {
    pub(super) fn with_policy(self, policy: &Path) -> Result<Vec<Endpoint>, RenderError> {
        let with_kind = |named: Named| {
            let kind = match named.kind {
                Some(kind) => kind,
                None => super::usable_kind(policy)?,
            };
            let Named { names, deprecated_names, .. } = named;
            Ok(Endpoint {
                kind,
                policy: Some(policy.to_owned()),
                boundary: Default::default(),
                names,
                deprecated_names,
            })
        };
        self.0.into_iter().map(with_kind).collect()
    }
}

impl Args for Endpoints {
    fn augment_args(command: Command) -> Command {
        let name = |id: &'static str, long: &'static str, help: &'static str| {
            Arg::new(id).long(long).value_name("NAME").action(ArgAction::Append).help(help)
        };
        command
            .arg(
                Arg::new("endpoint")
                    .long("endpoint")
                    .value_name("KIND")
                    .action(ArgAction::Append)
                    .value_parser(endpoint())
                    .help("How clients are known; of several, the name that the client asks for (SNI) chooses [default: the one that the policy can be for]"),
            )
            .arg(name("name", "name", "A host name that is for the endpoint before it; `peergate endpoint new` makes some"))
            .arg(name("deprecated_name", "deprecated-name", "A host name that still works; its use is counted"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Endpoints {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let kinds: Vec<(usize, Kind)> = placed(matches, "endpoint");
        let mut endpoints: Vec<(usize, Named)> =
            kinds.into_iter().map(|(index, kind)| (index, Named::of(Some(kind)))).collect();
        if endpoints.is_empty() {
            endpoints.push((0, Named::of(None)));
        }
        for (deprecated, id) in [(false, "name"), (true, "deprecated_name")] {
            for (index, name) in placed::<String>(matches, id) {
                let before = endpoints.iter_mut().rev().find(|(start, _)| *start < index);
                let Some((_, endpoint)) = before else {
                    let message =
                        format!("`{}` stands before the `--endpoint` that it is for\n", name.escape_debug());
                    return Err(Error::raw(ErrorKind::ArgumentConflict, message));
                };
                let names = if deprecated { &mut endpoint.deprecated_names } else { &mut endpoint.names };
                names.push(name);
            }
        }
        Ok(Self(endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Named {
    fn of(kind: Option<Kind>) -> Self {
        Self { kind, names: Vec::new(), deprecated_names: Vec::new() }
    }
}

/// The values of an argument, each with its place on the command line.
fn placed<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Vec<(usize, T)> {
    let places = matches.indices_of(id).into_iter().flatten();
    places.zip(matches.get_many::<T>(id).into_iter().flatten().cloned()).collect()
}
