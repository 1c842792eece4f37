//! `openssl`, `curl` and `peergate` as separate programs.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    pki::{Peer, Pki},
    root,
};

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Both outputs.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The TLS alert that `openssl` received, as its number (RFC 8446, 6).
    pub fn alert(&self) -> Option<u8> {
        let (_, number) = self.stderr.split_once("SSL alert number ")?;
        number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// The status of the first HTTP/1.1 answer in the output.
    pub fn status(&self) -> Option<u16> {
        let (_, rest) = self.stdout.split_once("HTTP/1.1 ")?;
        rest.get(..3)?.parse().ok()
    }
}

/// Runs a program to its end with `input` as its standard input.
///
/// # Panics
/// It is not installed, or still runs after a minute.
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A program that was refused stops reading; what it made of that is in its output.
    thread::spawn(move || stdin.write_all(&input).ok());
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let code = wait(&mut child, command);
    Finished { code, stdout: stdout.join().expect("stdout"), stderr: stderr.join().expect("stderr") }
}

/// Starts a program.
///
/// # Panics
/// It is not installed.
pub fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("{command:?} is missing; install it: {}", remedy(command)),
        _ => panic!("{command:?}: {error}"),
    })
}

/// The `peergate` binary, or the one that `PEERGATE_BENCH` names.
///
/// # Panics
/// It has not been built.
pub fn peergate() -> Command {
    let path =
        env::var_os("PEERGATE_BENCH").map_or_else(|| root().join("target/release/peergate"), PathBuf::from);
    assert!(path.is_file(), "target/release/peergate is missing; build it: make build");
    let mut command = Command::new(path);
    command.env_remove("VESPA_TLS_CONFIG_FILE");
    command
}

/// Runs `openssl` in `directory` and expects it to succeed.
///
/// # Panics
/// It fails.
pub fn openssl(directory: &Path, arguments: &str) {
    let finished =
        run(Command::new("openssl").current_dir(directory).args(arguments.split_ascii_whitespace()), b"");
    assert_eq!(finished.code, Some(0), "openssl {arguments}\n{}", finished.stderr);
}

/// Connects with `openssl s_client`, sends `input`, and reads until the server closes.
pub fn s_client(
    pki: &Pki,
    address: SocketAddr,
    peer: Option<&Peer>,
    arguments: &[&str],
    input: &[u8],
) -> Finished {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-servername", "localhost", "-connect", &address.to_string()]);
    command.arg("-CAfile").arg(pki.file("ca.pem"));
    if let Some(peer) = peer {
        command.arg("-cert").arg(&peer.chain).arg("-cert_chain").arg(&peer.chain).arg("-key").arg(&peer.key);
    }
    run(command.args(arguments), input)
}

/// A GET for [`s_client`], after which the server closes.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// What `curl` got.
#[derive(Debug)]
pub struct Curl {
    /// Its exit code.
    pub code: Option<i32>,
    /// The HTTP status, 0 without an answer.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// The answer's body.
    pub body: String,
    /// Its error message.
    pub error: String,
    /// Head and trailers of the answer.
    pub head: String,
}

/// Requests `path` with `curl`.
///
/// # Panics
/// `curl` is not installed.
pub fn curl(pki: &Pki, address: SocketAddr, peer: Option<&Peer>, path: &str, arguments: &[&str]) -> Curl {
    curl_by_name("localhost", pki, address, peer, path, arguments)
}

/// As [`curl`], by another name than `localhost`.
///
/// # Panics
/// As [`curl`].
pub fn curl_by_name(
    name: &str,
    pki: &Pki,
    address: SocketAddr,
    peer: Option<&Peer>,
    path: &str,
    arguments: &[&str],
) -> Curl {
    let port = address.port();
    let head = pki.file(&format!("head-{port}-{:?}", thread::current().id()));
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]);
    command.args(["--write-out", "\n%{http_code} %{http_version}"]);
    command.arg("--dump-header").arg(&head).arg("--cacert").arg(pki.file("ca.pem"));
    command.args(["--resolve", &format!("{name}:{port}:{}", address.ip())]);
    if let Some(peer) = peer {
        command.arg("--cert").arg(&peer.chain).arg("--key").arg(&peer.key);
    }
    let finished = run(command.args(arguments).arg(format!("https://{name}:{port}{path}")), b"");
    let (body, last) = finished.stdout.rsplit_once('\n').expect("curl writes the status");
    let (status, version) = last.split_once(' ').expect("curl writes the version");
    Curl {
        code: finished.code,
        status: status.parse().expect("a status"),
        version: version.to_owned(),
        body: body.to_owned(),
        error: finished.stderr,
        head: std::fs::read_to_string(&head).unwrap_or_default(),
    }
}

/// A file of `size` bytes to send.
pub fn payload(pki: &Pki, size: usize) -> PathBuf {
    let path = pki.file("payload");
    std::fs::write(&path, vec![b'x'; size]).expect("the payload");
    path
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the output; what came before is what counts.
        pipe.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, command: &Command) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(status) = child.try_wait().expect("the program's state") {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().ok();
            panic!("still running after a minute: {command:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn remedy(command: &Command) -> String {
    match command.get_program().to_str() {
        Some(tool @ ("openssl" | "curl")) => format!("apt-get install {tool}"),
        _ => "see the Makefile".to_owned(),
    }
}
