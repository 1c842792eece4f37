//! Closing so that the refusal is seen.
//!
//! A socket closed with unread data sends a reset, and a reset makes the peer's kernel throw away the alert that is
//! already there. So a refused peer is read to its end first, within bounds.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::proxy::{Socket, limits};

/// The refused sockets of one worker that are still being read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lingering {
    sockets: Rc<Cell<usize>>,
}

impl Lingering {
    /// Ends a refused connection; beyond [`limits::LINGERING`] of them at once.
    pub(crate) async fn close(&self, mut socket: Socket) {
        if self.sockets.get() >= limits::LINGERING {
            return;
        }
        let _guard = Guard::new(&self.sockets);
        if socket.shutdown().await.is_ok() {
            drain(&mut socket).await;
        }
    }
}

/// Reads and throws away until the end, [`limits::LINGER_BYTES`] or [`limits::LINGER`].
async fn drain(reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = limits::LINGER_BYTES;
    let read = async {
        while let Ok(bytes @ 1..) = reader.read(&mut buffer).await {
            left = left.saturating_sub(bytes);
            if left == 0 {
                return;
            }
        }
    };
    // Running out of time is one of the three ordinary ends.
    let _ = timeout(limits::LINGER, read).await;
}

/// Counts one socket for as long as it lives.
struct Guard<'a> {
    sockets: &'a Cell<usize>,
}

impl<'a> Guard<'a> {
    fn new(sockets: &'a Cell<usize>) -> Self {
        sockets.set(sockets.get() + 1);
        Self { sockets }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.sockets.set(self.sockets.get() - 1);
    }
}
