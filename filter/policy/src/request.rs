//! What the second gate knows of a request.

/// Method and path of a request, as the client sent them.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, case-sensitive (RFC 9110, 9.1).
    pub method: &'a str,
    /// `:path`, or the request target, with its query.
    pub path: &'a str,
}

/// Methods with a meaning here; any other is refused.
pub(crate) const METHODS: &[&str] =
    &["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE"];

/// A list of methods of a rule; empty means every known one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Methods(pub(crate) Vec<&'static str>);

impl Methods {
    pub(crate) fn include(&self, method: &str) -> bool {
        self.0.is_empty() || self.0.contains(&method)
    }
}
