//! Where the pages get what they show.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::report::Report;
use crate::capacity::Capacity;
use crate::files::Expiry;

/// What is known of the running host, shared by all that show it.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    draining: AtomicBool,
    workers: Vec<UnboundedSender<oneshot::Sender<Report>>>,
    /// What each worker told last: counters of one that hangs must not seem to begin anew.
    told: Mutex<Vec<Report>>,
    capacity: Arc<Capacity>,
}

/// A worker's end of the line to the [`Board`].
#[derive(Debug)]
pub struct Desk(UnboundedReceiver<oneshot::Sender<Report>>);

/// What changes with reloads.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The number of the generation in use, from 1.
    pub generation: u64,
    /// When it was taken.
    pub loaded: Option<SystemTime>,
    /// The last attempt to load one.
    pub attempt: Option<Attempt>,
    /// Attempts refused since the start.
    pub failures: u64,
    /// When the files in use end.
    pub expiries: Vec<Expiry>,
    /// Modes in force that refuse less than the policy says.
    pub insecure: Vec<String>,
    /// The effective configuration, without secrets.
    pub configuration: Value,
}

/// A try to load a generation.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When.
    pub at: SystemTime,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

impl Board {
    /// For this many workers, each with its desk.
    pub fn new(workers: usize, capacity: &Arc<Capacity>) -> (Self, Vec<Desk>) {
        let (senders, desks) =
            (0..workers).map(|_| unbounded_channel()).map(|(tx, rx)| (tx, Desk(rx))).unzip();
        let told = Mutex::new(vec![Report::default(); workers]);
        let (state, draining, capacity) = (Mutex::default(), AtomicBool::new(false), Arc::clone(capacity));
        (Self { state, draining, workers: senders, told, capacity }, desks)
    }

    /// What the workers take at most, and have taken.
    pub fn capacity(&self) -> &Arc<Capacity> {
        &self.capacity
    }

    /// What changes with reloads, now.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// After a reload or an attempt.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
    }

    /// From now on the host is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it lets what runs finish and takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What the workers tell, and the numbers of those that do not answer: of them what they told before.
    pub async fn reports(&self) -> (Vec<Report>, Vec<usize>) {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            // A worker that has ended drops the question, which says so.
            let _ = worker.send(answer);
            answers.push(answered);
        }
        let (deadline, mut silent) = (Instant::now() + PATIENCE, Vec::new());
        for (index, answered) in answers.into_iter().enumerate() {
            match timeout_at(deadline, answered).await {
                Ok(Ok(report)) => lock(&self.told)[index] = report,
                // While draining, a worker without connections is gone.
                Ok(Err(_)) if self.is_draining() => {}
                Ok(Err(_)) | Err(_) => silent.push(index),
            }
        }
        (lock(&self.told).clone(), silent)
    }
}

impl Desk {
    /// The next question; answering it is sending. Never, once nobody can ask any more.
    pub async fn asked(&mut self) -> oneshot::Sender<Report> {
        match self.0.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker that judges ten thousand connections again needs a second.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::capacity::Plan;

    #[test]
    fn a_worker_that_hangs_keeps_its_numbers() {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (board, mut desks) = Board::new(2, &Capacity::new(&Plan::default()));
            let report = |restarts| Report { vm_restarts: restarts, ..Report::default() };
            let answer = async {
                for (restarts, desk) in (1..).zip(&mut desks) {
                    desk.asked().await.send(report(restarts)).expect("a board that waits");
                }
            };
            let ((reports, silent), ()) = tokio::join!(board.reports(), answer);
            assert_eq!(reports.iter().map(|report| report.vm_restarts).collect::<Vec<_>>(), [1, 2]);
            assert!(silent.is_empty());
            drop(desks.pop());
            let (reports, silent) = board.reports().await;
            assert_eq!(reports.iter().map(|report| report.vm_restarts).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(silent, [0, 1]);
        });
    }
}
