//! `envoy/oci-image.py`: images that are what the specifications say, equal wherever they are made, and refused where they
//! would not run.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use peergate_host::envoy::{Bootstrap, Envoy, Protocol};
use peergate_policy::sha256;
use peergate_tests::client::Client;
use peergate_tests::commands::{Finished, peergate, run};
use peergate_tests::envoy::{CURRENT, binary, listener, skipped};
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, peer_endpoint, stranger, vespa_example};
use peergate_tests::upstream::Upstream;
use peergate_tests::{filter, root};
use serde_json::{Value, json};
use tempfile::TempDir;

fn script() -> PathBuf {
    root().join("envoy/oci-image.py")
}

fn command(script: &Path, arguments: &[&str], out: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).args(arguments).arg("--out").arg(out).env_remove("SOURCE_DATE_EPOCH");
    command
}

/// An image, as whoever pulls it sees it.
struct Image {
    digest: String,
    directory: TempDir,
}

impl Image {
    fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let made = run(&mut command(&script(), arguments, &directory.path().join("image")), b"");
        assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        Self { digest: made.stdout.trim_end().to_owned(), directory }
    }

    fn of_the_filter() -> Self {
        Self::new(&["filter", filter().to_str().expect("text")])
    }

    fn read(&self, name: &str) -> Value {
        let bytes = fs::read(self.directory.path().join("image").join(name)).expect(name);
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// The blob that a descriptor means.
    fn file(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let hex = digest.strip_prefix("sha256:").expect("SHA-256");
        let path = self.directory.path().join("image/blobs/sha256").join(hex);
        let bytes = fs::read(&path).expect("a blob");
        assert_eq!((hex_of(&bytes), json!(bytes.len())), (hex.to_owned(), descriptor["size"].clone()));
        path
    }

    fn blob(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.file(descriptor)).expect("a blob")).expect("JSON")
    }

    fn manifest(&self) -> Value {
        let index = self.read("index.json");
        let [manifest] = index["manifests"].as_array().expect("a list").as_slice() else { panic!("{index}") };
        assert_eq!(manifest["digest"], json!(self.digest), "what is printed is what is pulled");
        self.blob(manifest)
    }

    /// The one layer, whose hash inside the compression the configuration has.
    fn layer(&self) -> PathBuf {
        let manifest = self.manifest();
        let [layer] = manifest["layers"].as_array().expect("a list").as_slice() else { panic!("{manifest}") };
        assert_eq!(layer["mediaType"], json!("application/vnd.oci.image.layer.v1.tar+gzip"));
        let file = self.file(layer);
        let unzipped = output(Command::new("gzip").arg("-dc").arg(&file));
        let rootfs = &self.blob(&manifest["config"])["rootfs"];
        assert_eq!(*rootfs, json!({"type": "layers", "diff_ids": [format!("sha256:{}", hex_of(&unzipped))]}));
        file
    }

    /// As `tar` lists it, a line for each file.
    fn listing(&self) -> String {
        let mut tar = Command::new("tar");
        tar.args(["--utc", "--full-time", "-tvzf"]).arg(self.layer());
        String::from_utf8(output(&mut tar)).expect("text")
    }

    fn unpacked(&self, name: &str) -> PathBuf {
        output(
            Command::new("tar").arg("-xzf").arg(self.layer()).arg("-C").arg(self.directory.path()).arg(name),
        );
        self.directory.path().join(name)
    }
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn hex_of(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md, and what Istio's fetcher reads.
#[test]
fn the_filter_is_an_image_of_the_compat_variant() {
    let image = Image::of_the_filter();
    assert_eq!(image.read("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let manifest = image.manifest();
    assert_eq!(manifest["schemaVersion"], json!(2));
    assert_eq!(manifest["mediaType"], json!("application/vnd.oci.image.manifest.v1+json"));
    assert_eq!(manifest["config"]["mediaType"], json!("application/vnd.oci.image.config.v1+json"));
    assert_eq!(manifest["annotations"]["module.wasm.image/variant"], json!("compat"));
    let size = fs::metadata(filter()).expect("the filter").len();
    assert_eq!(image.listing(), format!("-rw-r--r-- 0/0 {size:>15} 1970-01-01 00:00:00 plugin.wasm\n"));
    assert!(fs::read(image.unpacked("plugin.wasm")).expect("a file") == fs::read(filter()).expect("a file"));
}

#[test]
fn equal_files_give_an_equal_digest_wherever_and_whenever() {
    let here = Image::of_the_filter();
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let [copy, wasm, out] =
        ["elsewhere.py", "x.wasm", "deep/er/image"].map(|name| elsewhere.path().join(name));
    fs::copy(script(), &copy).expect("a copy");
    fs::copy(filter(), &wasm).expect("a copy");
    let another_time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&wasm).and_then(|it| it.set_modified(another_time)).expect("a time");
    let made = |epoch: Option<&str>| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 077; exec python3 \"$@\"", "sh"]).arg(&copy).arg("filter").arg(&wasm);
        shell.arg("--out").arg(&out).current_dir("/").env_remove("SOURCE_DATE_EPOCH");
        shell.envs([("TZ", "Asia/Tokyo"), ("LC_ALL", "C"), ("PYTHONHASHSEED", "7")]);
        run(shell.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch))), b"")
    };
    let there = made(None);
    assert_eq!(there.stdout.trim_end(), here.digest, "{}", there.stderr);
    assert_eq!(made(Some("0")).stdout.trim_end(), here.digest);
    let dated = made(Some("1700000000"));
    assert_ne!(dated.stdout.trim_end(), here.digest, "{}", dated.stderr);
    for wrong in ["", "-1", "yesterday", "1.5", "99999999999"] {
        let refused = made(Some(wrong));
        assert_eq!(refused.code, Some(2), "{wrong}");
        assert!(refused.stderr.contains("expected whole seconds since 1970"), "{}", refused.stderr);
    }
}

#[test]
fn envoy_runs_what_is_in_the_image() {
    if skipped("the filter out of its image in Envoy") {
        return;
    }
    let (image, pki, upstream) = (Image::of_the_filter(), Pki::new(), Upstream::http());
    let mut gate = listener(CURRENT, "gate", &pki, Protocol::Http, peer_endpoint(&vespa_example()));
    gate.upstream = Some(upstream.address);
    let bootstrap = Bootstrap { filter: image.unpacked("plugin.wasm"), listeners: vec![gate] };
    let envoy = Envoy::start(&binary(CURRENT), &bootstrap, pki.directory()).expect("Envoy");
    for (leaf, status) in [(node(), 200), (stranger(), 403)] {
        let peer = pki.peer(&leaf).credential;
        let address = envoy.listener("gate").expect("an address");
        let answer = Client::connect(address, pki.ca(), Some(&peer)).and_then(|mut client| client.get("/"));
        assert_eq!(answer.expect("an answer").status(), status, "{}", envoy.log());
    }
}

/// Istio compares `sha256` with the digest of the image's manifest, not with that of the module.
#[test]
fn a_plugin_names_the_image_by_its_digest() {
    let digest = Image::of_the_filter().digest;
    let image = "oci://registry.example.com/peergate/filter";
    let render = |url: &str, more: &[&str]| {
        let mut command = peergate();
        command.args(["render", "wasmplugin", "--format", "json", "--url", url, "--policy"]);
        command.arg(root().join("envoy/istio/policy.json")).arg("--filter").arg(filter());
        run(command.args(more), b"")
    };
    let pinned = render(&format!("{image}@{digest}"), &[]);
    assert_eq!((pinned.code, pinned.stderr.as_str()), (Some(0), ""));
    let list: Value = serde_json::from_str(&pinned.stdout).expect("JSON");
    let plugins = list["items"].as_array().expect("a list").iter().filter(|it| it["kind"] == "WasmPlugin");
    let hex = digest.strip_prefix("sha256:").expect("SHA-256");
    assert_eq!(plugins.map(|it| it["spec"]["sha256"].as_str()).collect::<Vec<_>>(), [Some(hex)]);

    let refused = |finished: Finished, words: &str| {
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""));
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    };
    refused(render(image, &[]), "`make oci` prints it");
    refused(render(&format!("{image}:latest"), &[]), "`make oci` prints it");
    let other = "0".repeat(64);
    refused(render(&format!("{image}@{digest}"), &["--sha256", &other]), "`--sha256`: the URL says");
    refused(render(&format!("{image}@sha256:12"), &[]), "expected 64 lower-case hex digits");
    assert_eq!(render(&format!("{image}@{digest}"), &["--sha256", hex]).code, Some(0));
    assert_eq!(render(&format!("{image}:1"), &["--sha256", hex]).code, Some(0));
}

/// A program that only has to be a static one.
fn static_program(directory: &Path) -> PathBuf {
    let (source, program) = (directory.join("main.c"), directory.join("program"));
    fs::write(&source, "void _start(void) { for (;;); }\n").expect("a file");
    output(Command::new("cc").args(["-static", "-nostdlib", "-o"]).arg(&program).arg(&source));
    program
}

#[test]
fn the_hosts_image_is_what_its_containerfile_says() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = static_program(directory.path());
    let license = root().join("LICENSE");
    let [program_path, license_path] = [&program, &license].map(|path| path.to_str().expect("text"));
    let image = Image::new(&["host", program_path, "--license", license_path]);
    let listing = image.listing();
    let files: Vec<Vec<&str>> = listing.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    let files: Vec<_> = files.iter().map(|it| (it[0], it[1], it[5])).collect();
    assert_eq!(files, [("-rw-r--r--", "0/0", "LICENSE"), ("-rwxr-xr-x", "0/0", "peergate")]);
    assert!(fs::read(image.unpacked("peergate")).expect("a file") == fs::read(&program).expect("a file"));

    let config = image.blob(&image.manifest()["config"]);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(architecture)));
    let containerfile = fs::read_to_string(root().join("host/Containerfile")).expect("host/Containerfile");
    let says = |instruction: &str| {
        let line = containerfile.lines().find_map(|line| line.strip_prefix(instruction));
        line.unwrap_or_else(|| panic!("no {instruction}")).trim()
    };
    assert_eq!(says("FROM"), "scratch");
    assert_eq!(says("COPY"), "LICENSE peergate /");
    assert_eq!(config["config"]["User"], json!(says("USER")));
    let entrypoint: Value = serde_json::from_str(says("ENTRYPOINT")).expect("JSON");
    assert_eq!(config["config"]["Entrypoint"], entrypoint);
    assert!(!says("USER").starts_with('0'), "a user, by number, who is not root");
}

#[test]
fn what_would_not_run_is_no_image() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("image");
    let refused = |arguments: &[&str], words: &str| {
        let finished = run(&mut command(&script(), arguments, &out), b"");
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    };
    let text = directory.path().join("text");
    fs::File::create(&text).and_then(|mut file| file.write_all(b"no program")).expect("a file");
    let text = text.to_str().expect("text");
    let license = root().join("LICENSE");
    let host = |program: &str, words: &str| {
        refused(&["host", program, "--license", license.to_str().expect("text")], words);
    };
    refused(&["filter", text], "is no WebAssembly module; build it: make wasm");
    refused(&["filter", "absent"], "No such file");
    host(text, "is no program for a 64-bit Linux");
    host("/bin/sh", "is dynamically linked and would not start in an empty image");
    assert!(!out.exists());
    // A directory that is something else stays what it is.
    fs::create_dir(&out).expect("a directory");
    fs::write(out.join("precious"), "").expect("a file");
    refused(&["filter", filter().to_str().expect("text")], "exists and is no OCI image layout");
    assert!(out.join("precious").exists());
}
