use serde_json::{Value, json};

use crate::data_plane::DataPlane;
use crate::identity::sha256;
use crate::token::Derivation;
use crate::{CertificateTrust, Decision, Policy, Request, UnixTime};

const CONTEXT: &str = "Vespa Cloud tenant data plane:test";
const DAY: &str = "1970-01-02T00:00:00Z";
const FOREVER: &str = "<none>";

/// One version of a token, as a policy holds it.
fn version(token: &str, expiration: &str) -> Value {
    let derivation = Derivation::of(token);
    json!({
        "fingerprint": derivation.fingerprint().to_string(),
        "check-access-hash": derivation.check_hash(CONTEXT).to_hex(),
        "expiration": expiration,
    })
}

fn with_token(id: &str, permissions: &[&str], token: &str, versions: &[Value]) -> Value {
    json!({"id": id, "permissions": permissions, "tokens": [{"id": token, "versions": versions}]})
}

fn with_certificates(id: &str, permissions: &[&str], leaves: &[&str]) -> Value {
    let digest = |leaf: &&str| json!({"sha256": crate::escape::to_hex(&sha256(leaf.as_bytes()))});
    let certificates: Vec<Value> = leaves.iter().map(digest).collect();
    json!({"id": id, "permissions": permissions, "certificates": certificates})
}

fn data_plane(clients: &[Value]) -> DataPlane {
    read(json!({"token-context": CONTEXT, "clients": clients}))
}

fn read(data_plane: Value) -> DataPlane {
    let policy = Policy::parse(&json!({ "data-plane": data_plane }).to_string()).expect("a policy");
    policy.data_plane().expect("a data plane").clone()
}

/// Ids and permissions, or the reason and the id of the token that was refused.
type Answer = Result<(Vec<String>, Vec<&'static str>), (&'static str, Option<String>)>;

fn answer(decision: &Decision) -> Answer {
    match decision {
        Decision::Allow(grant) => {
            let client = grant.client().expect("a data-plane client");
            let ids = client.ids.iter().map(ToString::to_string).collect();
            Ok((ids, client.permissions.words().collect()))
        }
        Decision::Deny(denial) => {
            Err((denial.reason().as_str(), denial.token().map(|token| token.id.to_string())))
        }
    }
}

fn allowed(ids: &[&str], permissions: &[&'static str]) -> Answer {
    Ok((ids.iter().map(ToString::to_string).collect(), permissions.to_vec()))
}

fn refused(reason: &'static str) -> Answer {
    Err((reason, None))
}

fn refused_known(reason: &'static str, token: &str) -> Answer {
    Err((reason, Some(token.to_owned())))
}

fn judge(data_plane: &DataPlane, token: &str, method: &str, path: &str, now: UnixTime) -> Decision {
    let header = format!("Bearer {token}");
    data_plane.judge_token(std::iter::once(header.as_bytes()), Request { method, path }, now)
}

/// The answer to a token at the start of 1970.
fn ask(data_plane: &DataPlane, token: &str, method: &str, path: &str) -> Answer {
    answer(&judge(data_plane, token, method, path, UnixTime::from_seconds(0)))
}

fn ask_leaf(data_plane: &DataPlane, leaf: &str, method: &str, path: &str) -> Answer {
    answer(&data_plane.judge_certificate(&sha256(leaf.as_bytes()), Request { method, path }))
}

#[test]
fn a_token_is_valid_at_its_expiration_and_not_a_nanosecond_longer() {
    let clients = [
        with_token("a", &["read"], "lasting", &[version("day", DAY)]),
        with_token("b", &["read"], "eternal", &[version("ever", FOREVER)]),
    ];
    let data_plane = data_plane(&clients);
    let day = |nanoseconds| UnixTime::new(86_400, nanoseconds);
    let at = |token, now| answer(&judge(&data_plane, token, "GET", "/", now));
    assert_eq!(at("day", UnixTime::new(86_399, 999_999_999)), allowed(&["a"], &["read"]));
    assert_eq!(at("day", day(0)), allowed(&["a"], &["read"]));
    assert_eq!(at("day", day(1)), refused_known("token-expired", "lasting"));
    assert_eq!(at("ever", UnixTime::from_seconds(i64::MAX)), allowed(&["b"], &["read"]));
}

#[test]
fn the_grant_names_the_token_and_its_expiration() {
    let data_plane = data_plane(&[with_token("a", &["read"], "id", &[version("t", DAY)])]);
    let decision = judge(&data_plane, "t", "GET", "/", UnixTime::from_seconds(0));
    let Decision::Allow(grant) = decision else { panic!("{decision:?}") };
    let used = grant.client().and_then(|client| client.token.clone()).expect("a token");
    assert_eq!(&*used.id, "id");
    assert_eq!(used.fingerprint, Derivation::of("t").fingerprint());
    assert_eq!(used.expiration, Some(UnixTime::from_seconds(86_400)));
}

#[test]
fn versions_overlap() {
    let versions = [version("old", DAY), version("new", FOREVER)];
    let data_plane = data_plane(&[with_token("a", &["read"], "id", &versions)]);
    assert_eq!(ask(&data_plane, "old", "GET", "/"), allowed(&["a"], &["read"]));
    assert_eq!(ask(&data_plane, "new", "GET", "/"), allowed(&["a"], &["read"]));
    let later = UnixTime::from_seconds(90_000);
    assert_eq!(answer(&judge(&data_plane, "old", "GET", "/", later)), refused_known("token-expired", "id"));
    assert_eq!(answer(&judge(&data_plane, "new", "GET", "/", later)), allowed(&["a"], &["read"]));
}

#[test]
fn only_clients_with_the_permission_count_and_then_with_all_they_may() {
    let shared = [version("t", DAY)];
    let data_plane = data_plane(&[
        with_token("reader", &["read"], "id", &shared),
        with_token("both", &["write", "read"], "id", &shared),
        with_token("writer", &["write"], "id", &shared),
    ]);
    assert_eq!(ask(&data_plane, "t", "GET", "/"), allowed(&["reader", "both"], &["read", "write"]));
    assert_eq!(ask(&data_plane, "t", "PUT", "/"), allowed(&["both", "writer"], &["read", "write"]));
}

#[test]
fn write_does_not_imply_read() {
    let data_plane = data_plane(&[
        with_token("r", &["read"], "r", &[version("r", DAY)]),
        with_token("w", &["write"], "w", &[version("w", DAY)]),
        with_certificates("cr", &["read"], &["reader"]),
        with_certificates("cw", &["write"], &["writer"]),
    ]);
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(ask(&data_plane, "r", method, "/"), allowed(&["r"], &["read"]));
        assert_eq!(ask(&data_plane, "w", method, "/"), refused_known("permission-missing", "w"));
        assert_eq!(ask_leaf(&data_plane, "reader", method, "/"), allowed(&["cr"], &["read"]));
        assert_eq!(ask_leaf(&data_plane, "writer", method, "/"), refused("permission-missing"));
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE"] {
        assert_eq!(ask(&data_plane, "w", method, "/"), allowed(&["w"], &["write"]));
        assert_eq!(ask(&data_plane, "r", method, "/"), refused_known("permission-missing", "r"));
        assert_eq!(ask_leaf(&data_plane, "writer", method, "/"), allowed(&["cw"], &["write"]));
        assert_eq!(ask_leaf(&data_plane, "reader", method, "/"), refused("permission-missing"));
    }
}

#[test]
fn one_secret_under_two_versions_is_ambiguous_while_both_could_be_used() {
    let clients = |second_permission: &str, second: &Value| {
        data_plane(&[
            with_token("a", &["read"], "one", &[version("t", FOREVER)]),
            with_token("b", &[second_permission], "two", std::slice::from_ref(second)),
        ])
    };
    let forever = version("t", FOREVER);
    assert_eq!(ask(&clients("read", &forever), "t", "GET", "/"), refused_known("token-ambiguous", "one"));
    // The second one does not hold the permission, so it is not asked.
    assert_eq!(ask(&clients("write", &forever), "t", "GET", "/"), allowed(&["a"], &["read"]));
    // The second one is expired.
    let day = clients("read", &version("t", DAY));
    assert_eq!(ask(&day, "t", "GET", "/"), refused_known("token-ambiguous", "one"));
    let later = UnixTime::from_seconds(90_000);
    assert_eq!(answer(&judge(&day, "t", "GET", "/", later)), allowed(&["a"], &["read"]));
    // One id, one expiration, and two fingerprints that claim the same secret.
    let mut other = forever.clone();
    other["fingerprint"] = "00".repeat(16).into();
    let twice = data_plane(&[with_token("a", &["read"], "one", &[forever, other])]);
    assert_eq!(ask(&twice, "t", "GET", "/"), refused_known("token-ambiguous", "one"));
}

#[test]
fn the_token_refused_as_expired_is_one_that_could_have_been_used() {
    let data_plane = data_plane(&[
        with_token("r", &["read"], "reading", &[version("t", FOREVER)]),
        with_token("w", &["write"], "writing", &[version("t", DAY)]),
    ]);
    let later = UnixTime::from_seconds(90_000);
    assert_eq!(
        answer(&judge(&data_plane, "t", "PUT", "/", later)),
        refused_known("token-expired", "writing")
    );
}

#[test]
fn a_client_with_one_token_twice_is_named_once() {
    let data_plane = data_plane(&[with_token("a", &["read"], "id", &[version("t", DAY), version("t", DAY)])]);
    assert_eq!(ask(&data_plane, "t", "GET", "/"), allowed(&["a"], &["read"]));
}

#[test]
fn unknown_tokens_and_an_empty_list_are_refused() {
    let one = data_plane(&[with_token("a", &["read"], "id", &[version("t", DAY)])]);
    for token in ["T", "t ts", "tt", "s", "\\t"] {
        assert_eq!(ask(&one, token, "GET", "/"), refused("token-unknown"), "{token}");
    }
    for empty in [read(json!({"clients": []})), data_plane(&[with_token("a", &["read"], "id", &[])])] {
        assert_eq!(ask(&empty, "t", "GET", "/"), refused("token-unknown"));
        assert_eq!(ask_leaf(&empty, "x", "GET", "/"), refused("certificate-unknown"));
    }
}

#[test]
fn a_check_hash_that_is_only_half_right_is_unknown() {
    let mut half = version("t", FOREVER);
    let hash = half["check-access-hash"].as_str().expect("hex").to_owned();
    half["check-access-hash"] = format!("{}{}", &hash[..32], "0".repeat(32)).into();
    assert_ne!(half["check-access-hash"], hash);
    let data_plane = data_plane(&[with_token("a", &["read"], "id", &[half])]);
    assert_eq!(ask(&data_plane, "t", "GET", "/"), refused("token-unknown"));
}

#[test]
fn the_token_context_is_part_of_the_check_hash() {
    let clients = json!([with_token("a", &["read"], "id", &[version("t", FOREVER)])]);
    let other = read(json!({"token-context": "another", "clients": clients}));
    assert_eq!(ask(&other, "t", "GET", "/"), refused("token-unknown"));
}

#[test]
fn the_header_is_looked_at_first_then_the_request_then_the_token() {
    let data_plane = data_plane(&[with_token("a", &["read"], "id", &[version("t", DAY)])]);
    let none = std::iter::empty::<&[u8]>;
    let request = |method, path| Request { method, path };
    let now = UnixTime::from_seconds(0);
    for (method, path) in [("GET", "/"), ("BREW", "/"), ("GET", "/..")] {
        let decision = data_plane.judge_token(none(), request(method, path), now);
        assert_eq!(answer(&decision), refused("token-missing"));
    }
    let repeated = [&b"Bearer t"[..], b"Bearer t"].into_iter();
    let decision = data_plane.judge_token(repeated, request("GET", "/"), now);
    assert_eq!(answer(&decision), refused("token-repeated"));
    let malformed = std::iter::once(&b"Bearer t\t"[..]);
    let decision = data_plane.judge_token(malformed, request("GET", "/"), now);
    assert_eq!(answer(&decision), refused("token-malformed"));
    for token in ["t", "unknown"] {
        assert_eq!(ask(&data_plane, token, "BREW", "/"), refused("method-unknown"));
        assert_eq!(ask(&data_plane, token, "get", "/"), refused("method-unknown"));
        assert_eq!(ask(&data_plane, token, "GET", "/a/%2e%2e/b"), refused("path-unsafe"));
        assert_eq!(ask(&data_plane, token, "POST", "/search%2Fx"), refused("path-ambiguous"));
    }
}

#[test]
fn a_certificate_must_be_the_very_one() {
    let data_plane = data_plane(&[
        with_certificates("feed", &["write"], &["first", "second", "first"]),
        with_certificates("all", &["read", "write"], &["second"]),
    ]);
    assert_eq!(data_plane.certificate_trust(), CertificateTrust::Clients);
    assert_eq!(ask_leaf(&data_plane, "first", "POST", "/"), allowed(&["feed"], &["write"]));
    assert_eq!(ask_leaf(&data_plane, "second", "POST", "/"), allowed(&["feed", "all"], &["read", "write"]));
    assert_eq!(ask_leaf(&data_plane, "second", "GET", "/"), allowed(&["all"], &["read", "write"]));
    assert_eq!(ask_leaf(&data_plane, "third", "GET", "/"), refused("certificate-unknown"));
    assert_eq!(ask_leaf(&data_plane, "first", "BREW", "/"), refused("method-unknown"));
    assert_eq!(ask_leaf(&data_plane, "first", "PUT", "/./"), refused("path-unsafe"));
    assert_eq!(ask_leaf(&data_plane, "first", "POST", "//search"), refused("path-ambiguous"));
}

#[test]
fn any_certificate_reads_and_writes_where_the_policy_says_so() {
    let data_plane = read(json!({"trusted-certificates": "any", "clients": []}));
    assert_eq!(data_plane.certificate_trust(), CertificateTrust::Any);
    for method in ["GET", "PUT"] {
        assert_eq!(ask_leaf(&data_plane, "whatever", method, "/"), allowed(&[], &["read", "write"]));
    }
    assert_eq!(ask_leaf(&data_plane, "whatever", "BREW", "/"), refused("method-unknown"));
    assert_eq!(ask(&data_plane, "t", "GET", "/"), refused("token-unknown"));
}

#[test]
fn no_kind_of_credential_opens_the_other_door() {
    let data_plane = data_plane(&[
        with_token("t", &["read"], "id", &[version("token", FOREVER)]),
        with_certificates("c", &["read"], &["leaf"]),
    ]);
    assert_eq!(ask(&data_plane, "leaf", "GET", "/"), refused("token-unknown"));
    assert_eq!(ask_leaf(&data_plane, "token", "GET", "/"), refused("certificate-unknown"));
}

#[test]
fn a_hundred_thousand_tokens_are_read_and_one_is_found() {
    let last = version("the last one", FOREVER);
    let mut versions: Vec<String> = (0..99_999)
        .map(|number| {
            format!(
                r#"{{"fingerprint": "{number:032x}", "check-access-hash": "{number:064x}", "expiration": "{DAY}"}}"#
            )
        })
        .collect();
    versions.push(last.to_string());
    let clients: Vec<String> = versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            format!(
                r#"{{"id": "client{index}", "permissions": ["read"], "tokens": [{{"id": "token", "versions": [{version}]}}]}}"#
            )
        })
        .collect();
    let text =
        format!(r#"{{"data-plane": {{"token-context": "{CONTEXT}", "clients": [{}]}}}}"#, clients.join(", "));
    let policy = Policy::parse(&text).expect("a policy");
    let data_plane = policy.data_plane().expect("a data plane");
    // The numbers above share their first sixteen bytes; no token derives to any of them.
    assert_eq!(ask(data_plane, "the last one", "GET", "/"), allowed(&["client99999"], &["read"]));
    assert_eq!(ask(data_plane, "another", "GET", "/"), refused("token-unknown"));
}
