//! Which requests are well-formed enough to be judged, whatever the policy says.

use std::net::SocketAddr;

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, Version};

use super::headers::RequestHead;
use super::socket::NO_ADDRESS;
use super::{hop, limits};

/// Why a request is answered without asking the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRequest {
    /// CONNECT would make a tunnel, TRACE would echo credentials.
    Method,
    /// No authority (RFC 9112 section 3.2).
    NoAuthority,
    /// Two, two that differ, or a malformed one.
    Authority,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.1: request smuggling), or a coding in HTTP/1.0.
    Framing,
    /// Two lengths, or one that is no number.
    Length,
    /// A transfer coding besides `chunked`, which would be lost on the way (RFC 9112 section 6.1: answer 501).
    Coding,
    /// A target of another scheme than http and https.
    Scheme,
    /// A line that does not end in CR LF, behind which a field may hide.
    LineEnd,
    /// Not method, target and version with one space between.
    RequestLine,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
    /// A control character, a fragment, or otherwise no target.
    Target,
    /// A line that is no field.
    Field,
    /// More than [`limits::REQUEST_FIELDS`].
    TooManyFields,
    /// More than [`limits::REQUEST_HEAD_BYTES`].
    HeadTooLarge,
    /// A request that hyper found where there should be none.
    Unexamined,
}

impl BadRequest {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::TooManyFields | Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The word in the audit log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Method => "method-not-allowed",
            Self::NoAuthority => "no-authority",
            Self::Authority => "malformed-authority",
            Self::Framing => "two-framings",
            Self::Length => "malformed-content-length",
            Self::Coding => "unknown-transfer-coding",
            Self::Scheme => "unknown-scheme",
            Self::LineEnd => "malformed-line-end",
            Self::RequestLine => "malformed-request-line",
            Self::Version => "unknown-http-version",
            Self::Target => "malformed-target",
            Self::Field => "malformed-field",
            Self::TooManyFields => "too-many-fields",
            Self::HeadTooLarge => "head-too-large",
            Self::Unexamined => "not-examined",
        }
    }

    /// Whether nothing is known about where the next request begins.
    pub(super) fn ends_connection(self) -> bool {
        !matches!(self, Self::Method | Self::NoAuthority | Self::Authority | Self::Scheme)
    }
}

/// The word in the audit log for a body that breaks off, or is none.
pub(super) const MALFORMED_BODY: &str = "malformed-body";

/// The word for a request that h2 resets.
pub(super) const MALFORMED_HTTP2: &str = "malformed-http2";

/// A request whose head is refused as it came. It travels in the extensions of the request that hyper makes of it, boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) why: BadRequest,
    /// As far as it could be read.
    pub(super) method: String,
    /// Without its query.
    pub(super) path: String,
}

impl Refused {
    pub(super) fn of<B>(why: BadRequest, request: &Request<B>) -> Box<Self> {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        Box::new(Self { why, method, path })
    }
}

/// Refuses a request of HTTP/2 that has more fields than one of HTTP/1 may have. A cookie may come in any number of them (RFC
/// 9113 section 8.2.3).
pub(super) fn count_fields<B>(request: &mut Request<B>) {
    let headers = request.headers();
    let cookies = headers.get_all(COOKIE).iter().count();
    if headers.len() - cookies.saturating_sub(1) > limits::REQUEST_FIELDS {
        let refused = Refused::of(BadRequest::TooManyFields, request);
        request.extensions_mut().insert(refused);
    }
}

/// The head to be judged: one authority, hop-by-hop fields removed. `reached` is the authority of a request of HTTP/1.0 that
/// names none, as health checks send it (haproxy/haproxy#1225): whoever connects by address has it in HTTP/1.1 too.
///
/// # Errors
/// The request is refused.
pub(super) fn head(parts: Parts, reached: Option<Authority>) -> Result<RequestHead, Box<Refused>> {
    let Parts { method, uri, headers, version, mut extensions, .. } = parts;
    if let Some(refused) = extensions.remove::<Box<Refused>>() {
        return Err(refused);
    }
    let reached = reached.filter(|_| version == Version::HTTP_10);
    plain_head(&method, &uri, headers, reached)
        .map_err(|why| Box::new(Refused { why, method: method.to_string(), path: uri.path().to_owned() }))
}

fn plain_head(
    method: &Method,
    uri: &Uri,
    mut headers: HeaderMap,
    reached: Option<Authority>,
) -> Result<RequestHead, BadRequest> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(BadRequest::Method);
    }
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 0 && headers.contains_key(TRANSFER_ENCODING) {
        return Err(BadRequest::Framing);
    }
    if lengths > 1 {
        return Err(BadRequest::Length);
    }
    if !is_chunked_or_plain(&headers) {
        return Err(BadRequest::Coding);
    }
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(BadRequest::Scheme);
    }
    let authority = match authority(uri.authority(), &headers) {
        Err(BadRequest::NoAuthority) => reached.ok_or(BadRequest::NoAuthority)?,
        found => found?,
    };
    hop::strip(&mut headers);
    headers.remove(HOST);
    join_cookies(&mut headers);
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(RequestHead { method: method.clone(), authority, path, headers })
}

/// The address that a client has connected to, as an authority; `localhost` where that is a path.
pub(super) fn reached(destination: SocketAddr) -> Option<Authority> {
    if destination == NO_ADDRESS {
        return Some(Authority::from_static("localhost"));
    }
    destination.to_string().parse().ok()
}

/// Whether a response says in one way where it ends, and in which coding (RFC 9112 section 6.3).
pub(super) fn is_framed_once(headers: &HeaderMap) -> bool {
    let both = headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    !both && is_chunked_or_plain(headers)
}

/// No transfer coding, or `chunked` once: what hyper takes off. It takes off only the last one of several.
fn is_chunked_or_plain(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    codings.next().is_none() && first.is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// HTTP/2 clients may send a field per cookie; everybody behind us, the filter included, sees one (RFC 9113 section
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    // Values that were valid one by one are valid in a row; if not, they stay apart.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The target's authority (absolute form, `:authority`) and `Host` must be the same; one is enough.
fn authority(target: Option<&Authority>, headers: &HeaderMap) -> Result<Authority, BadRequest> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map(|value| Authority::try_from(value.as_bytes()));
    if hosts.next().is_some() {
        return Err(BadRequest::Authority);
    }
    let authority = match (target, host) {
        (None, None) => return Err(BadRequest::NoAuthority),
        (Some(target), None) => target.clone(),
        (None, Some(Ok(host))) => host,
        (Some(target), Some(Ok(host))) if target.as_str().eq_ignore_ascii_case(host.as_str()) => host,
        _ => return Err(BadRequest::Authority),
    };
    // User information is deprecated in http (RFC 9110 section 4.2.4) and misleads whoever reads only its beginning.
    let is_misleading = authority.as_str().contains('@');
    // What follows the host is a port, or whoever reads only to the last colon would find another host.
    let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let is_odd = !rest.is_empty() && authority.port_u16().is_none();
    if is_misleading || is_odd { Err(BadRequest::Authority) } else { Ok(authority) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<RequestHead, BadRequest> {
        let builder = Request::builder().method(method).uri(target);
        let request = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        head(request.body(()).expect("a request").into_parts().0, reached(([192, 0, 2, 1], 4443).into()))
            .map_err(|refused| refused.why)
    }

    fn authority_of(target: &str, fields: &[(&str, &str)]) -> Result<String, BadRequest> {
        judge("GET", target, fields).map(|head| head.authority.to_string())
    }

    #[test]
    fn one_authority_is_needed_and_two_must_agree() {
        assert_eq!(authority_of("/", &[("host", "a.example")]).as_deref(), Ok("a.example"));
        assert_eq!(authority_of("http://a.example/", &[]).as_deref(), Ok("a.example"));
        assert_eq!(authority_of("http://A.example/", &[("host", "a.example")]).as_deref(), Ok("a.example"));
        assert_eq!(authority_of("/", &[]), Err(BadRequest::NoAuthority));
        for (target, fields) in [
            ("/", &[("host", "")][..]),
            ("/", &[("host", "a b")]),
            ("/", &[("host", "user@a.example")]),
            ("/", &[("host", "a.example:b.example")]),
            ("/", &[("host", "a.example:99999")]),
            ("/", &[("host", "a.example"), ("host", "a.example")]),
            ("http://a.example/", &[("host", "b.example")]),
            ("http://a.example/", &[("host", "a.example:80")]),
        ] {
            assert_eq!(authority_of(target, fields), Err(BadRequest::Authority), "{target} {fields:?}");
        }
    }

    #[test]
    fn http_1_0_may_name_no_authority() {
        let old = |destination: SocketAddr, fields: &[(&str, &str)]| {
            let builder = Request::builder().version(Version::HTTP_10);
            let request = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
            let parts = request.body(()).expect("a request").into_parts().0;
            head(parts, reached(destination)).map(|head| head.authority.to_string()).map_err(|it| it.why)
        };
        let address = SocketAddr::from(([192, 0, 2, 1], 4443));
        assert_eq!(old(address, &[]).as_deref(), Ok("192.0.2.1:4443"));
        assert_eq!(old("[::1]:80".parse().expect("an address"), &[]).as_deref(), Ok("[::1]:80"));
        assert_eq!(old(NO_ADDRESS, &[]).as_deref(), Ok("localhost"));
        assert_eq!(old(address, &[("host", "a.example")]).as_deref(), Ok("a.example"));
        assert_eq!(old(address, &[("host", "")]), Err(BadRequest::Authority));
    }

    #[test]
    fn fields_of_http_2_are_counted_and_crumbs_of_a_cookie_are_one() {
        let with = |name: &str, count: usize| {
            let mut request = Request::builder().header("x", "1");
            for _ in 0..count {
                request = request.header(name, "1");
            }
            let mut request = request.body(()).expect("a request");
            count_fields(&mut request);
            request.extensions().get::<Box<Refused>>().map(|refused| refused.why)
        };
        assert_eq!(with("y", limits::REQUEST_FIELDS - 1), None);
        assert_eq!(with("y", limits::REQUEST_FIELDS), Some(BadRequest::TooManyFields));
        assert_eq!(with("cookie", 3 * limits::REQUEST_FIELDS), None);
    }

    #[test]
    fn connect_and_trace_are_refused() {
        let status = |method| judge(method, "/", &[("host", "a")]).map(|_| ()).map_err(BadRequest::status);
        assert_eq!(status("TRACE"), Err(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(status("OPTIONS"), Ok(()));
        let connect = judge("CONNECT", "a.example:443", &[("host", "a.example:443")]);
        assert_eq!(connect.map(|_| ()), Err(BadRequest::Method));
    }

    #[test]
    fn two_framings_are_refused() {
        let both = [("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")];
        assert_eq!(judge("POST", "/", &both).map(|_| ()), Err(BadRequest::Framing));
        let twice = [("host", "a"), ("content-length", "1"), ("content-length", "1")];
        assert_eq!(judge("POST", "/", &twice).map(|_| ()), Err(BadRequest::Length));
    }

    #[test]
    fn transfer_codings_that_would_be_lost_are_refused() {
        let coded = |codings: &[&str]| {
            let fields: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            judge("POST", "/", &[&[("host", "a")], fields.as_slice()].concat()).map(|_| ())
        };
        assert_eq!(coded(&["Chunked"]), Ok(()));
        for codings in
            [&["gzip, chunked"][..], &["chunked, chunked"], &["gzip", "chunked"], &["chunked", "chunked"]]
        {
            assert_eq!(coded(codings), Err(BadRequest::Coding), "{codings:?}");
        }
        assert_eq!(BadRequest::Coding.status(), StatusCode::NOT_IMPLEMENTED);
    }

    #[test]
    fn only_http_is_forwarded() {
        assert_eq!(judge("GET", "ftp://a/x", &[("host", "a")]).map(|_| ()), Err(BadRequest::Scheme));
        assert!(judge("GET", "https://a/x", &[("host", "a")]).is_ok());
    }

    #[test]
    fn cookies_become_one_field() {
        let head = judge("GET", "/", &[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2")]).expect("a head");
        let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn the_path_is_taken_as_it_stands() {
        let path = |target| judge("GET", target, &[("host", "a")]).map(|head| head.path.to_string());
        assert_eq!(
            path("/document/v1/a/b/docid/https%3A%2F%2Fx?q=/..").as_deref(),
            Ok("/document/v1/a/b/docid/https%3A%2F%2Fx?q=/..")
        );
        assert_eq!(path("*").as_deref(), Ok("*"));
        assert_eq!(path("http://a").as_deref(), Ok("/"));
    }
}
