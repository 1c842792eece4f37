//! The host's admin pages.

use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::http1::Message;

/// Asks for a page.
///
/// # Panics
/// There is no answer.
pub fn get(address: SocketAddr, path: &str) -> Message {
    get_as(address, "localhost", path)
}

/// Asks for a page of this host.
///
/// # Panics
/// There is no answer.
pub fn get_as(address: SocketAddr, host: &str, path: &str) -> Message {
    let mut stream = TcpStream::connect(address).expect("the admin port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("an open connection");
    Message::read(&mut BufReader::new(stream)).expect("an answer").expect("an answer")
}

/// A page that is JSON.
///
/// # Panics
/// It is not.
pub fn json(address: SocketAddr, path: &str) -> Value {
    serde_json::from_slice(&get(address, path).body).expect("JSON")
}

/// The value of a metric with these labels, as written, such as `{outcome="allow"}`; 0 if there is none.
///
/// # Panics
/// The page is not as it should be.
pub fn metric(address: SocketAddr, name_and_labels: &str) -> f64 {
    let page = get(address, "/metrics").text();
    let value = page.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}
