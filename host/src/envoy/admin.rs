//! The admin interface: readiness, and the ports Envoy picked.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use super::EnvoyError;

/// Envoy's admin interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admin(pub(super) SocketAddr);

impl Admin {
    /// Whether all listeners accept connections.
    pub(super) fn is_ready(self) -> bool {
        self.fetch("/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Where the listener called `name` listens.
    pub(super) fn listener(self, name: &str) -> Result<SocketAddr, EnvoyError> {
        let unexpected = |what: &str| EnvoyError::Admin(format!("{what} in /listeners"));
        let body = self.body("/listeners?format=json")?;
        let listeners: Value = serde_json::from_str(&body).map_err(|_| unexpected("no JSON"))?;
        let statuses = listeners["listener_statuses"].as_array().ok_or_else(|| unexpected("no list"))?;
        let socket = statuses
            .iter()
            .find(|status| status["name"] == name)
            .map(|status| &status["local_address"]["socket_address"])
            .ok_or_else(|| unexpected(&format!("no `{name}`")))?;
        let ip = socket["address"].as_str().and_then(|address| address.parse::<IpAddr>().ok());
        let port = socket["port_value"].as_u64().and_then(|port| u16::try_from(port).ok());
        ip.zip(port).map(SocketAddr::from).ok_or_else(|| unexpected("no address"))
    }

    /// The body of a GET.
    pub(super) fn body(self, path: &str) -> Result<String, EnvoyError> {
        let answer = self.fetch(path).map_err(|error| EnvoyError::Admin(error.to_string()))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| EnvoyError::Admin(format!("an unfinished answer to {path}")))?;
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return unchunk(body).ok_or_else(|| EnvoyError::Admin(format!("an unfinished answer to {path}")));
        }
        Ok(body.to_owned())
    }

    fn fetch(self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.0, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
