//! Sockets that systemd opened before it started us: a port below 1024 without any privilege, and no connection refused
//! while we restart.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{FileType, fstat};
use socket2::{Domain, SockRef, Type};

/// The sockets that were handed over, by the names of their units (`FileDescriptorName=`).
#[derive(Debug, Default)]
pub struct Activated(Vec<(String, OwnedFd)>);

/// Why a socket of systemd cannot be used.
#[derive(Debug)]
pub enum ActivationError {
    /// The variables of the environment contradict each other.
    Environment(io::Error),
    /// No socket has this name.
    Unknown {
        /// The name in the configuration.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A pipe, a datagram socket, a socket that is connected, or one of another family than IP and Unix.
    NotListening(String),
    /// The system refused to look at it.
    Io(io::Error),
}

impl fmt::Display for ActivationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(error) => write!(formatter, "LISTEN_FDS: {error}"),
            Self::Unknown { name, known } if known.is_empty() => write!(
                formatter,
                "`systemd:{}`: systemd handed over no socket; start the host by a unit with a `.socket` beside it",
                name.escape_debug()
            ),
            Self::Unknown { name, known } => write!(
                formatter,
                "`systemd:{}`: no socket has this `FileDescriptorName=`; there are `{}`",
                name.escape_debug(),
                known.join("`, `").escape_debug()
            ),
            Self::NotListening(name) => write!(
                formatter,
                "`systemd:{}` is no listening stream socket on a port or a path; use `ListenStream=` with `Accept=no`",
                name.escape_debug()
            ),
            Self::Io(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for ActivationError {}

impl Activated {
    /// Takes what systemd handed to this process.
    ///
    /// # Errors
    /// The environment contradicts itself.
    ///
    /// # Safety
    /// Called once in a process, before anything else opened a descriptor that it closes again: the descriptors from 3 on
    /// must be the ones that were inherited.
    pub unsafe fn take() -> Result<Self, ActivationError> {
        let sockets = sd_notify::listen_fds_with_names().map_err(ActivationError::Environment)?;
        // SAFETY: by the caller's promise they are inherited and nobody else's.
        let own = |(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self(sockets.map(own).collect()))
    }

    /// What this process was handed; nothing, unless [`Activated::keep`] was called before.
    pub fn of_process() -> &'static Self {
        static NOTHING: Activated = Activated(Vec::new());
        KEPT.get().unwrap_or(&NOTHING)
    }

    /// Makes this what the process was handed.
    pub fn keep(self) {
        // A second call would have nothing to give: the first one took all.
        let _ = KEPT.set(self);
    }

    /// The listening sockets of this name; they stay open for the next generation that asks.
    ///
    /// # Errors
    /// There is none, or it does not listen.
    pub fn listeners(&self, name: &str) -> Result<Vec<OwnedFd>, ActivationError> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        let listeners: Result<Vec<_>, _> = named.map(|(_, fd)| listener(name, fd.as_fd())).collect();
        let listeners = listeners?;
        if listeners.is_empty() {
            let known = self.0.iter().map(|(known, _)| known.clone()).collect();
            return Err(ActivationError::Unknown { name: name.to_owned(), known });
        }
        Ok(listeners)
    }
}

fn listener(name: &str, fd: BorrowedFd<'_>) -> Result<OwnedFd, ActivationError> {
    let is_socket = fstat(fd).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Socket);
    if !is_socket {
        return Err(ActivationError::NotListening(name.to_owned()));
    }
    let socket = SockRef::from(&fd);
    // Of another family (vsock) nobody could say who reaches it.
    let known = [Domain::IPV4, Domain::IPV6, Domain::UNIX];
    let stream = known.contains(&socket.domain().map_err(ActivationError::Io)?)
        && socket.r#type().map_err(ActivationError::Io)? == Type::STREAM;
    if !stream || !socket.is_listener().map_err(ActivationError::Io)? {
        return Err(ActivationError::NotListening(name.to_owned()));
    }
    socket.set_nonblocking(true).map_err(ActivationError::Io)?;
    fd.try_clone_to_owned().map_err(ActivationError::Io)
}

static KEPT: OnceLock<Activated> = OnceLock::new();

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use socket2::{SockAddr, Socket};

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_name() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let activated = Activated(vec![("in".into(), socket.into())]);
        for _ in 0..2 {
            let [listener] = activated.listeners("in").expect("a listener").try_into().expect("one");
            assert_eq!(TcpListener::from(listener).local_addr().expect("an address"), address);
        }
        let error = activated.listeners("out").expect_err("another name").to_string();
        assert!(error.contains("`systemd:out`") && error.contains("there are `in`"), "{error}");
        let error = Activated::default().listeners("out").expect_err("no socket").to_string();
        assert!(error.contains("handed over no socket"), "{error}");
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let activated = Activated(vec![("file".into(), file.into()), ("udp".into(), datagrams.into())]);
        for name in ["file", "udp"] {
            let error = activated.listeners(name).expect_err(name).to_string();
            assert!(error.contains("no listening stream socket"), "{error}");
        }
    }

    /// A kernel without the family hands over no such socket, and has nothing to test here.
    #[test]
    fn a_socket_of_another_family_is_refused() {
        let Ok(socket) = Socket::new(Domain::VSOCK, Type::STREAM, None) else { return };
        let any = SockAddr::vsock(VMADDR_CID_ANY, VMADDR_PORT_ANY);
        socket.bind(&any).and_then(|()| socket.listen(1)).expect("a port");
        let activated = Activated(vec![("vsock".into(), socket.into())]);
        let error = activated.listeners("vsock").expect_err("another family").to_string();
        assert!(error.contains("no listening stream socket on a port or a path"), "{error}");
    }

    /// As `vm_sockets.h` has them.
    const VMADDR_CID_ANY: u32 = u32::MAX;
    const VMADDR_PORT_ANY: u32 = u32::MAX;
}
