//! Requests that are allowed, and are too many.

use http::Response;

use super::body::Answer;
use super::client_body::ClientBody;
use super::exchange::{Exchange, Judged, whole};
use super::reply::Reply;
use super::slot::client_key;
use crate::capacity::Limit;

impl Exchange {
    /// The client is admitted by this request, if it was not before.
    ///
    /// # Errors
    /// It has too many connections, or all have.
    pub(super) async fn admit(&self, judged: Judged) -> Result<Judged, Reply> {
        match self.slot.admit(|| client_key(&self.member.connection)) {
            Ok(()) => Ok(judged),
            Err(limit) => Err(self.over_limit(&judged, limit).await),
        }
    }

    /// Forwards a request, if there are not too many under way.
    pub(super) async fn forward_within_limits(&self, judged: Judged, body: ClientBody) -> Response<Answer> {
        match self.slot.request() {
            Ok(permit) => {
                judged.active.counts(permit);
                self.forward(judged, body).await
            }
            Err(limit) => whole(self.over_limit(&judged, limit).await),
        }
    }

    /// The answer to a request over a limit: 503 at once, so that nothing waits for what may never come.
    async fn over_limit(&self, judged: &Judged, limit: Limit) -> Reply {
        self.audit.over_limit(&self.member.whom, limit);
        self.local(&judged.active.stream, judged.dialect, judged.dialect.overloaded()).await
    }
}
