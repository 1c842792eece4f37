//! Request paths: in the form that is forwarded, and in every form a server may make of it.

use std::borrow::Cow;

use crate::escape::{digit, percent_decoded};
use crate::pattern::Label;

/// A path glob: `*` and `?` stay within a segment, `**` is zero or more segments; the query is never matched.
///
/// `/search/**` matches `/search`, `/search/` and everything below; `/**` matches everything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    One(Label),
    /// `**`.
    Any,
}

/// A pattern that does not start with `/`, or has `**` beside other characters of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathPatternError;

impl PathPattern {
    /// Compiles a glob.
    ///
    /// # Errors
    /// [`PathPatternError`].
    pub fn new(text: &str) -> Result<Self, PathPatternError> {
        let rest = text.strip_prefix('/').ok_or(PathPatternError)?;
        let segment = |segment: &str| match segment {
            "**" => Ok(Segment::Any),
            other if other.contains("**") => Err(PathPatternError),
            other => Ok(Segment::One(Label::new(other, true))),
        };
        Ok(Self { segments: rest.split('/').map(segment).collect::<Result<_, _>>()? })
    }

    /// Whether one form of a path matches as a whole.
    fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else {
            // `OPTIONS *`
            return matches!(self.segments[..], [Segment::Any]);
        };
        let values: Vec<&str> = rest.split('/').collect();
        let (mut pattern, mut value) = (0, 0);
        // Where to go on if a later segment fails: the last `**` takes one segment more.
        let mut retry: Option<(usize, usize)> = None;
        while value < values.len() {
            match self.segments.get(pattern) {
                Some(Segment::Any) => {
                    retry = Some((pattern, value));
                    pattern += 1;
                }
                Some(Segment::One(label)) if label.matches(values[value]) => {
                    pattern += 1;
                    value += 1;
                }
                _ => match &mut retry {
                    Some((any, taken)) => {
                        *taken += 1;
                        (pattern, value) = (*any + 1, *taken);
                    }
                    None => return false,
                },
            }
        }
        self.segments[pattern..].iter().all(|segment| *segment == Segment::Any)
    }
}

/// The path of a request, without its query, and the other forms in which a server may see it.
///
/// Servers decode escapes, merge slashes and drop path parameters at different moments. A path is judged in the form that
/// is forwarded, and refused where one of the other forms would fall under another rule.
#[derive(Clone, Debug)]
pub struct RequestPath<'a> {
    forwarded: &'a str,
    other_forms: Vec<String>,
}

/// A path that no rule can be applied to safely: with a dot segment, NUL or control character, plain or escaped, with a
/// broken escape, or not a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnsafePath;

impl<'a> RequestPath<'a> {
    /// Takes the `:path` of a request (RFC 9113, 8.3.1), or its request target.
    ///
    /// # Errors
    /// [`UnsafePath`].
    pub fn new(target: &'a str) -> Result<Self, UnsafePath> {
        let forwarded = target.split('?').next().unwrap_or_default();
        if forwarded == "*" {
            return Ok(Self { forwarded, other_forms: Vec::new() });
        }
        if !forwarded.starts_with('/') || forwarded.contains('#') {
            return Err(UnsafePath);
        }
        // A server drops parameters before it decodes, or after, or never; and merges slashes at the end, or never.
        let bare = without_parameters(forwarded);
        let mut other_forms: Vec<String> = Vec::new();
        for form in [forwarded, bare.as_str()] {
            let once = decoded(form).ok_or(UnsafePath)?;
            if once.chars().any(char::is_control) {
                return Err(UnsafePath);
            }
            // Vespa decodes once. A proxy or framework in between may decode again what that leaves, and then this is a path
            // of another rule. A `%` that is a document's own is no escape then, or changes nothing.
            let twice = decoded(&once).filter(|twice| *twice != once);
            for decoded in [Some(&once), twice.as_ref()].into_iter().flatten() {
                let merged = merged(decoded);
                if merged.split('/').any(|segment| matches!(segment, "." | "..")) {
                    return Err(UnsafePath);
                }
                // A server that decodes first finds a query or a fragment behind an escaped `?` or `#`.
                let cut = decoded.split(['?', '#']).next().unwrap_or_default().to_owned();
                other_forms.extend([decoded.clone().into_owned(), merged, cut]);
            }
            other_forms.push(form.to_owned());
        }
        other_forms.retain(|form| form != forwarded);
        other_forms.dedup();
        Ok(Self { forwarded, other_forms })
    }

    /// Whether the path of a request target has no NUL or other control character of ASCII, plain or escaped: what every path
    /// must keep to, also where no rule is about paths. An escape that is broken stands for nothing.
    pub fn is_printable(target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default().as_bytes();
        let is_escaped_control = |part: &[u8]| match part {
            [b'%', high, low] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low).is_ascii_control(),
                _ => false,
            },
            _ => false,
        };
        !path.iter().any(u8::is_ascii_control) && !path.windows(3).any(is_escaped_control)
    }

    /// What `rule` says of this path; `None` where it says different things of its forms.
    pub fn judge<T: PartialEq>(&self, rule: impl Fn(PathForm<'_>) -> T) -> Option<T> {
        let answer = rule(PathForm(self.forwarded));
        self.other_forms.iter().all(|form| rule(PathForm(form)) == answer).then_some(answer)
    }
}

/// One form of a path.
#[derive(Clone, Copy, Debug)]
pub struct PathForm<'a>(&'a str);

impl PathForm<'_> {
    /// Whether any of `patterns` matches.
    pub fn matches_any(self, patterns: &[PathPattern]) -> bool {
        patterns.iter().any(|pattern| pattern.matches(self.0))
    }
}

/// All escapes decoded, once. `None` for a broken escape, and for bytes that are no UTF-8: no rule can name them, but
/// they are a document's business, so they stay escaped.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let bytes = percent_decoded(path.as_bytes())?;
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Path parameters (`;x=y`) dropped from every segment.
fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

/// Backslashes as slashes, parameters dropped, slashes merged: what lenient servers make of a path.
fn merged(path: &str) -> String {
    let path = without_parameters(&path.replace('\\', "/"));
    let kept: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, yes, no) in [
            ("/search/**", &["/search", "/search/", "/search/a/b"][..], &["/searchx", "/", "/a/search"][..]),
            ("/**", &["/", "/a", "/a/b/", "*"], &[]),
            ("/state/v1", &["/state/v1"], &["/state/v1/", "/state/v1/x", "/state"]),
            ("/a/*/c", &["/a/b/c", "/a//c"], &["/a/b/b/c", "/a/c"]),
            ("/a/**/c", &["/a/c", "/a/b/c", "/a/c/c", "/a/c/b/c"], &["/a/c/b", "/a"]),
            ("/**/x/**/y", &["/x/y", "/a/x/b/x/y"], &["/y/x", "/x"]),
            ("/v?/*.json", &["/v1/a.json"], &["/v12/a.json", "/v1/a/b.json"]),
            ("/", &["/"], &["/a", "*"]),
        ] {
            let compiled = PathPattern::new(pattern).unwrap();
            yes.iter().for_each(|path| assert!(compiled.matches(path), "{pattern} must match {path}"));
            no.iter().for_each(|path| assert!(!compiled.matches(path), "{pattern} must not match {path}"));
        }
        for wrong in ["", "search", "*", "/a**", "/**b/c"] {
            assert_eq!(PathPattern::new(wrong), Err(PathPatternError), "{wrong}");
        }
    }

    #[test]
    fn paths_that_servers_read_differently_are_refused() {
        let search = [PathPattern::new("/search/**").unwrap()];
        for (target, answer) in [
            ("/search/?query=/document/v1", Ok(Some(true))),
            ("/document/v1/ns/t/docid/https%3A%2F%2Fx%2F%c3%a5", Ok(Some(false))),
            ("/document/v1/ns/t/docid/a%20b%25", Ok(Some(false))),
            ("/document//v1", Ok(Some(false))),
            ("/search/a%2Fb", Ok(Some(true))),
            ("//search/", Ok(None)),
            ("/search%2Fx", Ok(None)),
            ("/%73earch/", Ok(None)),
            ("/search;x=y/", Ok(None)),
            ("/search;x%2Fy", Ok(None)),
            ("/search%3Fx", Ok(None)),
            ("/search%23x", Ok(None)),
            ("/document/v1/ns/t/docid/what%3F", Ok(Some(false))),
            ("/search;x%5Cy", Ok(None)),
            ("/;%2Fz/search/y", Ok(None)),
            ("/x;a%2Fb", Ok(Some(false))),
            ("/search/..;%2Fx/document", Err(UnsafePath)),
            ("/search/.;a/..;b%2Fc", Err(UnsafePath)),
            ("/\\search", Ok(None)),
            ("/search/../document/v1", Err(UnsafePath)),
            ("/search/%2e%2E/document", Err(UnsafePath)),
            ("/search/..%2Fdocument", Err(UnsafePath)),
            ("/search/..;x/document", Err(UnsafePath)),
            ("/search/..\\document", Err(UnsafePath)),
            ("/./x", Err(UnsafePath)),
            ("/search/%00", Err(UnsafePath)),
            ("/search/%0d%0a", Err(UnsafePath)),
            ("/search/%252e%252e/document", Err(UnsafePath)),
            ("/search/..%252fdocument", Err(UnsafePath)),
            ("/search/.%252e%5cdocument", Err(UnsafePath)),
            ("/document/v1/%252e%252E/x", Err(UnsafePath)),
            ("/search%252Fx", Ok(None)),
            ("/%2573earch/", Ok(None)),
            ("/search%253Fx", Ok(None)),
            ("/search/a%252Fb", Ok(Some(true))),
            ("/document/v1/ns/t/docid/a%252Fb%2500%25zz", Ok(Some(false))),
            ("/document/v1/ns/t/docid/50%25%20off", Ok(Some(false))),
            ("/search/%", Err(UnsafePath)),
            ("/search/%zz", Err(UnsafePath)),
            ("/search#/x", Err(UnsafePath)),
            ("", Err(UnsafePath)),
            ("search", Err(UnsafePath)),
            ("http://x/search", Err(UnsafePath)),
        ] {
            let judged = RequestPath::new(target).map(|path| path.judge(|form| form.matches_any(&search)));
            assert_eq!(judged, answer, "{target}");
        }
    }

    #[test]
    fn control_characters_are_found_in_the_path_only() {
        for target in ["/%00", "/a%0ab?x", "/a%7F", "/a/%1fb", "/%zz%00", "/a\u{1}"] {
            assert!(!RequestPath::is_printable(target), "{target}");
        }
        for target in ["/", "*", "/a?x=%00", "/%2500", "/%zz%20", "/a/../b", "/%e9", "/%c3%a5"] {
            assert!(RequestPath::is_printable(target), "{target}");
        }
    }
}
