//! `peergate endpoint new`: names without a tenant, and the wildcard certificate that covers them.

use std::collections::BTreeSet;
use std::process::Command;

use peergate_host::pki::Leaf;
use peergate_tests::commands::{Finished, openssl, peergate, run};
use peergate_tests::host::{Start, write_policy};
use peergate_tests::pki::Pki;
use peergate_tests::upstream::Upstream;
use serde_json::{Value, json};

fn new(arguments: &str) -> Finished {
    run(peergate().args(["endpoint", "new"]).args(arguments.split_ascii_whitespace()), b"")
}

fn names(arguments: &str) -> Vec<[String; 2]> {
    let made = new(arguments);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let mut lines = made.stdout.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    assert_eq!(header, ["NAME", "WILDCARD"]);
    lines
        .map(|line| {
            let (name, wildcard) = line.split_once("  ").expect("two columns");
            [name.to_owned(), wildcard.to_owned()]
        })
        .collect()
}

fn is_random(label: &str) -> bool {
    label.len() == 8 && label.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn a_name_is_two_random_labels_before_scope_and_suffix() {
    let made = [(); 2].map(|()| names("--scope z --suffix vespa-app.cloud"));
    for rows in &made {
        let [[name, wildcard]] = &rows[..] else { panic!("{rows:?}") };
        let [label, group, rest] = name.splitn(3, '.').collect::<Vec<_>>()[..] else { panic!("{name}") };
        assert!(is_random(label) && is_random(group), "{name}");
        assert_eq!(rest, "z.vespa-app.cloud");
        assert_eq!(wildcard, &format!("*.{group}.z.vespa-app.cloud"));
    }
    assert_ne!(made[0], made[1]);
}

/// As the certificate's readers see it, not as we think they do.
#[test]
fn one_certificate_covers_a_group_and_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = names("--scope z --suffix vespa-app.cloud --count 3");
    let group = first[0][0].split('.').nth(1).expect("a group").to_owned();
    let more = names(&format!("--scope z --suffix vespa-app.cloud --count 3 --group {group}"));
    let other = names("--scope z --suffix vespa-app.cloud");
    let certificate = |wildcard: &str, name: &str| {
        openssl(
            directory.path(),
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out {name} \
                 -subj / -days 2 -addext subjectAltName=DNS:{wildcard}"
            ),
        );
    };
    let covers = |name: &str, host: &str| {
        let mut command = Command::new("openssl");
        command.current_dir(directory.path()).args(["x509", "-noout", "-in", name, "-checkhost", host]);
        let checked = run(&mut command, b"").stdout;
        assert!(checked.contains("match certificate"), "{checked}");
        checked.contains("does match")
    };
    certificate(&first[0][1], "group.pem");
    certificate("*.z.vespa-app.cloud", "scope.pem");
    let of_group: BTreeSet<&String> = first.iter().chain(&more).map(|[name, _]| name).collect();
    assert_eq!(of_group.len(), 6, "six different names");
    for name in of_group {
        assert!(covers("group.pem", name), "{name}");
        assert!(!covers("scope.pem", name), "{name}");
    }
    assert!(!covers("group.pem", &other[0][0]));
}

#[test]
fn programs_get_json() {
    let made = new("--scope z --suffix Example.COM --count 2 --group CAFED00D --format json");
    let value: Value = serde_json::from_str(&made.stdout).expect("JSON");
    assert_eq!(
        (&value["wildcard"], &value["group"]),
        (&"*.cafed00d.z.example.com".into(), &"cafed00d".into())
    );
    let names = value["names"].as_array().expect("names");
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| name.as_str().is_some_and(|it| it.ends_with(".cafed00d.z.example.com"))));
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "a".repeat(63);
    for (arguments, message) in [
        ("--scope a.b --suffix example.com".to_owned(), "`a.b` is no scope"),
        ("--scope z --suffix example.com.".to_owned(), "`example.com.` is no domain name"),
        ("--scope z --suffix 10.0.0.1".to_owned(), "`10.0.0.1` is no domain name"),
        (format!("--scope {long} --suffix {long}.{long}.{long}"), "longer than 253 characters"),
        ("--scope z --suffix example.com --group cafe".to_owned(), "`cafe` is no group"),
        ("--scope z --suffix example.com --count 0".to_owned(), "--count"),
        ("--scope z".to_owned(), "--suffix"),
    ] {
        let refused = new(&arguments);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{arguments}");
        assert!(refused.stderr.contains(message), "{arguments}: {}", refused.stderr);
    }
}

/// A new name of a group is served, and believed by its clients, with the certificate that is there.
#[test]
fn a_new_name_needs_no_new_certificate() {
    let pki = Pki::new();
    let first = names("--scope z --suffix vespa-app.cloud");
    let [[name, wildcard]] = &first[..] else { panic!("{first:?}") };
    let server = pki.authority().issue(&Leaf::new().dns(wildcard)).expect("a certificate");
    server.write(pki.directory(), "server").expect("the server's files");
    let upstream = Upstream::http();
    let policy = json!({"data-plane": {"token-context": "c", "clients": []}});
    let host = Start::endpoint("token", &write_policy(&pki, &policy), upstream.address).start();
    let port = host.address.port();
    let connect = |name: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--write-out", "%{http_code}", "--output", "/dev/null", "--cacert"]);
        curl.arg(pki.file("ca.pem")).args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
        let done = run(curl.arg(format!("https://{name}:{port}/")), b"");
        (done.code, done.stdout)
    };
    let group = name.split('.').nth(1).expect("a group");
    let more = names(&format!("--scope z --suffix vespa-app.cloud --group {group}"));
    for [name, _] in first.iter().chain(&more) {
        assert_eq!(connect(name), (Some(0), "401".to_owned()), "{name}");
    }
    // curl's code for a certificate that is not that of the name.
    let [[other, _]] = &names("--scope z --suffix vespa-app.cloud")[..] else { panic!("no name") };
    assert_eq!(connect(other), (Some(60), "000".to_owned()), "{other}");
}
