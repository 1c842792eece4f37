//! The filter's log lines.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::limits;

/// Bytes of a line that are kept; a filter may log a whole header.
pub(super) const MAX_LINE: usize = 8 << 10;

/// What writing a line costs besides its bytes, in those of a host function's charge.
pub(super) const LINE: usize = 512;

/// Lines kept from a VM's start.
const KEPT: usize = 8;

/// Severity, numbered as in the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

impl Level {
    pub(super) fn from_abi(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }

    /// Whether a filter's line of this level is written out.
    fn is_shown(self) -> bool {
        use tracing::{Level, enabled};
        match self {
            Self::Trace => enabled!(target: "filter", Level::TRACE),
            Self::Debug => enabled!(target: "filter", Level::DEBUG),
            Self::Info => enabled!(target: "filter", Level::INFO),
            Self::Warn => enabled!(target: "filter", Level::WARN),
            Self::Error | Self::Critical => enabled!(target: "filter", Level::ERROR),
        }
    }

    /// The least severe level that is written out.
    pub(super) fn enabled() -> Self {
        use tracing::level_filters::LevelFilter;
        match LevelFilter::current() {
            LevelFilter::TRACE => Self::Trace,
            LevelFilter::DEBUG => Self::Debug,
            LevelFilter::INFO => Self::Info,
            LevelFilter::WARN => Self::Warn,
            LevelFilter::ERROR => Self::Error,
            _ => Self::Critical,
        }
    }
}

/// Passes the filter's lines on to the host's log; while a VM starts, also keeps the last few, which say why the filter
/// refused its configuration.
#[derive(Debug)]
pub(super) struct Journal {
    kept: Option<VecDeque<String>>,
    rate: Rc<LineRate>,
}

/// How many lines one worker's filter wrote in this second. Those beyond [`limits::LINES`] are left out: the log has lines of others
/// too.
#[derive(Debug)]
pub(super) struct LineRate {
    since: Cell<Instant>,
    lines: Cell<u32>,
}

impl Default for LineRate {
    fn default() -> Self {
        Self { since: Cell::new(Instant::now()), lines: Cell::default() }
    }
}

impl LineRate {
    fn admits(&self, now: Instant) -> bool {
        let lines = self.lines.get();
        if now.saturating_duration_since(self.since.get()) >= Duration::from_secs(1) {
            if let Some(left_out) = lines.checked_sub(limits::LINES).filter(|count| *count > 0) {
                tracing::warn!(
                    "{left_out} lines of the filter left out: more than {} in a second",
                    limits::LINES
                );
            }
            self.since.set(now);
            self.lines.set(1);
            return true;
        }
        self.lines.set(lines.saturating_add(1));
        lines < limits::LINES
    }
}

impl Journal {
    pub(super) fn recording(rate: &Rc<LineRate>) -> Self {
        Self { kept: Some(VecDeque::with_capacity(KEPT)), rate: Rc::clone(rate) }
    }

    /// Ends the recording and hands over what was kept.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.kept.take().map(Vec::from).unwrap_or_default()
    }

    pub(super) fn write(&mut self, level: Level, line: &[u8]) {
        let shown = level.is_shown() && self.rate.admits(Instant::now());
        if self.kept.is_none() && !shown {
            return;
        }
        let line = printable(line);
        match level {
            _ if !shown => {}
            Level::Trace => tracing::trace!(target: "filter", "{line}"),
            Level::Debug => tracing::debug!(target: "filter", "{line}"),
            Level::Info => tracing::info!(target: "filter", "{line}"),
            Level::Warn => tracing::warn!(target: "filter", "{line}"),
            Level::Error | Level::Critical => tracing::error!(target: "filter", "{line}"),
        }
        let Some(kept) = &mut self.kept else { return };
        if level >= Level::Info {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    }
}

/// One line of text: a peer's name in it may hold line ends or terminal escapes.
fn printable(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(&line[..line.len().min(MAX_LINE)]);
    let line = line.trim_end();
    if !line.contains(char::is_control) {
        return line.to_owned();
    }
    let mut out = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(printable(b"a\r\nb\x1b[31m\n"), r"a\r\nb\u{1b}[31m");
        assert_eq!(printable(&[b'x'; 10_000]).len(), MAX_LINE);
        assert_eq!(printable(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn lines_of_one_second_have_an_end() {
        let rate = LineRate::default();
        let (first, second) = (rate.since.get(), rate.since.get() + Duration::from_secs(1));
        assert_eq!((0..5000).filter(|_| rate.admits(first)).count(), limits::LINES as usize);
        assert!(rate.admits(second));
        assert_eq!((0..5000).filter(|_| rate.admits(second)).count(), limits::LINES as usize - 1);
    }

    #[test]
    fn the_last_lines_of_a_start_are_kept_without_the_noise() {
        let mut journal = Journal::recording(&Rc::default());
        for number in 0..20 {
            journal.write(Level::Debug, b"noise");
            journal.write(Level::Error, format!("line {number}").as_bytes());
        }
        let kept = journal.take();
        assert_eq!(kept.first().map(String::as_str), Some("line 12"));
        assert_eq!(kept.last().map(String::as_str), Some("line 19"));
        journal.write(Level::Error, b"later");
        assert!(journal.take().is_empty());
    }
}
