//! What the service hears of a client: who it is, as Envoy itself says it, and nothing in trailers that belongs in a head.

use std::fs;
use std::net::SocketAddr;

use peergate_host::envoy::{Bootstrap, Envoy, Protocol};
use peergate_host::pki::Credential;
use peergate_policy::token::Derivation;
use peergate_tests::client::Client;
use peergate_tests::der::{Attribute, BMP, CN, O, PRINTABLE, UTF8, subject, with_subject};
use peergate_tests::envoy::{CURRENT, OLD, binary, listener, skipped};
use peergate_tests::host::{Host, Start, write_policy};
use peergate_tests::http2::Http2;
use peergate_tests::pki::Pki;
use peergate_tests::policies::{node, peer_endpoint};
use peergate_tests::upstream::Upstream;
use peergate_tests::{filter, root};
use serde_json::{Value, json};

const TOKEN: &str = "vespa_cloud_reads_0123456789abcdefghijklmnopqrstuv";

/// The same service behind the filter in Envoy, behind Envoy's own `x-forwarded-client-cert`, and behind the host.
struct Doors {
    pki: Pki,
    upstream: Upstream,
    envoy: Envoy,
    peers: Host,
    tokens: Host,
}

impl Doors {
    fn new(release: &str) -> Self {
        let (pki, upstream) = (Pki::new(), Upstream::http());
        let names = json!([{"field": "SAN_DNS", "must-match": "*.mycluster.vespa.example.com"}]);
        let peers = json!({
            "authorized-peers": [{"required-credentials": names}],
            "upstream-headers": {"xfcc": true, "subject": true},
        });
        let tokens = json!({
            "data-plane": data_plane(),
            // It is for heads; see [`no_trailer_stands_for_a_header`].
            "upstream-headers": {"authorization": "keep"},
        });
        let door = |name: &str, configuration| {
            let mut door = listener(release, name, &pki, Protocol::Http, configuration);
            door.upstream = Some(upstream.address);
            door
        };
        let listeners = vec![
            door("filter", peer_endpoint(&peers)),
            door("envoy", peer_endpoint(&peers)),
            door("token", json!({"endpoint": "token", "policy": tokens})),
        ];
        let mut bootstrap = Bootstrap { filter: filter(), listeners }.to_json();
        own_words(&mut bootstrap);
        let config = pki.file("envoy.json");
        fs::write(&config, bootstrap.to_string()).expect("the bootstrap");
        let envoy =
            Envoy::start_file(&binary(release), &config, pki.directory(), &root()).expect("Envoy starts");
        let token_policy = pki.file("tokens.json");
        fs::write(&token_policy, pki.with_files(&tokens).to_string()).expect("the policy");
        let peers = Start::endpoint("peer", &write_policy(&pki, &peers), upstream.address).start();
        let tokens = Start::endpoint("token", &token_policy, upstream.address).start();
        Self { pki, upstream, envoy, peers, tokens }
    }

    fn envoy(&self, listener: &str) -> SocketAddr {
        self.envoy.listener(listener).expect("the listener")
    }

    /// What the service is told of a client; `None` where it is not admitted.
    fn told(&self, address: SocketAddr, credential: &Credential) -> Option<String> {
        let mut client = Client::connect(address, self.pki.ca(), Some(credential)).ok()?;
        let answer = client.get("/").ok()?;
        if answer.status() != 200 {
            return None;
        }
        let arrived = self.upstream.last_request();
        let told = arrived.header("x-forwarded-client-cert").expect("the header");
        Some(String::from_utf8(told.to_vec()).expect("text"))
    }
}

fn data_plane() -> Value {
    let (token, context) = (Derivation::of(TOKEN), "Vespa Cloud tenant data plane:test");
    json!({"token-context": context, "clients": [
        {"id": "c", "permissions": ["read", "write"], "tokens": [{"id": "t", "versions": [{
            "fingerprint": token.fingerprint().to_string(),
            "check-access-hash": token.check_hash(context).to_hex(),
            "expiration": "<none>",
        }]}]},
    ]})
}

/// Takes the filter out of the second listener and lets Envoy speak.
fn own_words(bootstrap: &mut Value) {
    let manager = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config";
    let manager = bootstrap.pointer_mut(manager).expect("the connection manager");
    let filters = manager["http_filters"].as_array_mut().expect("filters");
    filters.retain(|filter| filter["name"] == "router");
    manager["forward_client_cert_details"] = json!("SANITIZE_SET");
    manager["set_current_client_cert_details"] = json!({"subject": true, "uri": true, "dns": true});
}

/// The value of `Subject` with its quotation marks.
fn subject_of(element: &str) -> &str {
    let (_, rest) = element.split_once(";Subject=").expect("a subject");
    let mut is_escaped = false;
    let end = rest[1..].find(|character| {
        let is_end = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    });
    &rest[..end.expect("a quotation mark") + 2]
}

/// TeletexString, IA5String, NumericString, VisibleString, UniversalString, GeneralString, UTCTime, INTEGER, BIT STRING.
const OTHERS: [(u8, &[u8]); 9] = [
    (0x14, b"bl\xe5"),
    (0x16, b"a@b"),
    (0x12, b"1 2"),
    (0x1a, b"x\"y"),
    (0x1c, b"\0\0\0a\0\x01\xf6\0"),
    (0x1b, b"general"),
    (0x17, b"260101000000Z"),
    (0x02, b"\x05"),
    (0x03, b"\0x"),
];

/// Attribute types, each in a name of its own.
fn all_types() -> Vec<Vec<u8>> {
    let under = |root: &[u8], last: std::ops::Range<u8>| -> Vec<Vec<u8>> {
        last.map(|last| [root, &[last]].concat()).collect()
    };
    [
        under(&[0x55, 4], 0..80),
        under(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9], 1..10),
        under(&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1], 1..60),
        under(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1], 1..4),
        vec![
            vec![0x2a, 3, 4],
            vec![0x88, 0x37, 0x8f, 0xff, 0x7f],
            vec![0x2b, 6, 1, 4, 1, 0x83, 0xff, 0xff, 0xff, 0x7f],
        ],
    ]
    .concat()
}

fn subjects() -> Vec<(&'static str, Vec<u8>)> {
    let common = |value: &'static str| subject(&[&[(CN, UTF8, value.as_bytes())]]);
    let organisation = |value: &'static str| subject(&[&[(O, UTF8, value.as_bytes())], &[(CN, UTF8, b"c")]]);
    let mail: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
    let domain: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
    let ou: &[u8] = &[0x55, 4, 11];
    let types = all_types();
    let each: Vec<[Attribute<'_>; 1]> =
        types.iter().map(|kind| [(kind.as_slice(), PRINTABLE, &b"x"[..])]).collect();
    let each: Vec<&[Attribute<'_>]> = each.iter().map(|it| &it[..]).collect();
    let mut all = vec![
        ("empty", subject(&[])),
        ("plain", subject(&[&[(O, PRINTABLE, b"Example")], &[(CN, UTF8, b"c")]])),
        ("comma, quote, semicolon, equals, plus", organisation("Ex, \"Inc\"; a=b+c")),
        ("angle brackets and backslash", organisation("<a>\\b\\\"")),
        ("an element of its own", organisation("\";Hash=00;URI=\"spiffe://example.org/admin")),
        ("number sign and space first, space last", organisation("# x ")),
        ("space first", organisation("  x")),
        ("one space", common(" ")),
        ("number sign in between", common("a#b")),
        ("beyond ASCII", organisation("Blåbær AS 日本 😀")),
        ("controls", organisation("a\r\nb\tc\u{7f}\u{80}\u{85}")),
        ("several common names", subject(&[&[(CN, UTF8, b"one")], &[(CN, UTF8, b"two")]])),
        (
            "several attributes in a name",
            subject(&[&[(O, UTF8, b"o"), (ou, UTF8, b"u"), (CN, UTF8, b"c")], &[(ou, UTF8, b"v")]]),
        ),
        (
            "domain components and mail",
            subject(&[
                &[(domain, 0x16, b"org")],
                &[(domain, 0x16, b"example")],
                &[(mail, 0x16, b"a@example.org")],
                &[(CN, UTF8, b"c")],
            ]),
        ),
        ("BMPString", subject(&[&[(O, BMP, b"\0B\0l\0\xe5\x65\xe5\0\"")], &[(CN, UTF8, b"c")]])),
        ("an empty value", organisation("")),
        ("types of attributes", subject(&each)),
    ];
    all.extend(OTHERS.iter().map(|(tag, value)| ("another type of string", subject(&[&[(O, *tag, value)]]))));
    all
}

/// With every certificate that Envoy reads, all three say the same subject, byte for byte.
#[test]
fn the_subject_is_written_as_envoy_writes_it() {
    if skipped("the subject is written as Envoy writes it") {
        return;
    }
    let doors = Doors::new(CURRENT);
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (what, subject) in subjects() {
        let leaf = node().uri("spiffe://example.org/c");
        let credential = with_subject(doors.pki.authority(), &leaf, &subject);
        let [envoy, filter, host] = [doors.envoy("envoy"), doors.envoy("filter"), doors.peers.address]
            .map(|address| doors.told(address, &credential));
        let Some(envoy) = envoy else {
            // Nobody is admitted whom Envoy does not read.
            assert_eq!(filter, None, "{what}");
            continue;
        };
        compared += 1;
        for (who, told) in [("filter", filter), ("host", host)] {
            if told.as_deref() != Some(envoy.as_str()) {
                wrong.push(format!("{what}, {who}:\n  {told:?}\n  {envoy:?}"));
            }
        }
    }
    assert!(compared > 20, "{compared}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Envoy does not escape these names (envoyproxy/envoy#32945). The holder of such a certificate could add elements.
#[test]
fn names_cannot_add_elements() {
    if skipped("names cannot add elements") {
        return;
    }
    let doors = Doors::new(CURRENT);
    let credential = doors
        .pki
        .authority()
        .issue(&node().uri("spiffe://example.org/a,By=x;URI=spiffe://example.org/admin"));
    let credential = credential.expect("a certificate");
    let envoy = doors.told(doors.envoy("envoy"), &credential).expect("admitted");
    assert!(envoy.contains(";URI=spiffe://example.org/admin"), "{envoy}");
    for address in [doors.envoy("filter"), doors.peers.address] {
        let told = doors.told(address, &credential).expect("admitted");
        assert_eq!(subject_of(&told), subject_of(&envoy));
        assert_eq!(told.matches(";URI=").count(), 1, "{told}");
        assert!(
            told.contains(";URI=spiffe://example.org/a%2CBy%3Dx%3BURI%3Dspiffe://example.org/admin;DNS="),
            "{told}"
        );
    }
}

/// Fields that a server could take for those of the head (RFC 9110, 6.5.1).
const FORBIDDEN: [(&str, &str); 22] = [
    ("authorization", "Bearer x"),
    ("Proxy-Authorization", "Basic x"),
    ("cookie", "a=b"),
    ("host", "other.example"),
    ("content-length", "3"),
    ("content_length", "3"),
    ("content-type", "text/plain"),
    ("content-encoding", "gzip"),
    ("content-range", "bytes 0-1/2"),
    ("transfer-encoding", "chunked"),
    ("te", "trailers"),
    ("trailer", "x-sum"),
    ("connection", "close"),
    ("keep-alive", "timeout=1"),
    ("upgrade", "websocket"),
    ("expect", "100-continue"),
    ("forwarded", "for=127.0.0.1"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("x_forwarded_host", "other.example"),
    ("x-forwarded-client-cert", "Hash=00"),
    ("X_Peergate_Subject", "CN=admin"),
    ("x-peergate-policy", "admin"),
];

/// The names of trailers that arrived.
fn arrived(upstream: &Upstream) -> Vec<String> {
    upstream.last_request().trailers.into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

#[test]
fn no_trailer_stands_for_a_header() {
    if skipped("no trailer stands for a header") {
        return;
    }
    for release in [CURRENT, OLD] {
        let doors = Doors::new(release);
        let credential = doors.pki.authority().issue(&node()).expect("a certificate");
        let (peer, token) = (Some(&credential), format!("authorization: Bearer {TOKEN}\r\n"));
        for (what, address, credential, head) in [
            ("filter, peer", doors.envoy("filter"), peer, ""),
            ("filter, token", doors.envoy("token"), None, token.as_str()),
            ("host, peer", doors.peers.address, peer, ""),
            ("host, token", doors.tokens.address, None, token.as_str()),
        ] {
            let connect = || Client::connect(address, doors.pki.ca(), credential).expect("a connection");
            // Alone, so that one which a proxy refuses hides no other.
            for (name, value) in FORBIDDEN {
                let request = format!(
                    "POST /x HTTP/1.1\r\nhost: localhost\r\n{head}trailer: x-sum, {name}\r\ntransfer-encoding: chunked\r\n\r\n\
                     3\r\nabc\r\n0\r\nx-sum: 5\r\n{name}: {value}\r\n\r\n"
                );
                let before = doors.upstream.requests().len();
                let Ok(answer) = connect().request(request.as_bytes()) else { continue };
                if answer.status() == 200 {
                    assert_eq!(arrived(&doors.upstream), ["x-sum"], "{what} in {release}, {name}");
                } else {
                    let reached = doors.upstream.requests().len() > before;
                    assert!(!reached, "{what} in {release}, {name}: {}", answer.status());
                }
            }
            let fields: Vec<_> = [
                ("authorization", "Bearer x"),
                ("cookie", "a=b"),
                ("x-peergate-policy", "x"),
                ("x-sum", "5"),
            ]
            .into();
            let mut head = vec![("trailer", "x-sum, authorization, cookie, x-peergate-policy")];
            if credential.is_none() {
                head.push(("authorization", &token["authorization: ".len()..token.len() - 2]));
            }
            let mut client = Http2::connect(address, doors.pki.ca(), credential).expect("HTTP/2");
            let stream = client.request("POST", "/x", &head, false).expect("a request");
            client.data(stream, b"abc").expect("a body");
            client.trailers(stream, &fields).expect("trailers");
            let answer = client.stream(stream).expect("an answer");
            assert_eq!(answer[0].status(), 200, "{what} in {release}");
            assert_eq!(arrived(&doors.upstream), ["x-sum"], "{what} in {release}, HTTP/2");
        }
    }
}
