//! The word for a kind of endpoint, as an argument.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use peergate_policy::Endpoint;

/// Reads `peer`, `mtls` or `token`.
pub(super) fn endpoint() -> impl TypedValueParser<Value = Endpoint> {
    PossibleValuesParser::new(Endpoint::WORDS).try_map(|word| word.parse::<Endpoint>())
}
