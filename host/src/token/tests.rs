use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peergate_policy::token::Fingerprint;
use peergate_policy::{Decision, Permission, Policy, Request, UnixTime};
use tempfile::TempDir;

use super::*;

/// As people write them: one client to a line, certificates named by file.
const POLICY: &str = r#"{
    "authorized-peers": [ {"name": "é", "required-credentials": [{"field":"CN","must-match":"*"}]} ],
    "data-plane": {
        "clients": [
            {"id": "feed", "permissions": ["write"], "certificates": [{"file": "/etc/feed.pem"}, {"file":"/b"}]}
        ],
        "token-context": "Vespa Cloud tenant data plane:test"
    }
}
"#;

fn addition<'a>(client: &'a str, permissions: &'a [Permission], day: Option<i64>) -> Addition<'a> {
    let expiration = day.map(|day| UnixTime::from_seconds(day * 86_400));
    Addition { client, permissions, token: "query-token", expiration }
}

/// The ids that a request with this token comes from, on that day of 1970.
fn judged(text: &str, secret: &Secret, method: &str, day: i64) -> Result<Vec<String>, &'static str> {
    let text = text.replace(
        r#"{"file": "/etc/feed.pem"}, {"file":"/b"}"#,
        &format!(r#"{{"sha256": "{}"}}"#, "0".repeat(64)),
    );
    let policy = Policy::parse(&text).unwrap();
    let header = format!("Bearer {}", secret.expose());
    let request = Request { method, path: "/" };
    let now = UnixTime::from_seconds(day * 86_400);
    match policy.data_plane().unwrap().judge_token(std::iter::once(header.as_bytes()), request, now) {
        Decision::Allow(grant) => Ok(grant.client().unwrap().ids.iter().map(ToString::to_string).collect()),
        Decision::Deny(denial) => Err(denial.reason().as_str()),
    }
}

#[test]
fn a_token_that_was_added_opens_the_door_until_it_expires() {
    let secret = Secret::generate().unwrap();
    let after = add(POLICY, &addition("query", &[Permission::Read], Some(30)), &secret.derive()).unwrap();
    assert_eq!(judged(&after, &secret, "GET", 30), Ok(vec!["query".to_owned()]));
    assert_eq!(judged(&after, &secret, "GET", 31), Err("token-expired"));
    assert_eq!(judged(&after, &secret, "PUT", 30), Err("permission-missing"));
    assert_eq!(judged(&after, &Secret::generate().unwrap(), "GET", 30), Err("token-unknown"));
    assert!(!after.contains(secret.expose()));
    assert!(!after.contains(secret.expose().strip_prefix(PREFIX).unwrap()));
    let lasting = add(POLICY, &addition("query", &[Permission::Read], None), &secret.derive()).unwrap();
    assert_eq!(judged(&lasting, &secret, "GET", 1_000_000), Ok(vec!["query".to_owned()]));
    assert!(lasting.contains(r#""expiration": "<none>""#), "{lasting}");
}

#[test]
fn versions_overlap_and_one_is_revoked() {
    let (old, new) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let both = [Permission::Write, Permission::Read];
    let first = add(POLICY, &addition("app", &both, Some(30)), &old.derive()).unwrap();
    let second = add(&first, &addition("app", &[], Some(60)), &new.derive()).unwrap();
    for secret in [&old, &new] {
        for method in ["GET", "PUT"] {
            assert_eq!(judged(&second, secret, method, 30), Ok(vec!["app".to_owned()]));
        }
    }
    let listed = stored(&second).unwrap();
    let fingerprints: Vec<Fingerprint> = listed.iter().map(|version| version.fingerprint).collect();
    assert_eq!(fingerprints, [old.derive().fingerprint(), new.derive().fingerprint()]);
    assert!(listed.iter().all(|version| (&*version.client, &*version.token) == ("app", "query-token")));
    assert_eq!(listed[1].expiration, Some(UnixTime::from_seconds(60 * 86_400)));

    let revoked = revoke(&second, old.derive().fingerprint()).unwrap();
    assert_eq!(judged(&revoked, &old, "GET", 30), Err("token-unknown"));
    assert_eq!(judged(&revoked, &new, "GET", 30), Ok(vec!["app".to_owned()]));
    let none = revoke(&revoked, new.derive().fingerprint()).unwrap();
    assert_eq!(stored(&none).unwrap(), []);
    assert!(matches!(revoke(&none, new.derive().fingerprint()), Err(TokenError::UnknownFingerprint)));
    // The client is still there for the next version.
    assert!(add(&none, &addition("app", &[], None), &new.derive()).is_ok());
}

#[test]
fn a_shared_token_is_revoked_everywhere() {
    let secret = Secret::generate().unwrap();
    let one = add(POLICY, &addition("one", &[Permission::Read], None), &secret.derive()).unwrap();
    let two = add(&one, &addition("two", &[Permission::Write], None), &secret.derive()).unwrap();
    assert_eq!(stored(&two).unwrap().len(), 2);
    let delimited = secret.derive().fingerprint().to_string();
    let bare = two.replacen(&delimited, &delimited.replace(':', "").to_uppercase(), 1);
    assert_ne!(bare, two);
    assert_eq!(stored(&revoke(&bare, secret.derive().fingerprint()).unwrap()).unwrap(), []);
}

#[test]
fn the_rest_of_the_document_stays_byte_for_byte() {
    let secret = Secret::of(&[7; 32]);
    let after = add(POLICY, &addition("query", &[Permission::Read], Some(30)), &secret.derive()).unwrap();
    let last = r#"{"file":"/b"}]}"#;
    let (before, rest) = POLICY.split_once(last).unwrap();
    let added = after.strip_prefix(before).unwrap().strip_prefix(last).unwrap().strip_suffix(rest).unwrap();
    let (fingerprint, hash) =
        (secret.derive().fingerprint(), secret.derive().check_hash("Vespa Cloud tenant data plane:test"));
    assert_eq!(
        added,
        format!(
            ",\n            {{\"id\": \"query\", \"permissions\": [\"read\"], \"tokens\": [{{\"id\": \"query-token\", \
             \"versions\": [{{\"fingerprint\": \"{fingerprint}\", \"check-access-hash\": \"{}\", \"expiration\": \
             \"1970-01-31T00:00:00Z\"}}]}}]}}",
            hash.to_hex()
        )
    );
    let revoked = revoke(&after, fingerprint).unwrap();
    assert!(revoked.starts_with(before) && revoked.ends_with(rest), "{revoked}");
    assert!(revoked.contains(r#""versions": []"#), "{revoked}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let secret = Secret::generate().unwrap();
    let refused = |text: &str, addition: &Addition<'_>| add(text, addition, &secret.derive()).unwrap_err();
    let read = [Permission::Read];
    let query = addition("query", &read, None);
    assert!(matches!(refused("{}", &query), TokenError::NoDataPlane));
    assert!(matches!(refused("{", &query), TokenError::Policy(_)));
    assert!(matches!(refused(r#"{"data-plane": {"client": []}}"#, &query), TokenError::Policy(_)));
    let clients = r#"{"data-plane": {"clients": []}}"#;
    assert!(matches!(refused(clients, &query), TokenError::NoTokenContext));
    let twice = POLICY.replace("\"token-context\"", "\"clients\": [], \"token-context\"");
    assert!(matches!(refused(&twice, &query), TokenError::Policy(_)));
    assert!(matches!(refused(POLICY, &addition("query", &[], None)), TokenError::NewClient(_)));
    assert!(matches!(refused(POLICY, &addition("feed", &[], None)), TokenError::ClientHasCertificates(_)));
    let known = add(POLICY, &query, &secret.derive()).unwrap();
    let other = addition("query", &[Permission::Write], None);
    assert!(matches!(refused(&known, &other), TokenError::OtherPermissions(_)));
    let more = addition("query", &[Permission::Read, Permission::Write], None);
    assert!(matches!(refused(&known, &more), TokenError::OtherPermissions(_)));
    assert!(add(&known, &query, &Secret::generate().unwrap().derive()).is_ok());
    for text in ["{}", clients, POLICY] {
        assert!(revoke(text, secret.derive().fingerprint()).is_err(), "{text}");
    }
}

struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(desk.path("policy.json"), POLICY).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn entries(&self) -> usize {
        fs::read_dir(self.directory.path()).unwrap().count()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_policy_file_keeps_its_mode() {
    let desk = Desk::new();
    let path = desk.path("policy.json");
    for kept in [0o644, 0o640, 0o600, 0o440] {
        set_mode(&path, kept);
        PolicyFile::open(&path).unwrap().replace(&format!("{{}}{kept:o}")).unwrap();
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap()), (kept, format!("{{}}{kept:o}")));
    }
    assert_eq!(desk.entries(), 1);
}

#[test]
fn a_policy_file_is_the_file_itself_and_nobody_elses() {
    let desk = Desk::new();
    symlink(desk.path("policy.json"), desk.path("link.json")).unwrap();
    assert!(matches!(PolicyFile::open(&desk.path("link.json")), Err(TokenError::NotTheFileItself(_))));
    set_mode(&desk.path("policy.json"), 0o646);
    assert!(matches!(PolicyFile::open(&desk.path("policy.json")), Err(TokenError::File(_))));
    set_mode(&desk.path("policy.json"), 0o644);
    assert!(matches!(PolicyFile::open(&desk.path("none.json")), Err(TokenError::Unwritable { .. })));

    let edited = PolicyFile::open(&desk.path("policy.json")).unwrap();
    fs::write(desk.path("policy.json"), "{}").unwrap();
    assert!(matches!(edited.replace(POLICY), Err(TokenError::Changed(_))));
    assert_eq!(fs::read_to_string(desk.path("policy.json")).unwrap(), "{}");

    let edited = PolicyFile::open(&desk.path("policy.json")).unwrap();
    fs::rename(desk.path("policy.json"), desk.path("other.json")).unwrap();
    symlink(desk.path("other.json"), desk.path("policy.json")).unwrap();
    assert!(matches!(edited.replace(POLICY), Err(TokenError::Changed(_))));
    assert_eq!(fs::read_to_string(desk.path("other.json")).unwrap(), "{}");
}

#[test]
fn two_who_edit_at_once_wait_for_each_other() {
    let desk = Desk::new();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let path = desk.path("policy.json");
            scope.spawn(move || {
                let file = PolicyFile::open(&path).unwrap();
                let client = format!("client{client}");
                let addition = addition(&client, &[Permission::Read], None);
                let after = add(file.text(), &addition, &Secret::generate().unwrap().derive()).unwrap();
                file.replace(&after).unwrap();
            });
        }
    });
    assert_eq!(stored(&fs::read_to_string(desk.path("policy.json")).unwrap()).unwrap().len(), 8);
}

#[test]
fn who_waits_for_another_editor_gives_up() {
    let desk = Desk::new();
    let path = desk.path("policy.json");
    let other = PolicyFile::open(&path).unwrap();
    let error = PolicyFile::open_within(&path, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, TokenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    other.replace(POLICY).unwrap();
    assert!(PolicyFile::open_within(&path, Duration::ZERO).is_ok());
}

#[test]
fn a_policy_with_other_line_ends_keeps_them() {
    let crlf = POLICY.replace('\n', "\r\n");
    let secret = Secret::of(&[7; 32]);
    let addition = addition("query", &[Permission::Read], Some(30));
    let after = add(&crlf, &addition, &secret.derive()).unwrap();
    assert_eq!(after, add(POLICY, &addition, &secret.derive()).unwrap().replace('\n', "\r\n"));
    let fingerprint = secret.derive().fingerprint();
    assert_eq!(
        revoke(&after, fingerprint).unwrap(),
        revoke(&after.replace('\r', ""), fingerprint).unwrap().replace('\n', "\r\n")
    );
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count());
}

#[test]
fn a_secret_file_is_new_and_its_owners_alone() {
    let desk = Desk::new();
    let secret = Secret::generate().unwrap();
    let path = desk.path("token");
    write_secret(&path, &secret).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", secret.expose()));
    symlink(desk.path("elsewhere"), desk.path("dangling")).unwrap();
    for taken in ["token", "policy.json", "dangling"] {
        let error = write_secret(&desk.path(taken), &Secret::generate().unwrap()).unwrap_err();
        assert!(error.to_string().ends_with("exists; name a new file"), "{error}");
    }
    assert!(!desk.path("elsewhere").exists());
    assert_eq!(fs::read_to_string(desk.path("policy.json")).unwrap(), POLICY);
    assert!(fs::read_to_string(&path).unwrap().contains(secret.expose()));
}
