//! `filter.wasm`: what a proxy says -> policy -> what the proxy must do (proxy-wasm ABI 0.2.1).
//!
//! The module talks to the proxy directly, without an SDK: thirteen imports instead of thirty-seven, a third less code,
//! and no wrapper that panics on what a client can send. One module serves as HTTP filter and as network (L4) filter;
//! which of the two it is, the proxy shows by the callbacks it makes.

mod abi;
mod cache;
mod context;
mod envoy;
mod filter_state;
mod gate;
mod head;
mod headers;
mod listener;
mod log;
mod metrics;
mod peer;
mod reply;
mod timing;
mod verdict;
