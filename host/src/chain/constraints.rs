//! Name constraints (RFC 5280, 4.2.1.10): which names an authority may give.
//!
//! webpki knows DNS names and addresses. SPIFFE authorities (step-ca, Vault) constrain URIs, companies directory names and
//! mail. The answers are those of BoringSSL, which Envoy asks.

use super::certificate::Certificate;
use super::der::{Element, Reader, SEQUENCE, constructed, tagged};
use super::name::{Canonical, IA5_STRING, text, values};

/// The subtrees of an authority.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints<'a> {
    permitted: Vec<Subtree<'a>>,
    excluded: Vec<Subtree<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Subtree<'a> {
    base: Name<'a>,
    /// `minimum` or `maximum` is there, which RFC 5280 forbids.
    is_limited: bool,
}

/// A GeneralName.
#[derive(Clone, Copy, Debug)]
struct Name<'a> {
    form: Form,
    value: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Dns,
    Mail,
    Uri,
    Directory,
    /// By the identifier: addresses among them.
    Other(u8),
}

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// In no permitted subtree.
    NotPermitted(String),
    /// In an excluded subtree.
    Excluded(String),
    /// Nothing that a constraint can be compared with.
    Unreadable(String),
    /// A constraint for names of this form, which is not supported.
    Unsupported(String),
    /// A certificate without subjectAltName, and with a host name in the common name.
    CommonName(String),
    /// More comparisons than anybody needs.
    TooMany,
}

impl<'a> Constraints<'a> {
    /// `None` where the extension is malformed.
    pub(super) fn of(value: &'a [u8]) -> Option<Self> {
        let mut parts = Element::only(value, SEQUENCE)?.children();
        let permitted = parts.take_if(constructed(0)).map_or(Some(Vec::new()), subtrees)?;
        let excluded = parts.take_if(constructed(1)).map_or(Some(Vec::new()), subtrees)?;
        parts.is_at_end().then_some(Self { permitted, excluded })
    }

    /// Whether webpki reads them all, with the same answers.
    pub(super) fn are_of_dns(&self) -> bool {
        self.permitted.iter().chain(&self.excluded).all(|it| it.base.form == Form::Dns && !it.is_limited)
    }

    /// Whether all names of the certificate are allowed.
    pub(super) fn check(&self, certificate: &Certificate<'_>) -> Result<(), Violation> {
        let names = names(certificate)?;
        if names.len().saturating_mul(self.permitted.len() + self.excluded.len()) > COMPARISONS {
            return Err(Violation::TooMany);
        }
        names.into_iter().try_for_each(|name| self.check_name(name))
    }

    fn check_name(&self, name: Name<'_>) -> Result<(), Violation> {
        let of_form = |subtrees: &[Subtree<'a>]| -> Vec<Subtree<'a>> {
            subtrees.iter().filter(|it| it.base.form == name.form).copied().collect()
        };
        let (permitted, excluded) = (of_form(&self.permitted), of_form(&self.excluded));
        if permitted.iter().chain(&excluded).any(|it| it.is_limited) {
            return Err(Violation::Unsupported(name.form.to_string()));
        }
        let mut is_permitted = permitted.is_empty();
        for subtree in &permitted {
            is_permitted |= name.is_within(subtree.base, false)?;
        }
        if !is_permitted {
            return Err(Violation::NotPermitted(name.to_string()));
        }
        for subtree in &excluded {
            if name.is_within(subtree.base, true)? {
                return Err(Violation::Excluded(name.to_string()));
            }
        }
        Ok(())
    }
}

/// Constraints do not bind a common name, and old readers take it for a host name where there is no subjectAltName.
pub(super) fn check_common_name(leaf: &Certificate<'_>) -> Result<(), Violation> {
    if leaf.alternative_names.is_some() {
        return Ok(());
    }
    let unreadable = || Violation::Unreadable("the subject".to_owned());
    for value in values(leaf.subject, COMMON_NAME).ok_or_else(unreadable)? {
        let name = text(value).flatten().ok_or_else(unreadable)?;
        if looks_like_host(&name) {
            return Err(Violation::CommonName(name));
        }
    }
    Ok(())
}

fn subtrees(list: Element<'_>) -> Option<Vec<Subtree<'_>>> {
    list.children().all()?.into_iter().map(subtree).collect()
}

fn subtree(element: Element<'_>) -> Option<Subtree<'_>> {
    let mut parts = Reader(element.raw).take(SEQUENCE)?.children();
    let base = Name::of(parts.any()?)?;
    Some(Subtree { base, is_limited: !parts.is_at_end() })
}

/// All names of a certificate that constraints bind.
fn names<'a>(certificate: &Certificate<'a>) -> Result<Vec<Name<'a>>, Violation> {
    let mut names = Vec::new();
    let unreadable = |what: &str| Violation::Unreadable(what.to_owned());
    let subject = Element::only(certificate.subject, SEQUENCE).ok_or_else(|| unreadable("the subject"))?;
    if !subject.content.is_empty() {
        names.push(Name { form: Form::Directory, value: certificate.subject });
        let mails = values(certificate.subject, EMAIL_ADDRESS).ok_or_else(|| unreadable("the subject"))?;
        for mail in mails {
            if mail.identifier != IA5_STRING {
                return Err(unreadable("a mail address in the subject"));
            }
            names.push(Name { form: Form::Mail, value: mail.content });
        }
    }
    let mut alternatives = certificate.alternative_names.unwrap_or(Reader(&[]));
    while !alternatives.is_at_end() {
        let name = alternatives.any().and_then(Name::of);
        names.push(name.ok_or_else(|| unreadable("a subjectAltName"))?);
    }
    Ok(names)
}

impl<'a> Name<'a> {
    fn of(element: Element<'a>) -> Option<Self> {
        const MAIL: u8 = tagged(1);
        const DNS: u8 = tagged(2);
        const DIRECTORY: u8 = constructed(4);
        const URI: u8 = tagged(6);
        let form = match element.identifier {
            MAIL => Form::Mail,
            DNS => Form::Dns,
            // The tag is explicit: Name is a CHOICE.
            DIRECTORY => {
                Canonical::of(element.content)?;
                Form::Directory
            }
            URI => Form::Uri,
            other => Form::Other(other),
        };
        Some(Self { form, value: element.content })
    }

    fn is_within(self, base: Name<'_>, excluding: bool) -> Result<bool, Violation> {
        let unreadable = || Violation::Unreadable(self.to_string());
        match self.form {
            Form::Dns => Ok(dns_is_within(self.value, base.value, excluding)),
            Form::Mail => mail_is_within(self.value, base.value, excluding).ok_or_else(unreadable),
            Form::Uri => uri_is_within(self.value, base.value).ok_or_else(unreadable),
            Form::Directory => match (Canonical::of(self.value), Canonical::of(base.value)) {
                (Some(name), Some(base)) => Ok(name.is_within(&base)),
                _ => Err(unreadable()),
            },
            Form::Other(_) => Err(Violation::Unsupported(self.form.to_string())),
        }
    }
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.form {
            Form::Dns | Form::Mail | Form::Uri => {
                write!(formatter, "{} `{}`", self.form, String::from_utf8_lossy(self.value))
            }
            Form::Directory | Form::Other(_) => self.form.fmt(formatter),
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const ADDRESS: u8 = tagged(7);
        formatter.write_str(match self {
            Self::Dns => "DNS name",
            Self::Mail => "mail address",
            Self::Uri => "URI",
            Self::Directory => "the subject",
            Self::Other(ADDRESS) => "IP address",
            Self::Other(_) => "name of another kind",
        })
    }
}

/// A host, or a domain with all below it. A base with a dot in front is below only, an empty one is everything.
fn dns_is_within(name: &[u8], base: &[u8], excluding: bool) -> bool {
    if base.is_empty() {
        return true;
    }
    let undotted = |name| <[u8]>::strip_suffix(name, b".").unwrap_or(name);
    let (name, base) = (undotted(name), undotted(base));
    // `*.example` may be used as `host.example`.
    if let (true, Some(parent)) = (excluding, name.strip_prefix(b"*.")) {
        let base_parent = base.iter().position(|byte| *byte == b'.').map(|dot| &base[dot + 1..]);
        if base_parent.is_some_and(|it| it.eq_ignore_ascii_case(parent)) {
            return true;
        }
    }
    if base.starts_with(b".") {
        return ends_with(name, base);
    }
    match name.len().checked_sub(base.len()) {
        Some(0) => name.eq_ignore_ascii_case(base),
        Some(longer) => name[longer - 1] == b'.' && ends_with(name, base),
        None => false,
    }
}

/// An address, all of a host, or with a dot in front all of the hosts below a domain; `None` where one is no address.
///
/// The part before the `@` is compared with its case, but where that would let somebody through.
fn mail_is_within(name: &[u8], base: &[u8], excluding: bool) -> Option<bool> {
    let (local, domain) = mail_parts(name)?;
    let base = base.strip_prefix(b"@").unwrap_or(base);
    if base.contains(&b'@') {
        let (base_local, base_domain) = mail_parts(base)?;
        let is_local = base_local == local || excluding && base_local.eq_ignore_ascii_case(local);
        return Some(is_local && domain.eq_ignore_ascii_case(base_domain));
    }
    if !is_mail_domain(base) {
        return None;
    }
    Some(if base.starts_with(b".") { ends_with(domain, base) } else { domain.eq_ignore_ascii_case(base) })
}

fn mail_parts(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = address.iter().position(|byte| *byte == b'@')?;
    let (local, domain) = (&address[..at], &address[at + 1..]);
    let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(byte);
    (!local.is_empty() && local.iter().all(is_local) && is_mail_domain(domain)).then_some((local, domain))
}

fn is_mail_domain(domain: &[u8]) -> bool {
    !domain.is_empty() && domain.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte))
}

/// The host of a URI, or with a dot in front all below a domain; `None` of a URI without a plain host (RFC 3986, 3.2):
/// about user information, escapes and a dot at the end, the readers of a URI do not agree.
fn uri_is_within(uri: &[u8], base: &[u8]) -> Option<bool> {
    let colon = uri.iter().position(|byte| *byte == b':')?;
    let rest = uri[colon + 1..].strip_prefix(b"//")?;
    let authority = rest.split(|byte| b"/?#".contains(byte)).next()?;
    let mut parts = authority.splitn(2, |byte| *byte == b':');
    let (host, port) = (parts.next()?, parts.next().unwrap_or_default());
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let is_host = !host.is_empty() && !host.ends_with(b".") && host.iter().all(is_plain);
    if !is_host || !port.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(if base.starts_with(b".") { ends_with(host, base) } else { host.eq_ignore_ascii_case(base) })
}

fn ends_with(name: &[u8], end: &[u8]) -> bool {
    name.len() >= end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end)
}

/// Whether a reader may take it for a host name: labels of letters, digits, `-` and `_`.
fn looks_like_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte))
    };
    !name.is_empty() && name.split('.').all(is_label)
}

/// Most comparisons for one certificate, as in BoringSSL.
const COMPARISONS: usize = 1 << 20;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 1.2.840.113549.1.9.1
const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_constraint_is_a_domain_and_all_below() {
        for (name, base, excluding, expected) in [
            ("a.example", "example", false, true),
            ("A.EXAMPLE.", "example.", false, true),
            ("example", "example", false, true),
            ("example", ".example", false, false),
            ("a.example", ".example", false, true),
            ("badexample", "example", false, false),
            ("x", "", false, true),
            ("*.b.example", "a.b.example", false, false),
            ("*.b.example", "a.b.example", true, true),
        ] {
            let found = dns_is_within(name.as_bytes(), base.as_bytes(), excluding);
            assert_eq!(found, expected, "{name} {base}");
        }
    }

    #[test]
    fn a_uri_constraint_is_a_host_or_what_is_below() {
        for (uri, base, expected) in [
            ("spiffe://example.org/x", "example.org", Some(true)),
            ("spiffe://EXAMPLE.org", "example.org", Some(true)),
            ("https://example.org:8443/x", "example.org", Some(true)),
            ("spiffe://a.example.org/x", "example.org", Some(false)),
            ("spiffe://a.example.org/x", ".example.org", Some(true)),
            ("spiffe://example.org/x", ".example.org", Some(false)),
            ("spiffe://evil/example.org", "example.org", Some(false)),
            ("spiffe://example.org/x", "", Some(false)),
            // Not where a colon is further on, or in another part.
            ("spiffe://evil/x.example.org:1", ".example.org", Some(false)),
            ("spiffe://evil?x.example.org/", ".example.org", Some(false)),
            ("spiffe://evil#.example.org/", ".example.org", Some(false)),
            ("spiffe://example.org/x:y", "example.org", Some(true)),
            ("spiffe://example.org?x", "example.org", Some(true)),
            // What some readers take for one host and some for another.
            ("spiffe://example.org:1@evil/x", "example.org", None),
            ("spiffe://example.org:x@evil.org:9/x", "example.org", None),
            ("spiffe://u@example.org/x", "example.org", None),
            ("spiffe://example.org./x", "example.org", None),
            ("spiffe://example.org.:1/x", "example.org", None),
            ("spiffe://example%2eorg/x", "example.org", None),
            ("spiffe://example.org\\x/y", "example.org", None),
            ("spiffe://[::1]/x", "example.org", None),
            ("spiffe:///x", "example.org", None),
            ("urn:x", "example.org", None),
            ("example.org", "example.org", None),
        ] {
            assert_eq!(uri_is_within(uri.as_bytes(), base.as_bytes()), expected, "{uri} {base}");
        }
    }

    #[test]
    fn a_mail_constraint_is_an_address_a_host_or_what_is_below() {
        for (mail, base, excluding, expected) in [
            ("a@example.org", "example.org", false, Some(true)),
            ("a@EXAMPLE.org", "@example.org", false, Some(true)),
            ("a@x.example.org", "example.org", false, Some(false)),
            ("a@x.example.org", ".example.org", false, Some(true)),
            ("a@example.org", "a@example.org", false, Some(true)),
            ("A@example.org", "a@example.org", false, Some(false)),
            ("A@example.org", "a@example.org", true, Some(true)),
            ("a", "example.org", false, None),
            ("a@b@example.org", "example.org", false, None),
            ("a@example.org", "", false, None),
        ] {
            assert_eq!(
                mail_is_within(mail.as_bytes(), base.as_bytes(), excluding),
                expected,
                "{mail} {base}"
            );
        }
    }

    #[test]
    fn host_names_in_common_names_are_seen() {
        for name in ["a.example", "*.example", "host", "a_b", "node1."] {
            assert!(looks_like_host(name), "{name}");
        }
        for name in ["", "John Smith", "a..b", "é", "a@b"] {
            assert!(!looks_like_host(name), "{name}");
        }
    }
}
