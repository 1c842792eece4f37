//! What the upstream is told about the peer.

/// The policy key `upstream-headers`. Nothing is told unless asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UpstreamHeaders {
    /// `x-peergate-policy`: the rules that matched.
    pub policy: bool,
    /// `x-peergate-capabilities`.
    pub capabilities: bool,
    /// `x-peergate-subject`: CN and alternative names.
    pub subject: bool,
    /// `x-forwarded-client-cert`, in Envoy's format.
    pub xfcc: bool,
    /// Whether the client's `authorization` header stays; `None` leaves that to the kind of endpoint.
    pub keep_authorization: Option<bool>,
}

impl UpstreamHeaders {
    /// Whether the service is told what only the certificate says.
    pub(crate) fn name_the_peer(&self) -> bool {
        self.subject || self.xfcc
    }

    pub(crate) const AUTHORIZATION_WORDS: &'static [&'static str] = &["remove", "keep"];
}
