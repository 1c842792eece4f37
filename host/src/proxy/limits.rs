//! Every limit of the proxy, in one place.

use std::time::Duration;

/// A client gets this long from the accepted socket to the end of the TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request head gets this long from its first byte to its last (HTTP/1).
pub const REQUEST_HEAD: Duration = Duration::from_secs(10);
/// A connection on which no byte moves in either direction is closed after this long, as Envoy's idle timeouts.
pub const IDLE: Duration = Duration::from_secs(300);
/// After SIGTERM, what is still running is cut off after this long.
pub const DRAIN: Duration = Duration::from_secs(60);
/// Bytes of a request head. Larger ones get 431.
pub const REQUEST_HEAD_BYTES: usize = 64 * 1024;
/// Fields of a request head, as Envoy's `max_headers_count`. More get 431.
pub const REQUEST_FIELDS: usize = 100;
/// Concurrent streams of one HTTP/2 connection.
pub const STREAMS: u32 = 128;
/// Bytes buffered for one HTTP/2 stream on its way to the client.
pub const STREAM_SEND_BYTES: usize = 256 * 1024;
/// Open connections of admitted clients in the whole process, unless `limits` of the configuration say otherwise.
pub const CONNECTIONS: usize = 10_000;
/// The accept queue of each worker's socket.
pub const BACKLOG: i32 = 1024;
/// The upstream gets this long to accept a connection.
pub const UPSTREAM_CONNECT: Duration = Duration::from_secs(5);
/// The upstream gets this long to answer an upgrade, connecting included.
pub const UPGRADE: Duration = Duration::from_secs(10);
/// A WebSocket of which one side has said that it writes no more gets this long to end: its protocol knows no half of it (RFC
/// 6455 section 7.1), and a stream of HTTP/2 that its client gave up looks the same.
pub const HALF_CLOSED: Duration = Duration::from_secs(10);
/// An idle upstream connection is kept this long: below the 60 s after which most servers close theirs.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(30);
/// Bytes of one response that wait for a slow client, where many share an upstream connection (HTTP/2).
pub const UPSTREAM_STREAM_BYTES: u32 = 256 * 1024;
/// The largest window there is (RFC 9113 section 6.9.1): as good as none.
pub const UPSTREAM_CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// A connection that is no longer admitted gets this long to finish what is being answered.
pub const ENDING: Duration = Duration::from_millis(1500);
/// One on which nothing is being answered gets this long to take its GOAWAY (HTTP/2). What comes on it is refused anyway.
pub const ENDING_IDLE: Duration = Duration::from_millis(300);
/// A request that is no longer admitted gets this long to finish; then it is refused, or its answer breaks off. Less than
/// [`ENDING`], so that it is told before its connection is cut.
pub const ENDING_REQUEST: Duration = Duration::from_millis(1200);
/// How often open connections are searched for certificates, revocation lists and tokens that have expired.
pub const EXPIRY_TICK: Duration = Duration::from_secs(1);
/// The pause before a worker that could not take a new policy tries again.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of one text in a log line: a path may have 64 KiB, and the filter's decision 256.
pub const LOGGED_BYTES: usize = 8 * 1024;
/// A client's body that nobody wants any more is read and thrown away this long, as nginx's `lingering_time`, so that a client
/// that writes before it reads sees its answer.
pub const DISCARD: Duration = Duration::from_secs(30);
/// Such a body ends when nothing of it came for this long, as nginx's `lingering_timeout`.
pub const DISCARD_SILENCE: Duration = Duration::from_secs(5);
/// Bytes of such a body.
pub const DISCARD_BYTES: usize = 1024 * 1024 * 1024;
/// Bytes read and thrown away after a refused handshake, so that the refusal is seen before a reset.
pub const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// Time spent on reading and throwing away after a refused handshake.
pub const LINGER: Duration = Duration::from_secs(2);
/// Refused connections that may linger at once in one worker; more are closed at once.
pub const LINGERING: usize = 256;
/// Bytes of a response that wait, with its head, until its length is known to be right: those of a filter that changes bodies.
pub const UNSURE_BYTES: usize = 256 * 1024;
/// Lines about refusals of one client address within [`REFUSAL_WINDOW`], in each worker.
pub const REFUSAL_LINES: u32 = 10;
/// See [`REFUSAL_LINES`].
pub const REFUSAL_WINDOW: Duration = Duration::from_secs(1);
/// The pause after a failed `accept` (out of file descriptors), so that the worker does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Files are read again after this long also without a change, as Vespa does.
pub const RELOAD: Duration = Duration::from_secs(60 * 60);
