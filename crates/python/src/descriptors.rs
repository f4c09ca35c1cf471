//! File descriptors sent along with a line, over a Unix socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Sends `line` with two descriptors. The line is short, so it goes in one piece.
pub(crate) async fn send(to: &UnixStream, line: &[u8], descriptors: [BorrowedFd<'_>; 2]) -> io::Result<()> {
    let sent = to
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::Error::other("no room for two descriptors"));
            }
            Ok(sendmsg(
                to,
                &[IoSlice::new(line)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?)
        })
        .await?;
    if sent == line.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "the line was cut in two",
        ))
    }
}
