//! From an accepted socket to the local service and back, one worker per core and nothing shared between workers.

mod active_request;
mod activity;
mod admin_pages;
mod body;
mod connection;
mod dialer;
mod exchange;
mod generation;
mod headers;
mod hop;
mod http;
mod identity;
pub mod limits;
mod listener;
mod outbound;
mod port;
mod proxy_protocol;
mod pump;
mod reply;
mod request;
mod review;
mod roster;
mod site;
mod socket;
mod tally;
mod tcp;
mod tunnel;
mod upgrade;
mod upstream;
mod websocket;
mod worker;

pub use generation::{Direction, Endpoint, Generation, Listener};
pub use http::ALPN;
pub use listener::{Listening, Sockets};
pub use socket::Socket;
pub use worker::{Orders, Setup, WorkerError, work};
