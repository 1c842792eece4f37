//! Changing one array in the text of a JSON document, and not a byte of the rest: people wrote it.

use std::io;
use std::ops::Range;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

const STEP: &str = "  ";

/// The place of `part`, a slice of `text`.
fn place(text: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.get().len()
}

/// The text with another one in the place of each of `parts`, which are in document order.
pub(super) fn replaced(text: &str, parts: &[&RawValue], with: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut from = 0;
    for part in parts {
        let place = place(text, part);
        replaced.push_str(&text[from..place.start]);
        replaced.push_str(with);
        from = place.end;
    }
    replaced + &text[from..]
}

/// The text with `element` at the end of `array`, in the style of the elements that are there.
pub(super) fn appended(
    text: &str,
    array: &RawValue,
    elements: &[&RawValue],
    element: &impl Serialize,
) -> serde_json::Result<String> {
    let newline = line_end(text);
    let Some(last) = elements.last() else {
        let base = format!("{newline}{}", indentation(text, place(text, array).start));
        let content = match text.contains('\n') {
            true => format!("[{base}{STEP}{}{base}]", tall(element, &format!("{base}{STEP}"))?),
            false => format!("[{}]", flat(element)?),
        };
        return Ok(replaced(text, &[array], &content));
    };
    let Range { start, end } = place(text, last);
    let indent = indentation(text, start);
    let on_its_own_line = text[..start].ends_with(indent) && text[..start - indent.len()].ends_with('\n');
    let addition = match (on_its_own_line, last.get().contains('\n')) {
        (true, true) => format!(",{newline}{indent}{}", tall(element, &format!("{newline}{indent}"))?),
        (true, false) => format!(",{newline}{indent}{}", flat(element)?),
        (false, _) => format!(", {}", flat(element)?),
    };
    Ok([&text[..end], &addition, &text[end..]].concat())
}

/// The text without one of the elements of `array`.
pub(super) fn removed(text: &str, array: &RawValue, elements: &[&RawValue], index: usize) -> String {
    let start = |index: usize| place(text, elements[index]).start;
    let end = |index: usize| place(text, elements[index]).end;
    let gone = match (index, elements.len()) {
        (_, 1) => return replaced(text, &[array], "[]"),
        (0, _) => start(0)..start(1),
        (index, _) => end(index - 1)..end(index),
    };
    [&text[..gone.start], &text[gone.end..]].concat()
}

/// What the line of `position` begins with.
fn indentation(text: &str, position: usize) -> &str {
    let line = text[..position].rfind('\n').map_or(0, |newline| newline + 1);
    let blank = text[line..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[line..line + blank]
}

/// How the lines of the text end: as its first one does.
fn line_end(text: &str) -> &'static str {
    let first = text.split('\n').next().unwrap_or_default();
    if first.len() < text.len() && first.ends_with('\r') { "\r\n" } else { "\n" }
}

/// On several lines, with `margin` between them. Line ends within strings are escaped, so each is one of ours.
fn tall(element: &impl Serialize, margin: &str) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(element)?.replace('\n', margin))
}

/// On one line, with spaces where people put them.
fn flat(element: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    element.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced))?;
    String::from_utf8(bytes).map_err(|error| serde::ser::Error::custom(error.to_string()))
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (&RawValue, Vec<&RawValue>) {
        let array: &RawValue = serde_json::from_str(text).unwrap();
        (array, serde_json::from_str(array.get()).unwrap())
    }

    fn with(text: &str, element: &impl Serialize) -> String {
        // An array within something, so that places are not those of the array alone.
        let whole = format!("{{\"a\": {text}}}");
        let outer: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(&whole).unwrap();
        let array = outer["a"];
        let elements: Vec<&RawValue> = serde_json::from_str(array.get()).unwrap();
        let after = appended(&whole, array, &elements, element).unwrap();
        after.strip_prefix("{\"a\": ").unwrap().strip_suffix('}').unwrap().to_owned()
    }

    #[derive(Serialize)]
    struct Element {
        b: u8,
        a: [u8; 2],
    }

    const ELEMENT: Element = Element { b: 1, a: [2, 3] };

    #[test]
    fn what_is_added_looks_like_its_neighbours() {
        for (before, after) in [
            ("[]", r#"[{"b": 1, "a": [2, 3]}]"#),
            ("[7]", r#"[7, {"b": 1, "a": [2, 3]}]"#),
            ("[7 ]", r#"[7, {"b": 1, "a": [2, 3]} ]"#),
            ("[\n]", "[\n  {\n    \"b\": 1,\n    \"a\": [\n      2,\n      3\n    ]\n  }\n]"),
            ("[\n   7\n]", "[\n   7,\n   {\"b\": 1, \"a\": [2, 3]}\n]"),
            (
                "[\n\t[\n6]\n]",
                "[\n\t[\n6],\n\t{\n\t  \"b\": 1,\n\t  \"a\": [\n\t    2,\n\t    3\n\t  ]\n\t}\n]",
            ),
            ("[6,\n 7, 8]", "[6,\n 7, 8, {\"b\": 1, \"a\": [2, 3]}]"),
        ] {
            assert_eq!(with(before, &ELEMENT), after, "{before}");
        }
    }

    #[test]
    fn lines_end_as_those_of_the_document() {
        for before in ["[\n]", "[\n   7\n]", "[\n\t[\n6]\n]", "[6,\n 7]", "[]", "[\n  {\"\": 1\n}]"] {
            let crlf = with(&before.replace('\n', "\r\n"), &ELEMENT);
            assert_eq!(crlf, with(before, &ELEMENT).replace('\n', "\r\n"), "{before:?}");
        }
        // The first line end decides; what stands elsewhere is left alone.
        assert_eq!(with("[\n 7,\r\n 8]", &7), "[\n 7,\r\n 8,\n 7]");
        assert_eq!(with("[\r\n 7,\n 8]", &7), "[\r\n 7,\n 8,\r\n 7]");
    }

    #[test]
    fn what_is_removed_takes_its_comma_along() {
        for (before, index, after) in [
            ("[1]", 0, "[]"),
            ("[ 1\n]", 0, "[]"),
            ("[1, 2, 3]", 0, "[2, 3]"),
            ("[1, 2, 3]", 1, "[1, 3]"),
            ("[1, 2, 3]", 2, "[1, 2]"),
            ("[\n  1,\n  2\n]", 0, "[\n  2\n]"),
            ("[\n  1,\n  2\n]", 1, "[\n  1\n]"),
        ] {
            let (array, elements) = parts(before);
            assert_eq!(removed(before, array, &elements, index), after, "{before} {index}");
        }
    }
}
