//! A decision with everything that is said about it, made once per certificate.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use peergate_policy::{
    CapabilitySet, Certificate, ClientGrant, Configuration, Decision, DenyReason, Digest, Grant, Policy,
    RuleReport, TokenUse, UnixTime, Validity,
};

use crate::metrics::{self, Counters};
use crate::{envoy, headers};

/// Most rules, and most values of a certificate, that one explanation lists.
pub(crate) const LISTED: usize = 4;
/// What a sealed grant of a few rules takes.
const SEALED_BYTES: usize = 128;
/// Longest value of a certificate in an explanation, in characters.
const VALUE_CHARACTERS: usize = 128;

/// What the engine said about one certificate.
pub(crate) struct Verdict {
    decision: Decision,
    /// `None` where there is no certificate that could expire.
    validity: Option<Validity>,
    /// The certificate, where the decision is about nothing else.
    leaf: Option<Digest>,
    summary: String,
    upstream_headers: Vec<(&'static str, String)>,
    /// Looked up once.
    counters: OnceCell<Vec<u32>>,
    /// Made once, where a connection asks for it.
    sealed: OnceCell<Vec<u8>>,
}

impl Verdict {
    pub(crate) fn of(policy: &Policy, certificate: &Certificate) -> Self {
        let decision = policy.authorize(&certificate.identity);
        let unmet = match &decision {
            Decision::Deny(_) => unmet_rules(policy, certificate),
            Decision::Allow(grant) if grant.would_deny().is_some() => unmet_rules(policy, certificate),
            Decision::Allow(_) => String::new(),
        };
        let upstream_headers = match &decision {
            Decision::Allow(grant) => headers::about(policy.upstream_headers(), grant, Some(certificate)),
            Decision::Deny(_) => Vec::new(),
        };
        let summary = summary(&decision, &unmet);
        Self {
            validity: Some(certificate.validity),
            leaf: Some(certificate.digest),
            upstream_headers,
            ..Self::new(decision, summary)
        }
    }

    /// The verdict that the grant of a connection comes from; see [`Verdict::sealed`].
    pub(crate) fn taken_over(policy: &Policy, grant: Grant, leaf: Digest, validity: Validity) -> Self {
        let upstream_headers = headers::about(policy.upstream_headers(), &grant, None);
        let decision = Decision::Allow(grant);
        let summary = summary(&decision, "");
        let (validity, leaf) = (Some(validity), Some(leaf));
        Self { validity, leaf, upstream_headers, ..Self::new(decision, summary) }
    }

    fn new(decision: Decision, summary: String) -> Self {
        Self {
            decision,
            validity: None,
            leaf: None,
            summary,
            upstream_headers: Vec::new(),
            counters: OnceCell::new(),
            sealed: OnceCell::new(),
        }
    }

    /// What the filter of requests needs to take this verdict over; empty where it must judge by itself.
    pub(crate) fn sealed(&self, configuration: &Configuration) -> &[u8] {
        self.sealed.get_or_init(|| match (&self.decision, self.leaf, self.validity) {
            (Decision::Allow(grant), Some(leaf), Some(validity)) => {
                configuration.seal(grant, &leaf, validity).unwrap_or_default()
            }
            _ => Vec::new(),
        })
    }

    /// A decision that is for one request only.
    pub(crate) fn decided(decision: Decision) -> Self {
        let summary = summary(&decision, "");
        Self::new(decision, summary)
    }

    /// The same verdict with another decision, for one request only.
    pub(crate) fn with(&self, decision: Decision) -> Self {
        Self {
            validity: self.validity,
            upstream_headers: self.upstream_headers.clone(),
            ..Self::decided(decision)
        }
    }

    /// The same verdict about a request for a deprecated name.
    pub(crate) fn for_deprecated(&self, name: &str) -> Self {
        let fields = self.summary.strip_suffix('}').unwrap_or(&self.summary);
        let summary = format!(r#"{fields},"deprecated_name":{}}}"#, quoted(name, usize::MAX));
        Self {
            validity: self.validity,
            upstream_headers: self.upstream_headers.clone(),
            counters: self.counters.clone(),
            ..Self::new(self.decision.clone(), summary)
        }
    }

    /// Counts one decision that is this.
    pub(crate) fn count(&self, counters: &RefCell<Counters>, policy: &Policy) {
        let ids = self.counters.get_or_init(|| counters.borrow_mut().of_decision(policy, &self.decision));
        metrics::count(ids);
    }

    pub(crate) fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Why the certificate may not be used at `now`.
    pub(crate) fn lapsed(&self, now: UnixTime) -> Option<DenyReason> {
        self.validity.and_then(|validity| validity.check(now).err())
    }

    /// Whether this is an admission that is still in force.
    pub(crate) fn holds_now(&self) -> bool {
        matches!(self.decision, Decision::Allow(_))
            && envoy::now().is_ok_and(|now| self.lapsed(now).is_none())
    }

    /// Memory of the texts, for the bound of the cache.
    pub(crate) fn text_bytes(&self) -> usize {
        SEALED_BYTES
            + self.summary.len()
            + self.upstream_headers.iter().map(|(_, value)| value.len()).sum::<usize>()
    }

    /// One line of JSON, safe to print.
    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }

    /// What the policy wants the upstream to know.
    pub(crate) fn upstream_headers(&self) -> &[(&'static str, String)] {
        &self.upstream_headers
    }
}

/// `allow`, `deny`, or `would_deny` where a mode that refuses nobody let the peer in.
pub(crate) fn outcome(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow(grant) if grant.would_deny().is_some() => "would_deny",
        Decision::Allow(_) | Decision::Deny(_) => decision.as_str(),
    }
}

fn summary(decision: &Decision, unmet: &str) -> String {
    let mut fields = format!(r#""decision":"{}""#, decision.as_str());
    match decision {
        Decision::Allow(grant) => {
            if let Some(reason) = grant.would_deny() {
                fields += &format!(r#","would_deny":"{reason}""#);
            }
        }
        Decision::Deny(denial) => fields += &format!(r#","reason":"{}""#, denial.reason()),
    }
    let matched = decision.matched();
    let rules = |labels: &[Arc<str>]| array(labels.iter().map(|label| quoted(label, usize::MAX)));
    fields += &format!(r#","matched":{}"#, rules(&matched.rules));
    if !matched.shadow.is_empty() {
        fields += &format!(r#","shadow_matched":{}"#, rules(&matched.shadow));
    }
    let token = match decision {
        Decision::Allow(grant) => {
            if let Some(client) = grant.client() {
                fields += &format!(r#","client":{}"#, client_json(client));
            }
            None
        }
        Decision::Deny(denial) => denial.token(),
    };
    if let Some(token) = token {
        fields += &format!(r#","token":{}"#, token_json(token));
    }
    if let Decision::Allow(grant) = decision
        && grant.client().is_none()
    {
        let names = match grant.capabilities() {
            CapabilitySet::ALL => r#"["vespa.all"]"#.to_owned(),
            some => array(some.names().map(|name| quoted(name, usize::MAX))),
        };
        fields += &format!(r#","capabilities":{names}"#);
    }
    format!("{{{fields}{unmet}}}")
}

fn client_json(client: &ClientGrant) -> String {
    let ids = array(client.ids.iter().map(|id| quoted(id, usize::MAX)));
    let permissions = array(client.permissions.words().map(|word| quoted(word, usize::MAX)));
    let token = client
        .token
        .as_deref()
        .map_or_else(String::new, |token| format!(r#","token":{}"#, token_json(token)));
    format!(r#"{{"ids":{ids},"permissions":{permissions}{token}}}"#)
}

/// What may be known of a token: never the token.
fn token_json(token: &TokenUse) -> String {
    let expiration = token.expiration.map_or_else(|| "<none>".to_owned(), |time| time.to_string());
    format!(
        r#"{{"id":{},"fingerprint":"{}","expiration":"{expiration}"}}"#,
        quoted(&token.id, VALUE_CHARACTERS),
        token.fingerprint
    )
}

/// The first rules that did not match, each with the credential that failed. The rest is for `peergate explain`.
fn unmet_rules(policy: &Policy, certificate: &Certificate) -> String {
    let mut unmet = policy.explain(&certificate.identity).filter(|report| report.failed.is_some());
    let listed = array(unmet.by_ref().take(LISTED).map(|report| unmet_rule(&report)));
    let more = unmet.next().map_or("", |_| r#","more":true"#);
    format!(r#","rules":{listed}{more}"#)
}

fn unmet_rule(report: &RuleReport) -> String {
    let failed = report.failed.as_ref().map_or_else(String::new, |failed| {
        let values = array(failed.values.iter().take(LISTED).map(|value| quoted(value, VALUE_CHARACTERS)));
        format!(
            r#","failed":{{"field":"{}","must-match":{},"values":{values}}}"#,
            failed.field.as_str(),
            quoted(&failed.must_match, VALUE_CHARACTERS)
        )
    });
    format!(r#"{{"name":{}{failed}}}"#, quoted(&report.label, VALUE_CHARACTERS))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A JSON string. What is longer than `most` characters is cut.
fn quoted(text: &str, most: usize) -> String {
    format!("\"{}\"", clean(text, most))
}

/// Text of a client between single quotation marks.
pub(crate) fn escaped(text: &str) -> String {
    clean(text, VALUE_CHARACTERS).replace('\'', "\\u0027")
}

/// A name of the configuration as one field of a log line.
pub(crate) fn printable(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if name.len() <= VALUE_CHARACTERS && name.bytes().all(plain) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(clean(name, VALUE_CHARACTERS))
    }
}

/// Text in which nothing can break out of a JSON string or a log line: control characters, quotation marks and all that is
/// not ASCII are escaped. What is longer than `most` characters is cut.
fn clean(text: &str, most: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(most));
    for (index, character) in text.chars().enumerate() {
        if index == most {
            clean.push_str("...");
            break;
        }
        match character {
            '"' | '\\' => clean.extend(['\\', character]),
            ' '..='~' => clean.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    clean += &format!("\\u{unit:04x}");
                }
            }
        }
    }
    clean
}
