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

/// Lines lost since the start, because stderr was not read fast enough, was full or was closed.
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
        lost_one();
    }
}

fn lost_one() {
    LOST.fetch_add(1, Ordering::Relaxed);
    LOST_EVER.fetch_add(1, Ordering::Relaxed);
}

fn write_all(lines: Receiver<Item>) {
    for item in lines {
        write(&mut io::stderr().lock(), item);
    }
}

/// Writes one item, and before it how many lines were lost. What cannot be written is lost, and said once it can again.
fn write(stderr: &mut impl Write, item: Item) {
    let lost = LOST.swap(0, Ordering::Relaxed);
    if lost > 0
        && writeln!(stderr, "log: {lost} lines lost: stderr was not read fast enough, full or closed")
            .is_err()
    {
        LOST.fetch_add(lost, Ordering::Relaxed);
    }
    match item {
        Item::Text(text) => {
            if stderr.write_all(&text).is_err() {
                lost_one();
            }
        }
        // Nobody waits any more.
        Item::Flush(done) => drop(done.try_send(())),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full`, or a pipe whose reader is gone.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_stderr_does_not_take_are_counted_and_said_later() {
        let before = lost();
        for _ in 0..3 {
            write(&mut Full, Item::Text(b"line\n".to_vec()));
        }
        assert_eq!(lost() - before, 3);
        let mut written = Vec::new();
        write(&mut written, Item::Text(b"line\n".to_vec()));
        let text = String::from_utf8(written).expect("text");
        assert_eq!(text, "log: 3 lines lost: stderr was not read fast enough, full or closed\nline\n");
    }
}
