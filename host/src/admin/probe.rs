//! Asking a running host for one of its pages: for probes of containers that hold nothing but this program.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// What a page said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// 200 where all is well.
    pub status: StatusCode,
    /// The page.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ProbeError {
    /// Nobody listens there, or not in HTTP.
    Unanswered(Box<dyn std::error::Error + Send + Sync>),
    /// No answer within 4 s.
    TimedOut,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(error) => write!(formatter, "no answer: {error}"),
            Self::TimedOut => write!(formatter, "no answer within {} s", PATIENCE.as_secs()),
        }
    }
}

impl std::error::Error for ProbeError {}

/// Gets `path` of the admin pages at `address`.
///
/// # Errors
/// There is no complete answer within 4 s. A page that says that something is wrong is an answer.
pub fn probe(address: SocketAddr, path: &PathAndQuery) -> Result<Answer, ProbeError> {
    let unanswered = |error: io::Error| ProbeError::Unanswered(error.into());
    let runtime = Builder::new_current_thread().enable_all().build().map_err(unanswered)?;
    let asked = runtime.block_on(async { timeout(PATIENCE, ask(address, path)).await });
    asked.map_err(|_| ProbeError::TimedOut)?.map_err(ProbeError::Unanswered)
}

async fn ask(
    address: SocketAddr,
    path: &PathAndQuery,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path.as_str()).header(HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, PAGE_BYTES).collect().await?.to_bytes();
    Ok(Answer { status: head.status, text: String::from_utf8_lossy(&body).into_owned() })
}

/// `/healthz` takes up to 2 s where a worker does not answer.
const PATIENCE: Duration = Duration::from_secs(4);
const PAGE_BYTES: usize = 16 << 20;
