//! Services behind the gate: they remember what reached them.

use std::{
    io::{self, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::http1::Message;

/// A listening service. Its threads end with the process.
#[derive(Clone)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    bytes: AtomicUsize,
    requests: Mutex<Vec<Message>>,
}

impl Upstream {
    /// Answers every request with 200 and `upstream`. A path that starts with `/trailers` is answered with the
    /// trailer `x-checksum: 1234`; `/two-lengths` and `/gzip-coding` with framing that no proxy may pass on;
    /// `/stream` by a piece every 20 ms without end, `/early` before the body was read, and `/hang` not at all.
    pub fn http() -> Self {
        Self::serve(serve_http)
    }

    /// Answers 413 when it has the head of a request, and never reads a body. A path that starts with `/close` closes at once,
    /// which resets the connection if a body is on its way, `/end` writes no more and reads on, and all others read on.
    pub fn hasty() -> Self {
        Self::serve(answer_hastily)
    }

    /// Sends back every byte.
    pub fn echo() -> Self {
        Self::serve(echo)
    }

    /// Speaks first: sends [`GREETING`], then sends back every byte.
    pub fn greeting() -> Self {
        Self::serve(|mut stream, seen| {
            stream.write_all(GREETING)?;
            echo(stream, seen)
        })
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many bytes an echo service received.
    pub fn bytes(&self) -> usize {
        self.seen.bytes.load(Ordering::SeqCst)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Message> {
        self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest request.
    ///
    /// # Panics
    /// There was none.
    pub fn last_request(&self) -> Message {
        self.requests().pop().expect("a request reached the upstream")
    }

    fn serve(handle: fn(TcpStream, &Seen) -> io::Result<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port");
        let seen = Arc::new(Seen::default());
        let upstream = Self { address, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let seen = Arc::clone(&seen);
                // A broken connection is the client's affair; the test looks at what arrived.
                thread::spawn(move || handle(stream, &seen).ok());
            }
        });
        upstream
    }
}

/// What a service that speaks first says.
pub const GREETING: &[u8] = b"220 ready\n";

fn echo(mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        seen.bytes.fetch_add(count, Ordering::SeqCst);
        stream.write_all(&buffer[..count])?;
    }
}

fn serve_http(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut interim = writer.try_clone()?;
        let request = Message::read_then(&mut reader, |head| {
            if head.header("expect").is_some() {
                interim.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if head.start.contains(" /early ") {
                interim.write_all(OK)?;
            }
            Ok(())
        })?;
        let Some(request) = request else { return Ok(()) };
        if request.start.starts_with("OPTIONS * ") {
            // The host looks whether this is a service without TLS; no client asked.
            seen.connections.fetch_sub(1, Ordering::SeqCst);
            return writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        let answer: &[u8] = if request.start.contains(" /trailers") {
            b"HTTP/1.1 200 OK\r\ntrailer: x-checksum\r\ntransfer-encoding: chunked\r\n\r\n\
              9\r\nupstream\n\r\n0\r\nx-checksum: 1234\r\n\r\n"
        } else if request.start.contains(" /two-lengths") {
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        } else if request.start.contains(" /gzip-coding") {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        } else {
            OK
        };
        let last = request.header("connection") == Some(&b"close"[..]);
        let path = request.start.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        match path.as_str() {
            "/stream" => return stream_without_end(&mut writer),
            "/early" => {}
            "/hang" => return io::copy(&mut reader, &mut io::sink()).map(drop),
            _ => writer.write_all(answer)?,
        }
        if last {
            return Ok(());
        }
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nupstream\n";

fn stream_without_end(writer: &mut TcpStream) -> io::Result<()> {
    writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    loop {
        writer.write_all(b"5\r\ntick\n\r\n")?;
        thread::sleep(Duration::from_millis(20));
    }
}

fn answer_hastily(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(512, stream);
    let mut start = String::new();
    // The body is left where it is.
    let read = Message::read_then(&mut reader, |head| {
        start.clone_from(&head.start);
        Err(io::ErrorKind::Other.into())
    });
    if read.is_ok() {
        return Ok(());
    }
    if start.starts_with("OPTIONS * ") {
        seen.connections.fetch_sub(1, Ordering::SeqCst);
        return writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    writer.write_all(
        b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 10\r\nconnection: close\r\n\r\ntoo large\n",
    )?;
    match start.split(' ').nth(1).unwrap_or_default() {
        "/close" => return Ok(()),
        "/end" => writer.shutdown(Shutdown::Write)?,
        _ => {}
    }
    io::copy(&mut reader, &mut io::sink()).map(drop)
}
