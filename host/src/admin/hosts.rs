//! Which requests the admin pages answer: a web page may make a browser ask for them under a name of its own that leads to
//! this machine (DNS rebinding). Such a request always has that name in `Host`.

use std::net::IpAddr;

use http::header::HOST;
use http::uri::Authority;
use http::{Request, StatusCode, Version};

use super::pages::{Page, plain};
use crate::config::{Address, Admin};

/// Names that requests may be for. IP addresses always are: nobody else can make a name of them.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// `localhost`, the host of the configured address, and the names that the configuration lists.
    pub fn of(admin: &Admin) -> Self {
        let own = match &admin.address {
            Address::Tcp(text) => text.rsplit_once(':').map(|(host, _)| host.to_owned()),
            Address::Unix(_) | Address::Systemd(_) => None,
        };
        Self(own.into_iter().chain(["localhost".to_owned()]).chain(admin.hosts.iter().cloned()).collect())
    }

    /// The refusal of a request that is for somebody else. HTTP/1.0 may have no `Host`; browsers do not speak it.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Page> {
        let fields =
            request.headers().get_all(HOST).iter().map(|value| Authority::try_from(value.as_bytes()).ok());
        let mut named: Vec<_> = fields.collect();
        named.extend(request.uri().authority().cloned().map(Some));
        if named.is_empty() && request.version() == Version::HTTP_11 {
            return Some(plain(
                StatusCode::BAD_REQUEST,
                "a request has a `Host` (RFC 9112 section 3.2)\n".to_owned(),
            ));
        }
        let stranger = named.into_iter().find(|it| !it.as_ref().is_some_and(|it| self.has(it.host())))?;
        let name = stranger.map_or_else(String::new, |it| format!("`{}` is not: ", it.host().escape_debug()));
        let text = format!(
            "{name}these pages answer requests for IP addresses, `localhost`, and the names in `hosts` of `admin` (`--admin-host`)\n"
        );
        Some(plain(StatusCode::MISDIRECTED_REQUEST, text))
    }

    fn has(&self, host: &str) -> bool {
        if host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
            return true;
        }
        let without_dot = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.0.iter().any(|name| without_dot(name) == without_dot(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(target: &str, version: Version, hosts: &[&str]) -> Option<StatusCode> {
        let address = "admin.internal:9901".parse().expect("an address");
        let own = Hosts::of(&Admin { address, hosts: vec!["peergate.example".to_owned()] });
        let request = Request::get(target).version(version);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        own.refusal(&request.body(()).expect("a request")).map(|page| page.status())
    }

    #[test]
    fn only_known_names_and_ip_addresses_are_answered() {
        const MISDIRECTED: Option<StatusCode> = Some(StatusCode::MISDIRECTED_REQUEST);
        for (host, refused) in [
            ("localhost", None),
            ("LOCALHOST.:9901", None),
            ("127.0.0.1:9901", None),
            ("10.1.2.3", None),
            ("[::1]:9901", None),
            ("admin.internal:9901", None),
            ("peergate.example", None),
            ("evil.example", MISDIRECTED),
            ("evil.example:9901", MISDIRECTED),
            ("localhost.evil.example", MISDIRECTED),
            ("127.0.0.1.evil.example", MISDIRECTED),
            ("2130706433", MISDIRECTED),
            ("0x7f.1", MISDIRECTED),
            ("localhost@evil.example", MISDIRECTED),
            ("", MISDIRECTED),
            ("a b", MISDIRECTED),
        ] {
            assert_eq!(status("/metrics", Version::HTTP_11, &[host]), refused, "{host}");
        }
        assert_eq!(status("/", Version::HTTP_11, &["localhost", "evil.example"]), MISDIRECTED);
        assert_eq!(status("http://evil.example/", Version::HTTP_11, &["localhost"]), MISDIRECTED);
        assert_eq!(status("/", Version::HTTP_11, &[]), Some(StatusCode::BAD_REQUEST));
        assert_eq!(status("/", Version::HTTP_10, &[]), None);
    }
}
