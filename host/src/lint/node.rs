//! YAML or JSON with the place of every value.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Line and column, both from 1; columns in characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A value and where it stands. What an alias repeats stands where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    content: Content,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// All documents of a file.
    pub(super) fn documents(text: &str) -> Result<Vec<Self>, serde_saphyr::Error> {
        serde_saphyr::from_multiple(text)
    }

    /// A member, named as protobuf does (`vm_config`) or as its JSON may (`vmConfig`). One that is null is not there.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.members()
            .find(|(key, value)| is_named(key, name) && !matches!(value.content, Content::Null))
            .map(|(_, value)| value)
    }

    /// The member of a member, and so on.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The place of a member, or of what it is missing in.
    pub(super) fn place_of(&self, name: &str) -> Place {
        self.get(name).map_or(self.place, |member| member.place)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        let members = if let Content::Map(members) = &self.content { &members[..] } else { &[] };
        members.iter().map(|(key, value)| (&**key, value))
    }

    /// The items of a member that is a list.
    pub(super) fn list(&self, name: &str) -> &[Self] {
        self.get(name).map_or(&[], Self::items)
    }

    pub(super) fn items(&self) -> &[Self] {
        if let Content::List(items) = &self.content { items } else { &[] }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// The text of a member; empty where there is none.
    pub(super) fn text_of(&self, name: &str) -> &str {
        self.get(name).and_then(Self::text).unwrap_or_default()
    }

    /// Whether this is a mapping.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// Whether this is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.content, Content::List(_))
    }

    /// Moves the places of a document to where its text is: in a block, whose first character is at `start`, or all to `start`.
    pub(super) fn relocate(&mut self, start: Place, block: bool) {
        let Place { line, column } = self.place;
        self.place = if block {
            Place { line: start.line + line - 1, column: start.column + column - 1 }
        } else {
            start
        };
        match &mut self.content {
            Content::List(items) => items.iter_mut().for_each(|item| item.relocate(start, block)),
            Content::Map(members) => members.iter_mut().for_each(|(_, value)| value.relocate(start, block)),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    pub(super) fn number(&self) -> Option<u64> {
        if let Content::Number(number) = &self.content { number.as_u64() } else { None }
    }

    /// A number with a sign.
    pub(super) fn integer(&self) -> Option<i64> {
        if let Content::Number(number) = &self.content { number.as_i64() } else { None }
    }

    /// A mapping with this as its only member, in a list.
    pub(super) fn listed(self, name: &str) -> Self {
        let place = self.place;
        let list = Self { content: Content::List(vec![self]), place };
        Self { content: Content::Map(vec![(name.to_owned(), list)]), place }
    }

    /// Whether a member is true, in any of the words that Envoy's YAML has for it.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|member| match &member.content {
            Content::Bool(flag) => *flag,
            Content::Text(word) => ["true", "yes", "on", "y"].iter().any(|it| word.eq_ignore_ascii_case(it)),
            _ => false,
        })
    }

    /// Whether a member is one of these words of an enumeration, or one of their numbers.
    pub(super) fn is_one_of(&self, name: &str, words: &[&str], numbers: &[u64]) -> bool {
        self.get(name).is_some_and(|member| match &member.content {
            Content::Text(word) => words.contains(&word.as_str()),
            Content::Number(number) => number.as_u64().is_some_and(|number| numbers.contains(&number)),
            _ => false,
        })
    }

    /// The message of an `Any`: its type without the part before the slash, and its fields, also those of a `TypedStruct`.
    pub(super) fn typed(&self) -> (&str, &Self) {
        let kind = self.text_of("@type").rsplit('/').next().unwrap_or_default();
        match self.get("value") {
            Some(value) if kind.ends_with(".TypedStruct") => {
                (self.text_of("type_url").rsplit('/').next().unwrap_or_default(), value)
            }
            _ => (kind, self),
        }
    }

    /// The message in `typed_config`.
    pub(super) fn typed_config(&self) -> (&str, &Self) {
        self.get("typed_config").map_or(("", self), Self::typed)
    }

    /// Itself and all that it holds, outside in.
    pub(super) fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        self.items().iter().for_each(|item| item.walk(visit));
        self.members().for_each(|(_, value)| value.walk(visit));
    }

    /// Members that are here before, in the other form of their name: Envoy takes one of the two.
    pub(super) fn repeated(&self) -> impl Iterator<Item = (&str, &Self)> {
        let mut names = BTreeSet::new();
        self.members().filter(move |(key, _)| !names.insert(camel(key)))
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(flag) => Value::Bool(*flag),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(members) => {
                let members = members.iter().map(|(key, value)| (key.clone(), value.to_json()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

/// Whether a key is `snake_case` or the same as `snakeCase`.
fn is_named(key: &str, name: &str) -> bool {
    key == name || key == camel(name)
}

/// A key as protobuf writes it, `camelCase` made `snake_case`.
pub(super) fn snake(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for character in key.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        match character {
            '_' => upper = true,
            other if upper => {
                camel.push(other.to_ascii_uppercase());
                upper = false;
            }
            other => camel.push(other),
        }
    }
    camel
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        let at = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        let place = Place { line: at(spanned.defined.line()), column: at(spanned.defined.column()) };
        Ok(Self { content: spanned.value, place })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Content;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Content, E> {
                Ok(Content::Null)
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Content, E> {
                Ok(Content::Bool(flag))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Content, E> {
                Ok(Content::Number(number.into()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Content, E> {
                Ok(Content::Number(number.into()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Content, E> {
                Ok(Number::from_f64(number).map_or(Content::Null, Content::Number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Content::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Content::Map(members))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
