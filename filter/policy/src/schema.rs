//! The keys of the policy document, object by object, and the hints for keys that stand in none of them.

use crate::compatibility::Compatibility;
use crate::error::{Fault, Hint, PolicyErrorKind};
use crate::json::{Member, Node};
use crate::warning::Warnings;

/// One kind of object: what it is called in hints, and the keys it may have.
pub(crate) struct Schema {
    place: &'static str,
    keys: &'static [&'static str],
}

pub(crate) const ROOT: Schema = Schema {
    place: "the top level",
    keys: &[
        "files",
        "authorized-peers",
        "accepted-ciphers",
        "accepted-protocols",
        "disable-hostname-validation",
        "compatibility",
        "authorization-mode",
        "capability-mode",
        "spiffe-strict",
        "upstream-headers",
        "http-capabilities",
        "data-plane",
    ],
};

pub(crate) const FILES: Schema =
    Schema { place: "`files`", keys: &["ca-certificates", "certificates", "private-key", "crls"] };

pub(crate) const PEER: Schema = Schema {
    place: "an entry of `authorized-peers`",
    keys: &["name", "description", "required-credentials", "capabilities", "mode"],
};

pub(crate) const CREDENTIAL: Schema =
    Schema { place: "an entry of `required-credentials`", keys: &["field", "must-match"] };

pub(crate) const UPSTREAM_HEADERS: Schema = Schema {
    place: "`upstream-headers`",
    keys: &["policy", "capabilities", "subject", "xfcc", "authorization"],
};

pub(crate) const HTTP_CAPABILITY: Schema =
    Schema { place: "an entry of `http-capabilities`", keys: &["paths", "methods", "requires"] };

pub(crate) const DATA_PLANE: Schema = Schema {
    place: "`data-plane`",
    keys: &["token-context", "trusted-certificates", "clients", "permission-rules"],
};

pub(crate) const CLIENT: Schema =
    Schema { place: "an entry of `clients`", keys: &["id", "permissions", "certificates", "tokens"] };

pub(crate) const CERTIFICATE: Schema =
    Schema { place: "an entry of `certificates`", keys: &["sha256", "file"] };

pub(crate) const TOKEN: Schema = Schema { place: "an entry of `tokens`", keys: &["id", "versions"] };

pub(crate) const VERSION: Schema =
    Schema { place: "an entry of `versions`", keys: &["fingerprint", "check-access-hash", "expiration"] };

pub(crate) const PERMISSION_RULE: Schema =
    Schema { place: "an entry of `permission-rules`", keys: &["methods", "paths", "permission"] };

/// The plugin configuration that wraps a policy.
pub(crate) const CONFIGURATION: Schema = Schema {
    place: "the plugin configuration",
    keys: &["endpoint", "names", "deprecated-names", "insecure-mixed-mode", "policy"],
};

const ALL: [&Schema; 12] = [
    &ROOT,
    &FILES,
    &PEER,
    &CREDENTIAL,
    &UPSTREAM_HEADERS,
    &HTTP_CAPABILITY,
    &DATA_PLANE,
    &CLIENT,
    &CERTIFICATE,
    &TOKEN,
    &VERSION,
    &PERMISSION_RULE,
];

impl Schema {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// The members of an object whose keys must all be known.
    pub(crate) fn members<'a>(&self, node: Node<'a>) -> Result<Members<'a>, Fault> {
        let (members, unknown) = self.parted(node)?;
        match unknown.first() {
            Some(member) => Err(self.unknown(member)),
            None => Ok(members),
        }
    }

    /// The members whose keys are known; what the others are, somebody else asks.
    pub(crate) fn members_known<'a>(&self, node: Node<'a>) -> Result<Members<'a>, Fault> {
        self.parted(node).map(|(members, _)| members)
    }

    /// The members of one of Vespa's own objects. Vespa ignores every key that it does not know there. So do its
    /// compatibilities, and `strict` where that [cannot be dangerous](Vespa::may_ignore); each key that is left out is a
    /// warning.
    pub(crate) fn members_as_vespa<'a>(
        &self,
        node: Node<'a>,
        vespa: Vespa,
        warnings: &mut Warnings,
    ) -> Result<Members<'a>, Fault> {
        let (members, unknown) = self.parted(node)?;
        for member in &unknown {
            let ignored = vespa.compatibility.ignores_unknown_keys() || vespa.may_ignore(member);
            if !ignored {
                return Err(self.unknown(member));
            }
            warnings.push_at(member.key_offset, self.ignored(member));
        }
        Ok(members)
    }

    fn parted<'a>(&self, node: Node<'a>) -> Result<(Members<'a>, Vec<Member<'a>>), Fault> {
        let (known, unknown) = node.object()?.into_iter().partition(|member| self.has(&member.key));
        Ok((Members { node, known }, unknown))
    }

    fn unknown(&self, member: &Member<'_>) -> Fault {
        let kind = PolicyErrorKind::UnknownKey { key: member.key.to_string(), hint: self.hint(&member.key) };
        Fault { offset: member.key_offset, kind }
    }

    /// What is said about a key that has no effect.
    fn ignored(&self, member: &Member<'_>) -> String {
        let key = member.key.escape_debug();
        match self.hint(&member.key) {
            Hint::Misplaced(place) => {
                format!("key `{key}` has no effect in {}, as in Vespa; it belongs into {place}", self.place)
            }
            Hint::Misspelt(near) => {
                format!("key `{key}` is unknown and has no effect; did you mean `{near}`?")
            }
            Hint::Known(_) => format!("key `{key}` is unknown and has no effect"),
        }
    }

    fn hint(&self, key: &str) -> Hint {
        let elsewhere = ALL.iter().find(|schema| schema.has(key));
        match (nearest(key, self.keys), elsewhere) {
            (_, Some(schema)) => Hint::Misplaced(schema.place),
            (Some(near), None) => Hint::Misspelt(near),
            (None, None) => Hint::Known(self.keys),
        }
    }
}

/// How a document is read that Vespa reads too.
#[derive(Clone, Copy)]
pub(crate) struct Vespa {
    pub(crate) compatibility: Compatibility,
    /// The setting in effect, from its place at the top level or by default.
    pub(crate) disables_hostname_validation: bool,
}

impl Vespa {
    /// Whether a key of Vespa's format that stands in another object than its own may be left out, as Vespa does. The only
    /// complete example in Vespa's reference has `disable-hostname-validation` inside `files` (vespa-engine/documentation,
    /// `en/reference/security/mtls.md`), and documented files are policies as they stand.
    ///
    /// The question is whether its author, who believes that it is obeyed, is wrong about who is admitted:
    ///
    /// - `name` and `description` are for readers. `certificates` and `private-key` say who we are, not whom we admit.
    /// - `accepted-ciphers` and `accepted-protocols` say how a connection is protected. A peer that has only a protocol which
    ///   their author did not want connects, but it is the same peer, and the same rules admit it. Every suite and protocol
    ///   that is supported at all is a safe one.
    /// - `disable-hostname-validation` decides which servers an outbound connection accepts. It is harmless where it asks for
    ///   what is in effect anyway.
    /// - All others choose who is admitted (`authorized-peers`, `required-credentials`, `field`, `must-match`,
    ///   `ca-certificates`, `files`) or what they may do (`capabilities`, without which a peer may do everything). Keys that
    ///   Vespa does not have are no documented file's.
    fn may_ignore(self, member: &Member<'_>) -> bool {
        match &*member.key {
            "name" | "description" | "certificates" | "private-key" => true,
            "accepted-ciphers" | "accepted-protocols" => true,
            "disable-hostname-validation" => {
                member.value.boolean().is_ok_and(|asked| asked == self.disables_hostname_validation)
            }
            _ => false,
        }
    }
}

/// The members of one object, by key.
pub(crate) struct Members<'a> {
    node: Node<'a>,
    known: Vec<Member<'a>>,
}

impl<'a> Members<'a> {
    pub(crate) fn find(&self, key: &'static str) -> Option<Node<'a>> {
        self.known.iter().find(|member| member.key == key).map(|member| member.value)
    }

    pub(crate) fn require(&self, key: &'static str) -> Result<Node<'a>, Fault> {
        self.find(key).ok_or_else(|| self.node.fault(PolicyErrorKind::MissingKey { key }))
    }

    pub(crate) fn flag(&self, key: &'static str) -> Result<Option<bool>, Fault> {
        self.find(key).map(|node| node.boolean()).transpose()
    }

    pub(crate) fn strings(&self, key: &'static str, why: &'static str) -> Result<Vec<String>, Fault> {
        let Some(node) = self.find(key) else { return Ok(Vec::new()) };
        let elements = node.filled_array(why)?;
        elements.into_iter().map(|element| element.string().map(|text| text.into_owned())).collect()
    }
}

/// One of a fixed list of words.
pub(crate) fn choice<T: Copy>(
    node: Node<'_>,
    words: &'static [&'static str],
    values: &[T],
) -> Result<T, Fault> {
    let value = node.string()?;
    match words.iter().position(|word| *word == value) {
        Some(index) => Ok(values[index]),
        None => Err(node.fault(PolicyErrorKind::UnknownValue {
            nearest: nearest(&value, words),
            value: value.into_owned(),
            expected: words,
        })),
    }
}

/// The word that differs from `text` by at most two edits, or only by case and `-`/`_`.
pub(crate) fn nearest(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let folded = fold(text);
    words
        .iter()
        .map(|word| (distance(&folded, &fold(word)), *word))
        .filter(|(distance, word)| *distance <= 2.min(word.len() * 2 / 5))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn fold(text: &str) -> Vec<char> {
    // Longer texts are no misspelling of anything we know, and the distance below is quadratic.
    text.chars().take(64).map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Levenshtein distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        for (text, word) in [
            ("authorised-peers", Some("authorized-peers")),
            ("authorized_peers", Some("authorized-peers")),
            ("Authorized-Peers", Some("authorized-peers")),
            ("flipper-the-dolphin", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, ROOT.keys), word, "{text}");
        }
        assert_eq!(nearest("SAN-DNS", &["CN", "SAN_DNS"]), Some("SAN_DNS"));
        assert_eq!(nearest("DN", &["CN", "SAN_DNS"]), None);
    }

    #[test]
    fn a_key_of_another_object_is_called_misplaced() {
        let text = r#"{"disable-hostname-validation": true}"#;
        let node = Node::document(text).unwrap();
        let fault = FILES.members(node).err().unwrap();
        let expected = Hint::Misplaced("the top level");
        assert_eq!(
            fault.kind,
            PolicyErrorKind::UnknownKey { key: "disable-hostname-validation".into(), hint: expected }
        );
    }
}
