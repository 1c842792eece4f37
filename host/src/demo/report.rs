//! One line per client: the decision, what the client saw of it, and why.

use std::fmt;

use serde_json::Value;

use super::client::Seen;

pub(super) struct Decided<'a> {
    pub(super) name: &'a str,
    pub(super) seen: &'a Seen,
    /// What the server said; `None` where it said nothing, because TLS had already ended.
    pub(super) decision: Option<Value>,
}

impl fmt::Display for Decided<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the client saw is the truth; what the server says is the explanation.
        let word = if matches!(self.seen, Seen::Status(200)) { "allow" } else { "deny" };
        let why = match &self.decision {
            Some(decision) => why(decision),
            None => "refused by TLS, no rule was asked".to_owned(),
        };
        write!(formatter, "{word:<5}  {:<19}  {:<26}  {why}", self.name, self.seen.to_string())
    }
}

fn why(decision: &Value) -> String {
    let matched: Vec<&str> = strings(&decision["matched"]).collect();
    if !matched.is_empty() {
        return matched.join(", ");
    }
    let reason = decision["reason"].as_str().unwrap_or("no reason");
    let rules: Vec<String> = decision["rules"].as_array().into_iter().flatten().filter_map(unmet).collect();
    if rules.is_empty() { reason.to_owned() } else { format!("{reason}: {}", rules.join("; ")) }
}

fn unmet(rule: &Value) -> Option<String> {
    let failed = &rule["failed"];
    let (name, field) = (rule["name"].as_str()?, failed["field"].as_str()?);
    Some(format!("{name} wants {field} {}", failed["must-match"].as_str()?))
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
