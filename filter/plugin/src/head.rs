//! The head of a request, as the proxy hands it over.

use peergate_policy::Request;

use crate::envoy::Pair;

/// Pseudo-headers and headers (RFC 9113, 8.3), after identity headers were removed.
pub(crate) struct Head {
    pairs: Vec<Pair>,
}

impl Head {
    pub(crate) fn new(pairs: Vec<Pair>) -> Self {
        Self { pairs }
    }

    /// What the second gate judges. What is missing or no text is empty, which no rule admits.
    pub(crate) fn request(&self) -> Request<'_> {
        Request { method: self.pseudo(b":method"), path: self.pseudo(b":path") }
    }

    /// All values of `authorization`.
    pub(crate) fn authorization(&self) -> impl Iterator<Item = &[u8]> {
        self.values(b"authorization")
    }

    fn pseudo(&self, name: &'static [u8]) -> &str {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    fn values(&self, name: &'static [u8]) -> impl Iterator<Item = &[u8]> {
        self.pairs
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| &value[..])
    }
}
