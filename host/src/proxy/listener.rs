//! The listening sockets: one per worker on the same address, the kernel deals connections out.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use super::limits;

/// `count` sockets on `address`, and the address they really have (port 0 chooses one).
///
/// # Errors
/// The address is not ours or is in use. `SO_REUSEPORT` would let a second process of the same user share the port
/// and take a part of its connections, so it is tried without first.
pub fn listeners(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &str = "127.0.0.1:0";

    #[test]
    fn all_share_one_port() {
        let (address, listeners) = listeners(ANY.parse().expect("an address"), 3).expect("a free port");
        let bound = |listener: &TcpListener| listener.local_addr().expect("bound");
        assert!(listeners.iter().all(|listener| bound(listener) == address));
        assert_eq!(listeners.len(), 3);
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let (address, _listeners) = listeners(ANY.parse().expect("an address"), 1).expect("a free port");
        assert_eq!(listeners(address, 1).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    }
}
