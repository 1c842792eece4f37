//! `peergate import`: Vespa Cloud's `<clients>` as a policy that our host then serves by.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use peergate_host::pki::{Credential, Leaf};
use peergate_tests::commands::{Finished, curl, openssl, peergate, run};
use peergate_tests::host::Start;
use peergate_tests::pki::{Peer, Pki};
use peergate_tests::root;
use peergate_tests::upstream::Upstream;
use serde_json::Value;

/// An application package with certificates of its own.
struct Package {
    pki: Pki,
}

impl Package {
    fn new() -> Self {
        let package = Self { pki: Pki::new() };
        fs::create_dir_all(package.file("app/security")).expect("the package");
        package
    }

    fn file(&self, name: &str) -> PathBuf {
        self.pki.file(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.file("app").join(name), text).expect("a file of the package");
    }

    /// A client with a certificate signed by itself, in `security/NAME.pem`.
    fn client(&self, name: &str) -> Peer {
        self.client_of(name, &Leaf::new().cn(name))
    }

    fn client_of(&self, name: &str, leaf: &Leaf) -> Peer {
        let peer = self.pki.store(Credential::self_signed(leaf).expect("a certificate"));
        fs::copy(&peer.chain, self.file(&format!("app/security/{name}.pem"))).expect("the certificate");
        peer
    }

    fn services(&self, containers: &str) {
        self.write(
            "services.xml",
            format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<services version=\"1.0\" xmlns:deploy=\"vespa\" \
                 xmlns:preprocess=\"properties\">\n{containers}\n</services>\n"
            ),
        );
    }

    /// One container with these clients, the first on line 5.
    fn clients(&self, clients: &str) {
        self.services(&format!(
            "<container id=\"default\" version=\"1.0\">\n<clients>\n{clients}\n</clients>\n</container>"
        ));
    }

    /// `peergate import services.xml ARGUMENTS`, in the package.
    fn import(&self, arguments: &[&str]) -> Finished {
        let mut command = peergate();
        command.current_dir(self.file("app")).args(["import", "services.xml"]);
        run(command.args(arguments), b"")
    }

    fn imported(&self, arguments: &[&str]) -> (Value, String) {
        let done = self.import(arguments);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let policy = serde_json::from_str(&done.stdout).expect("a JSON document");
        let file = self.file("checked.json");
        fs::write(&file, &done.stdout).expect("the policy");
        let mut check = peergate();
        check.args(["check", "--target", "filter", "--endpoint", "mtls", "--policy"]).arg(&file);
        let checked = run(&mut check, b"");
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        (policy, done.stderr)
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], message: &str) {
        let done = self.import(arguments);
        assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{message}\n{}", done.stderr);
        assert!(done.stderr.contains(message), "{message}\n{}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }

    /// What each method at a document gets, with this policy in our host.
    fn statuses(&self, policy: &Value, peers: &[&Peer]) -> Vec<[u16; 2]> {
        self.statuses_with(policy, "ca.pem", peers)
    }

    fn statuses_with(&self, policy: &Value, authority: &str, peers: &[&Peer]) -> Vec<[u16; 2]> {
        let upstream = Upstream::http();
        let path = self.file("served.json");
        let mut policy = self.pki.with_files(policy);
        policy["files"]["ca-certificates"] = self.file(authority).to_string_lossy().into();
        fs::write(&path, policy.to_string()).expect("the policy");
        let host = Start::endpoint("mtls", &path, upstream.address).start();
        let status = |peer, arguments: &[&str]| {
            curl(&self.pki, host.address, Some(peer), "/document/v1/", arguments).status
        };
        peers.iter().map(|peer| [status(peer, &[]), status(peer, &["--data", "{}"])]).collect()
    }
}

fn ids(policy: &Value) -> Vec<&str> {
    let clients = policy["data-plane"]["clients"].as_array().expect("clients");
    clients.iter().map(|client| client["id"].as_str().expect("an id")).collect()
}

/// The security guide's example, with its three files.
#[test]
fn clients_of_vespa_cloud_read_and_write_here_as_there() {
    let package = Package::new();
    let [serve, ingest, full] = ["serve", "ingest", "full_access"].map(|name| package.client(name));
    let rotated = package.pki.store(Credential::self_signed(&Leaf::new().cn("rotated")).expect("one"));
    let both = [&full, &rotated].map(|peer| fs::read_to_string(&peer.chain).expect("a certificate")).concat();
    package.write("security/full_access.pem", format!("comment\r\n{both}"));
    package.services(
        r#"<container version='1.0'>
    <search/>
    <clients>
        <client id="serve" permissions="read">
            <certificate file="security/serve.pem"/>
        </client>
        <client id="ingest" permissions="write">
            <certificate file="security/ingest.pem"/>
        </client>
        <client id="full_access" permissions="read, write">
            <certificate file="security/full_access.pem"/>
        </client>
    </clients>
</container>
<content id="music" version="1.0"/>"#,
    );
    let (policy, report) = package.imported(&[]);
    assert_eq!(ids(&policy), ["serve", "ingest", "full_access"]);
    assert!(
        report.contains("client `full_access`: read and write, 2 certificates of `security/full_access.pem`"),
        "{report}"
    );
    assert!(!report.contains("not carried over"), "{report}");
    let stranger = package.pki.peer(&Leaf::new().cn("serve"));
    let seen = package.statuses(&policy, &[&serve, &ingest, &full, &rotated, &stranger]);
    assert_eq!(seen, [[200, 403], [403, 200], [200, 200], [200, 200], [403, 403]]);
}

/// What Vespa refuses, and its schema.
#[test]
fn every_error_of_vespa_is_one_with_its_place() {
    let package = Package::new();
    package.client("a");
    package.client("b");
    fs::copy(package.file("app/security/a.pem"), package.file("app/copy.pem")).expect("a copy");
    package.write("empty.pem", "");
    package.write("none.pem", "effectively empty");
    package.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let other = Credential::self_signed(&Leaf::new().cn("c")).expect("a certificate");
    package.write("twice.pem", other.chain_pem.repeat(2));
    package.write("open.pem", "x");
    fs::set_permissions(package.file("app/open.pem"), PermissionsExt::from_mode(0o666)).expect("its mode");
    let good = r#"<client id="a" permissions="read"><certificate file="security/a.pem"/></client>"#;
    let with = |attributes: &str, content: &str| format!("{good}\n<client {attributes}>{content}</client>");
    let file = |name: &str| format!(r#"<certificate file="{name}"/>"#);
    let b = r#"id="b" permissions="read""#;
    for (clients, message) in [
        (
            with(r#"id="a" permissions="read""#, &file("security/b.pem")),
            "services.xml:6:1: duplicate client id `a`",
        ),
        (
            with(r#"id="_b" permissions="read""#, &file("security/b.pem")),
            "services.xml:6:1: invalid client id `_b`: an id cannot start with `_`",
        ),
        (
            with(r#"id="b" permissions="read,admin""#, &file("security/b.pem")),
            "services.xml:6:1: invalid permission `admin`; valid are `read` and `write`",
        ),
        (with(r#"id="b" permissions="Read""#, &file("security/b.pem")), "6:1: invalid permission `Read`"),
        (with(r#"id="b" permissions="read,""#, &file("security/b.pem")), "6:1: invalid permission ``"),
        (with(r#"id="b""#, &file("security/b.pem")), "6:1: `client` needs the attribute `permissions`"),
        (with(r#"permissions="read""#, &file("security/b.pem")), "6:1: `client` needs the attribute `id`"),
        (
            with(r#"id="" permissions="read""#, &file("security/b.pem")),
            "6:1: `client` needs the attribute `id`",
        ),
        (with(b, ""), "6:1: client `b` has neither a `certificate` nor a `token`"),
        (with(b, "<certificate/>"), "6:35: `certificate` needs the attribute `file`"),
        (with(b, "<token/>"), "6:35: `token` needs the attribute `id`"),
        (with(b, "<certificates/>"), "6:35: `certificates` has no place in `client`"),
        ("<user/>".to_owned(), "5:1: `user` has no place in `clients`"),
        (
            with(b, &file("security/none.pem")),
            "6:35: certificate file `security/none.pem` for client `b` does not exist",
        ),
        (with(b, &file("../ca.pem")), "6:35: `../ca.pem` is outside of the application package"),
        (with(b, &file("/etc/hosts")), "6:35: `/etc/hosts` is outside of the application package"),
        (with(b, &file("none.pem")), "6:35: file `none.pem` does not contain any certificates"),
        (with(b, &file("empty.pem")), "6:35: file `empty.pem` does not contain any certificates"),
        (with(b, &file("broken.pem")), "6:35: file `broken.pem` contains an invalid certificate, number 1"),
        (with(b, &file("open.pem")), "6:35: `open.pem` is writable by everybody"),
        (with(b, &file("security")), "6:35: `security` is not a regular file"),
        (with(b, &file("twice.pem")), "6:35: file `twice.pem` contains a certificate twice"),
        (
            with(b, &file("copy.pem")),
            "6:35: `security/a.pem` contains a certificate of `copy.pem`; certificates must be unique",
        ),
        (
            r#"<client id="t" permissions="read"><token id="t"/></client>"#.to_owned(),
            "3:1: at least one client must require a certificate",
        ),
        (String::new(), "3:1: at least one client must require a certificate"),
        (format!("{good}</clients><clients>"), ": `clients` stands twice"),
        (
            format!("{good}</clients></container><container id=\"default\"><clients>"),
            ": container `default` stands twice",
        ),
    ] {
        package.clients(&clients);
        package.refused(&[], message);
    }
    // A copy that no client names is one too many in Vespa.
    package.clients(good);
    package.imported(&[]);
    fs::copy(package.file("app/copy.pem"), package.file("app/security/old.pem")).expect("a copy");
    package.refused(&[], "services.xml:5:35: `security/old.pem` contains a certificate of `security/a.pem`");
}

/// Two clients may share a file: the certificate is then both of them, as in Vespa.
#[test]
fn one_file_may_be_of_two_clients() {
    let package = Package::new();
    let shared = package.client("shared");
    package.clients(
        r#"<client id="r" permissions="read"><certificate file="security/shared.pem"/></client>
        <client id="w" permissions="write"><certificate file="./security//shared.pem"/></client>"#,
    );
    let (policy, _) = package.imported(&[]);
    assert_eq!(package.statuses(&policy, &[&shared]), [[200, 200]]);
}

#[test]
fn tokens_are_made_anew_by_the_command_that_is_printed() {
    let package = Package::new();
    package.client("mtls");
    package.clients(
        r#"<client id="mtls" permissions="read,write"><certificate file="security/mtls.pem"/><token id="lost"/></client>
<client id="a b';&lt;" permissions="read"><token id="query-token"/></client>"#,
    );
    let (policy, report) = package.imported(&[]);
    assert_eq!(ids(&policy), ["mtls"]);
    assert!(
        report.contains("services.xml:5:83: client `mtls`: token `lost`: a client with certificates"),
        "{report}"
    );
    assert!(report.contains("--token-context 'Vespa Cloud tenant data plane:TENANT'"), "{report}");

    let written =
        package.import(&["--policy", "policy.json", "--token-context", "Vespa Cloud tenant data plane:t"]);
    assert_eq!((written.code, &*written.stdout), (Some(0), ""), "{}", written.stderr);
    assert!(!written.stderr.contains("--token-context"), "{}", written.stderr);
    let (_, command) = written.stderr.split_once("make a new one: peergate ").expect("a command");
    let command = command.lines().next().unwrap_or_default();
    assert!(command.contains("--policy policy.json"), "{command}");
    let mut shell = Command::new("sh");
    shell.current_dir(package.file("app"));
    let program = peergate().get_program().to_string_lossy().into_owned();
    let made = run(shell.args(["-c", &format!("'{program}' {command} --out token")]), b"");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let text = fs::read_to_string(package.file("app/policy.json")).expect("the policy");
    let policy: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(ids(&policy), ["mtls", "a b';<"]);
    assert_eq!(policy["data-plane"]["clients"][1]["permissions"], serde_json::json!(["read"]));
}

/// A client that is another one in production must not be carried over as it is in development.
#[test]
fn what_varies_by_deployment_is_left_out_whole() {
    let package = Package::new();
    package.client("mtls");
    let kept = r#"<client id="kept" permissions="read"><certificate file="security/mtls.pem"/></client>"#;
    package.clients(&format!(
        r#"{kept}
<client id="x" permissions="read,write"><certificate file="security/mtls.pem"/></client>
<client id="x" permissions="read" deploy:environment="prod"><certificate file="security/prod.pem"/></client>
<client id="y" permissions="read"><certificate deploy:instance="qa" file="security/qa.pem"/></client>
<client id="z" permissions="${{z}}"><certificate file="security/mtls.pem"/></client>
<preprocess:include file="more.xml"/>"#
    ));
    let (policy, report) = package.imported(&[]);
    assert_eq!(ids(&policy), ["kept"]);
    for line in [
        "services.xml:6:1: client `x` varies by deployment, see the others of this id",
        "services.xml:7:1: client `x` varies by deployment (`deploy:environment=\"prod\"`)",
        "services.xml:8:35: client `y` varies by deployment (`deploy:instance=\"qa\"`)",
        "services.xml:9:1: client `z` varies by deployment (`permissions=\"${z}\"`)",
        "services.xml:10:1: `preprocess:include` of `more.xml` is not read",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    package.clients(r#"<client id="x" permissions="read" deploy:instance="qa"><certificate file="security/mtls.pem"/></client>"#);
    package.refused(&[], "services.xml:3:1: every client with a certificate varies by deployment");

    // Not known is not absent: the authority of an old security/clients.pem must not open everything.
    package.client("clients");
    for (container, message) in [
        (
            r#"<container id="a"><preprocess:include file="clients.xml"/></container>"#,
            "has no `clients` but in an include",
        ),
        (r#"<container id="a"><include dir="clients"/></container>"#, "has no `clients` but in an include"),
        (
            r#"<container id="a"><clients deploy:environment="prod"/></container>"#,
            "container `a` varies by deployment",
        ),
        (r#"<container id="a" deploy:environment="prod"/>"#, "container `a` varies by deployment"),
        (
            r#"<container id="a"/><container id="a" deploy:environment="prod"><clients/></container>"#,
            "container `a` varies by deployment",
        ),
        (
            r#"<preprocess:include file="container.xml"/>"#,
            "`preprocess:include` of `container.xml` is not read",
        ),
    ] {
        package.services(container);
        package.refused(&[], "no container is the same in every deployment");
        package.refused(&["--container", "a"], message);
    }
}

#[test]
fn containers_are_chosen_where_they_differ() {
    let package = Package::new();
    let [feed, query] = ["feed", "query"].map(|name| package.client(name));
    let container = |id: &str, permissions: &str, name: &str| {
        format!(
            "<container id=\"{id}\" version=\"1.0\"><clients><client id=\"c\" permissions=\"{permissions}\"><certificate \
             file=\"security/{name}.pem\"/></client></clients></container>"
        )
    };
    package.services(&[container("feed", "write", "feed"), container("query", "read", "query")].concat());
    package
        .refused(&[], "the containers `feed`, `query` have different clients; choose one with `--container`");
    package.refused(&["--container", "x"], "no container `x`; there are `feed`, `query`");
    for (id, seen) in [("feed", [[403, 200], [403, 403]]), ("query", [[403, 403], [200, 403]])] {
        let (policy, report) = package.imported(&["--container", id]);
        assert!(report.contains(&format!("container `{id}`")), "{report}");
        assert_eq!(package.statuses(&policy, &[&feed, &query]), seen, "{id}");
    }
    package.services(&[container("a", "read", "feed"), container("b", "read", "feed")].concat());
    let (_, report) = package.imported(&[]);
    assert!(report.contains("containers `a`, `b`, which have the same clients"), "{report}");
    package.services(&[container("a", "read", "feed"), "<container id=\"b\"/>".to_owned()].concat());
    package.refused(&[], "the containers `a`, `b` have different clients");
    package.services("");
    package.refused(&[], "no `container` that could be imported");
}

/// No `<clients>`: `security/clients.pem` signs whoever may come, or is whoever may come.
#[test]
fn without_clients_an_authority_is_trusted_or_its_file_pinned() {
    let package = Package::new();
    package.services("<container id=\"default\" version=\"1.0\"><search/></container>");
    package.refused(&[], "services.xml:3:1: no `clients`, and no `security/clients.pem` either");
    let (issued, own) = (package.pki.peer(&Leaf::new().cn("issued")), package.client("clients"));

    fs::copy(package.file("ca.pem"), package.file("app/security/clients.pem")).expect("the authority");
    let (policy, report) = package.imported(&[]);
    assert_eq!(policy["data-plane"]["trusted-certificates"], "any");
    let authority = package.file("app/security/clients.pem").display().to_string();
    assert!(report.contains(&format!("name them as `files.ca-certificates`: {authority}")), "{report}");
    assert_eq!(package.statuses(&policy, &[&issued]), [[200, 200]]);
    assert_eq!(package.statuses(&policy, &[&own]), [[0, 0]], "not signed by the authority");

    fs::copy(&own.chain, package.file("app/security/clients.pem")).expect("the client's own");
    let (policy, report) = package.imported(&["--pin"]);
    assert_eq!(ids(&policy), ["default"]);
    assert!(report.contains("client `default`: read and write, 1 certificate"), "{report}");
    assert_eq!(package.statuses(&policy, &[&own, &issued]), [[200, 200], [403, 403]]);

    package
        .clients(r#"<client id="c" permissions="read"><certificate file="security/clients.pem"/></client>"#);
    package.refused(&["--pin"], "`--pin` is for one that does not");
}

/// As the security guide has them made: by Vespa's command line, or by `openssl`.
#[test]
fn certificates_that_clients_made_themselves_are_pinned() {
    let package = Package::new();
    package.services("<container id=\"default\" version=\"1.0\"><search/></container>");
    let statuses = |pin: &[&str], peer: &Peer| {
        let (policy, _) = package.imported(pin);
        let authority = package.file("app/security/clients.pem");
        fs::copy(authority, package.file("ca-of-clients.pem")).expect("the authority");
        package.statuses_with(&policy, "ca-of-clients.pem", &[peer])[0]
    };
    // `curl` reads the files alone.
    let any = package.pki.peer(&Leaf::new());
    let peer = |chain, key| Peer { chain: package.file(chain), key: package.file(key), ..any.clone() };

    let program = root().join("target/venv-clients/vespa");
    assert!(program.is_file(), "Vespa's command line is missing; install it: tests/install-clients.sh");
    let mut vespa = Command::new(program);
    vespa.current_dir(package.pki.directory()).env("HOME", package.pki.directory());
    vespa.env("VESPA_CLI_HOME", package.file("home"));
    let made = run(vespa.args(["auth", "cert", "--target", "cloud", "--application", "t.a.i", "app"]), b"");
    assert_eq!(made.code, Some(0), "{}", made.output());
    let by_vespa = peer("home/t.a.i/data-plane-public-cert.pem", "home/t.a.i/data-plane-private-key.pem");
    assert_eq!(statuses(&["--pin"], &by_vespa), [200, 200]);
    assert_eq!(statuses(&[], &by_vespa), [200, 200]);

    openssl(
        package.pki.directory(),
        "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out app/security/clients.pem -subj /CN=own -days 2",
    );
    let by_openssl = peer("app/security/clients.pem", "own.key");
    assert_eq!(statuses(&["--pin"], &by_openssl), [200, 200]);
    assert_eq!(statuses(&[], &by_openssl), [200, 200], "believed as itself, also with CA:TRUE, as in Envoy");
}

#[test]
fn what_decides_elsewhere_is_named() {
    let package = Package::new();
    package.client_of("a", &Leaf::new().cn("a").expired());
    package.services(
        r#"<container id="default"><clients><client id="a" permissions="read"><certificate file="security/a.pem"/></client></clients>
<handler id="com.example.Acl"/><search><binding>http://*/find/*</binding></search><http/></container>"#,
    );
    let (_, report) = package.imported(&[]);
    for line in [
        "services.xml:4:1: handler `com.example.Acl`",
        "search is bound to `http://*/find/*`",
        "`http`: its filters and servers",
        "certificate 1 of `security/a.pem` has expired at ",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn a_policy_is_never_overwritten_by_accident() {
    let package = Package::new();
    package.client("a");
    package.clients(r#"<client id="a" permissions="read"><certificate file="security/a.pem"/></client>"#);
    package.write("policy.json", "mine");
    let read = || fs::read_to_string(package.file("app/policy.json")).expect("the policy");
    package.refused(
        &["--policy", "policy.json"],
        "`policy.json` exists; name a new file, or replace it with --force",
    );
    package.refused(&["--policy", "none/policy.json"], "cannot write `none/policy.json`");
    assert_eq!(read(), "mine");
    let forced = package.import(&["--policy", "policy.json", "--force"]);
    assert_eq!((forced.code, &*forced.stdout), (Some(0), ""), "{}", forced.stderr);
    assert_eq!(read(), package.import(&[]).stdout);
    // Nothing else is left behind, and everybody may read it: no secret is in it.
    assert_eq!(fs::read_dir(package.file("app")).expect("the package").count(), 3);
    let mode = fs::metadata(package.file("app/policy.json")).expect("the policy").permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
    assert_eq!(mode & 0o7022, 0);
    for context in ["", "Vespa token fingerprint"] {
        let refused = package.import(&["--token-context", context]);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{}", refused.stderr);
    }
}

#[test]
fn the_example_is_imported_as_its_readme_shows() {
    let example = root().join("examples/data-plane");
    let readme = fs::read_to_string(example.join("README.md")).expect("the README");
    let package = Package::new();
    let peers = ["reader", "writer", "both"].map(|name| package.client(name));
    fs::rename(package.file("app"), package.file("application")).expect("renamed");
    fs::copy(example.join("services.xml"), package.file("application/services.xml")).expect("a copy");
    let peergate = |arguments: &[&str]| {
        let mut command = peergate();
        let done = run(command.current_dir(package.pki.directory()).args(arguments), b"");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done
    };
    let context = "Vespa Cloud tenant data plane:example";
    let import =
        ["import", "application/services.xml", "--policy", "imported.json", "--token-context", context];
    let report = peergate(&import).stderr;
    assert!(readme.contains(&report), "{report}");
    let check = ["check", "--policy", "imported.json", "--target", "filter", "--endpoint", "mtls"];
    assert!(readme.contains(&format!("`peergate {}`", check.join(" "))));
    let checked = peergate(&check).stdout;
    assert!(readme.contains(&format!("`{}`", checked.trim_end())), "{checked}");
    let text = fs::read_to_string(package.file("imported.json")).expect("the policy");
    let policy = serde_json::from_str(&text).expect("JSON");
    let seen = package.statuses(&policy, &[&peers[0], &peers[1], &peers[2]]);
    assert_eq!(seen, [[200, 403], [403, 200], [200, 200]]);
}

#[test]
fn hostile_documents_are_refused() {
    let package = Package::new();
    let laughs = (1..20).map(|n| format!("<!ENTITY l{n} \"&l{0};&l{0};\">", n - 1)).collect::<String>();
    let deep = format!("<services>{}", "<a>".repeat(150_000));
    let many = format!("<services>{}</services>", "<a/>".repeat(300_000));
    for (text, message) in [
        (
            "<!DOCTYPE services SYSTEM \"file:///etc/hosts\"><services/>".to_owned(),
            "services.xml:1:1: a DTD is not read",
        ),
        (
            format!("<!DOCTYPE s [<!ENTITY l0 \"lol\">{laughs}]><services>&l19;</services>"),
            "a DTD is not read",
        ),
        ("<services>&x;</services>".to_owned(), "not XML"),
        ("<services><container></services>".to_owned(), "services.xml:1:"),
        ("<services><a:b/></services>".to_owned(), "not XML"),
        ("<services xmlns='x'/>".to_owned(), "services.xml:1:1: expected `services`"),
        ("<services xmlns:x='x'><x:container/></services>".to_owned(), "`x:container` is not read"),
        ("<application/>".to_owned(), "services.xml:1:1: expected `services`, found `application`"),
        ("x".to_owned(), "not XML"),
        (deep, "services.xml:"),
        (many, "too large for a services.xml"),
        (format!("<services>{}</services>", " ".repeat(5_000_000)), "too large for a services.xml"),
        ("<services/>".to_owned(), "no `container` that could be imported"),
    ] {
        package.write("services.xml", text);
        package.refused(&[], message);
    }
    package.write("services.xml", b"<services>\xff</services>");
    package.refused(&[], "services.xml: not UTF-8");
    package.write("services.xml", "");
    package.refused(&[], "`services.xml` is empty");
    fs::remove_file(package.file("app/services.xml")).expect("removed");
    package.refused(&[], "cannot read `services.xml`");
    assert!(Path::new(&package.file("app")).is_dir());
}
