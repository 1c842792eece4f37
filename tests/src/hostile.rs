//! Certificates of a trusted authority that try to be taken for somebody else's.

use peergate_host::pki::{Credential, Leaf};
use rcgen::{CertificateParams, OtherNameValue, SanType, string::Ia5String};
use serde_json::{Value, json};

use crate::{
    der::{self, BMP, CN, O, PRINTABLE, UTF8},
    pki::Pki,
};

/// A certificate, the policy it attacks, and the answer.
pub struct Hostile {
    /// What it tries.
    pub name: &'static str,
    /// The policy.
    pub policy: Value,
    /// The certificate.
    pub credential: Credential,
    /// Why it is refused; `None` where it is rightly admitted.
    pub reason: Option<&'static str>,
}

const MALFORMED: Option<&str> = Some("malformed-name");
const NO_MATCH: Option<&str> = Some("no-rule-matched");
const ADMITTED: Option<&str> = None;

/// All of them, issued by the authority of `pki`.
pub fn all(pki: &Pki) -> Vec<Hostile> {
    let mut all = subjects(pki);
    all.extend(alternative_names(pki));
    all
}

/// Subjects that a rule for the CN `admin` must read rightly.
fn subjects(pki: &Pki) -> Vec<Hostile> {
    let hostile = |name, names: &[&[der::Attribute<'_>]], reason| Hostile {
        name,
        policy: policy("CN", "admin"),
        credential: der::with_subject(pki.authority(), &Leaf::new(), &der::subject(names)),
        reason,
    };
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    vec![
        hostile("NUL in a UTF8String", &[&[(CN, UTF8, b"admin\0.evil.example")]], MALFORMED),
        hostile("NUL in a PrintableString", &[&[(CN, PRINTABLE, b"admin\0.evil.example")]], MALFORMED),
        hostile("NUL in a BMPString", &[&[(CN, BMP, &utf16("admin\0.evil"))]], MALFORMED),
        hostile("a BMPString", &[&[(CN, BMP, &utf16("admin"))]], MALFORMED),
        hostile("bytes that are no UTF-8", &[&[(CN, UTF8, b"admin\xff")]], MALFORMED),
        hostile("a PrintableString", &[&[(CN, PRINTABLE, b"admin")]], ADMITTED),
        hostile("admin, then another", &[&[(CN, UTF8, b"admin")], &[(CN, UTF8, b"other")]], NO_MATCH),
        hostile("another, then admin", &[&[(CN, UTF8, b"other")], &[(CN, UTF8, b"admin")]], ADMITTED),
        hostile("admin, then nothing", &[&[(CN, UTF8, b"admin")], &[(CN, UTF8, b"")]], ADMITTED),
        hostile("a name of two attributes", &[&[(CN, UTF8, b"admin"), (O, UTF8, b"x")]], ADMITTED),
        hostile("CN inside another attribute", &[&[(O, UTF8, b"x,CN=admin")]], NO_MATCH),
        hostile("CN inside the CN", &[&[(CN, UTF8, b"x,CN=admin")]], NO_MATCH),
        hostile("another case", &[&[(CN, UTF8, b"Admin")]], NO_MATCH),
    ]
}

/// Alternative names that a rule for a DNS name must not take for one.
fn alternative_names(pki: &Pki) -> Vec<Hostile> {
    let hostile = |name, pattern, sans: Vec<SanType>, reason| Hostile {
        name,
        policy: policy("SAN_DNS", pattern),
        credential: pki.peer_with(&with_names(sans)).credential,
        reason,
    };
    let admin = || SanType::DnsName(ia5("admin"));
    let other_name = OtherNameValue::Utf8String("admin".to_owned());
    vec![
        hostile("a DNS name", "admin", vec![admin()], ADMITTED),
        hostile("an empty name", "admin", vec![admin(), SanType::DnsName(ia5(""))], MALFORMED),
        hostile("an empty URI", "admin", vec![admin(), SanType::URI(ia5(""))], MALFORMED),
        hostile("NUL in a name", "admin", vec![SanType::DnsName(ia5("admin\0.evil.example"))], MALFORMED),
        hostile("NUL in another name", "admin", vec![admin(), SanType::URI(ia5("x:\0"))], MALFORMED),
        hostile("a comma", "admin", vec![SanType::DnsName(ia5("evil,admin"))], NO_MATCH),
        hostile("a URI", "admin", vec![SanType::URI(ia5("admin"))], NO_MATCH),
        hostile("an e-mail address", "admin", vec![SanType::Rfc822Name(ia5("admin"))], NO_MATCH),
        hostile("an otherName", "admin", vec![SanType::OtherName((vec![1, 3, 6, 1], other_name))], NO_MATCH),
        hostile("a wildcard", "a.example.com", vec![SanType::DnsName(ia5("*.example.com"))], NO_MATCH),
        hostile(
            "a wildcard as text",
            "*.example.com",
            vec![SanType::DnsName(ia5("*.example.com"))],
            ADMITTED,
        ),
        hostile("a trailing dot", "admin", vec![SanType::DnsName(ia5("admin."))], NO_MATCH),
    ]
}

fn policy(field: &str, must_match: &str) -> Value {
    let credential = json!({"field": field, "must-match": must_match});
    json!({"authorized-peers": [{"required-credentials": [credential]}]})
}

fn with_names(sans: Vec<SanType>) -> CertificateParams {
    let mut params = Leaf::new().cn("x").to_params().expect("parameters");
    params.subject_alt_names = sans;
    params
}

fn ia5(text: &str) -> Ia5String {
    text.try_into().expect("ASCII")
}
