//! Bytes of an admitted connection, both ways.

use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};

use super::activity::{Activity, Watched};
use super::dialer::Reached;
use super::upstream::{Upstream, UpstreamError};

/// Connects to the upstream, writes `header`, and copies until both sides have ended; each end of stream is passed on by itself.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    upstream: &Upstream,
    header: Option<Vec<u8>>,
) -> Result<(), UpstreamError> {
    // Both sides are watched: once the client has ended, only the service's silence tells that the connection idles.
    let activity = Activity::new(false);
    let Reached { link, standing } = upstream.connect(None).await?;
    let mut service = Watched::new(link, Rc::clone(&activity));
    if let Some(header) = header {
        service.write_all(&header).await.map_err(UpstreamError::Connect)?;
    }
    let mut client = Watched::new(stream, activity);
    let dismissed = async {
        match &standing {
            Some(standing) => standing.member.cut_off().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // A side that breaks off, or idles too long, ends the other: that is all there is to say about it.
        _ = copy_bidirectional_with_sizes(&mut client, &mut service, BUFFER, BUFFER) => {}
        () = dismissed => {}
    }
    Ok(())
}

/// One TLS record (RFC 8446 section 5.1).
pub(super) const BUFFER: usize = 16 * 1024;
