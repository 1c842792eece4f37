//! The pages by their paths.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::board::Board;
use super::metrics::metrics;
use super::report::unix;

/// An answer with its whole body.
pub type Page = Response<Vec<u8>>;

/// Answers a request for `path`, without its query.
pub async fn page(board: &Board, method: &Method, path: &str) -> Page {
    if method != Method::GET && method != Method::HEAD {
        let mut page = plain(StatusCode::METHOD_NOT_ALLOWED, "these pages only show: use GET\n".to_owned());
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return page;
    }
    match path {
        "/metrics" => finished(StatusCode::OK, PROMETHEUS, metrics(board).await),
        "/healthz" => health(board).await,
        "/readyz" if board.is_draining() => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
        "/readyz" => plain(StatusCode::OK, "ready\n".to_owned()),
        "/config" => json(&configuration(board)),
        "/connections" => json(&connections(board).await),
        "" | "/" => plain(StatusCode::OK, INDEX.to_owned()),
        _ => plain(StatusCode::NOT_FOUND, format!("no such page; there are\n{INDEX}")),
    }
}

async fn health(board: &Board) -> Page {
    let (_, silent) = board.reports().await;
    if silent.is_empty() {
        return plain(StatusCode::OK, "ok\n".to_owned());
    }
    let silent: Vec<_> = silent.iter().map(usize::to_string).collect();
    plain(StatusCode::SERVICE_UNAVAILABLE, format!("workers that do not answer: {}\n", silent.join(", ")))
}

fn configuration(board: &Board) -> Value {
    let state = board.state();
    let files: Vec<_> = state
        .expiries
        .iter()
        .map(|file| json!({"key": file.key, "path": file.path.display().to_string(), "not-after": file.not_after}))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": state.generation,
        "loaded": state.loaded.map(unix),
        "last-attempt": state.attempt.map(|attempt| json!({"at": unix(attempt.at), "error": attempt.error})),
        "reload-failures": state.failures,
        "insecure-modes": state.insecure,
        "files": files,
        "configuration": state.configuration,
    })
}

async fn connections(board: &Board) -> Value {
    let (reports, _) = board.reports().await;
    let listeners = || reports.iter().flat_map(|report| &report.listeners);
    let mut told: Vec<_> = listeners().flat_map(|listener| &listener.connections).collect();
    told.sort_by_key(|connection| connection.since);
    let open: u64 = listeners().map(|listener| listener.open).sum();
    json!({"open": open, "listed": told.len(), "connections": told})
}

fn json(value: &Value) -> Page {
    finished(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

pub(super) fn plain(status: StatusCode, text: String) -> Page {
    finished(status, "text/plain; charset=utf-8", text)
}

fn finished(status: StatusCode, content_type: &'static str, text: String) -> Page {
    let mut page = Page::new(text.into_bytes());
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str = "/metrics\n/healthz\n/readyz\n/config\n/connections\n";
