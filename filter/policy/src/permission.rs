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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(methods: &[&'static str], path: &str, permission: Permission) -> PermissionRule {
        let paths = vec![PathPattern::new(path).expect("a pattern")];
        PermissionRule { methods: Methods(methods.to_vec()), paths, permission }
    }

    #[test]
    fn searching_by_post_is_reading() {
        let rules = PermissionRules::new(Vec::new());
        for (method, path, answer) in [
            ("POST", "/search", Ok(Permission::Read)),
            ("POST", "/search/", Ok(Permission::Read)),
            ("POST", "/search/?yql=select&x=/document", Ok(Permission::Read)),
            ("POST", "/search/custom/chain", Ok(Permission::Read)),
            ("POST", "/search/a%2Fb%20c", Ok(Permission::Read)),
            ("PUT", "/search/", Ok(Permission::Write)),
            ("DELETE", "/search/", Ok(Permission::Write)),
            ("GET", "/search/", Ok(Permission::Read)),
            ("POST", "/searching", Ok(Permission::Write)),
            ("POST", "/Search/", Ok(Permission::Write)),
            ("POST", "/document/v1/search/", Ok(Permission::Write)),
            ("POST", "/?/search/", Ok(Permission::Write)),
            ("OPTIONS", "*", Ok(Permission::Read)),
            // A server may see /search/ in each of these, and write elsewhere.
            ("POST", "//search/", Err(DenyReason::PathAmbiguous)),
            ("POST", "/search%2F", Err(DenyReason::PathAmbiguous)),
            ("POST", "/%73earch/", Err(DenyReason::PathAmbiguous)),
            ("POST", "/search;x=y/", Err(DenyReason::PathAmbiguous)),
            ("POST", "/search\\x", Err(DenyReason::PathAmbiguous)),
            // Where the method alone decides, the form of the path does not matter.
            ("PUT", "//search/", Ok(Permission::Write)),
            ("GET", "/search%2F", Ok(Permission::Read)),
            ("POST", "/search/../document/v1/", Err(DenyReason::PathUnsafe)),
            ("POST", "/search/%2e%2e/document/v1/", Err(DenyReason::PathUnsafe)),
            ("POST", "/search/%00", Err(DenyReason::PathUnsafe)),
            ("POST", "", Err(DenyReason::PathUnsafe)),
            ("GET", "https://host/", Err(DenyReason::PathUnsafe)),
            ("post", "/search/", Err(DenyReason::MethodUnknown)),
            ("PROPFIND", "/", Err(DenyReason::MethodUnknown)),
            ("", "/", Err(DenyReason::MethodUnknown)),
        ] {
            assert_eq!(rules.required(Request { method, path }), answer, "{method} {path}");
        }
    }

    #[test]
    fn the_first_rule_counts_before_the_built_in_one_and_the_default() {
        let rules = PermissionRules::new(vec![
            rule(&["POST"], "/search/import", Permission::Write),
            rule(&["POST", "PUT"], "/graphql/**", Permission::Read),
            rule(&[], "/admin/**", Permission::Write),
            rule(&["GET"], "/admin/**", Permission::Read),
        ]);
        for (method, path, permission) in [
            ("POST", "/search/import", Permission::Write),
            ("POST", "/search/other", Permission::Read),
            ("POST", "/graphql", Permission::Read),
            ("PUT", "/graphql/x", Permission::Read),
            ("DELETE", "/graphql/x", Permission::Write),
            ("GET", "/admin/", Permission::Write),
            ("OPTIONS", "/admin", Permission::Write),
            ("GET", "/", Permission::Read),
            ("POST", "/", Permission::Write),
        ] {
            assert_eq!(rules.required(Request { method, path }), Ok(permission), "{method} {path}");
        }
        let ambiguous = rules.required(Request { method: "GET", path: "/admin%2Fx" });
        assert_eq!(ambiguous, Err(DenyReason::PathAmbiguous));
    }

    #[test]
    fn sets_are_printed_as_words() {
        let write = Permissions::default().with(Permission::Write);
        assert_eq!(format!("{write:?}"), r#"{"write"}"#);
        assert!(write.include(Permission::Write) && !write.include(Permission::Read));
        let both = write.union(Permissions::default().with(Permission::Read));
        assert_eq!(both, Permissions::ALL);
        assert_eq!(both.words().collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!(Permissions::default().words().count(), 0);
    }
}
