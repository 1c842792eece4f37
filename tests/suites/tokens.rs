//! `peergate token`, as people and scripts call it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use peergate_policy::token::Derivation;
use peergate_policy::{Decision, Policy, Request, UnixTime};
use peergate_tests::commands::{Finished, peergate, run};
use tempfile::TempDir;
use time::OffsetDateTime;

const SECRET: &str = "vespa_cloud_03aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
const CONTEXT: &str = "Vespa Cloud tenant data plane:mytenant";
const FINGERPRINT: &str = "f8:eb:b4:da:6d:f2:2e:1b:a3:75:e8:32:78:7b:bd:c0";
const CHECK_HASH: &str = "828e87d1699dc0ccae7989c0bcc2df1b4772a4c47ad8fa6d5068f1798be218f8";

const POLICY: &str = r#"{
  "data-plane": {
    "token-context": "Vespa Cloud tenant data plane:mytenant",
    "clients": [
      {
        "id": "old",
        "permissions": ["read"],
        "tokens": [
          {
            "id": "old-token",
            "versions": [
              {
                "fingerprint": "f8:eb:b4:da:6d:f2:2e:1b:a3:75:e8:32:78:7b:bd:c0",
                "check-access-hash": "828e87d1699dc0ccae7989c0bcc2df1b4772a4c47ad8fa6d5068f1798be218f8",
                "expiration": "2020-01-01T00:00:00Z"
              }
            ]
          }
        ]
      }
    ]
  }
}
"#;

struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        fs::write(desk.file("policy.json"), POLICY).expect("the policy");
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn policy(&self) -> String {
        fs::read_to_string(self.file("policy.json")).expect("the policy")
    }

    /// `peergate token VERB --policy policy.json ARGUMENTS`, in the directory.
    fn token(&self, verb: &str, arguments: &str) -> Finished {
        let mut command = peergate();
        command.current_dir(self.directory.path()).args(["token", verb, "--policy", "policy.json"]);
        run(command.args(arguments.split_ascii_whitespace()), b"")
    }

    fn secret(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).expect("the token").trim_end().to_owned()
    }

    /// Whether the policy admits a reader with this token now.
    fn admits(&self, secret: &str) -> bool {
        let policy = Policy::parse(&self.policy()).expect("a policy");
        let header = format!("Bearer {secret}");
        let now = UnixTime::from_seconds(OffsetDateTime::now_utc().unix_timestamp());
        let request = Request { method: "GET", path: "/search/" };
        let data_plane = policy.data_plane().expect("a data plane");
        let decision = data_plane.judge_token(std::iter::once(header.as_bytes()), request, now);
        matches!(decision, Decision::Allow(_))
    }
}

fn stdin(arguments: &[&str], input: &str) -> Finished {
    run(peergate().arg("token").args(arguments), input.as_bytes())
}

#[test]
fn a_token_is_made_listed_and_revoked() {
    let desk = Desk::new();
    let made = desk.token("new", "--client query --id query-token --permissions read --ttl 36h --out first");
    assert_eq!((made.code, &*made.stdout), (Some(0), ""), "{}", made.stderr);
    let mode = fs::metadata(desk.file("first")).expect("the token").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let first = desk.secret("first");
    assert!(first.starts_with("vespa_cloud_") && first.len() > 50, "{first}");
    assert!(!made.output().contains(&first["vespa_cloud_".len()..]), "{}", made.output());
    assert!(!desk.policy().contains(&first["vespa_cloud_".len()..]));
    assert!(desk.admits(&first));

    let made = desk.token("new", "--client query --id query-token --no-expiry --out second");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let second = desk.secret("second");
    assert!(desk.admits(&first) && desk.admits(&second), "both versions work");

    let list = desk.token("list", "");
    assert_eq!(list.code, Some(0), "{}", list.stderr);
    let rows: Vec<Vec<&str>> =
        list.stdout.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let rows: Vec<Vec<&str>> =
        rows.into_iter().map(|row| row.into_iter().filter(|cell| !cell.is_empty()).collect()).collect();
    let names = [&first, &second].map(|secret| Derivation::of(secret).fingerprint().to_string());
    assert_eq!(rows.len(), 4, "{}", list.stdout);
    assert_eq!(rows[1], ["old", "old-token", FINGERPRINT, "2020-01-01T00:00:00Z", "expired"]);
    assert_eq!((rows[2][..3].to_vec(), rows[2][4]), (vec!["query", "query-token", &names[0]], "1"));
    assert_eq!(rows[3], ["query", "query-token", &names[1], "<none>", "never expires"]);

    let revoked = desk.token("revoke", &format!("--fingerprint {}", names[0]));
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    assert!(!desk.admits(&first) && desk.admits(&second));
    let again = desk.token("revoke", &format!("--fingerprint {}", names[0]));
    assert_eq!(again.code, Some(2), "{}", again.output());
    let checked =
        run(peergate().args(["check", "--target", "filter", "--policy"]).arg(desk.file("policy.json")), b"");
    assert_eq!(checked.code, Some(0), "{}", checked.output());
}

#[test]
fn thirty_days_are_the_default() {
    let desk = Desk::new();
    let before = OffsetDateTime::now_utc().unix_timestamp();
    let made = desk.token("new", "--client query --id query-token --permissions read,write --out token");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let expires = made.stderr.trim_end().rsplit(' ').next().expect("an expiration");
    let expires: UnixTime = expires.parse().expect("an instant");
    let after = OffsetDateTime::now_utc().unix_timestamp();
    let days = 30 * 86_400;
    assert!((before + days..=after + days).contains(&expires.seconds()), "{}", made.stderr);
    assert!(desk.policy().contains(&expires.to_string()));
}

#[test]
fn a_terminal_is_shown_the_token_and_nothing_else_is() {
    let desk = Desk::new();
    let new = "token new --policy policy.json --client query --id query-token --permissions read";
    let piped = desk.token("new", "--client query --id query-token --permissions read");
    assert_eq!((piped.code, &*piped.stdout), (Some(2), ""));
    assert!(piped.stderr.contains("--out"), "{}", piped.stderr);
    assert_eq!(desk.policy(), POLICY);

    let program = peergate().get_program().to_string_lossy().into_owned();
    let mut script = Command::new("script");
    script.current_dir(desk.directory.path());
    let shown = run(script.args(["-qec", &format!("'{program}' {new}"), "/dev/null"]), b"");
    assert_eq!(shown.code, Some(0), "{}", shown.output());
    let lines: Vec<&str> =
        shown.stdout.lines().map(str::trim_end).filter(|line| line.starts_with("vespa_cloud_")).collect();
    let [secret] = lines[..] else { panic!("{}", shown.stdout) };
    assert_eq!(shown.stdout.matches(secret).count(), 1);
    assert!(desk.admits(secret));
}

/// A version whose token nobody has would stay in the policy unseen.
#[test]
fn no_version_stands_in_a_policy_when_its_token_was_lost() {
    let desk = Desk::new();
    let before = fs::read_dir(desk.directory.path()).expect("the directory").count();
    let new = "token new --policy policy.json --client query --id t --permissions read";
    let program = peergate().get_program().to_string_lossy().into_owned();
    // A file system without room: for the token, and for the policy alone.
    for blocks in [0, 1] {
        let limited = format!("trap '' XFSZ; ulimit -f {blocks}; '{program}' {new} --out token");
        let full = run(Command::new("sh").current_dir(desk.directory.path()).args(["-c", &limited]), b"");
        assert_eq!((full.code, &*full.stdout), (Some(2), ""), "{blocks}: {}", full.stderr);
        let what = if blocks == 0 { "cannot write `token`" } else { "cannot write `policy.json`" };
        assert!(full.stderr.contains(what), "{}", full.stderr);
        assert_eq!(desk.policy(), POLICY);
        assert_eq!(fs::read_dir(desk.directory.path()).expect("the directory").count(), before);
    }
    let mut python = Command::new("python3");
    python.current_dir(desk.directory.path()).args(["-c", CLOSED_TERMINAL, &program]);
    let closed = run(python.args(new.split(' ')), b"");
    assert_eq!(closed.code, Some(2), "{}", closed.output());
    assert!(closed.stderr.contains("cannot show the token"), "{}", closed.stderr);
    assert_eq!(desk.policy(), POLICY);
}

/// Runs a program on a terminal that is closed while the program waits for the policy, and ends as it did.
const CLOSED_TERMINAL: &str = "
import fcntl, os, pty, subprocess, sys, time
terminal, inner = pty.openpty()
directory = os.open('.', os.O_RDONLY)
fcntl.flock(directory, fcntl.LOCK_EX)
program = subprocess.Popen(sys.argv[1:], stdout=inner)
os.close(inner)
opened = lambda: [os.path.realpath(entry) for entry in os.scandir(f'/proc/{program.pid}/fd')]
while program.poll() is None and os.getcwd() not in opened(): time.sleep(0.01)
os.close(terminal)
fcntl.flock(directory, fcntl.LOCK_UN)
sys.exit(program.wait())
";

#[test]
fn an_editor_that_does_not_end_is_not_waited_for_for_ever() {
    let desk = Desk::new();
    let directory = fs::File::open(desk.directory.path()).expect("the directory");
    directory.lock().expect("a lock");
    let made = desk.token("new", "--client query --id t --permissions read --out token");
    assert_eq!((made.code, &*made.stdout), (Some(2), ""), "{}", made.stderr);
    assert!(made.stderr.contains("cannot edit `policy.json`: another program has held"), "{}", made.stderr);
    assert!(!desk.file("token").exists());
    directory.unlock().expect("unlocked");
    let made = desk.token("new", "--client query --id t --permissions read --out token");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
}

#[test]
fn nothing_changes_on_an_error() {
    let desk = Desk::new();
    fs::write(desk.file("taken"), "mine").expect("a file");
    fs::write(desk.file("readable"), "").expect("a file");
    let before = fs::read_dir(desk.directory.path()).expect("the directory").count();
    for (arguments, message) in [
        ("--client query --id t --permissions read --out taken", "`taken` exists"),
        ("--client query --id t --permissions read --out policy.json", "`policy.json` exists"),
        ("--client query --id t --permissions read --out none/token", "cannot write `none/token`"),
        ("--client query --id t --out token", "name its `--permissions`"),
        ("--client old --id t --permissions write --out token", "has other permissions"),
        ("--client query --id t --permissions admin --out token", "invalid value 'admin'"),
        ("--client query --id t --permissions read --ttl 30 --out token", "a number and one of"),
        ("--client query --id t --permissions read --ttl 1d --no-expiry --out token", "cannot be used with"),
        ("--id t --permissions read --out token", "--client"),
    ] {
        let made = desk.token("new", arguments);
        assert_eq!((made.code, &*made.stdout), (Some(2), ""), "{arguments}");
        assert!(made.stderr.contains(message), "{arguments}: {}", made.stderr);
    }
    let revoked = desk.token("revoke", "--fingerprint 00:11");
    assert_eq!(revoked.code, Some(2), "{}", revoked.output());
    assert_eq!(desk.policy(), POLICY);
    assert_eq!(fs::read_to_string(desk.file("taken")).expect("the file"), "mine");
    assert_eq!(fs::read_dir(desk.directory.path()).expect("the directory").count(), before);

    let broken = POLICY.replace("\"clients\"", "\"client\"");
    fs::write(desk.file("policy.json"), &broken).expect("the policy");
    for verb in ["new --client a --id b --permissions read --out token", "list"] {
        let (verb, arguments) = verb.split_once(' ').unwrap_or((verb, ""));
        let refused = desk.token(verb, arguments);
        assert_eq!(refused.code, Some(2));
        assert!(
            refused.stderr.contains("policy.json:4:5: ") && refused.stderr.contains("`client`"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(desk.policy(), broken);
    assert!(!desk.file("token").exists());
}

#[test]
fn names_of_tokens_are_derived_from_standard_input_or_a_file() {
    let desk = Desk::new();
    fs::write(desk.file("token"), format!("{SECRET}\n")).expect("the token");
    fs::set_permissions(desk.file("token"), PermissionsExt::from_mode(0o600)).expect("its mode");
    let path = desk.file("token").display().to_string();
    for (arguments, expected) in
        [(vec!["fingerprint"], FINGERPRINT), (vec!["check-hash", "--context", CONTEXT], CHECK_HASH)]
    {
        for (more, input) in [(vec![], SECRET), (vec!["--file", "-"], SECRET), (vec!["--file", &*path], "")] {
            let derived = stdin(&[&arguments[..], &more[..]].concat(), input);
            assert_eq!((derived.code, derived.stdout.trim_end()), (Some(0), expected), "{}", derived.stderr);
        }
    }
    for context in ["", "Vespa token fingerprint"] {
        let refused = stdin(&["check-hash", "--context", context], SECRET);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{}", refused.stderr);
    }
    fs::set_permissions(desk.file("token"), PermissionsExt::from_mode(0o644)).expect("its mode");
    let refused = stdin(&["fingerprint", "--file", &path], "");
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{}", refused.stderr);
}

#[test]
fn a_token_is_never_an_argument_and_never_repeated() {
    for arguments in [
        vec!["fingerprint", SECRET],
        vec!["fingerprint", "--", SECRET],
        vec!["fingerprint", "--file", "-", SECRET],
        vec!["fingerprint", &format!("--token={SECRET}")],
        vec!["fingerprint", "--token", SECRET],
        vec!["check-hash", "--context", CONTEXT, SECRET],
        vec!["check-hash", SECRET, "--context", CONTEXT],
    ] {
        let refused = stdin(&arguments, SECRET);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{arguments:?}");
        assert!(refused.stderr.contains("never an argument"), "{arguments:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains(&SECRET[12..]), "{}", refused.stderr);
    }
    for weak in ["hunter2hunter2", "vespa_cloud_hunter2", "correct-horse-battery-staple-of-words", ""] {
        for arguments in [vec!["fingerprint"], vec!["check-hash", "--context", CONTEXT]] {
            let refused = stdin(&arguments, weak);
            assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{weak}");
            assert!(
                weak.is_empty() || !refused.stderr.contains("hunter2") && !refused.stderr.contains("horse")
            );
            assert!(refused.stderr.contains("token"), "{}", refused.stderr);
        }
    }
}
