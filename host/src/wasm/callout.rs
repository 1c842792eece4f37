//! HTTP calls a filter makes to a cluster (`proxy_http_call`).

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap as Fields, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::account::{Account, Share};
use super::headers::HeaderMap;
use super::limits;
use super::status::Status;
use super::verdict::HeaderPairs;

/// Services that filters may call, by name: host and port. They speak HTTP/1.1.
pub type Clusters = BTreeMap<String, String>;

/// A call that was accepted and is still to be made.
#[derive(Debug)]
pub(super) struct Call {
    /// What the filter knows it by.
    pub(super) token: u32,
    request: Request<Full<Bytes>>,
    patience: Duration,
}

impl Call {
    /// A call to `address`. As in Envoy it needs a method, a path and an authority; anything that makes no HTTP message is
    /// a bad argument.
    pub(super) fn new(
        token: u32,
        address: &str,
        headers: HeaderPairs,
        body: &[u8],
        milliseconds: u32,
    ) -> Result<Self, Status> {
        let head = HeaderMap::from_filter(headers)?;
        let pseudo = |name: &'static [u8]| head.first(name).ok_or(Status::BadArgument);
        let method = Method::from_bytes(pseudo(b":method")?).map_err(|_| Status::BadArgument)?;
        let path = PathAndQuery::try_from(pseudo(b":path")?).map_err(|_| Status::BadArgument)?;
        let host = HeaderValue::from_bytes(pseudo(b":authority")?).map_err(|_| Status::BadArgument)?;
        let cluster = Authority::try_from(address).map_err(|_| Status::InternalFailure)?;
        let target = Uri::builder().scheme(Scheme::HTTP).authority(cluster).path_and_query(path).build();
        if method == Method::CONNECT || body.len() > limits::CALL_BODY {
            return Err(Status::BadArgument);
        }
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
        *request.method_mut() = method;
        *request.uri_mut() = target.map_err(|_| Status::BadArgument)?;
        *request.headers_mut() = fields(head)?;
        request.headers_mut().insert(HOST, host);
        let patience = match milliseconds {
            0 => limits::CALL,
            _ => Duration::from_millis(milliseconds.into()).min(limits::CALL),
        };
        Ok(Self { token, request, patience })
    }
}

/// What a call brought: the service's answer, or in its place the one that Envoy's client makes up.
#[derive(Debug)]
pub(super) struct CallResponse {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
    /// What it takes of the host's memory, as long as it is there.
    _share: Option<Share>,
}

impl CallResponse {
    /// Envoy answers 503 and 504 itself, so a filter sees a status however the call fails.
    fn made_up(status: &str, text: &str) -> Self {
        let length = text.len().to_string();
        let pairs = [(":status", status), ("content-length", &length), ("content-type", "text/plain")];
        let pairs = pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Self {
            headers: HeaderMap::new(pairs.into()),
            body: text.as_bytes().to_vec(),
            trailers: None,
            _share: None,
        }
    }
}

/// One worker's connections to all clusters.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    answers: Account,
}

impl Caller {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(limits::CALL_CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, answers: Account::new("answers to calls of the filter", limits::ANSWERS_BYTES) }
    }

    /// Makes the call; in the end there is an answer, whatever happens.
    pub(super) async fn perform(self, call: Call) -> (u32, CallResponse) {
        let Call { token, request, patience } = call;
        let answered = timeout(patience, async {
            let response = self.client.request(request).await.map_err(Failure::Exchange)?;
            read(response, self.answers.share()).await
        });
        let response = match answered.await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => {
                tracing::debug!(target: "filter", token, "a call failed: {failure:?}");
                CallResponse::made_up("503", "upstream connect error or disconnect/reset before headers")
            }
            Err(_) => CallResponse::made_up("504", "upstream request timeout"),
        };
        (token, response)
    }
}

#[derive(Debug)]
enum Failure {
    Exchange(#[expect(dead_code, reason = "for the log")] Error),
    Body(#[expect(dead_code, reason = "for the log")] hyper::Error),
    /// The answer is larger than the host keeps.
    TooMuch,
}

async fn read(response: Response<Incoming>, mut share: Share) -> Result<CallResponse, Failure> {
    let (head, mut incoming) = response.into_parts();
    let mut pairs = vec![(b":status".to_vec(), head.status.as_str().as_bytes().to_vec())];
    pairs.extend(pairs_of(&head.headers));
    let headers = HeaderMap::new(pairs);
    share.grow(headers.bytes()).map_err(|_| Failure::TooMuch)?;
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(frame) = incoming.frame().await {
        match frame.map_err(Failure::Body)?.into_data() {
            Ok(data) if body.len() + data.len() > limits::CALL_BODY => return Err(Failure::TooMuch),
            Ok(data) => {
                share.grow(data.len()).map_err(|_| Failure::TooMuch)?;
                body.extend_from_slice(&data);
            }
            Err(frame) => {
                trailers =
                    frame.into_trailers().ok().map(|fields| HeaderMap::new(pairs_of(&fields).collect()));
            }
        }
    }
    Ok(CallResponse { headers, body, trailers, _share: Some(share) })
}

fn pairs_of(fields: &Fields) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()))
}

/// The fields of a request; what frames it is ours.
fn fields(head: HeaderMap) -> Result<Fields, Status> {
    let mut fields = Fields::new();
    for (name, value) in head.into_pairs().into_iter().filter(|(name, _)| !name.starts_with(b":")) {
        let name = HeaderName::from_bytes(&name).map_err(|_| Status::BadArgument)?;
        fields.append(name, HeaderValue::try_from(value).map_err(|_| Status::BadArgument)?);
    }
    for name in [CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE] {
        fields.remove(name);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(fields: &[(&str, &str)], milliseconds: u32) -> Result<Call, Status> {
        let pairs = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Call::new(1, "127.0.0.1:9000", pairs.collect(), b"x", milliseconds)
    }

    const HEAD: [(&str, &str); 3] = [(":method", "POST"), (":path", "/a?b"), (":authority", "auth")];

    #[test]
    fn the_head_is_the_filters_and_the_framing_ours() {
        let fields = [&HEAD[..], &[("content-length", "7"), ("x-a", "1"), ("x-a", "2")]].concat();
        let Call { request, .. } = call(&fields, 5).unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:9000/a?b");
        assert_eq!(request.headers()[HOST], "auth");
        assert!(!request.headers().contains_key(CONTENT_LENGTH));
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn a_call_without_a_target_is_a_bad_argument() {
        for missing in 0..HEAD.len() {
            let mut fields = HEAD.to_vec();
            fields.remove(missing);
            assert_eq!(call(&fields, 0).map(|_| ()), Err(Status::BadArgument), "{missing}");
        }
        for (place, value) in [(0, "CONNECT"), (0, "a b"), (1, "no slash\x01"), (2, "a\nb")] {
            let mut fields = HEAD;
            fields[place].1 = value;
            assert_eq!(call(&fields, 0).map(|_| ()), Err(Status::BadArgument), "{value}");
        }
    }

    #[test]
    fn every_call_ends() {
        assert_eq!(call(&HEAD, 0).unwrap().patience, limits::CALL);
        assert_eq!(call(&HEAD, u32::MAX).unwrap().patience, limits::CALL);
        assert_eq!(call(&HEAD, 7).unwrap().patience, Duration::from_millis(7));
    }
}
