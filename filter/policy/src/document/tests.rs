use crate::{CapabilitySet, Compatibility, Decision, PeerIdentity, Policy};

/// `document` with one peer, whose members are `members`.
fn peer(members: &str) -> String {
    format!(r#"{{"authorized-peers": [{{{members}}}]}}"#)
}

fn error(text: &str) -> String {
    match Policy::parse(text) {
        Ok(_) => panic!("must be refused: {text}"),
        Err(error) => error.to_string(),
    }
}

macro_rules! refused {
    ($($name:ident: $text:expr => $message:literal;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(error(&$text), $message);
        })*
    };
}

const CREDENTIALS: &str = r#""required-credentials": [{"field": "CN", "must-match": "x"}]"#;

refused! {
    no_json: "authorized-peers: []" => "at line 1 column 1: not JSON: expected value";
    byte_order_mark: "\u{feff}{}" => "at line 1 column 1: not JSON: expected value";
    trailing_text: "{}\n{}" => "at line 2 column 1: not JSON: trailing characters";
    no_object: "[]" => "at line 1 column 1: expected an object, found an array";
    misspelt_key: "{\n  \"authorised-peers\": []}" =>
        "`authorised-peers` at line 2 column 3: unknown key `authorised-peers`; did you mean `authorized-peers`?";
    misplaced_key: r#"{"files": {"disable-hostname-validation": true}}"# =>
        "`files.disable-hostname-validation` at line 1 column 12: unknown key `disable-hostname-validation`; it belongs into the top level, here it would do nothing";
    certificate_as_the_documentation_misspells_it: r#"{"files": {"certificate": "/c"}}"# =>
        "`files.certificate` at line 1 column 12: unknown key `certificate`; did you mean `certificates`?";
    removed_key: peer(&format!(r#"{CREDENTIALS}, "roles": []"#)) =>
        "`authorized-peers[0].roles` at line 1 column 86: unknown key `roles`; known here are `name`, `description`, `required-credentials`, `capabilities`, `mode`";
    empty_peers: r#"{"authorized-peers": []}"# =>
        "`authorized-peers` at line 1 column 22: empty array: leave `authorized-peers` out to admit every certificate of the CA, or list peers";
    null_peers: r#"{"authorized-peers": null}"# =>
        "`authorized-peers` at line 1 column 22: expected an array, found null; leave the key out instead";
    duplicate_peers: r#"{"authorized-peers": [], "authorized-peers": []}"# =>
        "`authorized-peers` at line 1 column 26: key `authorized-peers` stands twice";
    missing_credentials: peer(r#""name": "a""#) =>
        "`authorized-peers[0]` at line 1 column 23: `required-credentials` is missing";
    empty_credentials: peer(r#""required-credentials": []"#) =>
        "`authorized-peers[0].required-credentials` at line 1 column 48: empty array: a peer without required credentials would match everybody; list at least one";
    missing_pattern: peer(r#""required-credentials": [{"field": "CN"}]"#) =>
        "`authorized-peers[0].required-credentials[0]` at line 1 column 49: `must-match` is missing";
    unknown_field: peer(r#""required-credentials": [{"field": "SAN_EMAIL", "must-match": "x"}]"#) =>
        "`authorized-peers[0].required-credentials[0].field` at line 1 column 59: unknown value `SAN_EMAIL`; expected one of `CN`, `SAN_DNS`, `SAN_URI`, `SAN_IP`";
    field_in_lower_case: peer(r#""required-credentials": [{"field": "san_dns", "must-match": "x"}]"#) =>
        "`authorized-peers[0].required-credentials[0].field` at line 1 column 59: unknown value `san_dns`; did you mean `SAN_DNS`?";
    pattern_of_another_type: peer(r#""required-credentials": [{"field": "CN", "must-match": 7}]"#) =>
        "`authorized-peers[0].required-credentials[0].must-match` at line 1 column 79: expected a string, found a number";
    address_glob: peer(r#""required-credentials": [{"field": "SAN_IP", "must-match": "10.0.0.*"}]"#) =>
        "`authorized-peers[0].required-credentials[0].must-match` at line 1 column 83: `10.0.0.*` is neither an IP address nor a CIDR block; SAN_IP takes no glob";
    address_with_host_bits: peer(r#""required-credentials": [{"field": "SAN_IP", "must-match": "10.0.0.1/8"}]"#) =>
        "`authorized-peers[0].required-credentials[0].must-match` at line 1 column 83: `10.0.0.1/8` is not in canonical form; write `10.0.0.0/8`";
    unknown_capability: peer(&format!(r#"{CREDENTIALS}, "capabilities": ["vespa.content-node"]"#)) =>
        "`authorized-peers[0].capabilities[0]` at line 1 column 103: unknown value `vespa.content-node`; did you mean `vespa.content_node`?";
    empty_capabilities: peer(&format!(r#"{CREDENTIALS}, "capabilities": []"#)) =>
        "`authorized-peers[0].capabilities` at line 1 column 102: empty array: leave `capabilities` out to grant all, or list at least one (`vespa.none` for none)";
    rule_mode: peer(&format!(r#"{CREDENTIALS}, "mode": "disable""#)) =>
        "`authorized-peers[0].mode` at line 1 column 94: unknown value `disable`; expected one of `enforce`, `log_only`";
    duplicate_name: format!(r#"{{"authorized-peers": [{{"name": "a", {CREDENTIALS}}}, {{"name": "a", {CREDENTIALS}}}]}}"#) =>
        "`authorized-peers[1].name` at line 1 column 109: `a` is here twice; names must be unique";
    empty_protocols: r#"{"accepted-protocols": []}"# =>
        "`accepted-protocols` at line 1 column 24: empty array: leave the key out for the defaults";
    unsupported_protocols: r#"{"accepted-protocols": ["TLSv1.1"]}"# =>
        "`accepted-protocols` at line 1 column 24: none of these is supported; supported are `TLSv1.2`, `TLSv1.3`";
    boolean_as_text: r#"{"disable-hostname-validation": "true"}"# =>
        "`disable-hostname-validation` at line 1 column 33: expected true or false, found a string";
    empty_path: r#"{"files": {"private-key": ""}}"# => "`files.private-key` at line 1 column 27: empty string";
    unknown_compatibility: r#"{"compatibility": "vespa"}"# =>
        "`compatibility` at line 1 column 19: unknown value `vespa`; expected one of `strict`, `vespa-cpp`, `vespa-java`";
}

#[test]
fn patterns_and_documents_have_a_largest_size() {
    let long = "a".repeat(crate::limits::PATTERN_BYTES + 1);
    let text = peer(&format!(r#""required-credentials": [{{"field": "CN", "must-match": "{long}"}}]"#));
    assert!(error(&text).ends_with("pattern is longer than 2048 bytes"));
    let text = format!("{{}}{}", " ".repeat(crate::limits::DOCUMENT_BYTES));
    assert!(error(&text).contains("larger than"));
    let text = format!("{{\"authorized-peers\": [{}0]}}", "0,".repeat(crate::limits::RULES));
    assert!(error(&text).ends_with("more than 100000 peers"));
}

#[test]
fn files_must_be_complete_and_absolute_for_a_host() {
    for (text, message) in [
        ("{}", "at line 1 column 1: `files.ca-certificates` is missing"),
        (
            r#"{"files": {"ca-certificates": "/a", "certificates": "b", "private-key": "/c"}}"#,
            "`files.certificates` at line 1 column 53: `b` is a relative path; write an absolute one",
        ),
        (
            r#"{"files": {"ca-certificates": "/a", "certificates": "/b"}}"#,
            "`files` at line 1 column 11: `files.private-key` is missing",
        ),
    ] {
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.files().require(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn documented_differences_come_back_with_compatibility() {
    let with = |compatibility: &str, rest: &str| {
        Policy::parse(&format!(r#"{{"compatibility": "{compatibility}"{rest}}}"#))
    };
    let unknown = r#", "flipper": 1, "files": {"disable-hostname-validation": true}"#;
    let null_peers = r#", "authorized-peers": null"#;
    let no_credentials = r#", "authorized-peers": [{"name": "a", "required-credentials": []}]"#;
    let no_pattern = r#", "authorized-peers": [{"name": "a", "required-credentials": [{"field": "CN"}]}]"#;
    let no_name = &format!(r#", "authorized-peers": [{{{CREDENTIALS}}}]"#);
    let same_names =
        &format!(r#", "authorized-peers": [{{"name": "a", {CREDENTIALS}}}, {{"name": "a", {CREDENTIALS}}}]"#);
    let stale =
        &format!(r#", "authorized-peers": [{{"name": "a", {CREDENTIALS}, "capabilities": ["vespa.cat"]}}]"#);
    let protocols = r#", "accepted-protocols": ["SSLv3"]"#;
    let ciphers = r#", "accepted-ciphers": []"#;
    for (rest, strict, cpp, java) in [
        (unknown, false, true, true),
        (null_peers, false, false, true),
        (no_credentials, false, false, true),
        (no_pattern, false, true, false),
        (no_name, true, true, false),
        (same_names, false, true, false),
        (stale, false, true, true),
        (protocols, false, true, false),
        (ciphers, false, true, false),
    ] {
        assert_eq!(with("strict", rest).is_ok(), strict, "strict {rest}");
        assert_eq!(with("vespa-cpp", rest).is_ok(), cpp, "vespa-cpp {rest}");
        assert_eq!(with("vespa-java", rest).is_ok(), java, "vespa-java {rest}");
    }
    for (word, mode) in [("strict", "enforce"), ("vespa-cpp", "enforce"), ("vespa-java", "disable")] {
        assert_eq!(with(word, "").unwrap().capability_mode().as_str(), mode, "{word}");
    }
    assert!(with("vespa-cpp", "").unwrap().disable_hostname_validation());
    assert!(!with("vespa-java", "").unwrap().disable_hostname_validation());
    assert!(!with("strict", "").unwrap().disable_hostname_validation());
    assert_eq!(with("vespa-java", null_peers).unwrap().compatibility(), Compatibility::VespaJava);
}

#[test]
fn rules_that_grant_nothing_admit_except_in_java() {
    let text = |compatibility: &str| {
        let rule = format!(r#"{{"name": "a", {CREDENTIALS}, "capabilities": ["vespa.cat"]}}"#);
        format!(r#"{{"compatibility": "{compatibility}", "authorized-peers": [{rule}]}}"#)
    };
    let peer = PeerIdentity { common_name: Some("x".into()), ..PeerIdentity::default() };
    let cpp = Policy::parse(&text("vespa-cpp")).unwrap();
    assert!(
        matches!(cpp.authorize(&peer), Decision::Allow(grant) if grant.capabilities() == CapabilitySet::EMPTY)
    );
    assert_eq!(
        cpp.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["unknown capability `vespa.cat` grants nothing"]
    );
    let java = Policy::parse(&text("vespa-java")).unwrap();
    assert!(
        matches!(java.authorize(&peer), Decision::Deny(denial) if denial.reason().as_str() == "no-capabilities")
    );
}

fn warnings(text: &str) -> Vec<String> {
    let policy = Policy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    policy.warnings().iter().map(ToString::to_string).collect()
}

/// The only complete example in Vespa's reference (vespa-engine/documentation, en/reference/security/mtls.md, commit 523dfcf).
#[test]
fn the_example_of_vespas_reference_is_a_policy() {
    let text = r#"{
    "files": {
        "ca-certificates": "/absolute/path/to/ca-certs.pem",
        "certificates": "/absolute/path/to/host-certs.pem",
        "private-key": "/absolute/path/to/private-key.pem",
        "disable-hostname-validation": false
    }
}"#;
    let expected = "key `disable-hostname-validation` has no effect in `files`, as in Vespa; it belongs into the top level";
    assert_eq!(warnings(text), [format!("at line 6 column 9: {expected}")]);
    let java = text.replacen('{', "{\"compatibility\": \"vespa-java\",", 1);
    assert_eq!(warnings(&java), [format!("at line 6 column 9: {expected}")]);
    // As written it would be another document: nobody meant a key that no one knows.
    assert!(
        error(
            &text.replace(
                "certificates\": \"/absolute/path/to/host",
                "certificate\": \"/absolute/path/to/host"
            )
        )
        .contains("did you mean `certificates`?")
    );
}

/// A key of Vespa's in another object than its own, and whether `strict` leaves it out. Obeyed there, some would change who is
/// admitted.
#[test]
fn misplaced_keys_of_vespa_are_ignored_where_nobody_would_be_admitted_otherwise() {
    let places = |member: &str| {
        [
            format!(r#"{{{member}}}"#),
            format!(r#"{{"files": {{{member}}}}}"#),
            peer(&format!(r#"{CREDENTIALS}, {member}"#)),
            peer(&format!(r#""required-credentials": [{{"field": "CN", "must-match": "x", {member}}}]"#)),
        ]
    };
    // In which of these objects the key is at home.
    for (member, home, harmless) in [
        (r#""files": {"ca-certificates": "/a"}"#, 0, false),
        (r#""authorized-peers": []"#, 0, false),
        (r#""accepted-ciphers": ["x"]"#, 0, true),
        (r#""accepted-protocols": ["TLSv1.3"]"#, 0, true),
        (r#""disable-hostname-validation": false"#, 0, true),
        (r#""disable-hostname-validation": true"#, 0, false),
        (r#""disable-hostname-validation": "false""#, 0, false),
        (r#""disable-hostname-validation": null"#, 0, false),
        (r#""private-key": "/k""#, 1, true),
        (r#""certificates": "/c""#, 1, true),
        (r#""ca-certificates": "/a""#, 1, false),
        (r#""name": "n""#, 2, true),
        (r#""description": "d""#, 2, true),
        (r#""required-credentials": []"#, 2, false),
        (r#""capabilities": ["vespa.none"]"#, 2, false),
        (r#""field": "CN""#, 3, false),
        (r#""must-match": "y""#, 3, false),
        // Ours: Vespa has no place for them.
        (r#""crls": ["/c"]"#, 1, false),
        (r#""mode": "log_only""#, 2, false),
        (r#""spiffe-strict": true"#, 0, false),
    ] {
        for (index, text) in places(member).iter().enumerate().filter(|(index, _)| *index != home) {
            let key = member.split('"').nth(1).expect("a key");
            if harmless {
                let [warning] = &warnings(text)[..] else { panic!("one warning: {text}") };
                let column = text.find(&format!("\"{key}\"")).expect("there") + 1;
                let start = format!("at line 1 column {column}: key `{key}` has no effect in ");
                assert!(
                    warning.starts_with(&start) && warning.contains("as in Vespa; it belongs into"),
                    "{warning}"
                );
            } else {
                assert!(
                    error(text).contains(&format!("unknown key `{key}`; it belongs into ")),
                    "{index}: {text}"
                );
            }
            // Vespa ignores them all, and says nothing.
            let cpp = text.replacen('{', r#"{"compatibility": "vespa-cpp", "#, 1);
            assert!(
                warnings(&cpp).iter().any(|it| it.contains(&format!("key `{key}` has no effect in "))),
                "{cpp}"
            );
        }
    }
}

/// The default of Vespa's C++ is another one, so the same key means the other thing there.
#[test]
fn a_misplaced_setting_is_compared_to_the_one_in_effect() {
    let text = |value: bool| {
        format!(
            r#"{{"disable-hostname-validation": true, "files": {{"disable-hostname-validation": {value}}}}}"#
        )
    };
    assert_eq!(warnings(&text(true)).len(), 1);
    assert!(error(&text(false)).contains("it belongs into the top level"));
}

#[test]
fn unknown_keys_are_told_wherever_vespa_ignores_them() {
    let text = r#"{"compatibility": "vespa-java", "flipper": 1,
"files": {"flopper": 1}, "authorised-peers": []}"#;
    assert_eq!(
        warnings(text),
        [
            "at line 1 column 33: key `flipper` is unknown and has no effect",
            "at line 2 column 26: key `authorised-peers` is unknown and has no effect; did you mean `authorized-peers`?",
            "at line 2 column 11: key `flopper` is unknown and has no effect",
        ]
    );
}
