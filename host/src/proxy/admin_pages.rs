//! The admin pages on a peer listener: for whom the filter lets pass, in place of the service.

use std::sync::Arc;

use http::{Method, Response};
use http_body_util::{Either, Full};
use hyper::body::Bytes;

use super::body::Answer;
use crate::admin::{Board, page};

/// Where they are, and what they show.
#[derive(Clone, Debug)]
pub(super) struct AdminPages {
    pub(super) path: Arc<str>,
    pub(super) board: Arc<Board>,
}

impl AdminPages {
    /// The page that `path` is, as the filter judged it: `/peergate-admin/metrics` is `/metrics`. An escape in it makes it a
    /// path of the service.
    pub(super) fn page_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.path).filter(|page| page.is_empty() || page.starts_with('/'))
    }

    /// Answers a request that the filter let pass.
    pub(super) async fn answer(&self, method: &Method, page_path: &str) -> Response<Answer> {
        let page = page(&self.board, method, page_path).await;
        let body = |body: Vec<u8>| if *method == Method::HEAD { Bytes::new() } else { Bytes::from(body) };
        page.map(|whole| Either::Right(Full::new(body(whole))))
    }
}
