//! One send of a connection: a head, then bytes or a range of a file, as far as the socket has
//! room.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use bytes::{Buf, Bytes};

use super::event::{SendBody, TcpSendError};
use crate::engine::limits::STREAM_STEP_BYTES;
use crate::images::ServedContent;

/// The rest of a send. Allocates nothing if the socket takes the send at once.
#[derive(Debug, Default)]
pub(super) struct OutgoingSend {
    /// The part of the head that the socket did not take; keeps its memory for the next send.
    head: Vec<u8>,
    /// Bytes of `head` that the socket has taken since.
    head_taken: usize,
    body: OutgoingBody,
    more_to_come: bool,
}

#[derive(Debug, Default)]
enum OutgoingBody {
    #[default]
    Nothing,
    Bytes(Bytes),
    File(ServedContent, Range<u64>),
}

/// The meaning of a short sendfile: the socket was full, or the file has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ShortSend {
    /// The ring: a wait for room completes at once if there is room, and the next try then finds
    /// the end of the file. Saves a call.
    #[default]
    IsFull,
    /// Edge-triggered epoll: it reports new room only, and so nothing if the socket had room all
    /// the time.
    MustBeTried,
}

/// The result of one try.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutgoingProgress {
    /// Bytes that the kernel has taken in this try.
    pub(super) bytes: u64,
    pub(super) next: SendStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendStatus {
    Done,
    /// The socket has room for more, and other connections wait for their turn.
    More,
    /// The socket is full.
    Full,
    Failed(TcpSendError),
}

impl OutgoingSend {
    /// Begins a send. No other may be in progress.
    pub(super) fn begin(
        &mut self,
        socket: BorrowedFd<'_>,
        head: &[u8],
        body: SendBody,
        more_to_come: bool,
        short: ShortSend,
    ) -> OutgoingProgress {
        self.body = OutgoingBody::from_send_body(body);
        self.more_to_come = more_to_come;
        let progress = self.write(socket, head, short);
        let head_left = usize::try_from(progress.bytes)
            .ok()
            .and_then(|taken| head.get(taken..))
            .unwrap_or_default();
        self.head.clear();
        self.head_taken = 0;
        self.head.extend_from_slice(head_left);
        self.ended(progress)
    }

    /// Continues an unfinished send.
    pub(super) fn go_on(&mut self, socket: BorrowedFd<'_>, short: ShortSend) -> OutgoingProgress {
        let head = std::mem::take(&mut self.head);
        let head_left = head.get(self.head_taken..).unwrap_or_default();
        let progress = self.write(socket, head_left, short);
        let taken = usize::try_from(progress.bytes).unwrap_or(usize::MAX).min(head_left.len());
        self.head_taken += taken;
        self.head = head;
        self.ended(progress)
    }

    /// Bytes that the kernel has not taken.
    pub(super) fn left(&self) -> u64 {
        let body = match &self.body {
            OutgoingBody::Nothing => 0,
            OutgoingBody::Bytes(bytes) => bytes.len() as u64,
            OutgoingBody::File(_, range) => range.end.saturating_sub(range.start),
        };
        body + self.head.len().saturating_sub(self.head_taken) as u64
    }

    fn has_file(&self) -> bool {
        matches!(&self.body, OutgoingBody::File(_, range) if !range.is_empty())
    }

    /// Drops the body of a send that has ended.
    fn ended(&mut self, progress: OutgoingProgress) -> OutgoingProgress {
        if matches!(progress.next, SendStatus::Done | SendStatus::Failed(_)) {
            self.body = OutgoingBody::Nothing;
            self.head.clear();
            self.head_taken = 0;
        }
        progress
    }

    /// Writes the head and the body, until the kernel has taken all, the socket is full, or the
    /// step is over.
    fn write(&mut self, socket: BorrowedFd<'_>, head: &[u8], short: ShortSend) -> OutgoingProgress {
        let mut taken = 0;
        let next = loop {
            let head = head.get(taken as usize..).unwrap_or_default();
            // Send the head with the bytes of a body in memory; a file follows when the head is
            // gone.
            let answer = match &self.body {
                OutgoingBody::File(content, range) if head.is_empty() => {
                    if range.is_empty() {
                        break SendStatus::Done;
                    }
                    if taken >= STREAM_STEP_BYTES {
                        break SendStatus::More;
                    }
                    send_file(socket, content, range, STREAM_STEP_BYTES - taken)
                }
                body => {
                    let bytes =
                        if let OutgoingBody::Bytes(bytes) = body { &bytes[..] } else { &[] };
                    if head.is_empty() && bytes.is_empty() {
                        break SendStatus::Done;
                    }
                    send_head_and_bytes(socket, head, bytes, self.more_to_come || self.has_file())
                }
            };
            match answer {
                Ok(0) => break SendStatus::Failed(TcpSendError::ContentGone),
                Ok(bytes) => {
                    self.body.advance(bytes.saturating_sub(head.len()));
                    taken += bytes as u64;
                    // A short sendfile on the ring: wait for room, and let the next try find the
                    // end of the file.
                    if short == ShortSend::IsFull
                        && taken < STREAM_STEP_BYTES
                        && head.is_empty()
                        && self.has_file()
                    {
                        break SendStatus::Full;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => break SendStatus::Full,
                    _ => break SendStatus::Failed(classify_send_error(&error)),
                },
            }
        };
        OutgoingProgress { bytes: taken, next }
    }
}

impl OutgoingBody {
    fn from_send_body(part: SendBody) -> Self {
        match part {
            SendBody::Nothing => Self::Nothing,
            SendBody::Bytes(bytes) => Self::Bytes(bytes),
            SendBody::File { content, range } => match slice_memory_content(&content, &range) {
                Some(bytes) => Self::Bytes(bytes),
                None => Self::File(content, range),
            },
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self {
            Self::Nothing => {}
            Self::Bytes(left) => left.advance(bytes.min(left.len())),
            Self::File(_, range) => range.start += bytes as u64,
        }
    }
}

/// The bytes of a content in memory; None also if the range exceeds it.
fn slice_memory_content(content: &ServedContent, range: &Range<u64>) -> Option<Bytes> {
    let bytes = content.inline_bytes()?;
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
}

/// EFAULT and EIO come from the file, all other errors from the connection.
fn classify_send_error(error: &io::Error) -> TcpSendError {
    match error.raw_os_error() {
        Some(libc::EIO | libc::EFAULT) => TcpSendError::ContentGone,
        _ => TcpSendError::Gone,
    }
}

/// Sends head and body in one system call.
fn send_head_and_bytes(
    socket: BorrowedFd<'_>,
    head: &[u8],
    bytes: &[u8],
    more: bool,
) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | if more { libc::MSG_MORE } else { 0 };
    let mut vectors = [make_vector(head), make_vector(bytes)];
    // SAFETY: msghdr is integers and raw pointers, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    // SAFETY: the message leads to two vectors with the true lengths of two slices; all live across
    // the call, the kernel only reads them and keeps no pointer.
    let answer = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A vector to send from: the kernel does not write to it, although the type allows that.
fn make_vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// Sends at most `most` bytes from the start of this range by sendfile. 0: the file ends before the
/// range.
fn send_file(
    socket: BorrowedFd<'_>,
    content: &ServedContent,
    range: &Range<u64>,
    most: u64,
) -> io::Result<usize> {
    let Some(file) = content.file() else { return Ok(0) };
    let mut offset = libc::off_t::try_from(range.start)
        .map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
    let count = usize::try_from((range.end - range.start).min(most)).unwrap_or(usize::MAX);
    // SAFETY: both descriptors are open across the call, and the kernel reads and writes `offset`,
    // which is ours.
    let answer = unsafe {
        libc::sendfile(socket.as_raw_fd(), file.as_fd().as_raw_fd(), &raw mut offset, count)
    };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}
