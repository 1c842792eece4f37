//! Vespa's environment variables that weaken a gate.

use std::env;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// What the environment asks of the policy's modes.
#[derive(Clone, Debug, Default)]
pub(super) struct Modes {
    policy: Vec<Mode>,
    mixed: Mixed,
}

/// `VESPA_TLS_INSECURE_MIXED_MODE`: the three phases of a rollout, from last to first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Mixed {
    #[default]
    NoPlaintext,
    PlaintextIn,
    PlaintextBothWays,
}

#[derive(Clone, Debug)]
struct Mode {
    variable: &'static str,
    key: &'static str,
    word: String,
}

/// Vespa's variable, and the key of the policy that says the same.
const VARIABLES: [(&str, &str); 2] = [
    ("VESPA_TLS_INSECURE_AUTHORIZATION_MODE", "authorization-mode"),
    ("VESPA_TLS_CAPABILITIES_ENFORCEMENT_MODE", "capability-mode"),
];
const WORDS: [&str; 3] = ["enforce", "log_only", "disable"];

const MIXED_MODE: &str = "VESPA_TLS_INSECURE_MIXED_MODE";
const MIXED: [(&str, Mixed); 3] = [
    ("plaintext_client_mixed_server", Mixed::PlaintextBothWays),
    ("tls_client_mixed_server", Mixed::PlaintextIn),
    ("tls_client_tls_server", Mixed::NoPlaintext),
];

/// The modes that a policy has. Of the rest nothing is kept: it may be a hundred thousand tokens.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WrittenModes {
    #[serde(rename = "authorization-mode")]
    authorization: Option<Value>,
    #[serde(rename = "capability-mode")]
    capability: Option<Value>,
}

impl WrittenModes {
    /// All keys.
    pub(super) const KEYS: [&'static str; 2] = ["authorization-mode", "capability-mode"];

    /// The value of a key.
    pub(super) fn of(&self, key: &str) -> Option<&Value> {
        match key {
            "authorization-mode" => self.authorization.as_ref(),
            "capability-mode" => self.capability.as_ref(),
            _ => None,
        }
    }
}

/// A variable that cannot be followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ModeError {
    /// No mode has this word.
    Unknown {
        /// The variable.
        variable: &'static str,
        /// Its value.
        word: String,
    },
    /// The policy says otherwise.
    Conflict {
        /// The variable.
        variable: &'static str,
        /// The policy's key.
        key: &'static str,
    },
    /// No mixed mode has this word.
    UnknownMixed(String),
}

impl Modes {
    /// Reads the variables; an empty one is not set, as in Vespa.
    ///
    /// # Errors
    /// An unknown value: what was meant to be weaker must not be guessed, and what was meant to be strict neither.
    pub(super) fn from_environment() -> Result<Self, ModeError> {
        Self::from(|variable| env::var_os(variable).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from(value: impl Fn(&str) -> Option<String>) -> Result<Self, ModeError> {
        let value = |variable| value(variable).filter(|word| !word.is_empty());
        let mixed = match value(MIXED_MODE) {
            Some(word) => match MIXED.iter().find(|(known, _)| *known == word) {
                Some((_, mixed)) => *mixed,
                None => return Err(ModeError::UnknownMixed(word)),
            },
            None => Mixed::default(),
        };
        let mut modes = Vec::new();
        for (variable, key) in VARIABLES {
            let Some(word) = value(variable) else { continue };
            if !WORDS.contains(&word.as_str()) {
                return Err(ModeError::Unknown { variable, word });
            }
            modes.push(Mode { variable, key, word });
        }
        Ok(Self { policy: modes, mixed })
    }

    /// Whether peers without TLS are admitted besides those with it.
    pub(super) fn admits_plaintext(&self) -> bool {
        self.mixed != Mixed::NoPlaintext
    }

    /// Whether servers are spoken to without TLS.
    pub(super) fn sends_plaintext(&self) -> bool {
        self.mixed == Mixed::PlaintextBothWays
    }

    /// The policy with these modes.
    ///
    /// # Errors
    /// The policy has such a key with another value.
    pub(super) fn applied(&self, policy: &str) -> Result<String, ModeError> {
        let mut policy = policy.to_owned();
        if self.policy.is_empty() {
            return Ok(policy);
        }
        // A policy that is no JSON object has been refused before.
        let written: WrittenModes = serde_json::from_str(&policy).unwrap_or_default();
        for Mode { variable, key, word } in &self.policy {
            match written.of(key) {
                Some(value) if value == word => {}
                Some(_) => return Err(ModeError::Conflict { variable, key }),
                None => {
                    let brace = policy.find('{').map_or(0, |brace| brace + 1);
                    let comma = if policy[brace..].trim_start().starts_with('}') { "" } else { "," };
                    policy.insert_str(brace, &format!(r#""{key}":"{word}"{comma}"#));
                }
            }
        }
        Ok(policy)
    }
}

impl fmt::Display for ModeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { variable, word } => write!(
                formatter,
                "{variable}: unknown value `{}`; expected one of `{}`",
                word.escape_debug(),
                WORDS.join("`, `")
            ),
            Self::Conflict { variable, key } => {
                write!(
                    formatter,
                    "{variable} and the policy's `{key}` differ; say it in one of the two places"
                )
            }
            Self::UnknownMixed(word) => write!(
                formatter,
                "{MIXED_MODE}: unknown value `{}`; expected one of `{}`",
                word.escape_debug(),
                MIXED.map(|(word, _)| word).join("`, `")
            ),
        }
    }
}

impl std::error::Error for ModeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variable: &'static str, word: &'static str) -> Result<Modes, ModeError> {
        Modes::from(move |asked| (asked == variable).then(|| word.to_owned()))
    }

    #[test]
    fn modes_are_put_into_the_policy() {
        let modes = with("VESPA_TLS_INSECURE_AUTHORIZATION_MODE", "log_only").expect("a mode");
        for (policy, applied) in [
            ("{}", r#"{"authorization-mode":"log_only"}"#),
            (" {\n }", "{\"authorization-mode\":\"log_only\"\n }"),
            (r#"{"a": 1}"#, r#"{"authorization-mode":"log_only","a": 1}"#),
            (r#"{"authorization-mode": "log_only"}"#, r#"{"authorization-mode": "log_only"}"#),
        ] {
            assert_eq!(modes.applied(policy).expect(policy).trim_start(), applied);
        }
        assert_eq!(
            modes.applied(r#"{"authorization-mode": "enforce"}"#),
            Err(ModeError::Conflict {
                variable: "VESPA_TLS_INSECURE_AUTHORIZATION_MODE",
                key: "authorization-mode"
            })
        );
        assert_eq!(with("PATH", "x").expect("no mode").applied("{}").expect("unchanged"), "{}");
    }

    #[test]
    fn unknown_values_are_errors_and_empty_ones_are_none() {
        for (variable, word, good) in [
            ("VESPA_TLS_INSECURE_AUTHORIZATION_MODE", "Enforce", false),
            ("VESPA_TLS_INSECURE_AUTHORIZATION_MODE", "", true),
            ("VESPA_TLS_CAPABILITIES_ENFORCEMENT_MODE", "off", false),
            ("VESPA_TLS_CAPABILITIES_ENFORCEMENT_MODE", "disable", true),
            ("VESPA_TLS_INSECURE_MIXED_MODE", "tls_client_tls_server", true),
            ("VESPA_TLS_INSECURE_MIXED_MODE", "plaintext_client_mixed_server", true),
            ("VESPA_TLS_INSECURE_MIXED_MODE", "plaintext", false),
        ] {
            assert_eq!(with(variable, word).is_ok(), good, "{variable}={word}");
        }
    }
}
