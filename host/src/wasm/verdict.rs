//! What a filter answered, as values the proxy acts on.

/// Names and values of a header map in order; names are lower case. A request's map begins with its pseudo-headers.
pub type HeaderPairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The network gate's answer for one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the connection may go on.
    pub allow: bool,
    /// The decision as JSON text: what the filter stored under `peergate.decision`, or ours.
    pub decision: String,
}

impl Verdict {
    /// The filter gave no usable answer.
    pub(super) fn failed(reason: &str) -> Self {
        Self { allow: false, decision: denial(reason) }
    }

    /// The filter's answer, with its own words where it left any.
    pub(super) fn answered(allow: bool, stored: Option<String>) -> Self {
        let decision = stored.unwrap_or_else(|| match allow {
            true => r#"{"decision":"allow","reason":"filter","matched":[]}"#.to_owned(),
            false => denial("filter-silent"),
        });
        Self { allow, decision }
    }
}

/// The filter's answer to one phase of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Go on with this header map.
    Continue(HeaderPairs),
    /// Answer the client with this; nothing goes upstream.
    Reply(LocalReply),
    /// The filter gave no usable answer: deny. The text is the reason, such as `filter-trap`.
    Failed(&'static str),
}

/// The filter's answer to a piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyOutcome {
    /// Pass these bytes on: what was held back before, and this piece, as the filter left them.
    Continue(Vec<u8>),
    /// The filter holds back what there is so far.
    Held,
    /// Answer the client with this, if nothing was answered yet.
    Reply(LocalReply),
    /// More is held back than the host keeps.
    TooLarge,
    /// The filter gave no usable answer: break the message off. The text is the reason, such as `filter-trap`.
    Failed(&'static str),
}

/// The reason of a request that a filter held up too long.
pub const PAUSED_TOO_LONG: &str = "filter-pause-timeout";

/// The reply a filter sends in place of the upstream (`proxy_send_local_response`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Further header fields.
    pub headers: HeaderPairs,
    /// The body, possibly empty.
    pub body: Vec<u8>,
    /// `grpc-status`, when the filter named one.
    pub grpc_status: Option<u32>,
}

impl LocalReply {
    /// Of its body and its fields.
    pub(super) fn bytes(&self) -> usize {
        self.body.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// The decision of a filter that could not give its own. `reason` is one of our fixed words.
pub(super) fn denial(reason: &str) -> String {
    format!(r#"{{"decision":"deny","reason":"{reason}","matched":[]}}"#)
}
