//! What `http-capabilities` and `permission-rules` have in common: paths and methods.

use crate::error::{Fault, PolicyErrorKind};
use crate::path::PathPattern;
use crate::request::{METHODS, Methods};
use crate::schema::{self, Members};

/// `methods`; absent means all.
pub(super) fn methods(members: &Members<'_>) -> Result<Methods, Fault> {
    let Some(node) = members.find("methods") else { return Ok(Methods::default()) };
    let methods = node.filled_array("leave `methods` out for all")?;
    methods
        .into_iter()
        .map(|method| schema::choice(method, METHODS, METHODS))
        .collect::<Result<_, _>>()
        .map(Methods)
}

/// `paths`, at least one.
pub(super) fn paths(members: &Members<'_>) -> Result<Vec<PathPattern>, Fault> {
    let paths = members.require("paths")?.filled_array("a rule without paths would apply to nothing")?;
    let path = |node: crate::json::Node<'_>| {
        let text = node.string()?;
        PathPattern::new(&text)
            .map_err(|_| node.fault(PolicyErrorKind::NotAPathPattern { value: text.into_owned() }))
    };
    paths.into_iter().map(path).collect()
}
