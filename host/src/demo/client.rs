//! A TLS client that sends one request and says what became of it.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::files;
use crate::pki::DevelopmentPki;

/// A client with a certificate, or without.
pub(super) struct Client {
    config: Arc<ClientConfig>,
}

/// What the client saw.
pub(super) enum Seen {
    /// An HTTP response.
    Status(u16),
    /// A TLS alert in place of a response.
    Alert(AlertDescription),
    /// Neither.
    Broken(io::Error),
}

impl Client {
    pub(super) fn new(pki: &DevelopmentPki, certificate: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        for root in chain(&pki.ca())? {
            roots.add(root)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = files::private_key(&fs::read(pki.key(name))?)?.key;
                builder.with_client_auth_cert(chain(&pki.chain(name))?, key)?
            }
        };
        Ok(Self { config: Arc::new(config) })
    }

    /// One GET on a connection of its own; also the client's address, by which servers name it.
    pub(super) fn get(&self, server: SocketAddr) -> Result<(Seen, SocketAddr), Box<dyn Error>> {
        let socket = TcpStream::connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let address = socket.local_addr()?;
        let tls = ClientConnection::new(self.config.clone(), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(tls, socket);
        let seen = match exchange(&mut stream) {
            Ok(status) => Seen::Status(status),
            Err(error) => Seen::from(error),
        };
        Ok((seen, address))
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<dyn Error>> {
    Ok(files::certificates(&fs::read(path)?)?.into_iter().map(|found| found.item).collect())
}

fn exchange(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> io::Result<u16> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let status = response.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or_else(|| io::Error::other("no HTTP response"))
}

impl From<io::Error> for Seen {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            _ => Self::Broken(error),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "HTTP {status}"),
            Self::Alert(alert) => write!(formatter, "alert {}", alert_name(*alert)),
            Self::Broken(error) => write!(formatter, "{error}"),
        }
    }
}

/// The names of RFC 8446, section 6.
fn alert_name(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::AccessDenied => "access_denied".to_owned(),
        AlertDescription::UnknownCA => "unknown_ca".to_owned(),
        AlertDescription::CertificateExpired => "certificate_expired".to_owned(),
        AlertDescription::CertificateRequired => "certificate_required".to_owned(),
        other => format!("{other:?}"),
    }
}
