//! A Vespa Cloud application package into our policy: the `<clients>` of a `<container>` in `services.xml`, and the
//! certificates they name.
//!
//! One way: the XML as it stands ([`services`]), one container of it ([`selection`]), the certificates of its clients
//! ([`certificates`]), the policy ([`policy`]). Whatever the policy would need and the package does not say is left out
//! and listed: what is left out is refused, so an import never admits more than Vespa Cloud would.
//!
//! Source: Vespa's `ContainerModelBuilder.java` (`addClients`, `getClient`, `getCertificates`), `Client.java`, and the
//! security guide of Vespa Cloud.

mod certificates;
mod error;
mod policy;
mod selection;
mod services;

use std::path::Path;

use peergate_policy::{Policy, UnixTime};

pub use error::{ImportError, ImportErrorKind};

use crate::clean::Clean;
use crate::files::{Audience, read};
use certificates::Package;
use selection::Selection;
use services::{Place, Services};

/// What is asked for besides the file.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container, where they differ.
    pub container: Option<&'a str>,
    /// Where the policy will be, for the commands of the report.
    pub policy: Option<&'a Path>,
    /// The policy's `token-context`.
    pub token_context: Option<&'a str>,
    /// Without `<clients>`: take `security/clients.pem` for the clients' own certificates, not for an authority.
    pub pin: bool,
    /// By which certificates are called expired.
    pub now: UnixTime,
}

/// A policy, and what it was made from.
#[derive(Clone, Debug)]
pub struct Import {
    /// The policy document, ending in a line end.
    pub policy: String,
    /// What is in it.
    pub carried: Vec<String>,
    /// What is not, each with its line in `services.xml`.
    pub left_out: Vec<String>,
    /// What to do now.
    pub remarks: Vec<String>,
}

/// Something that the policy does not have, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
struct LeftOut {
    place: Place,
    what: String,
}

/// Reads `services.xml` and the certificates it names, relative to its directory.
///
/// # Errors
/// All that Vespa refuses of clients, a file that cannot be used, and containers of which none is chosen.
pub fn import(path: &Path, options: &Options<'_>) -> Result<Import, ImportError> {
    let bytes = read(path, Audience::Everybody).map_err(|error| ImportError::whole(path, error))?;
    let services = Services::parse(&bytes).map_err(|error| error.in_file(path))?;
    let selection = Selection::of(services, options.container).map_err(|error| error.in_file(path))?;
    let package = Package::beside(path);
    let made = policy::make(&selection, &package, options).map_err(|error| error.in_file(path))?;
    // INVARIANT: what goes out is a policy. A rule of the engine that is missing above ends here.
    Policy::parse(&made.policy).map_err(|error| ImportErrorKind::NotAPolicy(error.into()).in_file(path))?;
    let mut left_out = [selection.left_out, selection.container.left_out, made.left_out].concat();
    left_out.sort_by_key(|it| it.place);
    let name = path.display().to_string();
    let line = |it: &LeftOut| format!("{}:{}: {}", name.escape_debug(), it.place, Clean(&it.what));
    Ok(Import {
        policy: made.policy,
        carried: made.carried,
        left_out: left_out.iter().map(line).collect(),
        remarks: made.remarks,
    })
}
