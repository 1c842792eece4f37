use super::*;

const TOKEN: &str = "vespa_cloud_03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
const CONTEXT: &str = "Vespa Cloud tenant data plane:mytenant";
const FINGERPRINT: &str = "f8:eb:b4:da:6d:f2:2e:1b:a3:75:e8:32:78:7b:bd:c0";
const CHECK_HASH: &str = "828e87d1699dc0ccae7989c0bcc2df1b4772a4c47ad8fa6d5068f1798be218f8";

#[test]
fn derivations_are_those_of_vespa() {
    let derivation = Derivation::of(TOKEN);
    assert_eq!(derivation.fingerprint().to_string(), FINGERPRINT);
    assert_eq!(derivation.check_hash(CONTEXT).to_hex(), CHECK_HASH);
    assert_ne!(derivation.check_hash("another context").to_hex(), CHECK_HASH);
    // Both are outputs of one function; only their context keeps them apart.
    let confused = derivation.check_hash(FINGERPRINT_CONTEXT).to_hex();
    assert_eq!(confused[..32], FINGERPRINT.replace(':', ""));
    assert_ne!(Derivation::of(&TOKEN[1..]).fingerprint().to_string(), FINGERPRINT);
}

#[test]
fn fingerprints_are_read_with_colons_and_without() {
    let fingerprint = Derivation::of(TOKEN).fingerprint();
    let bare = FINGERPRINT.replace(':', "");
    for text in [FINGERPRINT, &bare, &FINGERPRINT.to_uppercase(), &bare.to_uppercase()] {
        assert_eq!(text.parse(), Ok(fingerprint), "{text}");
    }
    for text in [
        "",
        ":",
        &bare[1..],
        &format!("{bare}0"),
        &format!("{bare}00"),
        &format!("0x{}", &bare[2..]),
        &FINGERPRINT[1..],
        &FINGERPRINT[3..],
        &format!("{FINGERPRINT}:"),
        &FINGERPRINT.replacen(':', "", 1),
        &FINGERPRINT.replacen("f8:", "f:8", 1),
        &FINGERPRINT.replace(':', "-"),
        &FINGERPRINT.replace("f8", "é"),
        &bare.replace("f8", "g8"),
        &bare.replace("f8", "é"),
        &bare.replace("f8", " 8"),
    ] {
        assert_eq!(text.parse::<Fingerprint>(), Err(HexError), "{text}");
    }
}

#[test]
fn check_hashes_are_whole() {
    let expected = Derivation::of(TOKEN).check_hash(CONTEXT);
    assert_eq!(CHECK_HASH.parse(), Ok(expected));
    assert_eq!(CHECK_HASH.to_uppercase().parse(), Ok(expected));
    for text in ["", &CHECK_HASH[2..], &CHECK_HASH[..32], &CHECK_HASH.replace('8', "é")] {
        assert_eq!(text.parse::<CheckHash>(), Err(HexError), "{text}");
    }
    let other = format!("{}0", &CHECK_HASH[..63]).parse::<CheckHash>().expect("hex");
    assert_ne!(other, expected);
    assert_eq!(other.bytes()[..16], expected.bytes()[..16], "a part may not be taken for the whole");
}

#[test]
fn nothing_that_opens_a_door_is_printed() {
    let hash = Derivation::of(TOKEN).check_hash(CONTEXT);
    assert_eq!(format!("{hash:?}"), "CheckHash(..)");
    let text = format!(
        r#"{{"data-plane": {{"token-context": "{CONTEXT}", "clients": [{{"id": "a", "permissions": ["read"],
            "tokens": [{{"id": "t", "versions": [{{"fingerprint": "{FINGERPRINT}",
            "check-access-hash": "{CHECK_HASH}", "expiration": "<none>"}}]}}]}}]}}}}"#
    );
    let printed = format!("{:?}", crate::Policy::parse(&text).expect("a policy"));
    assert!(!printed.contains(CHECK_HASH), "{printed}");
    assert!(printed.contains("Holders(1)"), "{printed}");
    let error = crate::Policy::parse(&text.replace(CHECK_HASH, &CHECK_HASH[2..])).expect_err("too short");
    assert!(!format!("{error} {error:?}").contains(&CHECK_HASH[2..10]), "{error:?}");
}
