//! `peergate run` as a child process, and what it says about its decisions.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::within;

/// A running host; dropping it ends the process.
pub(super) struct HostProcess {
    child: Child,
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl HostProcess {
    pub(super) fn start(policy: &Path, upstream: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["run", "--inbound", "127.0.0.1:0", "--upstream", &upstream.to_string(), "--policy"])
            .arg(policy)
            .env_remove("PEERGATE_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stderr.take().ok_or("no stderr")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                collected.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let mut host = Self { child, address: ([127, 0, 0, 1], 0).into(), lines };
        match within(Duration::from_secs(10), || host.ready_or_ended()) {
            Some(Some(address)) => host.address = address,
            _ => return Err(format!("the host did not start:\n{}", host.lines().join("\n")).into()),
        }
        Ok(host)
    }

    /// The address once it listens; `Some(None)` once it has ended.
    fn ready_or_ended(&mut self) -> Option<Option<SocketAddr>> {
        let address = self
            .lines()
            .iter()
            .find_map(|line| line.split_once("listening on ")?.1.split_whitespace().next()?.parse().ok());
        match self.child.try_wait() {
            Ok(None) => address.map(Some),
            _ => Some(None),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the host's audit line says about the connection from `peer`: the decision, or why there was none.
    pub(super) fn decision(&self, peer: SocketAddr) -> Option<Value> {
        let field = format!("peer={peer} ");
        within(Duration::from_secs(2), || {
            let lines = self.lines();
            let line = lines.iter().find(|line| line.contains(&field))?;
            match line.split_once("decision=") {
                Some((_, decision)) => serde_json::Deserializer::from_str(decision).into_iter().next()?.ok(),
                None => Some(json!({"decision": "deny", "reason": line.split_once("error=")?.1})),
            }
        })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
