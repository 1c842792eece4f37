//! Names of X.501, compared as RFC 5280 (7.1) wants it: by what they say, not by how it is encoded.

use super::der::{Element, OBJECT_IDENTIFIER, Reader, SEQUENCE, SET};

/// A name whose parts are written in one way: UTF-8, lower case, single spaces.
///
/// ASCII letters lose their case and others do not, as in OpenSSL and BoringSSL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Canonical(Vec<Relative>);

/// A relative name: its attributes, in an order of ours.
type Relative = Vec<(Vec<u8>, u8, Vec<u8>)>;

impl Canonical {
    /// `None` of what is no name.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let relatives = Element::only(name, SEQUENCE)?.children().all()?;
        relatives.into_iter().map(relative).collect::<Option<_>>().map(Self)
    }

    /// Whether this name is `base` or below it.
    pub(super) fn is_within(&self, base: &Self) -> bool {
        self.0.starts_with(&base.0)
    }
}

/// The values of an attribute of a name, as they are; `None` of what is no name.
pub(super) fn values<'a>(name: &'a [u8], kind: &[u8]) -> Option<Vec<Element<'a>>> {
    let mut found = Vec::new();
    for set in Element::only(name, SEQUENCE)?.children().all()? {
        for pair in Reader(set.raw).take(SET)?.children().all()? {
            let mut parts = Reader(pair.raw).take(SEQUENCE)?.children();
            let (it, value) = (parts.take(OBJECT_IDENTIFIER)?, parts.any()?);
            found.extend((it.content == kind).then_some(value));
        }
    }
    Some(found)
}

fn relative(set: Element<'_>) -> Option<Relative> {
    let attributes = Reader(set.raw).take(SET)?.children().all()?;
    let mut attributes = attributes.into_iter().map(attribute).collect::<Option<Vec<_>>>()?;
    attributes.sort();
    Some(attributes)
}

fn attribute(pair: Element<'_>) -> Option<(Vec<u8>, u8, Vec<u8>)> {
    let mut parts = Reader(pair.raw).take(SEQUENCE)?.children();
    let (kind, value) = (parts.take(OBJECT_IDENTIFIER)?, parts.any()?);
    if !parts.is_at_end() {
        return None;
    }
    let kind = kind.content.to_vec();
    Some(match text(value) {
        Some(text) => (kind, UTF8_STRING, folded(&text?).into_bytes()),
        None => (kind, value.identifier, value.content.to_vec()),
    })
}

/// The text of a string; `None` of other types, `Some(None)` where it is malformed.
pub(super) fn text(value: Element<'_>) -> Option<Option<String>> {
    let bytes = value.content;
    Some(match value.identifier {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        // Latin-1, as everybody reads it.
        T61_STRING => Some(bytes.iter().copied().map(char::from).collect()),
        BMP_STRING => {
            let units = bytes.chunks(2).map(|unit| match unit {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            units.collect::<Option<Vec<_>>>().and_then(|units| String::from_utf16(&units).ok())
        }
        UNIVERSAL_STRING => {
            let characters = bytes.chunks(4).map(|unit| {
                let unit = unit.try_into().ok()?;
                char::from_u32(u32::from_be_bytes(unit))
            });
            characters.collect()
        }
        _ => return None,
    })
}

fn folded(text: &str) -> String {
    let words: Vec<_> = text.split(|it: char| it.is_ascii_whitespace()).filter(|it| !it.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
pub(super) const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;
const BMP_STRING: u8 = 0x1e;

#[cfg(test)]
mod tests {
    use super::*;

    /// A name with one attribute, CN.
    fn cn(identifier: u8, value: &[u8]) -> Vec<u8> {
        let element = |identifier: u8, content: &[u8]| {
            [&[identifier, u8::try_from(content.len()).expect("short")], content].concat()
        };
        let pair = [&element(OBJECT_IDENTIFIER, &[0x55, 4, 3])[..], &element(identifier, value)].concat();
        element(SEQUENCE, &element(SET, &element(SEQUENCE, &pair)))
    }

    #[test]
    fn names_are_compared_by_what_they_say() {
        let canonical = |identifier, value: &[u8]| Canonical::of(&cn(identifier, value)).expect("a name");
        let name = canonical(PRINTABLE_STRING, b"Example Root");
        for same in [
            canonical(UTF8_STRING, b"Example Root"),
            canonical(UTF8_STRING, b" example  ROOT "),
            canonical(T61_STRING, b"Example Root"),
            canonical(BMP_STRING, b"\0E\0x\0a\0m\0p\0l\0e\0 \0R\0o\0o\0t"),
        ] {
            assert_eq!(name, same);
        }
        assert_ne!(name, canonical(UTF8_STRING, b"ExampleRoot"));
        assert_ne!(canonical(T61_STRING, &[0xe9]), canonical(T61_STRING, &[0xc9]));
        assert_eq!(canonical(T61_STRING, &[0xe9]), canonical(UTF8_STRING, "é".as_bytes()));
        assert_eq!(Canonical::of(&cn(UTF8_STRING, &[0xff])), None);
        assert_eq!(Canonical::of(&cn(BMP_STRING, &[0])), None);
    }
}
