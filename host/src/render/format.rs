//! How a document is written.

use serde_json::Value;
use serde_saphyr::SerializerOptions;

/// JSON, or YAML in which a policy is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Indented.
    Json,
    /// With the texts of several lines as blocks.
    Yaml,
}

impl Format {
    /// The document, with a line break at its end. YAML gets `comment` in front, which may have several lines.
    pub fn write(self, document: &Value, comment: &str) -> String {
        match self {
            Self::Json => format!("{document:#}\n"),
            // Serialising a `Value` fails only if writing to a string does. JSON is YAML too.
            Self::Yaml => {
                // A long word in a folded block would be one line all the same, only harder to read.
                let mut options = SerializerOptions::default();
                options.folded_wrap_chars = usize::MAX;
                let yaml = serde_saphyr::to_string_with_options(document, options);
                let yaml = yaml.unwrap_or_else(|_| format!("{document:#}\n"));
                let comment: String = comment.lines().map(|line| format!("# {line}\n")).collect();
                format!("{comment}{yaml}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_reads_back_as_what_was_written() {
        let document = json!({
            "@type": "type.googleapis.com/x",
            "words": ["yes", "1.40", "0x1", "~", "# no comment", "a: b", "%X(a:PLAIN)%", "", " x ", "é\u{1f600}"],
            "policy": "{\n  \"a\": \"b\\n\"\n}\n",
            "tabs": "{\n\t\"a\": 1 \n}",
            "windows": "{\r\n}\r\n",
            "empty": {"list": [], "object": {}, "null": null, "true": true, "number": 12},
        });
        let yaml = Format::Yaml.write(&document, "one\ntwo");
        assert!(yaml.starts_with("# one\n# two\n"), "{yaml}");
        assert!(yaml.contains("policy: |\n  {\n    \"a\""), "{yaml}");
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect("YAML"), document, "{yaml}");
        let json = Format::Json.write(&document, "one");
        assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), document);
    }
}
