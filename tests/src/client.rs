//! A blocking TLS client on rustls that reports alerts.

use std::{
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use peergate_host::pki::Credential;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    client::WantsClientCert,
    crypto::aws_lc_rs::{self, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
    version,
};

use crate::http1::Message;

/// A connection after its handshake. In TLS 1.3 the server may still refuse the certificate: its alert then comes
/// with the first read.
pub struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    /// Connects with TLS 1.3 or 1.2, presenting `credential` whatever authorities the server asks for.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
    ) -> io::Result<Self> {
        Self::connect_with(address, ca, credential, rustls::DEFAULT_VERSIONS)
    }

    /// Like [`Self::connect`] with TLS 1.2 only.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect_tls12(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
    ) -> io::Result<Self> {
        Self::connect_with(address, ca, credential, &[&version::TLS12])
    }

    /// Like [`Self::connect`], even if the key is not that of the certificate.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect_unchecked(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: &Credential,
    ) -> io::Result<Self> {
        Self::connect_unchecked_with(address, ca, credential, rustls::DEFAULT_VERSIONS)
    }

    /// Like [`Self::connect_unchecked`] with TLS 1.2 only.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect_unchecked_tls12(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: &Credential,
    ) -> io::Result<Self> {
        Self::connect_unchecked_with(address, ca, credential, &[&version::TLS12])
    }

    /// Like [`Self::connect`], offering one application protocol (RFC 7301).
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect_alpn(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
        protocol: &[u8],
    ) -> io::Result<Self> {
        let mut config = with_credential(client_config(ca, rustls::DEFAULT_VERSIONS)?, credential)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Self::handshake(address, "localhost", config)
    }

    /// Like [`Self::connect`], asking for a name (SNI).
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect_by_name(
        address: SocketAddr,
        name: &str,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
    ) -> io::Result<Self> {
        let config = with_credential(client_config(ca, rustls::DEFAULT_VERSIONS)?, credential)?;
        Self::handshake(address, name, config)
    }

    /// Like [`Self::connect_unchecked`], with certificates that no library wrote.
    ///
    /// # Errors
    /// The connection or the handshake fails.
    pub fn connect_presenting(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
    ) -> io::Result<Self> {
        let key = any_supported_type(key).map_err(io::Error::other)?;
        let pair = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config = client_config(ca, rustls::DEFAULT_VERSIONS)?.with_client_cert_resolver(Arc::new(pair));
        Self::handshake(address, "localhost", config)
    }

    /// Like [`Self::connect`], over a connection that is open.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn connect_over(
        socket: TcpStream,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
    ) -> io::Result<Self> {
        let config = with_credential(client_config(ca, rustls::DEFAULT_VERSIONS)?, credential)?;
        Self::handshake_over(socket, "localhost", config)
    }

    fn connect_unchecked_with(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: &Credential,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<Self> {
        let key = any_supported_type(&credential.key()).map_err(io::Error::other)?;
        let pair = SingleCertAndKey::from(CertifiedKey::new(credential.chain.clone(), key));
        let config = client_config(ca, versions)?.with_client_cert_resolver(Arc::new(pair));
        Self::handshake(address, "localhost", config)
    }

    fn connect_with(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        credential: Option<&Credential>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<Self> {
        Self::handshake(address, "localhost", with_credential(client_config(ca, versions)?, credential)?)
    }

    fn handshake(address: SocketAddr, name: &str, config: ClientConfig) -> io::Result<Self> {
        Self::handshake_over(TcpStream::connect(address)?, name, config)
    }

    fn handshake_over(socket: TcpStream, name: &str, config: ClientConfig) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        // A request in two packets would otherwise wait 40 ms for the acknowledgement of the first.
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a GET and reads the answer.
    ///
    /// # Errors
    /// The connection fails, for example by an alert.
    pub fn get(&mut self, path: &str) -> io::Result<Message> {
        self.request(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())
    }

    /// Sends these bytes and reads one answer.
    ///
    /// # Errors
    /// The connection fails, for example by an alert.
    pub fn request(&mut self, bytes: &[u8]) -> io::Result<Message> {
        self.write(bytes)?;
        Message::read(&mut self.stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    /// The connection fails or ends before.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(buffer)
    }

    /// Reads until the peer closes.
    ///
    /// # Errors
    /// The connection fails, for example by an alert.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn client_config(
    ca: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(io::Error::other)?;
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?
        .with_root_certificates(roots))
}

fn with_credential(
    config: ConfigBuilder<ClientConfig, WantsClientCert>,
    credential: Option<&Credential>,
) -> io::Result<ClientConfig> {
    match credential {
        Some(own) => config.with_client_auth_cert(own.chain.clone(), own.key()).map_err(io::Error::other),
        None => Ok(config.with_no_client_auth()),
    }
}

/// The alert that the server sent, if that is what went wrong.
pub fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
