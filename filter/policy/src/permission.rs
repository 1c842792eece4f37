//! What a data-plane client may do, and what a request needs (Vespa `HttpMethodAclMapping.java`, `SearchHandler.java`).

use std::fmt;

use crate::decision::DenyReason;
use crate::path::{PathForm, PathPattern, RequestPath};
use crate::request::{METHODS, Methods, Request};

/// `read` or `write`. Independent of each other: `write` does not imply `read`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Permission {
    /// GET, HEAD, OPTIONS, and searching by POST.
    Read,
    /// Everything else.
    Write,
}

impl Permission {
    pub(crate) const WORDS: &'static [&'static str] = &["read", "write"];
    pub(crate) const VALUES: &'static [Self] = &[Self::Read, Self::Write];

    /// The word of the policy document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct Permissions {
    read: bool,
    write: bool,
}

impl Permissions {
    /// Both.
    pub const ALL: Self = Self { read: true, write: true };

    pub(crate) fn with(self, permission: Permission) -> Self {
        match permission {
            Permission::Read => Self { read: true, ..self },
            Permission::Write => Self { write: true, ..self },
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { read: self.read || other.read, write: self.write || other.write }
    }

    /// Whether `permission` is one of them.
    pub fn include(self, permission: Permission) -> bool {
        match permission {
            Permission::Read => self.read,
            Permission::Write => self.write,
        }
    }

    /// The words, `read` first.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Permission::VALUES.iter().filter(move |one| self.include(**one)).map(|one| one.as_str())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.words()).finish()
    }
}

/// An entry of `permission-rules`.
#[derive(Clone, Debug)]
pub(crate) struct PermissionRule {
    pub(crate) methods: Methods,
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) permission: Permission,
}

/// The policy's rules, then the built-in one for searching, then the method's default.
#[derive(Clone, Debug)]
pub(crate) struct PermissionRules {
    rules: Vec<PermissionRule>,
}

impl PermissionRules {
    pub(crate) fn new(mut rules: Vec<PermissionRule>) -> Self {
        // SearchHandler is the one handler of Vespa that maps POST to read.
        rules.push(PermissionRule {
            methods: Methods(vec!["POST"]),
            paths: PathPattern::new("/search/**").into_iter().collect(),
            permission: Permission::Read,
        });
        Self { rules }
    }

    /// What `request` needs.
    pub(crate) fn required(&self, request: Request<'_>) -> Result<Permission, DenyReason> {
        let Some(method) = METHODS.iter().find(|method| **method == request.method) else {
            return Err(DenyReason::MethodUnknown);
        };
        let path = RequestPath::new(request.path).map_err(|_| DenyReason::PathUnsafe)?;
        path.judge(|form| self.of_form(method, form)).ok_or(DenyReason::PathAmbiguous)
    }

    fn of_form(&self, method: &str, form: PathForm<'_>) -> Permission {
        let mut rules = self.rules.iter().filter(|rule| rule.methods.include(method));
        match rules.find(|rule| form.matches_any(&rule.paths)) {
            Some(rule) => rule.permission,
            None if matches!(method, "GET" | "HEAD" | "OPTIONS") => Permission::Read,
            None => Permission::Write,
        }
    }
}
