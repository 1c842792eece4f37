//! Events of directories (`inotify(7)`).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tracing::debug;

/// What happens in some directories.
#[derive(Debug)]
pub(super) struct Notices {
    directories: Vec<PathBuf>,
    events: Option<OwnedFd>,
}

impl Notices {
    /// Nothing is told; waiting only takes time.
    pub(super) fn none() -> Self {
        Self { directories: Vec::new(), events: None }
    }

    /// The events of these directories. Where the system has none to give (a limit, a filesystem), there are none.
    pub(super) fn of(directories: Vec<PathBuf>) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &events {
            debug!(%error, "no events of directories, only their content is looked at");
        }
        let notices = Self { directories, events: events.ok() };
        notices.watch_all();
        notices
    }

    /// Waits until something happens, at most for `longest`.
    pub(super) fn wait(&self, longest: Duration) {
        // A directory that was replaced needs a new watch; an old one takes it again without effect.
        self.watch_all();
        let Some(events) = &self.events else { return thread::sleep(longest) };
        let timeout =
            Timespec { tv_sec: longest.as_secs().cast_signed(), tv_nsec: longest.subsec_nanos().into() };
        // A signal ends the waiting early, which only means one look more.
        let _ = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&timeout));
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(events, &mut buffer);
        while reader.next().is_ok() {}
    }

    fn watch_all(&self) {
        let Some(events) = &self.events else { return };
        for directory in &self.directories {
            // What cannot be watched, not being there for example, is looked at.
            let _ = inotify::add_watch(events, directory, EVENTS);
        }
    }
}

const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
