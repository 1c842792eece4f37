//! `services.xml` as it stands: containers and their clients, not yet judged as a whole.

use std::collections::BTreeSet;
use std::fmt;

use peergate_policy::Permission;
use roxmltree::{Document, Node, ParsingOptions};

use super::LeftOut;
use super::error::{Fault, ImportErrorKind};

/// Largest file, in bytes. Those of real applications have some thousand.
const BYTES: usize = 4 * 1024 * 1024;
/// Most elements, attributes and texts.
const NODES: u32 = 200_000;
/// Of Vespa where a container has none (`ContainerModelBuilder`).
const DEFAULT_ID: &str = "container";
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    line: u32,
    column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// The containers.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) containers: Vec<Container>,
    pub(super) left_out: Vec<LeftOut>,
}

/// A `container`.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) place: Place,
    pub(super) clients: Clients,
    pub(super) left_out: Vec<LeftOut>,
}

/// What a container says of its clients.
#[derive(Debug)]
pub(super) enum Clients {
    /// They are listed.
    Listed(Vec<Client>),
    /// Not even `clients` is there.
    Absent,
}

/// A `client`.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) permissions: Vec<Permission>,
    /// The files of its certificates.
    pub(super) files: Vec<Reference>,
    /// The ids of its tokens.
    pub(super) tokens: Vec<Reference>,
}

/// A file or an id, and where it stands.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) value: String,
    pub(super) place: Place,
}

impl Services {
    /// Reads the document.
    ///
    /// # Errors
    /// It is no XML that we read, or not of the shape of Vespa's schema where clients are concerned.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() > BYTES {
            return Err(ImportErrorKind::TooLarge.into());
        }
        let text = str::from_utf8(bytes).map_err(|_| ImportErrorKind::Encoding)?;
        let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(syntax)?;
        let root = document.root_element();
        if !is(root, "services") {
            return Err(ImportErrorKind::Root(name(root)).at(place(root)));
        }
        let mut services = Self { containers: Vec::new(), left_out: Vec::new() };
        let mut ids = Ids::default();
        for node in root.children().filter(Node::is_element) {
            if is(node, "container") {
                let id = node.attribute("id").unwrap_or(DEFAULT_ID);
                ids.see(node, id, || ImportErrorKind::Twice(format!("container `{id}`")))?;
                services.containers.extend(container(node, id, &mut ids, &mut services.left_out)?);
            } else if let Some(what) = included(node) {
                services.left_out.push(LeftOut { place: place(node), what });
            }
        }
        services.containers.retain(|it| !ids.varying.contains(&it.id));
        services.left_out.extend(ids.left_out("container"));
        Ok(services)
    }
}

/// Ids of elements that were seen, and those that are not the same in every deployment.
#[derive(Default)]
struct Ids {
    seen: BTreeSet<String>,
    varying: BTreeSet<String>,
    elements: Vec<(String, Place, Option<String>)>,
}

impl Ids {
    fn see(
        &mut self,
        node: Node<'_, '_>,
        id: &str,
        twice: impl FnOnce() -> ImportErrorKind,
    ) -> Result<(), Fault> {
        let varies = varies(node);
        // Elements that vary repeat an id on purpose, and change what those without a directive say.
        if varies.is_some() {
            self.varying.insert(id.to_owned());
        } else if !self.seen.insert(id.to_owned()) {
            return Err(twice().at(place(node)));
        }
        self.elements.push((id.to_owned(), place(node), varies));
        Ok(())
    }

    fn vary(&mut self, id: &str, node: Node<'_, '_>, why: String) {
        self.varying.insert(id.to_owned());
        self.elements.push((id.to_owned(), place(node), Some(why)));
    }

    /// All elements of an id that varies, those without a directive too.
    fn left_out(self, element: &str) -> Vec<LeftOut> {
        let varying = self.varying;
        let gone = self.elements.into_iter().filter(|(id, ..)| varying.contains(id));
        let text = |id: &str, why: Option<String>| match why {
            Some(why) => format!("{element} `{id}` varies by deployment ({why})"),
            None => format!("{element} `{id}` varies by deployment, see the others of this id"),
        };
        gone.map(|(id, place, why)| LeftOut { place, what: text(&id, why) }).collect()
    }
}

/// `None` where its clients are not known: `ids` or `left_out` then say why.
fn container(
    node: Node<'_, '_>,
    id: &str,
    ids: &mut Ids,
    left_out: &mut Vec<LeftOut>,
) -> Result<Option<Container>, Fault> {
    let mut container =
        Container { id: id.to_owned(), place: place(node), clients: Clients::Absent, left_out: Vec::new() };
    let mut include = None;
    for child in node.children().filter(Node::is_element) {
        if is(child, "clients") {
            if let Some(why) = varies(child) {
                ids.vary(id, child, format!("`clients` with {why}"));
                return Ok(None);
            }
            if matches!(container.clients, Clients::Listed(_)) {
                return Err(ImportErrorKind::Twice("`clients`".to_owned()).at(place(child)));
            }
            container.clients = Clients::Listed(clients(child, &mut container.left_out)?);
        } else if let Some(what) = included(child).or_else(|| judged_elsewhere(child)) {
            include = include.or_else(|| included(child));
            container.left_out.push(LeftOut { place: place(child), what });
        }
    }
    // What is included may be the `clients`; to take them for absent would let in whoever the authority signed.
    if let (Clients::Absent, Some(include)) = (&container.clients, include) {
        let what = format!("container `{id}` has no `clients` but in an include: {include}");
        left_out.push(LeftOut { place: place(node), what });
        return Ok(None);
    }
    Ok(Some(container))
}

fn clients(node: Node<'_, '_>, left_out: &mut Vec<LeftOut>) -> Result<Vec<Client>, Fault> {
    let mut ids = Ids::default();
    let mut clients = Vec::new();
    for child in node.children().filter(Node::is_element) {
        if let Some(what) = included(child) {
            left_out.push(LeftOut { place: place(child), what });
            continue;
        }
        expect(child, &["client"], "clients")?;
        let id = attribute(child, "client", "id")?;
        if id.starts_with('_') {
            return Err(ImportErrorKind::ReservedId(id.to_owned()).at(place(child)));
        }
        ids.see(child, id, || ImportErrorKind::DuplicateClient(id.to_owned()))?;
        if let Some((part, why)) =
            child.children().filter(Node::is_element).find_map(|part| Some((part, varies(part)?)))
        {
            ids.vary(id, part, why);
        }
        if !ids.varying.contains(id) {
            clients.push(client(child, id)?);
        }
    }
    clients.retain(|client| !ids.varying.contains(&client.id));
    left_out.extend(ids.left_out("client"));
    Ok(clients)
}

fn client(node: Node<'_, '_>, id: &str) -> Result<Client, Fault> {
    let (mut files, mut tokens) = (Vec::new(), Vec::new());
    for child in node.children().filter(Node::is_element) {
        expect(child, &["certificate", "token"], "client")?;
        let reference = |element, name| -> Result<Reference, Fault> {
            Ok(Reference { value: attribute(child, element, name)?.to_owned(), place: place(child) })
        };
        match is(child, "certificate") {
            true => files.push(reference("certificate", "file")?),
            false => tokens.push(reference("token", "id")?),
        }
    }
    if files.is_empty() && tokens.is_empty() {
        return Err(ImportErrorKind::NoCredentials(id.to_owned()).at(place(node)));
    }
    let mut permissions = Vec::new();
    for word in attribute(node, "client", "permissions")?.split(',').map(str::trim) {
        let permission = match word {
            "read" => Permission::Read,
            "write" => Permission::Write,
            other => return Err(ImportErrorKind::Permission(other.to_owned()).at(place(node))),
        };
        if !permissions.contains(&permission) {
            permissions.push(permission);
        }
    }
    Ok(Client { id: id.to_owned(), permissions, files, tokens })
}

fn expect(node: Node<'_, '_>, names: &[&str], within: &'static str) -> Result<(), Fault> {
    match names.iter().any(|name| is(node, name)) {
        true => Ok(()),
        false => Err(ImportErrorKind::UnexpectedElement { name: name(node), within }.at(place(node))),
    }
}

fn attribute<'a>(
    node: Node<'a, '_>,
    element: &'static str,
    attribute: &'static str,
) -> Result<&'a str, Fault> {
    let missing = || ImportErrorKind::MissingAttribute { element, attribute }.at(place(node));
    node.attribute(attribute).filter(|value| !value.is_empty()).ok_or_else(missing)
}

/// The directive by which an element is another one in other deployments: `deploy:environment` and its like, elements of
/// `preprocess`, and `${...}` from `preprocess:properties`.
fn varies(node: Node<'_, '_>) -> Option<String> {
    if let Some(include) = included(node) {
        return Some(include);
    }
    let foreign =
        |it: &roxmltree::Attribute<'_, '_>| it.namespace().is_some_and(|namespace| namespace != XML);
    let directive = node.attributes().find(|it| foreign(it) || it.value().contains("${"))?;
    let prefix = directive.namespace().and_then(|namespace| node.lookup_prefix(namespace));
    let colon = if prefix.is_some() { ":" } else { "" };
    Some(format!("`{}{colon}{}=\"{}\"`", prefix.unwrap_or_default(), directive.name(), directive.value()))
}

/// An element that Vespa replaces by other ones before it reads the document.
fn included(node: Node<'_, '_>) -> Option<String> {
    let is_include = is(node, "include") || node.tag_name().namespace().is_some();
    let source = node.attribute("file").or_else(|| node.attribute("dir"));
    is_include.then(|| match source {
        Some(source) => format!("`{}` of `{source}` is not read", name(node)),
        None => format!("`{}` is not read", name(node)),
    })
}

/// Parts of a container that decide about requests too.
fn judged_elsewhere(node: Node<'_, '_>) -> Option<String> {
    let id = node.attribute("id").unwrap_or_default();
    match node.tag_name().name() {
        "handler" => Some(format!(
            "handler `{id}`: where its class has a `requestHandlerSpec` of its own, write that as `permission-rules`"
        )),
        "search" => node.children().find(|it| is(*it, "binding")).map(|binding| {
            let path = binding.text().unwrap_or_default().trim();
            format!("search is bound to `{path}`: POST reads there; write that as `permission-rules`")
        }),
        "http" => Some("`http`: its filters and servers".to_owned()),
        _ => None,
    }
}

/// An element of Vespa's own, which has no namespace.
fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace().is_none() && node.tag_name().name() == name
}

fn name(node: Node<'_, '_>) -> String {
    let tag = node.tag_name();
    match tag.namespace().and_then(|namespace| node.lookup_prefix(namespace)) {
        Some(prefix) => format!("{prefix}:{}", tag.name()),
        None => tag.name().to_owned(),
    }
}

fn place(node: Node<'_, '_>) -> Place {
    position(node.document().text_pos_at(node.range().start))
}

fn position(position: roxmltree::TextPos) -> Place {
    Place { line: position.row, column: position.col }
}

fn syntax(error: roxmltree::Error) -> Fault {
    let place = position(error.pos());
    match error {
        roxmltree::Error::DtdDetected => ImportErrorKind::Dtd.at(place),
        roxmltree::Error::NodesLimitReached => ImportErrorKind::TooLarge.into(),
        error => ImportErrorKind::Syntax(error.to_string()).at(place),
    }
}
