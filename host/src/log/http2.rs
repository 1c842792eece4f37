//! What h2 says about requests that it does not show to anybody: it resets their stream, and tells why only its own log.

use std::cell::RefCell;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    /// The latest complaint of the connection that this thread is working at.
    static COMPLAINT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why a request was refused since this was asked last, in h2's words and without a query, which may hold secrets.
pub(crate) fn complaint() -> Option<String> {
    COMPLAINT.take()
}

/// Listens to h2, which does its work while a connection is polled, on the thread that polls it.
pub(super) fn listener<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Listener.with_filter(FilterFn::new(is_of_interest).with_max_level_hint(Level::DEBUG))
}

fn is_of_interest(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() == Level::DEBUG && TARGETS.contains(&metadata.target())
}

struct Listener;

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Message);
    }
}

struct Message;

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message"
            && let Some(complaint) = read(&format!("{value:?}"))
        {
            COMPLAINT.replace(Some(complaint));
        }
    }
}

/// A message of h2 about a malformed request, shortened.
fn read(message: &str) -> Option<String> {
    let what = BEGINNINGS.iter().find_map(|beginning| message.strip_prefix(beginning))?;
    // A body that breaks off, of a request that was shown: whoever reads it is told.
    if what.starts_with("recv_data") {
        return None;
    }
    // `malformed path (b"/a?b"): invalid uri character`
    let what = what.replacen("(b\"", "(\"", 1);
    let Some((begin, query)) = what.split_once('?') else { return Some(what) };
    let end = query.rsplit_once("\"): ").map_or("", |(_, why)| why);
    Some(format!("{begin}\"): {end}"))
}

const TARGETS: [&str; 2] = ["h2::server", "h2::proto::streams::recv"];
const BEGINNINGS: [&str; 2] = ["malformed headers: ", "stream error PROTOCOL_ERROR -- "];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complaints_are_kept_and_no_query() {
        let path = r#"malformed headers: malformed path (b"/search/?secret<\"): 5"): invalid uri character"#;
        assert_eq!(read(path).as_deref(), Some(r#"malformed path ("/search/"): invalid uri character"#));
        assert_eq!(read("malformed headers: missing scheme").as_deref(), Some("missing scheme"));
        assert_eq!(read("send response error"), None);
        assert_eq!(read("stream error PROTOCOL_ERROR -- recv_data: content-length underflow;"), None);
    }
}
