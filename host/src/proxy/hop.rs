//! Fields that end at this hop (RFC 9110 section 7.6.1).

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, HeaderValue, TE};

/// Removes from what a client or an upstream sent all that `Connection` names and all that is for one hop only.
/// `TE: trailers` stays: the next hop may send trailers because we pass them on.
///
/// The filter adds its own fields later, so a client cannot have them removed by naming them in `Connection`.
pub(super) fn strip(headers: &mut HeaderMap) {
    let trailers = headers.get_all(TE).iter().any(|value| tokens(value).any(|token| token == b"trailers"));
    for name in named(headers) {
        headers.remove(name);
    }
    strip_known(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// What `Connection` names.
pub(super) fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = headers.get_all(CONNECTION).iter().flat_map(tokens);
    tokens.filter_map(|token| HeaderName::from_bytes(&token).ok()).collect()
}

/// Removes the fields that frame a message on one connection, `TE` included, whoever set them.
pub(super) fn strip_known(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

/// The lower-case tokens of a comma-separated field; a parameter (`trailers;q=0.5`) is not part of the token.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = Vec<u8>> {
    value.as_bytes().split(|byte| *byte == b',').map(|part| {
        let end = part.iter().position(|byte| *byte == b';').unwrap_or(part.len());
        part[..end].trim_ascii().to_ascii_lowercase()
    })
}

const HOP_BY_HOP: &[&str] =
    &["connection", "http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        strip(&mut headers);
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
        left.sort();
        left
    }

    #[test]
    fn fixed_fields_go_and_others_stay() {
        let fields = [
            ("accept", "*/*"),
            ("connection", "keep-alive"),
            ("http2-settings", "AAMAAABk"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(stripped(&fields), ["accept: */*"]);
    }

    #[test]
    fn what_connection_names_goes_in_any_case_and_from_every_line() {
        let fields = [
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ];
        assert_eq!(stripped(&fields), ["x-three: 3"]);
    }

    #[test]
    fn tokens_that_are_no_names_are_harmless() {
        assert_eq!(stripped(&[("connection", "a b, ,\"q\""), ("a", "1")]), ["a: 1"]);
    }

    #[test]
    fn only_trailers_survive_in_te() {
        let fields = [("te", "gzip;q=0.5, Trailers"), ("connection", "TE")];
        assert_eq!(stripped(&fields), ["te: trailers"]);
        assert!(stripped(&[("te", "gzip"), ("connection", "te")]).is_empty());
    }
}
