//! One audit line: a JSON object.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clean::Clean;

/// Whom a line is about.
#[derive(Clone, Debug)]
pub struct Whom {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The kind of endpoint, once it is known.
    pub endpoint: Option<&'static str>,
    /// Unique within the process.
    pub connection: u64,
    /// The peer's address.
    pub source: SocketAddr,
}

/// A line in the making.
#[derive(Debug)]
pub(super) struct Record(Map<String, Value>);

impl Record {
    pub(super) fn new(event: &str, whom: &Whom, now: SystemTime) -> Self {
        let Self(mut fields) = Self::at(event, now);
        fields.insert("listener".into(), (&*whom.listener).into());
        if let Some(endpoint) = whom.endpoint {
            fields.insert("endpoint".into(), endpoint.into());
        }
        fields.insert("connection".into(), whom.connection.into());
        fields.insert("source".into(), whom.source.to_string().into());
        Self(fields)
    }

    /// How many lines about an address were not written.
    pub(super) fn left_out(address: IpAddr, lines: u32, now: SystemTime) -> Self {
        Self::at("lines-left-out", now).with("source", address.to_string()).with("lines", lines)
    }

    fn at(event: &str, now: SystemTime) -> Self {
        // A time that cannot be written is none before the year 10,000.
        let time = OffsetDateTime::from(now);
        let time = time.replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(time);
        Self(Map::new()).with("time", time.format(&Rfc3339).unwrap_or_default()).with("event", event)
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// What the filter left about its decision; a field of ours is not overwritten, and text that is no object is kept as it
    /// is. The outcome is what was done, whatever the filter says it wanted.
    pub(super) fn decided(mut self, allow: bool, filter: Option<&str>) -> Self {
        match filter.map(serde_json::from_str::<Value>) {
            Some(Ok(Value::Object(fields))) => {
                for (name, value) in fields {
                    self.0.entry(name).or_insert(value);
                }
            }
            Some(_) => return self.with("decision", word(allow)).with("filter", filter.unwrap_or_default()),
            None => {}
        }
        self.with("decision", word(allow))
    }

    /// The line with its end.
    pub(super) fn line(self) -> Vec<u8> {
        let line = Value::Object(self.0).to_string();
        // JSON leaves marks that reorder or hide text as they are.
        format!("{}\n", Clean(&line)).into_bytes()
    }
}

fn word(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn record() -> Record {
        let whom = Whom {
            listener: "in".into(),
            endpoint: Some("peer"),
            connection: 7,
            source: "192.0.2.1:5".parse().expect("an address"),
        };
        Record::new("request", &whom, SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890))
    }

    #[test]
    fn a_line_is_one_object_with_the_filters_fields() {
        let decision = r#"{"decision":"deny","reason":"no-rule-matched","matched":[],"source":"forged"}"#;
        let line = record().decided(false, Some(decision)).with("path", "/a\nb\u{202e}").line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(!String::from_utf8_lossy(&line).contains('\u{202e}'));
        let line: Value = serde_json::from_slice(&line).expect("JSON");
        let expected = json!({
            "time": "1970-01-01T00:00:01.234Z", "event": "request", "listener": "in", "endpoint": "peer", "connection": 7,
            "source": "192.0.2.1:5", "decision": "deny", "reason": "no-rule-matched", "matched": [], "path": "/a\nb\u{202e}",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn what_was_done_counts_and_not_what_a_filter_says() {
        for (filter, kept) in [(r#"{"decision":"allow"}"#, Value::Null), ("nonsense", json!("nonsense"))] {
            let line: Value =
                serde_json::from_slice(&record().decided(false, Some(filter)).line()).expect("JSON");
            assert_eq!((&line["decision"], &line["filter"]), (&json!("deny"), &kept));
        }
    }
}
