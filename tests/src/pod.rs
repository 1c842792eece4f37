//! A pod of `envoy/kubernetes` without a cluster: its volumes as the kubelet and cert-manager's CSI driver write them, and its
//! host with the container's command line, environment, user and read-only mounts.
//!
//! What differs from a cluster: paths lie below a temporary directory, and ports are free ones.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use peergate_host::pki::{Credential, Leaf};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::commands::{Finished, peergate, run};
use crate::host::{Host, Start};
use crate::pki::Pki;

/// A pod's volumes, and how to start its host.
pub struct Pod {
    root: TempDir,
    name: String,
    spec: Value,
    container: Value,
    volumes: BTreeMap<String, Volume>,
    /// The authorities behind cert-manager's issuers, by the issuer's name.
    pub issuers: BTreeMap<String, Pki>,
}

/// A directory that is written as `pkg/volume/util/atomic_writer.go` of Kubernetes and csi-lib do.
struct Volume {
    path: PathBuf,
    directory_mode: u32,
    file_mode: u32,
    group: u32,
    swaps: u32,
}

impl Pod {
    /// The pod of this name of `workload`, with what the ConfigMaps in `resources` hold, and with new authorities. The host
    /// forwards to `upstream`.
    ///
    /// # Panics
    /// The workload has no host.
    pub fn new(resources: &[Value], workload: &Value, name: &str, upstream: SocketAddr) -> Self {
        let spec = workload["spec"]["template"]["spec"].clone();
        let container = host_container(workload).clone();
        let root = tempfile::tempdir().expect("a temporary directory");
        set_mode(root.path(), 0o755);
        // As in the image: whoever the container runs as can execute it.
        fs::copy(peergate().get_program(), root.path().join("peergate")).expect("the program");
        let (volumes, issuers) = (BTreeMap::new(), BTreeMap::new());
        let mut pod = Self { root, name: name.to_owned(), spec, container, volumes, issuers };
        for mount in list(&pod.container["volumeMounts"]).to_vec() {
            let source = list(&pod.spec["volumes"]).iter().find(|it| it["name"] == mount["name"]);
            let source = source.unwrap_or_else(|| panic!("no volume {}", mount["name"])).clone();
            let path = pod.place(text(&mount["mountPath"]));
            fs::create_dir_all(&path).expect("a mount point");
            match source["configMap"]["name"].as_str() {
                Some(map) => pod.mount_config_map(map, path, resources, upstream),
                None => pod.mount_certificate(&source["csi"], path),
            }
        }
        pod
    }

    /// Writes a file of a ConfigMap anew, as the kubelet does after `kubectl apply`.
    ///
    /// # Panics
    /// No such ConfigMap is mounted.
    pub fn apply(&mut self, map: &str, file: &str, content: &str) {
        let content = self.relocated(content);
        self.volumes.get_mut(map).expect("a ConfigMap").write(&[(file, content)]);
    }

    /// A new certificate and key of the same issuer for the volume at `mount_path`, all files at once. Returns the new one.
    ///
    /// # Panics
    /// No certificate is mounted there.
    pub fn renew(&mut self, mount_path: &str) -> Credential {
        let mounts = list(&self.container["volumeMounts"]);
        let mount = mounts.iter().find(|it| it["mountPath"] == mount_path).expect("a mount");
        let volume = list(&self.spec["volumes"]).iter().find(|it| it["name"] == mount["name"]);
        let attributes = volume.expect("a volume")["csi"]["volumeAttributes"].clone();
        let pki = &self.issuers[attribute(&attributes, "issuer-name")];
        let credential = issue(&attributes, &self.name, pki);
        let files = certificate_files(&credential, pki);
        self.volumes.get_mut(mount_path).expect("a certificate's volume").write(&files);
        credential
    }

    /// A file of the pod, by its path in the container.
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Starts the host.
    ///
    /// # Panics
    /// It does not listen.
    pub fn start(&self) -> Host {
        Start::by(self.command()).start()
    }

    /// The host's command line, within the mounts and as the user of the container.
    pub fn command(&self) -> Command {
        let mut command = self.contained();
        command.arg(self.place("peergate"));
        command.args(list(&self.container["args"]).iter().map(|it| self.relocated(text(it))));
        // As container runtimes do.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        for variable in list(&self.container["env"]) {
            command.env(text(&variable["name"]), self.relocated(text(&variable["value"])));
        }
        command
    }

    /// Runs an exec probe of the container, `livenessProbe` or `readinessProbe`, with the admin pages at `admin`.
    pub fn probe(&self, kind: &str, admin: SocketAddr) -> Finished {
        let words = list(&self.container[kind]["exec"]["command"]).iter().map(|it| text(it).to_owned());
        let mut words = words.map(|word| match word.as_str() {
            "/peergate" => self.place("peergate").display().to_string(),
            ADMIN => admin.to_string(),
            _ => word,
        });
        run(Command::new(words.next().expect("a program")).args(words), b"")
    }

    /// Whether this process may mount, and so whether mounts are read-only as in a container. Says so if not.
    pub fn can_mount() -> bool {
        let can = run(unshare().arg("true"), b"").code == Some(0);
        if !can {
            // Not captured, unlike what the macros print.
            let note = "not as in a container: this user may not mount, so volumes are writable";
            writeln!(io::stderr(), "{note}").expect("standard error");
        }
        can
    }

    fn mount_config_map(&mut self, map: &str, path: PathBuf, resources: &[Value], upstream: SocketAddr) {
        let found = resources.iter().find(|it| it["kind"] == "ConfigMap" && it["metadata"]["name"] == map);
        let data = found.unwrap_or_else(|| panic!("no ConfigMap {map}"))["data"].as_object().expect("data");
        // `pkg/volume/emptydir`: 0777, which only a read-only mount makes safe.
        let directory_mode = if Self::can_mount() { 0o2777 } else { 0o755 };
        let mut volume = Volume { path, directory_mode, file_mode: 0o644, group: self.group(), swaps: 0 };
        let files = data.iter().map(|(name, content)| match name.as_str() {
            "host.json" => (name.as_str(), on_free_ports(text(content), upstream)),
            _ => (name.as_str(), self.relocated(text(content))),
        });
        volume.write(&files.collect::<Vec<_>>());
        self.volumes.insert(map.to_owned(), volume);
    }

    fn mount_certificate(&mut self, csi: &Value, path: PathBuf) {
        assert_eq!(csi["driver"], "csi.cert-manager.io");
        let attributes = &csi["volumeAttributes"];
        let group = attribute(attributes, "fs-group").parse().expect("a group");
        let pki =
            self.issuers.entry(attribute(attributes, "issuer-name").to_owned()).or_insert_with(Pki::new);
        let files = certificate_files(&issue(attributes, &self.name, pki), pki);
        let mount_path = path.strip_prefix(self.root.path()).expect("below the root");
        let mount_path = format!("/{}", mount_path.display());
        let mut volume = Volume { path, directory_mode: 0o550, file_mode: 0o440, group, swaps: 0 };
        volume.write(&files);
        self.volumes.insert(mount_path, volume);
    }

    /// `readOnly` mounts and a read-only root, then the container's user without any privilege. Whoever is not root here stays
    /// who they are, and has the mounts if the system lets them.
    fn contained(&self) -> Command {
        if !Self::can_mount() {
            return Command::new("env");
        }
        let mut command = unshare();
        let mounts = self.volumes.values().map(|volume| {
            let path = volume.path.display();
            format!("mount --bind {path} {path}; mount -o remount,bind,ro {path}; ")
        });
        let root = rustix::process::geteuid().is_root();
        let security = &self.container["securityContext"];
        let whole = root && security["readOnlyRootFilesystem"] == true;
        let whole = if whole { "mount -o remount,bind,ro /; " } else { "" };
        let script = format!("set -e; {}{whole}exec \"$@\"", mounts.collect::<String>());
        command.args(["sh", "-c", &script, "sh"]);
        if root {
            let id = |key: &str| security[key].as_u64().expect("an id");
            command.args(["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]);
            command.arg(format!("--reuid={}", id("runAsUser")));
            command.arg(format!("--regid={}", id("runAsGroup")));
            command.arg(format!("--groups={}", self.group()));
        }
        command
    }

    /// `fsGroup`.
    fn group(&self) -> u32 {
        let group = self.spec["securityContext"]["fsGroup"].as_u64().expect("fsGroup");
        group.try_into().expect("a group")
    }

    fn relocated(&self, text: &str) -> String {
        text.replace("/etc/", &format!("{}/etc/", self.root.path().display()))
    }
}

impl Volume {
    /// A dated directory, then links to it, then one rename; and the old directory is removed.
    fn write(&mut self, files: &[(&str, String)]) {
        set_mode(&self.path, 0o755);
        self.swaps += 1;
        let (old, new) = (self.dated(self.swaps - 1), self.dated(self.swaps));
        let directory = self.path.join(&new);
        fs::create_dir(&directory).expect("a directory");
        for (name, content) in files {
            let path = directory.join(name);
            fs::write(&path, content).expect("a file");
            self.hand_over(&path, self.file_mode);
            let link = self.path.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), link).expect("a link");
            }
        }
        self.hand_over(&directory, 0o755);
        symlink(&new, self.path.join("..data_tmp")).expect("a link");
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).expect("swapped");
        if self.swaps > 1 {
            fs::remove_dir_all(self.path.join(old)).expect("removed");
        }
        self.hand_over(&self.path, self.directory_mode);
    }

    fn dated(&self, swap: u32) -> String {
        format!("..2026_11_21_12_00_{swap:02}.1")
    }

    fn hand_over(&self, path: &Path, mode: u32) {
        if rustix::process::geteuid().is_root() {
            chown(path, None, Some(self.group)).expect("the group");
        }
        set_mode(path, mode);
    }
}

/// The host among the containers of a workload.
///
/// # Panics
/// There is none.
pub fn host_container(workload: &Value) -> &Value {
    let containers = list(&workload["spec"]["template"]["spec"]["containers"]);
    containers.iter().find(|it| it["name"] == "peergate").expect("a container of the host")
}

/// A list, empty if there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A string.
///
/// # Panics
/// It is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}"))
}

/// An attribute of a volume of cert-manager's CSI driver.
///
/// # Panics
/// There is none.
pub fn attribute<'a>(attributes: &'a Value, name: &str) -> &'a str {
    text(&attributes[format!("csi.cert-manager.io/{name}")])
}

/// As csi-driver asks and an issuer of kind CA answers: no extended key usage, since `key-usages` is left at its default.
fn issue(attributes: &Value, pod_name: &str, pki: &Pki) -> Credential {
    let key = ["key-algorithm", "key-size", "key-encoding"].map(|name| attribute(attributes, name));
    assert_eq!(key, ["ECDSA", "256", "PKCS8"]);
    let hours = attribute(attributes, "duration").strip_suffix('h').and_then(|text| text.parse().ok());
    let start = OffsetDateTime::now_utc() - Duration::MINUTE;
    let expand = |name| attribute(attributes, name).replace("${POD_NAME}", pod_name);
    let mut leaf = Leaf::new().cn(&expand("common-name"));
    for name in expand("dns-names").split(',') {
        leaf = leaf.dns(name.trim());
    }
    leaf = leaf.valid(start, start + Duration::hours(hours.expect("a duration in hours")));
    leaf.usages.clear();
    pki.root().issue(&leaf).expect("a certificate")
}

fn certificate_files(credential: &Credential, pki: &Pki) -> [(&'static str, String); 3] {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (chain, key) = credential.write(directory.path(), "tls").expect("the files");
    let read = |path: &Path| fs::read_to_string(path).expect("a file");
    [("ca.crt", pki.root().pem()), ("tls.crt", read(&chain)), ("tls.key", read(&key))]
}

/// The same configuration, on free ports of the loopback address, in front of `upstream`.
fn on_free_ports(configuration: &str, upstream: SocketAddr) -> String {
    let mut configuration: Value = serde_json::from_str(configuration).expect("JSON");
    for inbound in configuration["inbound"].as_array_mut().expect("listeners") {
        inbound["address"] = json!("127.0.0.1:0");
        inbound["upstream"]["address"] = json!(upstream.to_string());
    }
    assert_eq!(configuration["admin"]["address"], ADMIN);
    configuration["admin"]["address"] = json!("127.0.0.1:0");
    configuration.to_string()
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Where the containers' admin pages are.
pub const ADMIN: &str = "127.0.0.1:9901";
