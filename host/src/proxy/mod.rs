//! From an accepted socket to the local service and back, one worker per core and nothing shared between workers.

mod activity;
mod body;
mod connection;
mod exchange;
mod headers;
mod hop;
mod http;
pub mod limits;
mod listener;
mod reply;
mod request;
mod tcp;
mod upstream;
mod worker;

pub use http::ALPN;
pub use listener::listeners;
pub use upstream::UpstreamProtocol;
pub use worker::{Generation, Orders, Protocol, Setup, WorkerError, work};
