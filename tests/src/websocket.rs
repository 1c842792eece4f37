//! WebSockets: a real client and a real service from PyPI (`websockets`), and a service of bytes that misbehaves.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{commands::spawn, http1::Message, root};

/// The handshake of RFC 6455 section 1.3, without the line that asks for a path and the empty one at the end.
pub const HANDSHAKE: &str = "host: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What answers [`HANDSHAKE`].
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A program of `tests/clients` that prints lines.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(name: &str, argument: Option<&str>) -> (Self, ChildStdin) {
        let python = root().join("target/venv-clients/bin/python");
        assert!(python.is_file(), "the WebSocket client is missing; install it: tests/install-clients.sh");
        let mut command = Command::new(python);
        command.arg(root().join("tests/clients").join(name)).args(argument);
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let input = child.stdin.take().expect("piped");
        (Self { child, lines }, input)
    }

    fn line(&self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_secs(30)).ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A service that sends every message back.
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    program: Program,
    _input: ChildStdin,
}

impl Service {
    /// Starts it.
    ///
    /// # Panics
    /// It is not installed.
    #[expect(clippy::new_without_default, reason = "it starts a process, which nobody expects of a default")]
    pub fn new() -> Self {
        let (program, input) = Program::start("websocket_service.py", None);
        let line = program.line().expect("a port");
        let port = line.strip_prefix("port ").and_then(|port| port.parse().ok()).expect("a port");
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), program, _input: input }
    }

    /// The paths that were asked for since this was asked last, without the host's own question at the start.
    pub fn requests(&self) -> Vec<String> {
        self.program
            .lines
            .try_iter()
            .filter_map(|it| Some(it.strip_prefix("request ").filter(|it| *it != "*")?.to_owned()))
            .collect()
    }
}

/// A client, as the test orders it (see `tests/clients/websocket_client.py`).
pub struct Client {
    program: Program,
    input: ChildStdin,
}

impl Client {
    /// Connects on these terms; what it says of that is its first [`line`](Self::line).
    ///
    /// # Panics
    /// It is not installed.
    pub fn connect(url: &str, terms: &Value) -> Self {
        let (program, mut input) = Program::start("websocket_client.py", Some(url));
        writeln!(input, "{terms}").expect("a client that reads");
        Self { program, input }
    }

    /// What it says next.
    ///
    /// # Panics
    /// It says nothing within half a minute.
    pub fn line(&self) -> String {
        self.program.line().expect("a client that says something")
    }

    /// What it says of an order.
    pub fn ask(&mut self, order: &str) -> String {
        // One that has lost its connection reads no more, and says so.
        writeln!(self.input, "{order}").ok();
        self.line()
    }

    /// Whether nothing has happened to it.
    pub fn is_open(&mut self) -> bool {
        self.ask("text still there?") == "text still there?"
    }
}

/// A service of bytes. It answers [`HANDSHAKE`] by path, and then sends every byte back:
///
/// - `/switch` and `/as-it-is` as RFC 6455 says, `/early` with bytes right behind the answer;
/// - `/wrong-accept`, `/no-accept`, `/other-protocol`, `/no-connection` with a 101 that is none;
/// - `/refuse` with 426, `/page` with 200, `/silent` not at all; all others with 404.
#[derive(Clone)]
pub struct Odd {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Message>>,
    bytes: AtomicUsize,
    open: AtomicUsize,
}

impl Odd {
    /// Starts it. Its threads end with the process.
    ///
    /// # Panics
    /// No port is free.
    #[expect(clippy::new_without_default, reason = "it listens, which nobody expects of a default")]
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let odd = Self { address: listener.local_addr().expect("the port"), seen: Arc::default() };
        let seen = Arc::clone(&odd.seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    seen.open.fetch_add(1, Ordering::SeqCst);
                    // A broken connection is the client's affair; the test looks at what arrived.
                    answer(&stream, &seen).ok();
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        odd
    }

    /// The requests that reached it, without the host's own question at the start.
    pub fn requests(&self) -> Vec<Message> {
        self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes reached it after a handshake.
    pub fn bytes(&self) -> usize {
        self.seen.bytes.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: &TcpStream, seen: &Seen) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = Message::read(&mut reader)? {
        let path = request.start.split(' ').nth(1).unwrap_or_default().to_owned();
        if path == "*" {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        seen.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let fields = |upgrade: &str, connection: &str, accept: &str| {
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: {upgrade}\r\nconnection: {connection}\r\n{accept}\r\n"
            )
        };
        let accept = format!("sec-websocket-accept: {ACCEPT}\r\n");
        let head = match path.as_str() {
            "/switch" | "/as-it-is" => fields("websocket", "Upgrade", &accept),
            "/early" => fields("websocket", "Upgrade", &accept) + "early",
            "/wrong-accept" => {
                fields("websocket", "Upgrade", "sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n")
            }
            "/no-accept" => fields("websocket", "Upgrade", ""),
            "/other-protocol" => fields("h2c", "Upgrade", &accept),
            "/no-connection" => fields("websocket", "close", &accept),
            "/silent" => return io::copy(&mut reader, &mut io::sink()).map(drop),
            other => {
                let status = match other {
                    "/refuse" => "426 Upgrade Required",
                    "/page" => "200 OK",
                    _ => "404 Not Found",
                };
                stream
                    .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\npage\n").as_bytes())?;
                continue;
            }
        };
        stream.write_all(head.as_bytes())?;
        return echo(&mut reader, stream, seen);
    }
    Ok(())
}

fn echo(from: &mut impl Read, mut to: &TcpStream, seen: &Seen) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        seen.bytes.fetch_add(count, Ordering::SeqCst);
        to.write_all(&buffer[..count])?;
    }
}
