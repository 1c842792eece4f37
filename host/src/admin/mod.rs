//! Pages for operators: what the host does, in numbers and in words. They only show; nothing can be changed by them.
//!
//! Workers count for themselves, without a lock, and are asked when somebody looks ([`Board`]).

mod board;
mod exposition;
mod failure;
mod hosts;
mod metrics;
mod pages;
mod probe;
mod report;
mod seats;
mod server;

pub use board::{Attempt, Board, Desk, State};
pub use failure::failure;
pub use hosts::Hosts;
pub use pages::{Page, page};
pub use probe::{Answer, ProbeError, probe};
pub use report::{CONNECTIONS_TOLD, ConnectionReport, ListenerReport, Report};
pub use server::{Server, ServerError};
