//! `filter.wasm`: what a proxy says -> policy -> what the proxy must do (proxy-wasm ABI 0.2.1).
//!
//! One module serves as HTTP filter and as network (L4) filter; the plugin's `root_id` tells which: one that ends in
//! `_l4` is a network filter. A wrong `root_id` makes the SDK panic, which every proxy turns into a refusal.

mod cache;
mod envoy;
mod gate;
mod headers;
mod http;
mod log;
mod peer;
mod reply;
mod root;
mod stream;
mod verdict;

use proxy_wasm::traits::RootContext;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::<root::Root>::default() });
}}
