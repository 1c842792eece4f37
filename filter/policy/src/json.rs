//! JSON with positions: every [`Node`] borrows its text from the document, so where it stands is known for free.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Fault, PolicyErrorKind};
use crate::index::Texts;

/// A JSON value that has been checked for syntax and not yet for meaning.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    raw: &'a str,
    offset: usize,
}

/// A member of an object.
pub(crate) struct Member<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) key_offset: usize,
    pub(crate) value: Node<'a>,
}

impl<'a> Node<'a> {
    /// Parses a whole document: one value, strict RFC 8259, nothing after it.
    pub(crate) fn document(text: &'a str) -> Result<Self, Fault> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| syntax(text, 0, &error))?;
        Ok(Self::within(text, 0, raw.get()))
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn fault(&self, kind: PolicyErrorKind) -> Fault {
        Fault { offset: self.offset, kind }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.raw == "null"
    }

    pub(crate) fn is_string(&self) -> bool {
        self.raw.starts_with('"')
    }

    pub(crate) fn is_object(&self) -> bool {
        self.raw.starts_with('{')
    }

    /// The members in document order. A key that stands twice is an error: which of the two counts differs by parser.
    pub(crate) fn object(&self) -> Result<Vec<Member<'a>>, Fault> {
        self.expect("an object", '{')?;
        let members = serde_json::Deserializer::from_str(self.raw)
            .deserialize_map(Members { parent: *self })
            .map_err(|error| syntax(self.raw, self.offset, &error))?;
        let mut keys = Texts::new();
        match members.iter().find(|member| keys.insert(member.key.as_ref().into(), 0).is_some()) {
            Some(twice) => Err(Fault {
                offset: twice.key_offset,
                kind: PolicyErrorKind::DuplicateKey { key: twice.key.to_string() },
            }),
            None => Ok(members),
        }
    }

    pub(crate) fn array(&self) -> Result<Vec<Node<'a>>, Fault> {
        self.expect("an array", '[')?;
        serde_json::Deserializer::from_str(self.raw)
            .deserialize_seq(Elements { parent: *self })
            .map_err(|error| syntax(self.raw, self.offset, &error))
    }

    /// An array that must have elements; `why` says what an empty one would mean.
    pub(crate) fn filled_array(&self, why: &'static str) -> Result<Vec<Node<'a>>, Fault> {
        let elements = self.array()?;
        if elements.is_empty() {
            return Err(self.fault(PolicyErrorKind::EmptyArray { why }));
        }
        Ok(elements)
    }

    pub(crate) fn string(&self) -> Result<Cow<'a, str>, Fault> {
        self.expect("a string", '"')?;
        Text.deserialize(&mut serde_json::Deserializer::from_str(self.raw))
            .map_err(|error| syntax(self.raw, self.offset, &error))
    }

    pub(crate) fn boolean(&self) -> Result<bool, Fault> {
        match self.raw {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    fn expect(&self, expected: &'static str, first: char) -> Result<(), Fault> {
        if self.raw.starts_with(first) { Ok(()) } else { Err(self.wrong_type(expected)) }
    }

    fn wrong_type(&self, expected: &'static str) -> Fault {
        let found = match self.raw.as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        };
        self.fault(PolicyErrorKind::WrongType { expected, found })
    }

    /// `part` is a slice of `whole`, whose first byte stands at `offset` in the document.
    fn within(whole: &'a str, offset: usize, part: &'a str) -> Self {
        Self { raw: part, offset: offset + (part.as_ptr() as usize - whole.as_ptr() as usize) }
    }
}

fn syntax(text: &str, offset: usize, error: &serde_json::Error) -> Fault {
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (line_start + error.column().saturating_sub(1)).min(text.len());
    // serde_json appends the position it knows; ours is in the same place for every kind of error.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    Fault { offset: offset + at, kind: PolicyErrorKind::Syntax { message } }
}

struct Members<'a> {
    parent: Node<'a>,
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = Vec<Member<'a>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key_seed(Text)? {
            let raw: &'a RawValue = map.next_value()?;
            let value = Node::within(self.parent.raw, self.parent.offset, raw.get());
            let key_offset = match &key {
                // Minus the quotation mark. A key with escapes was copied; its value's place is near enough.
                Cow::Borrowed(text) => Node::within(self.parent.raw, self.parent.offset, text).offset - 1,
                Cow::Owned(_) => value.offset,
            };
            members.push(Member { key, key_offset, value });
        }
        Ok(members)
    }
}

struct Elements<'a> {
    parent: Node<'a>,
}

impl<'a> Visitor<'a> for Elements<'a> {
    type Value = Vec<Node<'a>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(raw) = seq.next_element::<&'a RawValue>()? {
            elements.push(Node::within(self.parent.raw, self.parent.offset, raw.get()));
        }
        Ok(elements)
    }
}

/// A string, borrowed unless it has escapes.
struct Text;

impl<'a> DeserializeSeed<'a> for Text {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Text {
    type Value = Cow<'a, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Self::Value, E> {
        Err(E::custom("lone surrogate in a string"))
    }
}

/// Where a byte of the document stands, for people and for programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Finds line, column (both from 1, columns in characters) and JSON path of `offset`. Only errors pay for this.
pub(crate) fn locate(text: &str, offset: usize) -> Place {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    let path = Node::document(text).map(|root| path_to(root, offset)).unwrap_or_default();
    Place { path, line: saturate(line), column: saturate(column) }
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn path_to(root: Node<'_>, offset: usize) -> String {
    let mut path = String::new();
    let mut node = root;
    while let Some((step, child)) = child_at(node, offset) {
        if !path.is_empty() && !step.starts_with('[') {
            path.push('.');
        }
        path.push_str(&step);
        node = child;
    }
    path
}

fn child_at(node: Node<'_>, offset: usize) -> Option<(String, Node<'_>)> {
    if node.raw.starts_with('[') {
        let elements = node.array().ok()?;
        return elements
            .into_iter()
            .enumerate()
            .find(|(_, element)| (element.offset..element.offset + element.raw.len()).contains(&offset))
            .map(|(index, element)| (format!("[{index}]"), element));
    }
    if !node.is_object() {
        return None;
    }
    let members =
        serde_json::Deserializer::from_str(node.raw).deserialize_map(Members { parent: node }).ok()?;
    members
        .into_iter()
        .find(|member| (member.key_offset..member.value.offset + member.value.raw.len()).contains(&offset))
        .map(|member| (member.key.into_owned(), member.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(text: &str) -> String {
        let fault = match Node::document(text) {
            Ok(node) => node.object().map(|_| ()).unwrap_err(),
            Err(fault) => fault,
        };
        let place = locate(text, fault.offset);
        format!("{}:{} {}", place.line, place.column, fault.kind)
    }

    #[test]
    fn nodes_know_their_place() {
        let text = "{\n  \"a\": [1, {\"é\": true}],\n  \"b\\u0041\": null\n}";
        let root = Node::document(text).unwrap();
        let members = root.object().unwrap();
        let inner = members[0].value.array().unwrap()[1].object().unwrap();
        assert_eq!(
            locate(text, inner[0].value.offset()),
            Place { path: "a[1].é".into(), line: 2, column: 18 }
        );
        assert_eq!(members[1].key, "bA");
        assert_eq!(locate(text, members[1].value.offset()).line, 3);
    }

    #[test]
    fn syntax_errors_carry_a_position() {
        assert_eq!(fault_of("{\"a\": 1,}"), "1:9 not JSON: key must be a string");
        assert_eq!(fault_of("{} x"), "1:4 not JSON: trailing characters");
        assert!(fault_of("{\"a\":\n 'b'}").starts_with("2:2 not JSON: expected value"));
        assert!(fault_of("").starts_with("1:1 not JSON: EOF"));
    }

    #[test]
    fn duplicate_keys_and_lone_surrogates_are_errors() {
        assert_eq!(fault_of("{\"a\":1,\"b\":2,\"a\":3}"), "1:14 key `a` stands twice");
        let text = r#"{"a":"\ud800"}"#;
        let node = Node::document(text).unwrap().object().unwrap()[0].value;
        assert!(matches!(node.string().unwrap_err().kind, PolicyErrorKind::Syntax { .. }));
    }

    #[test]
    fn deep_nesting_does_not_overflow() {
        let text = "[".repeat(200_000) + &"]".repeat(200_000);
        assert!(Node::document(&text).is_err() || Node::document(&text).unwrap().object().is_err());
    }
}
