//! Keeps the newest good generation in use.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::{info, warn};

use super::generation::Loader;
use super::{RunError, announce, effective};
use crate::admin::{Attempt, Board};
use crate::files::{Trail, recorded};
use crate::proxy::{Generation, Listener, Orders};
use crate::watch::Watch;

/// What asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A file differs from what the last attempt read.
    Change,
    /// SIGHUP.
    Signal,
    /// [`limits::RELOAD`](crate::proxy::limits::RELOAD) went by.
    Timer,
}

/// The generation in use, and what would replace it.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) loader: Loader,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) board: Arc<Board>,
    pub(super) watch: Watch,
    /// What the generation in use was read from.
    pub(super) trail: Trail,
}

impl Keeper {
    /// Waits for a change of the files in use, or of those refused last.
    pub(super) async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// New connections use the new generation, open ones are judged by it again; or nobody does.
    pub(super) fn reload(&mut self, cause: Cause) {
        if cause == Cause::Change && self.trail.look_again() == self.trail {
            info!("the files are again those in use");
            self.note(None);
            return self.watch.follow(self.trail.clone());
        }
        let (loaded, trail) = recorded(|| self.loader.load());
        self.watch.follow(trail.clone());
        match loaded {
            Ok(generation) => self.take(generation, trail),
            Err(error) => {
                let error = self.loader.not_granted(&trail).unwrap_or(error);
                warn!(?cause, "reload failed, the old policy and files stay in use: {error}");
                self.note(Some(&error));
            }
        }
    }

    fn take(&mut self, generation: Generation, trail: Trail) {
        let (number, generation) = (generation.number, Arc::new(generation));
        show(&self.board, &generation);
        self.board.capacity().set(&generation.limits);
        let orders = Orders { generation: Arc::clone(&generation), draining: false };
        let before = self.orders.send_replace(orders).generation;
        let is_new =
            |it: &&Listener| before.listeners.iter().all(|old| !Arc::ptr_eq(&old.sockets, &it.sockets));
        announce(generation.listeners.iter().filter(is_new), self.loader.workers());
        self.trail = trail;
        info!(generation = number, "policy and files reloaded; open connections are judged by them again");
    }

    fn note(&self, error: Option<&RunError>) {
        let error = error.map(RunError::to_string);
        self.board.change(|state| {
            state.failures += u64::from(error.is_some());
            state.attempt = Some(Attempt { at: SystemTime::now(), error });
        });
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self) -> String {
        let state = self.board.state();
        match state.attempt.and_then(|attempt| attempt.error) {
            None => format!("serving generation {}", state.generation),
            Some(error) => {
                format!("serving generation {}, the last reload failed: {error}", state.generation)
            }
        }
    }
}

/// Lets the admin pages show a generation.
pub(super) fn show(board: &Board, generation: &Generation) {
    let configuration = effective::configuration(generation);
    let (expiries, insecure) = (effective::expiries(generation), effective::insecure_modes(generation));
    board.change(|state| {
        let now = SystemTime::now();
        state.generation = generation.number;
        state.loaded = Some(now);
        state.attempt = Some(Attempt { at: now, error: None });
        (state.configuration, state.expiries, state.insecure) = (configuration, expiries, insecure);
    });
}
