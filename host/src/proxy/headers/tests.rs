use super::*;

fn pairs(fields: &[(&str, &str)]) -> HeaderPairs {
    fields.iter().map(|(name, value)| pair(name, value)).collect()
}

fn head() -> HeaderPairs {
    pairs(&[
        (":authority", "a.example:8080"),
        (":path", "/x?y=%2F"),
        (":method", "POST"),
        (":scheme", "https"),
    ])
}

fn with(fields: &[(&str, &str)]) -> HeaderPairs {
    let mut all = head();
    all.extend(pairs(fields));
    all
}

fn parse(pairs: HeaderPairs) -> Result<RequestHead, HeadersError> {
    RequestHead::from_pairs(pairs, None)
}

#[test]
fn a_request_survives_the_round_trip_byte_for_byte() {
    let mut all = with(&[("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2")]);
    all.push((b"x-raw".to_vec(), b"caf\xe9\xff".to_vec()));
    let request = parse(all.clone()).expect("a request");
    assert_eq!(request.to_pairs("https"), all);
    all[3].1 = b"http".to_vec();
    assert_eq!(request.to_pairs("http"), all);
    assert_eq!(request.path.as_str(), "/x?y=%2F");
}

#[test]
fn host_is_the_authority_and_never_a_second_field() {
    let request = parse(with(&[("host", "evil.example")])).expect("a request");
    assert!(request.headers.is_empty());
    assert_eq!(request.authority.as_str(), "a.example:8080");
}

#[test]
fn framing_is_not_the_filters() {
    let fields =
        [("content-length", "7"), ("transfer-encoding", "chunked"), ("connection", "x"), ("expect", "1")];
    let length = Some(HeaderValue::from_static("3"));
    let request = RequestHead::from_pairs(with(&fields), length).expect("a request");
    assert_eq!(trailers_to_pairs(&request.headers), pairs(&[("content-length", "3")]));
}

#[test]
fn malformed_maps_are_errors() {
    let cases: [(HeaderPairs, HeadersError); 7] = [
        (with(&[("bad name", "1")]), HeadersError::Name),
        (with(&[("", "1")]), HeadersError::Name),
        (with(&[("x", "a\r\nb: c")]), HeadersError::Value),
        (with(&[(":path", "/again")]), HeadersError::Pseudo(":path")),
        (with(&[(":status", "200")]), HeadersError::Name),
        (head().split_off(1), HeadersError::Pseudo(":authority")),
        (pairs(&[(":authority", "a"), (":path", "/a b"), (":method", "GET")]), HeadersError::Pseudo(":path")),
    ];
    for (map, expected) in cases {
        assert_eq!(parse(map).expect_err("malformed"), expected);
    }
}

#[test]
fn a_response_keeps_the_upstreams_length() {
    let fields = pairs(&[(":status", "404"), ("content-length", "9"), ("date", "now")]);
    let length = Some(HeaderValue::from_static("5"));
    let (status, headers) = response_from_pairs(fields, length).expect("a response");
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        response_to_pairs(status, &headers),
        pairs(&[(":status", "404"), ("date", "now"), ("content-length", "5")])
    );
}

#[test]
fn trailers_have_no_pseudo_headers() {
    let trailers = plain_from_pairs(pairs(&[("grpc-status", "0")])).expect("trailers");
    assert_eq!(trailers_to_pairs(&trailers), pairs(&[("grpc-status", "0")]));
    assert_eq!(plain_from_pairs(pairs(&[(":path", "/")])).expect_err("not in trailers"), HeadersError::Name);
}
