use std::path::{Path, PathBuf};

use super::*;

fn parse(text: &str) -> Result<Document, ConfigError> {
    Document::parse(text, Path::new("/etc/peergate/host.json"))
}

const TWO: &str = r#"{
  "inbound": [{
    "address": "127.0.0.1:4443",
    "upstream": {"address": "127.0.0.1:8080", "protocol": "h2c"},
    "endpoints": [
      {"endpoint": "mtls", "policy": "policy.json", "names": ["a.example"]},
      {"endpoint": "token", "policy": "/p.json", "names": ["b.example"], "deprecated-names": ["c.example"]}
    ]
  }]
}"#;

#[test]
fn paths_are_relative_to_the_file() {
    let document = parse(TWO).expect("valid");
    let policies: Vec<_> = document.inbound[0].endpoints.iter().map(|it| it.policy.clone()).collect();
    assert_eq!(policies, [Some(PathBuf::from("/etc/peergate/policy.json")), Some(PathBuf::from("/p.json"))]);
}

#[test]
fn errors_name_file_line_and_what_would_be_right() {
    for (from, to, message) in [
        (
            "endpoints",
            "endpoint",
            "host.json:5:14: unknown field `endpoint`, expected one of `name`, `address`",
        ),
        (
            "\"mtls\"",
            "\"tls\"",
            "host.json:6:24: unknown variant `tls`, expected one of `peer`, `mtls`, `token`",
        ),
        ("127.0.0.1:4443", "4443", "`4443` is no address; expected HOST:PORT or unix:/absolute/path"),
        (
            "b.example",
            "A.example.",
            "host.json:7:59: `inbound.0.endpoints.1.names`: `A.example.` is named twice",
        ),
        ("b.example", "*.example", "no host name that a client can ask for"),
        ("b.example", "127.0.0.1", "no host name that a client can ask for"),
        ("127.0.0.1:8080", "127.0.0.1:0", "`inbound.0.upstream.address`: port 0"),
        (
            "\"upstream\"",
            "\"protocol\": \"tcp\", \"upstream\"",
            "host.json:6:20: `inbound.0.endpoints.0.endpoint`: an endpoint of kind `mtls`",
        ),
        ("\"upstream\"", "\"upstream\" }", "expected `:`"),
        (TWO, "{}", "host.json:1:1: nothing to serve; add a listener to `inbound`"),
        (TWO, "", "EOF while parsing"),
    ] {
        let text = TWO.replacen(from, to, 1);
        let error = parse(&text).expect_err(message);
        assert!(error.to_string().contains(message), "{text}\n{error}");
    }
}

#[test]
fn one_of_several_endpoints_without_names_is_an_error() {
    let text = TWO.replace(r#", "names": ["a.example"]"#, "");
    let error = parse(&text).expect_err("an endpoint nobody could reach").to_string();
    assert!(
        error.contains("host.json:6:7: `inbound.0.endpoints.0`: one of several endpoints needs `names`"),
        "{error}"
    );
}

#[test]
fn a_cluster_that_cannot_be_called_is_an_error() {
    for address in ["unix:/run/auth.sock", "127.0.0.1:0"] {
        let clusters = format!(r#""clusters": {{"auth": {{"address": "{address}"}}}}, "inbound""#);
        let error = parse(&TWO.replacen("\"inbound\"", &clusters, 1)).expect_err(address).to_string();
        assert!(error.contains("`clusters.auth.address`: a filter calls HOST:PORT"), "{error}");
    }
}

#[test]
fn addresses() {
    for (text, good) in [
        ("127.0.0.1:80", true),
        ("[::1]:80", true),
        ("localhost:0", true),
        ("unix:/run/x.sock", true),
        ("unix:x.sock", false),
        ("::1:80", false),
        ("host", false),
        ("host:", false),
        (":80", false),
        ("host:+80", false),
        ("host:65536", false),
    ] {
        assert_eq!(text.parse::<Address>().is_ok(), good, "{text}");
    }
}

#[test]
fn the_schema_has_every_key() {
    let schema = schema().to_string();
    for key in [
        "inbound",
        "deprecated-names",
        "h2c",
        "token",
        "workers",
        "filter",
        "clusters",
        "additionalProperties",
    ] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}: {schema}");
    }
}
