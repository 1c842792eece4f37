//! The side of a worker that is not asked by connections and requests: it makes the filter's calls and brings it their
//! answers, its ticks, and the news about its queues.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::sleep_until;

use super::callout::{Call, CallResponse, Caller};
use super::limits;
use super::queue::Notice;
use super::worker::Worker;

/// What a worker and its driver have in common.
#[derive(Debug)]
pub(super) struct Desk {
    stirred: Rc<Notify>,
    /// Until there is a driver to read them.
    notices: RefCell<Option<Receiver<Notice>>>,
    attended: Cell<bool>,
}

impl Desk {
    pub(super) fn new() -> (Sender<Notice>, Self) {
        let (sender, notices) = channel(limits::NOTICES);
        let notices = RefCell::new(Some(notices));
        (sender, Self { stirred: Rc::default(), notices, attended: Cell::new(false) })
    }

    /// Makes the driver look for new work.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }
}

impl Worker {
    /// Lets timers, queues and calls of the filter run, on this thread's local tasks, as long as the worker is there.
    /// Without it none of them ever does, and a request that the filter pauses fails at once.
    ///
    /// # Panics
    /// Outside of a [`tokio::task::LocalSet`].
    pub fn attend(self: &Rc<Self>) {
        if !self.has_events() {
            return;
        }
        let Some(notices) = self.driver.notices.take() else { return };
        self.driver.attended.set(true);
        spawn_local(drive(Rc::downgrade(self), Rc::clone(&self.driver.stirred), notices));
    }

    /// Whether anything will call the filter that could end a pause.
    pub(super) fn events_are_coming(&self) -> bool {
        let coming = |vm: &mut super::vm::Vm| vm.events_are_coming();
        self.driver.attended.get() && self.with_present_vm(coming).is_some_and(|(_, coming)| coming)
    }
}

/// A fault in any of these is logged and costs the VM, as everywhere; nothing more follows from it here.
async fn drive(worker: Weak<Worker>, stirred: Rc<Notify>, mut notices: Receiver<Notice>) {
    let caller = Caller::new();
    let mut calls = JoinSet::new();
    let mut calling = 0;
    loop {
        let Some(Work { generation, accepted, tick }) = worker.upgrade().map(|worker| take_work(&worker))
        else {
            return;
        };
        if generation != calling {
            // Nobody waits for the calls of a VM that is gone, and each VM may have as many.
            calls.abort_all();
            calling = generation;
        }
        for call in accepted {
            let answer = caller.clone().perform(call);
            calls.spawn_local(async move { (generation, answer.await) });
        }
        let (due, root) = tick.unwrap_or_else(|| (Instant::now(), 0));
        tokio::select! {
            () = stirred.notified() => {}
            () = sleep_until(due.into()), if tick.is_some() => on_tick(&worker, generation, root),
            Some(notice) = notices.recv() => on_notice(&worker, notice),
            Some(answered) = calls.join_next() => {
                // Or aborted.
                if let Ok((generation, (token, response))) = answered {
                    on_answer(&worker, generation, token, response);
                }
            }
        }
    }
}

/// The number of no VM.
const GONE: u64 = u64::MAX;

struct Work {
    generation: u64,
    accepted: Vec<Call>,
    tick: Option<(Instant, u32)>,
}

fn take_work(worker: &Worker) -> Work {
    match worker.with_present_vm(|vm| vm.take_work()) {
        Some((generation, (accepted, tick))) => Work { generation, accepted, tick },
        // It went with a fault. What it wanted is gone too; the next one will say what it wants.
        None => Work { generation: GONE, accepted: Vec::new(), tick: None },
    }
}

fn on_tick(worker: &Weak<Worker>, generation: u64, root: u32) {
    if let Some(worker) = worker.upgrade() {
        let _ = worker.with_vm(Some(generation), |vm| vm.tick(root));
    }
}

fn on_notice(worker: &Weak<Worker>, notice: Notice) {
    if let Some(worker) = worker.upgrade() {
        // Whichever VM is there: queues outlive them.
        let _ = worker.with_vm(None, |vm| vm.queue_ready(notice));
    }
}

fn on_answer(worker: &Weak<Worker>, generation: u64, token: u32, response: CallResponse) {
    if let Some(worker) = worker.upgrade() {
        let _ = worker.with_vm(Some(generation), |vm| vm.http_call_response(token, response));
    }
}
