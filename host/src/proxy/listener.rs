//! The listening sockets: one per worker on the same address, the kernel deals connections out.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::limits;
use crate::config::Address;
use crate::systemd::Activated;

/// The sockets of one listener. They outlive generations, so that a reload refuses no connection.
#[derive(Debug)]
pub struct Sockets {
    configured: Address,
    bound: Address,
    workers: Vec<Listening>,
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listening {
    /// On a port.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener),
}

impl Sockets {
    /// One socket on `address` for each of `workers`.
    ///
    /// # Errors
    /// The address is not ours or is in use. `SO_REUSEPORT` would let a second process of the same user share the port
    /// and take a part of its connections, so it is tried without first.
    pub fn bind(address: &Address, workers: usize) -> io::Result<Self> {
        let (bound, workers) = match address {
            Address::Tcp(_) => {
                let (bound, listeners) = tcp(address.resolve()?, workers)?;
                let listeners = listeners.into_iter().map(Listening::Tcp).collect();
                (Address::Tcp(bound.to_string()), listeners)
            }
            Address::Unix(path) => (address.clone(), unix(path, workers)?),
            Address::Systemd(name) => activated(name, workers)?,
        };
        Ok(Self { configured: address.clone(), bound, workers })
    }

    /// The address as it was asked for.
    pub fn configured(&self) -> &Address {
        &self.configured
    }

    /// The address as it is: with the port that was chosen.
    pub fn address(&self) -> &Address {
        &self.bound
    }

    /// The socket of a worker.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub(super) fn of_worker(&self, worker: u16) -> io::Result<Listening> {
        match self.workers.get(usize::from(worker)) {
            Some(Listening::Tcp(listener)) => listener.try_clone().map(Listening::Tcp),
            Some(Listening::Unix(listener)) => listener.try_clone().map(Listening::Unix),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Listens no more on the port of a worker, whoever else holds it: who connects from now on is refused, and can go
    /// elsewhere, instead of waiting for nobody. systemd's sockets stay as they are, the next process inherits them. So does
    /// a socket in the file system: the workers share it, and those that still accept would spin.
    pub(super) fn stop(&self, worker: u16) {
        if matches!(self.configured, Address::Systemd(_)) {
            return;
        }
        if let Some(Listening::Tcp(listener)) = self.workers.get(usize::from(worker)) {
            // It is ours and listens; otherwise it is closed when the process ends.
            drop(SockRef::from(listener).shutdown(Shutdown::Read));
        }
    }
}

impl Drop for Sockets {
    /// A socket without a listener would only say "refused".
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.bound {
            // It may have been replaced or removed; both are as good.
            let _ = fs::remove_file(path);
        }
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bound.fmt(formatter)
    }
}

fn tcp(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if address.port() != 0 {
        drop(TcpListener::bind(address)?);
    }
    let first = listener(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listener(address)?);
    }
    Ok((address, listeners))
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::BACKLOG)?;
    Ok(socket.into())
}

/// One socket, shared by all: the file system has no `SO_REUSEPORT`. Owner and group connect, nobody else, and at no
/// moment: nobody connects before it listens, and by then its file has its rights.
fn unix(path: &Path, workers: usize) -> io::Result<Vec<Listening>> {
    remove_abandoned(path)?;
    let socket = bound(path)?;
    // What the umask took away.
    fs::set_permissions(path, Permissions::from_mode(UNIX_MODE))?;
    socket.listen(limits::BACKLOG)?;
    let listener = UnixListener::from(OwnedFd::from(socket));
    (0..workers).map(|_| listener.try_clone().map(Listening::Unix)).collect()
}

/// A socket whose file has no more rights than [`UNIX_MODE`] from the beginning: Linux gives it those of the socket, less the
/// umask (`unix_bind_bsd` in net/unix/af_unix.c).
fn bound(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    fchmod(&socket, Mode::from_raw_mode(UNIX_MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

const UNIX_MODE: u32 = 0o660;

/// Sockets that systemd opened; with fewer than workers, some share one.
fn activated(name: &str, workers: usize) -> io::Result<(Address, Vec<Listening>)> {
    let sockets = Activated::of_process().listeners(name).map_err(io::Error::other)?;
    let bound = SockRef::from(&sockets[0]).local_addr()?.as_socket();
    let address = bound.map_or_else(|| Address::Systemd(name.to_owned()), |it| Address::Tcp(it.to_string()));
    let of_worker = |fd: &OwnedFd| {
        let is_port = SockRef::from(fd).local_addr()?.as_socket().is_some();
        let fd = fd.try_clone()?;
        Ok(if is_port { Listening::Tcp(fd.into()) } else { Listening::Unix(fd.into()) })
    };
    let listening: io::Result<Vec<_>> = sockets.iter().cycle().take(workers).map(of_worker).collect();
    Ok((address, listening?))
}

/// Removes the socket of a process that is gone, and nothing else.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_abandoned =
        is_socket && UnixStream::connect(path).is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused);
    if is_abandoned { fs::remove_file(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Address {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn all_share_one_port() {
        let sockets = Sockets::bind(&any(), 3).expect("a free port");
        for listening in &sockets.workers {
            let Listening::Tcp(listener) = listening else { panic!("a port") };
            assert_eq!(listener.local_addr().expect("bound").to_string(), sockets.to_string());
        }
        assert_eq!(sockets.workers.len(), 3);
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let sockets = Sockets::bind(&any(), 1).expect("a free port");
        let in_use = Sockets::bind(sockets.address(), 1).expect_err("in use").kind();
        assert_eq!(in_use, io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_file_of_a_socket_has_at_no_moment_more_rights_than_owner_and_group_need() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let mode = || fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
        let socket = bound(&path).expect("bound");
        assert_eq!(mode() & !UNIX_MODE, 0, "{:o}", mode());
        let early = UnixStream::connect(&path).expect_err("nobody listens yet");
        assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
        drop(socket);
        let sockets = Sockets::bind(&Address::Unix(path.clone()), 1).expect("the abandoned one is replaced");
        assert_eq!(mode(), UNIX_MODE);
        UnixStream::connect(&path).expect("it listens");
        drop(sockets);
    }

    #[test]
    fn an_abandoned_socket_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("bound"));
        let sockets = Sockets::bind(&address, 2).expect("the abandoned one is replaced");
        assert_eq!(Sockets::bind(&address, 1).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(!path.exists());
        fs::write(&path, "precious").expect("written");
        assert!(Sockets::bind(&address, 1).is_err());
        assert!(path.exists());
    }
}
