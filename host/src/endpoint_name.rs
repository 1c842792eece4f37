//! Names of endpoints that tell nothing of their owner, as those of Vespa Cloud (`GeneratedEndpoint.java`).
//!
//! A name is `LABEL.GROUP.SCOPE.SUFFIX`, with eight random hexadecimal digits each for label and group. A wildcard in a
//! certificate stands for exactly one label (RFC 9525, 6.3), so `*.SCOPE.SUFFIX` covers none of these names, and
//! `*.GROUP.SCOPE.SUFFIX` all of one group: a new endpoint of a group needs no new certificate.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Longest name (RFC 1035, 2.3.4), without the root's dot.
const NAME_CHARACTERS: usize = 253;
/// Longest label (RFC 1035, 2.3.4).
const LABEL_CHARACTERS: usize = 63;
/// Characters before the scope: two labels of eight digits and their dots.
const RANDOM_CHARACTERS: usize = 18;

/// What the names of a deployment have in common: `SCOPE.SUFFIX`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone(String);

/// The label that names share which one wildcard certificate covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Group([u8; 4]);

/// Why there is no such name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EndpointNameError {
    /// Not one label of letters, digits and hyphens.
    Scope(String),
    /// Not such labels with dots between them, or the last one is a number.
    Suffix(String),
    /// The whole name is longer than DNS has room for.
    TooLong,
    /// Not eight hexadecimal digits.
    Group(String),
    /// The machine gave no random bytes.
    Random(getrandom::Error),
}

impl Zone {
    /// Checks that both are host names (RFC 1123, 2.1); upper case becomes lower case.
    ///
    /// # Errors
    /// They are not, or the names would be longer than 253 characters.
    pub fn new(scope: &str, suffix: &str) -> Result<Self, EndpointNameError> {
        if !is_label(scope) {
            return Err(EndpointNameError::Scope(scope.to_owned()));
        }
        let top = suffix.rsplit('.').next().unwrap_or_default();
        // Whatever ends in a number is read as an address (WHATWG URL, 3.5).
        if !suffix.split('.').all(is_label) || top.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(EndpointNameError::Suffix(suffix.to_owned()));
        }
        let zone = format!("{scope}.{suffix}");
        if RANDOM_CHARACTERS + zone.len() > NAME_CHARACTERS {
            return Err(EndpointNameError::TooLong);
        }
        Ok(Self(zone.to_ascii_lowercase()))
    }

    /// So many different new names of the group.
    ///
    /// # Errors
    /// [`EndpointNameError::Random`].
    pub fn names(&self, group: Group, count: u16) -> Result<BTreeSet<String>, EndpointNameError> {
        let mut names = BTreeSet::new();
        while names.len() < usize::from(count) {
            names.insert(format!("{}.{group}.{}", Group::random()?, self.0));
        }
        Ok(names)
    }

    /// The name for a certificate that covers all names of the group.
    pub fn wildcard(&self, group: Group) -> String {
        format!("*.{group}.{}", self.0)
    }
}

impl Group {
    /// A new one, from the machine's CSPRNG.
    ///
    /// # Errors
    /// [`EndpointNameError::Random`].
    pub fn random() -> Result<Self, EndpointNameError> {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).map_err(EndpointNameError::Random)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl FromStr for Group {
    type Err = EndpointNameError;

    fn from_str(text: &str) -> Result<Self, EndpointNameError> {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(|it| Self(it.to_be_bytes())).ok_or_else(|| EndpointNameError::Group(text.to_owned()))
    }
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_CHARACTERS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl fmt::Display for EndpointNameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(text) => write!(
                formatter,
                "`{}` is no scope; expected one label of letters, digits and hyphens, such as `z`",
                text.escape_debug()
            ),
            Self::Suffix(text) => write!(
                formatter,
                "`{}` is no domain name; expected one such as `vespa-app.cloud`, without a final dot",
                text.escape_debug()
            ),
            Self::TooLong => write!(formatter, "names would be longer than {NAME_CHARACTERS} characters"),
            Self::Group(text) => write!(
                formatter,
                "`{}` is no group; expected 8 hexadecimal digits, the second label of a name",
                text.escape_debug()
            ),
            Self::Random(error) => write!(formatter, "no random bytes: {error}"),
        }
    }
}

impl std::error::Error for EndpointNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names_that_one_wildcard_covers() {
        let group: Group = "0A1b2c3D".parse().expect("a group");
        let zone = Zone::new("Z", "Vespa-App.cloud").expect("a zone");
        assert_eq!(zone.wildcard(group), "*.0a1b2c3d.z.vespa-app.cloud");
        let names = zone.names(group, 300).expect("names");
        assert_eq!(names.len(), 300);
        for name in &names {
            let label = name.strip_suffix(".0a1b2c3d.z.vespa-app.cloud").expect("of the group");
            assert!(label.len() == 8 && label.parse::<Group>().is_ok(), "{name}");
        }
        assert_ne!(Group::random(), Group::random());
    }

    #[test]
    fn what_dns_has_no_room_for_is_refused() {
        use EndpointNameError as Error;
        let long = "a".repeat(63);
        let suffix = |characters: usize| {
            let mut suffix = format!("{long}.{long}.{long}.");
            suffix.push_str(&"b".repeat(characters - suffix.len()));
            suffix
        };
        // 18 characters, the scope and its dot come before the suffix.
        let exact = Zone::new("z", &suffix(233)).expect("253 characters");
        assert_eq!(
            exact
                .names("00000000".parse().expect("a group"), 1)
                .expect("a name")
                .pop_last()
                .map(|it| it.len()),
            Some(253)
        );
        assert_eq!(Zone::new("z", &suffix(234)), Err(Error::TooLong));
        assert!(Zone::new(&long, "xn--bcher-kva.example").is_ok());
        for scope in ["", "a.b", "-a", "a-", "a_b", "é", "*", " z", &format!("{long}a")] {
            assert_eq!(Zone::new(scope, "example"), Err(Error::Scope(scope.to_owned())));
        }
        for suffix in
            ["", ".", "a.", ".a", "a..b", "a.1", "127.0.0.1", "a_b.c", "a.é", "*.a", &format!("{long}a.b")]
        {
            assert_eq!(Zone::new("z", suffix), Err(Error::Suffix(suffix.to_owned())));
        }
        for group in ["", "0a1b2c3", "0a1b2c3d4", "0a1b2c3g", "+a1b2c3d", "0x1b2c3d", "٣٣٣٣"] {
            assert_eq!(group.parse::<Group>(), Err(Error::Group(group.to_owned())));
        }
    }
}
