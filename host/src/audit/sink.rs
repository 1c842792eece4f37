//! Where audit lines go: a file or standard output, written by a thread of its own. Traffic never waits for a disk: when
//! lines come faster than they can be written they are left out and counted.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

/// Where audit lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened again when it was moved away ([`reopen`]).
    File(PathBuf),
}

impl Target {
    /// As the command line says it: `-` is standard output.
    pub fn of(text: &str) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(text.into()) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("standard output"),
            Self::File(path) => write!(formatter, "`{}`", path.display().to_string().escape_debug()),
        }
    }
}

/// Begins to write audit lines to `target`; to be called once, before there are any.
///
/// # Errors
/// The file cannot be opened, or there is no thread to be had.
pub fn start(target: Target) -> io::Result<()> {
    let output = open(&target)?;
    let (lines, written) = sync_channel(QUEUE);
    if LINES.set(lines).is_ok() {
        let writer = Writer { target, output, failed: None };
        thread::Builder::new().name("audit".into()).spawn(move || writer.write_all(&written))?;
    }
    Ok(())
}

/// Opens the file again, which a log rotation may have moved away.
pub fn reopen() {
    push(Item::Reopen);
}

/// Waits until everything is written, at most a second.
pub fn flush() {
    let (done, finished) = sync_channel(1);
    if LINES.get().is_some_and(|lines| lines.try_send(Item::Flush(done)).is_ok()) {
        // Both errors mean that nothing more can be done.
        let _ = finished.recv_timeout(Duration::from_secs(1));
    }
}

/// Lines that were not written: they came faster than the file takes them, or it took none.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Whether there is somewhere to write to.
pub(super) fn is_on() -> bool {
    LINES.get().is_some()
}

/// Queues one line, which ends in a line feed.
pub(super) fn write(line: Vec<u8>) {
    push(Item::Line(line));
}

enum Item {
    Line(Vec<u8>),
    Reopen,
    Flush(SyncSender<()>),
}

fn push(item: Item) {
    if let Some(lines) = LINES.get()
        && lines.try_send(item).is_err()
    {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

struct Writer {
    target: Target,
    output: Output,
    /// When the operator was last told that nothing can be written.
    failed: Option<Instant>,
}

type Output = BufWriter<Box<dyn Write + Send>>;

impl Writer {
    fn write_all(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            self.take(item);
            // Lines that wait together are written together.
            while let Ok(item) = items.try_recv() {
                self.take(item);
            }
            self.flush();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Line(line) => {
                if let Err(error) = self.output.write_all(&line) {
                    self.fail(&error);
                }
            }
            Item::Reopen => self.reopen(),
            Item::Flush(done) => {
                self.flush();
                // Nobody waits any more.
                let _ = done.try_send(());
            }
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.output.flush() {
            self.fail(&error);
        }
    }

    fn reopen(&mut self) {
        self.flush();
        match open(&self.target) {
            Ok(output) => self.output = output,
            Err(error) => warn!(%error, "the audit log cannot be opened again; the old file is written on"),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        LOST.fetch_add(1, Ordering::Relaxed);
        if self.failed.is_none_or(|since| since.elapsed() > QUIET) {
            self.failed = Some(Instant::now());
            warn!(%error, "the audit log cannot be written, lines are lost");
        }
    }
}

fn open(target: &Target) -> io::Result<Output> {
    Ok(BufWriter::new(match target {
        Target::Stdout => Box::new(io::stdout()),
        Target::File(path) => Box::new(append(path)?),
    }))
}

/// Owner and group may read it: it says who talks to whom.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Lines that wait; those beyond it are counted and lost.
const QUEUE: usize = 8192;
/// Between two warnings about the same trouble.
const QUIET: Duration = Duration::from_secs(60);

static LINES: OnceLock<SyncSender<Item>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);
