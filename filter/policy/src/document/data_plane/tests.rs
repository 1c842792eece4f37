use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use crate::error::{PolicyError, PolicyErrorKind};
use crate::{Certificate, Decision, Policy, Request};

fn version() -> Value {
    json!({"fingerprint": "00".repeat(16), "check-access-hash": "00".repeat(32), "expiration": "<none>"})
}

fn token_client(versions: &[Value]) -> Value {
    json!({"id": "t", "permissions": ["read"], "tokens": [{"id": "token", "versions": versions}]})
}

fn certificate_client(certificate: &Value) -> Value {
    json!({"id": "c", "permissions": ["write"], "certificates": [certificate]})
}

/// The client, changed at one key; `null` takes the key away.
fn changed(mut client: Value, key: &str, value: Value) -> Value {
    let members = client.as_object_mut().expect("an object");
    match value {
        Value::Null => members.remove(key),
        value => members.insert(key.to_owned(), value),
    };
    client
}

fn parse(data_plane: &Value) -> Result<Policy, PolicyError> {
    Policy::parse(&json!({ "data-plane": data_plane }).to_string())
}

fn clients(clients: &[Value]) -> Result<Policy, PolicyError> {
    parse(&json!({"token-context": "context", "clients": clients}))
}

#[track_caller]
fn assert_refused(policy: Result<Policy, PolicyError>, path: &str, is_right: fn(&PolicyErrorKind) -> bool) {
    let error = policy.err().unwrap_or_else(|| panic!("must be refused at {path}"));
    assert_eq!(error.path(), path, "{error}");
    assert!(is_right(error.kind()), "{error:?}");
}

#[test]
fn clients_have_an_id_of_their_own_permissions_and_one_kind_of_credential() {
    use PolicyErrorKind as Kind;
    let good = || certificate_client(&json!({"sha256": "00".repeat(32)}));
    assert!(clients(&[good(), token_client(&[version()])]).is_ok());
    assert!(clients(&[changed(good(), "id", json!("c_"))]).is_ok());
    let at = "data-plane.clients[0]";
    for (client, path, is_right) in [
        (
            changed(good(), "id", Value::Null),
            "",
            (|it| matches!(it, Kind::MissingKey { key: "id" })) as fn(&Kind) -> bool,
        ),
        (changed(good(), "id", json!("")), ".id", |it| *it == Kind::EmptyString),
        (changed(good(), "id", json!("_internal")), ".id", |it| *it == Kind::ReservedId),
        (changed(good(), "id", json!(7)), ".id", |it| matches!(it, Kind::WrongType { .. })),
        (changed(good(), "name", json!("x")), ".name", |it| matches!(it, Kind::UnknownKey { .. })),
        (changed(good(), "permissions", Value::Null), "", |it| {
            matches!(it, Kind::MissingKey { key: "permissions" })
        }),
        (changed(good(), "permissions", json!([])), ".permissions", |it| {
            matches!(it, Kind::EmptyArray { .. })
        }),
        (changed(good(), "permissions", json!("read")), ".permissions", |it| {
            matches!(it, Kind::WrongType { .. })
        }),
        (changed(good(), "permissions", json!(["read", "Write"])), ".permissions[1]", |it| {
            matches!(it, Kind::UnknownValue { .. })
        }),
        (changed(good(), "certificates", Value::Null), "", |it| *it == Kind::ClientCredentials),
        (changed(good(), "tokens", json!([])), "", |it| *it == Kind::ClientCredentials),
        (changed(good(), "certificates", json!([])), ".certificates", |it| {
            matches!(it, Kind::EmptyArray { .. })
        }),
    ] {
        assert_refused(clients(&[client]), &format!("{at}{path}"), is_right);
    }
    assert_refused(
        clients(&[good(), good()]),
        "data-plane.clients[1].id",
        |it| matches!(it, Kind::DuplicateName { name } if name == "c"),
    );
}

#[test]
fn tokens_are_complete() {
    use PolicyErrorKind as Kind;
    let with = |key: &str, value: Value| clients(&[token_client(&[changed(version(), key, value)])]);
    let versions = "data-plane.clients[0].tokens[0].versions[0]";
    for key in ["fingerprint", "check-access-hash", "expiration"] {
        assert_refused(with(key, Value::Null), versions, |it| matches!(it, Kind::MissingKey { .. }));
        assert_refused(with(key, json!(7)), &format!("{versions}.{key}"), |it| {
            matches!(it, Kind::WrongType { .. })
        });
    }
    for short in ["", "00", &"0".repeat(31), &"g".repeat(32), &"0".repeat(33)] {
        assert_refused(with("fingerprint", json!(short)), &format!("{versions}.fingerprint"), |it| {
            *it == Kind::NotHex { bytes: 16 }
        });
    }
    // Vespa's own tests use check hashes of 16 bytes; its filter compares 32.
    for wrong in ["", &"0".repeat(32), &"z".repeat(64), &"00:".repeat(32)] {
        assert_refused(
            with("check-access-hash", json!(wrong)),
            &format!("{versions}.check-access-hash"),
            |it| *it == Kind::NotHex { bytes: 32 },
        );
    }
    for wrong in ["", "none", "<None>", "2026-12-20", "2026-12-20T00:00:00+00:00", "0"] {
        assert_refused(with("expiration", json!(wrong)), &format!("{versions}.expiration"), |it| {
            matches!(it, Kind::NotATime { .. })
        });
    }
    assert!(with("expiration", json!("2026-12-20T00:00:00.000000001Z")).is_ok());
    assert!(with("fingerprint", json!(["00"; 16].join(":"))).is_ok());
    let tokens = |tokens: Value| clients(&[changed(token_client(&[]), "tokens", tokens)]);
    let at = "data-plane.clients[0].tokens";
    assert_refused(tokens(json!([])), at, |it| matches!(it, Kind::EmptyArray { .. }));
    assert_refused(tokens(json!([{"versions": []}])), &format!("{at}[0]"), |it| {
        matches!(it, Kind::MissingKey { key: "id" })
    });
    assert_refused(tokens(json!([{"id": "", "versions": []}])), &format!("{at}[0].id"), |it| {
        *it == Kind::EmptyString
    });
    assert_refused(tokens(json!([{"id": "x"}])), &format!("{at}[0]"), |it| {
        matches!(it, Kind::MissingKey { key: "versions" })
    });
    assert_refused(tokens(json!([{"id": "x", "versions": [], "y": 1}])), &format!("{at}[0].y"), |it| {
        matches!(it, Kind::UnknownKey { .. })
    });
    assert!(tokens(json!([{"id": "x", "versions": []}])).is_ok());
}

#[test]
fn tokens_need_a_context_that_is_not_that_of_fingerprints() {
    use PolicyErrorKind as Kind;
    let with = |context: Value| {
        parse(&changed(json!({"clients": [token_client(&[version()])]}), "token-context", context))
    };
    let is_right: fn(&Kind) -> bool = |it| *it == Kind::TokenContext;
    assert_refused(with(Value::Null), "data-plane", is_right);
    assert_refused(with(json!("")), "data-plane.token-context", is_right);
    assert_refused(with(json!("Vespa token fingerprint")), "data-plane.token-context", is_right);
    assert!(with(json!("Vespa token fingerprint ")).is_ok());
    // Also where no token would be checked with it yet.
    let early = parse(&json!({"token-context": "Vespa token fingerprint", "clients": []}));
    assert_refused(early, "data-plane.token-context", is_right);
    assert!(parse(&json!({"clients": []})).is_ok());
}

#[test]
fn certificates_are_pem_or_a_digest() {
    use PolicyErrorKind as Kind;
    let pem = || {
        let CertifiedKey { cert, .. } =
            generate_simple_self_signed(["feed".to_owned()]).expect("a certificate");
        cert.pem()
    };
    let (first, second) = (pem(), pem());
    let leaf = Certificate::from_pem(first.as_bytes()).expect("a certificate").digest;
    let sha256 = crate::escape::to_hex(&leaf);
    for certificate in [json!(first), json!({ "sha256": sha256 }), json!({ "sha256": sha256.to_uppercase() })]
    {
        let policy = clients(&[certificate_client(&certificate)]).expect("a policy");
        let request = Request { method: "PUT", path: "/" };
        let decision = policy.data_plane().expect("a data plane").judge_certificate(&leaf, request);
        assert!(matches!(decision, Decision::Allow(_)), "{certificate}: {decision:?}");
    }
    let at = "data-plane.clients[0].certificates[0]";
    let with = |certificate: Value| clients(&[certificate_client(&certificate)]);
    let broken = first.replacen("MII", "MIx", 1);
    // Which certificate of several would be the client's is a guess, and a chain is none of ours.
    let several = format!("{first}{second}");
    let with_key = format!("{first}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert_refused(with(json!(broken)), at, |it| *it == Kind::NotACertificate);
    assert_refused(with(json!(several)), at, |it| *it == Kind::SeveralCertificates);
    for text in ["", "feed.pem", &with_key] {
        assert_refused(with(json!(text)), at, |it| matches!(it, Kind::Pem(_)));
    }
    let below = format!("Bag Attributes\n{first}");
    assert!(with(json!(format!("  {}\n", below.replace('\n', "\r\n")))).is_ok());
    assert!(with(json!(first.replace('\n', " "))).is_ok(), "line ends that became spaces");
    let error = with(json!(with_key)).expect_err("a key").to_string();
    assert!(error.contains("is a private key where only certificates are expected"), "{error}");
    assert!(!error.contains("AAAA"), "{error}");
    assert_refused(with(json!({"file": "/etc/feed.pem"})), &format!("{at}.file"), |it| {
        *it == Kind::NotInlined
    });
    assert_refused(with(json!({"sha256": &sha256[2..]})), &format!("{at}.sha256"), |it| {
        *it == Kind::NotHex { bytes: 32 }
    });
    assert_refused(with(json!({})), at, |it| matches!(it, Kind::MissingKey { key: "sha256" }));
    assert_refused(with(json!({"sha1": ""})), &format!("{at}.sha1"), |it| {
        matches!(it, Kind::UnknownKey { .. })
    });
    assert_refused(with(json!(7)), at, |it| matches!(it, Kind::WrongType { .. }));
}

#[test]
fn rules_name_paths_and_known_methods() {
    use PolicyErrorKind as Kind;
    let with = |rules: Value| parse(&json!({"clients": [], "permission-rules": rules}));
    let rule = || json!({"methods": ["POST"], "paths": ["/x/**"], "permission": "read"});
    assert!(with(json!([rule(), changed(rule(), "methods", Value::Null)])).is_ok());
    let at = "data-plane.permission-rules";
    assert_refused(with(json!([])), at, |it| matches!(it, Kind::EmptyArray { .. }));
    for (key, value, path, is_right) in [
        ("methods", json!([]), ".methods", (|it| matches!(it, Kind::EmptyArray { .. })) as fn(&Kind) -> bool),
        ("methods", json!(["post"]), ".methods[0]", |it| matches!(it, Kind::UnknownValue { .. })),
        ("paths", Value::Null, "", |it| matches!(it, Kind::MissingKey { key: "paths" })),
        ("paths", json!([]), ".paths", |it| matches!(it, Kind::EmptyArray { .. })),
        ("paths", json!(["x"]), ".paths[0]", |it| matches!(it, Kind::NotAPathPattern { .. })),
        ("paths", json!(["/a**"]), ".paths[0]", |it| matches!(it, Kind::NotAPathPattern { .. })),
        ("permission", Value::Null, "", |it| matches!(it, Kind::MissingKey { key: "permission" })),
        ("permission", json!("custom"), ".permission", |it| matches!(it, Kind::UnknownValue { .. })),
        ("path", json!("/x"), ".path", |it| matches!(it, Kind::UnknownKey { .. })),
    ] {
        assert_refused(with(json!([changed(rule(), key, value)])), &format!("{at}[0]{path}"), is_right);
    }
}

#[test]
fn the_object_itself_is_strict() {
    use PolicyErrorKind as Kind;
    assert_refused(parse(&json!({})), "data-plane", |it| matches!(it, Kind::MissingKey { key: "clients" }));
    assert_refused(parse(&json!([])), "data-plane", |it| matches!(it, Kind::WrongType { .. }));
    assert_refused(parse(&json!({"clients": null})), "data-plane.clients", |it| {
        matches!(it, Kind::WrongType { .. })
    });
    let misspelt = json!({"clients": [], "trusted-certificates": "all"});
    assert_refused(parse(&misspelt), "data-plane.trusted-certificates", |it| {
        matches!(it, Kind::UnknownValue { .. })
    });
    let unknown = json!({"clients": [], "trusted-certificate": "any"});
    assert_refused(parse(&unknown), "data-plane.trusted-certificate", |it| {
        matches!(it, Kind::UnknownKey { .. })
    });
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let pinned = certificate_client(&json!({"sha256": "00".repeat(32)}));
    let warnings = |policy: Result<Policy, PolicyError>| {
        let policy = policy.expect("a policy");
        policy.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(warnings(clients(&[token_client(&[version()]), pinned.clone()])), [""; 0]);
    let lone = warnings(clients(&[token_client(&[version()])]));
    assert!(lone.len() == 1 && lone[0].contains("none with a certificate"), "{lone:?}");
    let ignored = warnings(parse(&json!({"trusted-certificates": "any", "clients": [pinned]})));
    assert!(ignored.len() == 1 && ignored[0].contains("`trusted-certificates` is `any`"), "{ignored:?}");
    assert_eq!(warnings(parse(&json!({"trusted-certificates": "any", "clients": []}))), [""; 0]);
}
