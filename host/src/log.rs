//! Lines on stderr, written by a thread of their own: a full pipe must not hold up traffic.

pub(crate) mod http2;

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Starts logging at `info`, or as `PEERGATE_LOG` says (`warn`, `peergate_host=debug`). Of the filter's own lines only
/// warnings are shown: about each refusal they say what the audit says. Later calls do nothing.
///
/// # Errors
/// The thread cannot be started.
pub fn start() -> io::Result<()> {
    let (lines, written) = sync_channel(QUEUE);
    if QUEUED.set(lines).is_ok() {
        thread::Builder::new().name("log".into()).spawn(move || write_all(written))?;
        let filter = EnvFilter::try_from_env("PEERGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
        let lines = fmt::layer().with_ansi(false).with_target(false).with_writer(Queue).with_filter(filter);
        tracing_subscriber::registry().with(lines).with(http2::listener()).init();
    }
    Ok(())
}

/// Lines lost since the start, because stderr is not read fast enough.
pub fn lost() -> u64 {
    LOST_EVER.load(Ordering::Relaxed)
}

/// Writes a line as it stands.
pub fn line(text: &str) {
    push(Item::Text(format!("{text}\n").into_bytes()));
}

/// Waits until everything is written, at most a second: a reader that is stuck must not hold up the end either.
pub fn flush() {
    let Some(lines) = QUEUED.get() else { return };
    let (done, finished) = sync_channel(1);
    if lines.try_send(Item::Flush(done)).is_ok() {
        // Both errors mean that nothing more can be done.
        let _ = finished.recv_timeout(Duration::from_secs(1));
    }
}

enum Item {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

fn push(item: Item) {
    if let Some(lines) = QUEUED.get()
        && lines.try_send(item).is_err()
    {
        LOST.fetch_add(1, Ordering::Relaxed);
        LOST_EVER.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_all(lines: Receiver<Item>) {
    for item in lines {
        let mut stderr = io::stderr().lock();
        let lost = LOST.swap(0, Ordering::Relaxed);
        // There is nowhere to report that stderr is closed.
        if lost > 0 {
            let _ = writeln!(stderr, "log: {lost} lines lost: stderr is not read fast enough");
        }
        match item {
            Item::Text(text) => drop(stderr.write_all(&text)),
            Item::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Hands each event over as one piece.
struct Queue;

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event(Vec::new())
    }
}

/// One formatted event.
struct Event(Vec<u8>);

impl Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        push(Item::Text(std::mem::take(&mut self.0)));
    }
}

const DEFAULT: &str = "info,filter=warn";

/// Lines that wait; those beyond it are counted and lost.
const QUEUE: usize = 8192;

static QUEUED: OnceLock<SyncSender<Item>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);
static LOST_EVER: AtomicU64 = AtomicU64::new(0);
