//! Where to listen or to connect.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

/// `HOST:PORT` (IPv6 in brackets), `unix:/absolute/path`, or `systemd:NAME`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^(unix:/.+|systemd:.+|.+:[0-9]{1,5})$"))]
pub enum Address {
    /// A host name or IP address, and a port.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
    /// A socket that systemd opened, by its `FileDescriptorName=`.
    Systemd(String),
}

/// A text that is no address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressError(String);

impl Address {
    /// The address to listen on: the first one that a host name stands for.
    ///
    /// # Errors
    /// The name is unknown, or this is no TCP address.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(text) => {
                text.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("has no address"))
            }
            Self::Unix(_) | Self::Systemd(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Whether only programs of this machine reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(_) => self.resolve().is_ok_and(|address| address.ip().is_loopback()),
            Self::Unix(_) | Self::Systemd(_) => true,
        }
    }

    /// Whether it can be connected to: port 0 chooses one, which only a listener can.
    pub fn is_target(&self) -> bool {
        match self {
            Self::Tcp(text) => !text.ends_with(":0"),
            Self::Unix(_) => true,
            Self::Systemd(_) => false,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return if name.is_empty() { Err(wrong()) } else { Ok(Self::Systemd(name.to_owned())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        if host.is_empty() || (host.contains(':') && !bracketed) || !digits || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text) => formatter.write_str(text),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display().to_string().escape_debug()),
            Self::Systemd(name) => write!(formatter, "systemd:{}", name.escape_debug()),
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is no address; expected HOST:PORT or unix:/absolute/path",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for AddressError {}
