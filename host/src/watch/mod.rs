//! Noticing that a file of the running generation changed.
//!
//! Two ways at once, because each misses something: events of the directories (inotify) tell at once, and a look at the
//! content every second sees what network filesystems and bind mounts never tell. Directories, because Kubernetes swaps a link and
//! editors rename a new file into place: the old file itself never changes.

mod notices;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::debug;

use crate::files::Trail;
use notices::Notices;

/// Looks at the files of one generation, on a thread of its own: a network filesystem may hang.
#[derive(Debug)]
pub struct Watch {
    trails: Sender<Trail>,
    changes: UnboundedReceiver<()>,
}

impl Watch {
    /// Starts looking, at nothing yet. The thread ends with this value.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start() -> io::Result<Self> {
        Self::with(Notices::of)
    }

    fn with(notices: fn(Vec<PathBuf>) -> Notices) -> io::Result<Self> {
        let (trails, given) = channel();
        let (told, changes) = unbounded_channel();
        thread::Builder::new().name("watch".into()).spawn(move || look(&given, &told, notices))?;
        Ok(Self { trails, changes })
    }

    /// From now on a change is whatever differs from `trail`: what the last attempt read, taken or refused.
    pub fn follow(&self, trail: Trail) {
        // The thread ends only after this value.
        let _ = self.trails.send(trail);
    }

    /// Waits for a change; there is one at most until [`Self::follow`] is called again.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // Without its thread there is nothing to tell; SIGHUP and the timer still reload.
            std::future::pending::<()>().await;
        }
    }
}

fn look(trails: &Receiver<Trail>, changes: &UnboundedSender<()>, notices_of: fn(Vec<PathBuf>) -> Notices) {
    let mut followed: Option<Trail> = None;
    let mut notices = Notices::none();
    loop {
        match newest(trails) {
            Ok(Some(trail)) => {
                notices = notices_of(trail.directories());
                followed = Some(trail);
            }
            Ok(None) => {}
            Err(Ended) => return,
        }
        if let Some(trail) = &followed
            && changed(trail)
        {
            if changes.send(()).is_err() {
                return;
            }
            followed = None;
        }
        notices.wait(POLL);
    }
}

/// Whether the files differ from `trail`, after waiting for whoever is writing them: a file caught half-written would be
/// refused, and half a bundle of authorities would even be taken.
fn changed(trail: &Trail) -> bool {
    let mut now = trail.look_again();
    if now == *trail {
        return false;
    }
    for _ in 0..LOOKS {
        thread::sleep(SETTLE);
        let again = trail.look_again();
        if again == now {
            break;
        }
        now = again;
    }
    debug!("files changed");
    now != *trail
}

struct Ended;

fn newest(trails: &Receiver<Trail>) -> Result<Option<Trail>, Ended> {
    let mut newest = None;
    loop {
        match trails.try_recv() {
            Ok(trail) => newest = Some(trail),
            Err(TryRecvError::Empty) => return Ok(newest),
            Err(TryRecvError::Disconnected) => return Err(Ended),
        }
    }
}

/// Between two looks at the content where no event says more.
const POLL: Duration = Duration::from_secs(1);

/// Files that stay the same this long are taken for written.
const SETTLE: Duration = Duration::from_millis(100);

/// Looks at files that keep changing, until one is tried all the same: a change must be live within 2 s.
const LOOKS: usize = 5;

#[cfg(test)]
mod tests;
