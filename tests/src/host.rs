//! `peergate run` as a process.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    commands::{peergate, spawn},
    pki::Pki,
    wait,
};

/// A running host; dropping it ends the process.
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

/// How to start a host.
pub struct Start {
    command: Command,
    protocol: Option<&'static str>,
}

impl Start {
    /// One peer listener in front of `upstream` that speaks HTTP; `policy` receives the files of `pki`.
    pub fn new(pki: &Pki, policy: &Value, upstream: SocketAddr) -> Self {
        Self::endpoint("peer", &write_policy(pki, policy), upstream)
    }

    /// One listener of this kind, by a policy with its files.
    pub fn endpoint(kind: &str, policy: &Path, upstream: SocketAddr) -> Self {
        let mut start = Self::without_policy(upstream);
        start.command.arg("--policy").arg(policy).args(["--endpoint", kind]);
        start
    }

    /// By a configuration file.
    pub fn config(path: &Path) -> Self {
        let mut command = peergate();
        command.args(["run", "--config"]).arg(path);
        Self { command, protocol: None }
    }

    /// By a command line that ends in the host.
    pub fn by(command: Command) -> Self {
        Self { command, protocol: None }
    }

    /// Logs everything there is.
    #[must_use]
    pub fn trace(mut self) -> Self {
        self.command.env("PEERGATE_LOG", "trace");
        self
    }

    /// The same, named by `VESPA_TLS_CONFIG_FILE`.
    pub fn by_environment(config: &Path, upstream: SocketAddr) -> Self {
        let mut start = Self::without_policy(upstream);
        start.command.env("VESPA_TLS_CONFIG_FILE", config).args(["--endpoint", "peer"]);
        start
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn environment(mut self, variable: &str, value: &str) -> Self {
        self.command.env(variable, value);
        self
    }

    /// Forwards bytes instead of HTTP.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.protocol = Some("tcp");
        self
    }

    /// Decides with another filter.
    #[must_use]
    pub fn filter(mut self, wasm: &Path) -> Self {
        self.command.arg("--filter").arg(wasm);
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// With admin pages on a free port.
    #[must_use]
    pub fn admin(self) -> Self {
        self.argument("--admin").argument("127.0.0.1:0")
    }

    /// With so many open files allowed.
    #[must_use]
    pub fn open_files(self, limit: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self { command, ..self }
    }

    /// With its standard output there.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// The command line, for starts that must fail.
    pub fn command(mut self) -> Command {
        if let Some(protocol) = self.protocol {
            self.command.args(["--protocol", protocol]);
        }
        self.command
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// It ends, or does not listen within half a minute.
    pub fn start(self) -> Host {
        let mut child = spawn(self.command().stdin(Stdio::null()).stderr(Stdio::piped()));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (listening, address) = mpsc::channel();
        let copy = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(address) = listening_address(&line) {
                    // Only the first one is awaited.
                    listening.send(address).ok();
                }
                let mut log = copy.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        match address.recv_timeout(Duration::from_secs(30)) {
            Ok(address) => Host { address, child, log },
            Err(_) => {
                child.kill().ok();
                child.wait().ok();
                panic!("the host does not listen:\n{}", log.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn without_policy(upstream: SocketAddr) -> Self {
        let mut command = peergate();
        command.args(["run", "--inbound", "127.0.0.1:0", "--upstream", &upstream.to_string()]);
        Self { command, protocol: Some("http") }
    }
}

impl Host {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it read policy and files again, and waits until it says how that went.
    ///
    /// # Panics
    /// It says nothing.
    pub fn reload(&self) {
        let reloads = || self.log().lines().filter(|line| line.contains("reload")).count();
        let before = reloads();
        self.signal(Signal::HUP);
        wait::until("the policy is reloaded", || reloads() > before);
    }

    /// Where its admin pages are.
    ///
    /// # Panics
    /// It was started without.
    pub fn admin(&self) -> SocketAddr {
        let log = self.log();
        let address = log.lines().find_map(|line| line.strip_prefix("admin pages on http://"));
        address.and_then(|address| address.parse().ok()).expect("admin pages")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(id, signal).expect("a running host");
    }

    /// Waits for its end and tells the exit code.
    ///
    /// # Panics
    /// It does not end.
    pub fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait::until("the host ends", || {
            status = self.child.try_wait().expect("the host's state");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// All addresses it said it listens on, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.log().lines().filter_map(listening_address).collect()
    }

    /// Its standard output, if that was to be piped; once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes `policy` with the files of `pki` to a file of its own.
pub fn write_policy(pki: &Pki, policy: &Value) -> PathBuf {
    let path = tempfile::Builder::new()
        .prefix("policy-")
        .suffix(".json")
        .tempfile_in(pki.directory())
        .and_then(|file| Ok(file.keep()?.1))
        .expect("a policy file");
    fs::write(&path, pki.with_files(policy).to_string()).expect("the policy");
    path
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    if !line.contains("listening") {
        return None;
    }
    line.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).find_map(|word| word.parse().ok())
}
