//! TCP for hyper on tokio-uring: a listener, and a stream that sends mapped bytes from where they lie.
//!
//! Three habits keep tokio-uring 0.5 safe here: operations complete with one completion each (its multishot panics), the ring
//! has no DEFER_TASKRUN (it would never wake), and nothing is dropped while the kernel holds a buffer of it: [`Stream::finish`]
//! and [`Listener::close`] wait for what is in flight, so that the runtime ends empty.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio_uring::buf::IoBuf;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::images::Content;

pub use tokio_uring::spawn;

/// Entries of the submission queue. A full queue costs one system call more, nothing else.
const SUBMISSIONS: u32 = 1024;
/// Entries of the completion queue, the most that the kernel gives.
const COMPLETIONS: u32 = 64 * 1024;
/// Connections that one ring can carry: a connection has at most a read and a write in flight, and the completion queue must
/// never overflow, since tokio-uring does not fetch what overflowed.
pub const CONNECTIONS_PER_RING_MAX: usize = 30_000;
/// Bytes asked of the kernel in one read. Requests of boot clients are a few hundred bytes.
const READ_BYTES: usize = 4 * 1024;
/// Bytes that are copied into one write at most: heads and small bodies.
const COPY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a refused client's input that are read and thrown away.
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// A silent peer is probed after so many seconds, so that a machine that lost power does not hold its connection for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Runs a future on a ring of this thread until it ends. It must leave nothing in flight.
pub fn run<F: Future>(main: F) -> io::Result<F::Output> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(COMPLETIONS);
    let mut builder = tokio_uring::builder();
    builder.entries(SUBMISSIONS);
    // COOP_TASKRUN spares an interrupt for each completion; kernels before 5.19 do not have it.
    let coop = ring.clone().setup_coop_taskrun().clone();
    let runtime = tokio_uring::Runtime::new(builder.uring_builder(&coop))
        .or_else(|_| tokio_uring::Runtime::new(builder.uring_builder(&ring)))?;
    Ok(runtime.block_on(main))
}

/// A listening socket on the ring.
pub struct Listener {
    ring: TcpListener,
    /// The same socket, to be shut down from outside of a pending accept.
    socket: std::net::TcpListener,
}

/// A connection that was accepted.
pub struct Accepted {
    pub tcp: TcpStream,
    pub peer: SocketAddr,
    /// The address of ours that the client asked.
    pub local: SocketAddr,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Listener {
    /// Takes a bound socket. What is set on it here is inherited by each connection.
    pub fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        let options = socket2::SockRef::from(&socket);
        options.set_tcp_nodelay(true)?;
        options.set_keepalive(true)?;
        options.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        Ok(Self { ring: TcpListener::from_std(socket.try_clone()?), socket })
    }

    /// The next connection. Must be awaited to its end, which [`Listener::close`] brings about.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (tcp, peer) = self.ring.accept().await?;
        // SAFETY: the descriptor is open for as long as `tcp`, which outlives this borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(tcp.as_raw_fd()) };
        let local = socket2::SockRef::from(&socket).local_addr()?;
        let local = local.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))?;
        Ok(Accepted { tcp, peer, local })
    }

    /// Ends a pending accept with an error, and refuses what comes later.
    pub fn close(&self) {
        let _ = socket2::SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }
}

/// What a connection's owner and its body see of the socket, and the one thing that they tell it: which content is being sent.
pub struct Wire {
    tcp: TcpStream,
    sending: RefCell<Option<Content>>,
    /// Mapped bytes that the body has handed over, and those of them that the kernel has taken.
    promised: Cell<u64>,
    taken: Cell<u64>,
    written: Cell<u64>,
    is_writing: Cell<bool>,
    moved: Cell<Instant>,
    first_byte: Cell<Option<Instant>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Wire {
    pub fn new(tcp: TcpStream) -> Rc<Self> {
        Rc::new(Self {
            tcp,
            sending: RefCell::new(None),
            promised: Cell::new(0),
            taken: Cell::new(0),
            written: Cell::new(0),
            is_writing: Cell::new(false),
            moved: Cell::new(Instant::now()),
            first_byte: Cell::new(None),
        })
    }

    /// To be called by a body right before it hands `len` bytes of a mapped content to hyper: the stream will know them by
    /// their address and send them from there. hyper writes the head of an answer only after the body before it has left, so
    /// one content at a time is enough.
    pub fn promise(&self, content: &Content, len: u64) {
        self.promised.set(self.promised.get() + len);
        *self.sending.borrow_mut() = Some(content.clone());
    }

    /// Whether the kernel has taken all that was promised.
    pub fn has_taken_all(&self) -> bool {
        self.promised.get() == self.taken.get()
    }

    /// Bytes that the kernel has taken since the connection began.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Whether the kernel holds a write that it has not finished.
    pub fn is_writing(&self) -> bool {
        self.is_writing.get()
    }

    /// When a write last began or made progress.
    pub fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// When the first byte came after the last [`Wire::take_first_byte`], if one did.
    pub fn first_byte(&self) -> Option<Instant> {
        self.first_byte.get()
    }

    /// The head that these bytes belong to is complete.
    pub fn take_first_byte(&self) {
        self.first_byte.set(None);
    }

    /// Bytes that the kernel has taken and the client has not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open for as long as `tcp`, and TIOCOUTQ writes one int.
        let answer = unsafe { libc::ioctl(self.tcp.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if answer == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
    }

    /// These bytes as a buffer that the kernel reads in place, if they lie in the mapping that is being sent.
    fn in_place(&self, slice: &[u8]) -> Option<Outgoing> {
        let sending = self.sending.borrow();
        let content = sending.as_ref().filter(|content| content.inline_bytes().is_none())?;
        let (start, len) = content.address();
        let offset = (slice.as_ptr() as usize).checked_sub(start as usize)?;
        let is_inside = offset.checked_add(slice.len()).is_some_and(|end| end <= len);
        is_inside.then(|| Outgoing::InPlace { start: slice.as_ptr(), len: slice.len(), _content: content.clone() })
    }
}

/// A mapped content as bytes for hyper, which frames them and passes them on by reference. None: it is not mapped.
///
/// Nobody may read them: the file can be cut short at any time. [`Wire::promise`] makes the stream pass their address on.
pub fn mapped_bytes(content: &Content) -> Option<Bytes> {
    struct Mapping(Content);
    impl AsRef<[u8]> for Mapping {
        fn as_ref(&self) -> &[u8] {
            let (start, len) = self.0.address();
            // SAFETY: the mapping is `len` bytes from `start` and lives as long as the content that is held here. Its bytes
            // may change or fault, so nothing in this process reads them: hyper queues the slice and hands it to
            // `poll_write_vectored`, where `Wire::in_place` knows it by its address and gives the kernel a pointer.
            unsafe { std::slice::from_raw_parts(start, len) }
        }
    }
    content.inline_bytes().is_none().then(|| Bytes::from_owner(Mapping(content.clone())))
}

/// A buffer that the kernel reads.
enum Outgoing {
    Copied(Vec<u8>),
    InPlace { start: *const u8, len: usize, _content: Content },
}

// SAFETY: a Vec's bytes stay where they are when the Vec is moved. In place, the bytes belong to a mapping that stays as it is
// while `_content`, which moves along with the pointer, is alive; only the kernel reads them, for which a fault is EFAULT.
unsafe impl IoBuf for Outgoing {
    fn stable_ptr(&self) -> *const u8 {
        match self {
            Self::Copied(bytes) => bytes.as_ptr(),
            Self::InPlace { start, .. } => *start,
        }
    }

    fn bytes_init(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::InPlace { len, .. } => *len,
        }
    }

    fn bytes_total(&self) -> usize {
        self.bytes_init()
    }
}

type Operation<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a write comes back with: bytes taken, and the buffer that was copied into, to be used again.
type Written = (io::Result<usize>, Vec<u8>);

/// Looks at received bytes on their way to the parser, and may change them.
pub type Inspect = Box<dyn FnMut(&mut Vec<u8>)>;

/// A connection as hyper wants it.
pub struct Stream {
    wire: Rc<Wire>,
    inspect: Inspect,
    reading: Option<Operation<(io::Result<usize>, Vec<u8>)>>,
    received: Vec<u8>,
    /// Bytes of `received` that hyper has.
    passed: usize,
    has_ended: bool,
    writing: Option<Operation<Written>>,
    /// Bytes at the start of the current write that were copied, not sent in place.
    copied: usize,
    spare: Vec<u8>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl Stream {
    pub fn new(wire: Rc<Wire>, inspect: Inspect) -> Self {
        Self {
            wire,
            inspect,
            reading: None,
            received: Vec::new(),
            passed: 0,
            has_ended: false,
            writing: None,
            copied: 0,
            spare: Vec::new(),
        }
    }

    /// Ends the connection and waits until the kernel holds no buffer of it. With `linger`, input is read and thrown away for
    /// so long before the end: a client that is still sending would otherwise see a reset in place of the answer.
    pub async fn finish(mut self, linger: Option<Duration>) {
        if let Some(linger) = linger.filter(|_| !self.has_ended) {
            let _ = self.shutdown(Shutdown::Write);
            let _ = tokio::time::timeout(linger, self.throw_input_away()).await;
        }
        let _ = self.shutdown(Shutdown::Both);
        if let Some(reading) = self.reading.take() {
            let _ = reading.await;
        }
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
    }

    /// What comes next, without hyper; empty at the end of the input.
    pub async fn receive(&mut self) -> io::Result<&[u8]> {
        poll_fn(|cx| self.poll_receive(cx)).await?;
        Ok(&self.received)
    }

    /// Sends a few bytes without hyper.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut *self).poll_write(cx, left)).await?;
            left = &left[written..];
        }
        Ok(())
    }

    async fn throw_input_away(&mut self) {
        let mut thrown = 0;
        while !self.has_ended && thrown < LINGER_BYTES_MAX {
            match self.receive().await {
                Ok(received) => thrown += received.len(),
                Err(_) => return,
            }
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.wire.tcp.shutdown(how)
    }

    /// Fills `received`, or finds the end of the input.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reading = self.reading.get_or_insert_with(|| {
            let mut buffer = std::mem::take(&mut self.received);
            buffer.clear();
            // hyper asks again while this read is under way: then nothing is left to pass on.
            self.passed = 0;
            buffer.reserve(READ_BYTES);
            let wire = Rc::clone(&self.wire);
            Box::pin(async move { wire.tcp.read(buffer).await })
        });
        let (result, received) = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        self.received = received;
        self.has_ended = result? == 0;
        Poll::Ready(Ok(()))
    }

    /// One write of what lies at the front: the bytes to be copied, and the first slice to be sent in place.
    fn start_write(&mut self, slices: &[IoSlice<'_>]) -> Option<Operation<Written>> {
        let mut copied = std::mem::take(&mut self.spare);
        copied.clear();
        let mut in_place = None;
        for slice in slices {
            in_place = self.wire.in_place(slice);
            let room = COPY_BYTES_MAX - copied.len();
            if in_place.is_some() || room == 0 {
                break;
            }
            copied.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.copied = copied.len();
        let wire = Rc::clone(&self.wire);
        let one = match (copied.is_empty(), in_place) {
            (true, None) => return None,
            (false, Some(in_place)) => {
                return Some(Box::pin(async move {
                    let (result, mut buffers) = wire.tcp.writev(vec![Outgoing::Copied(copied), in_place]).await;
                    (result, spare(buffers.swap_remove(0)))
                }));
            }
            (true, Some(in_place)) => in_place,
            (false, None) => Outgoing::Copied(copied),
        };
        Some(Box::pin(async move {
            let (result, buffer) = wire.tcp.write(one).submit().await;
            (result, spare(buffer))
        }))
    }
}

/// Only where [`Stream::finish`] was not reached (a panic above): what the kernel still holds is left to it for ever.
impl Drop for Stream {
    fn drop(&mut self) {
        if self.reading.is_some() || self.writing.is_some() {
            let _ = self.shutdown(Shutdown::Both);
            std::mem::forget((self.reading.take(), self.writing.take()));
        }
    }
}

fn spare(buffer: Outgoing) -> Vec<u8> {
    match buffer {
        Outgoing::Copied(bytes) => bytes,
        Outgoing::InPlace { .. } => Vec::new(),
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.passed == this.received.len() && !this.has_ended {
            ready!(this.poll_receive(cx))?;
            if this.wire.first_byte.get().is_none() && !this.has_ended {
                this.wire.first_byte.set(Some(Instant::now()));
            }
            (this.inspect)(&mut this.received);
        }
        let end = this.received.len().min(this.passed + buffer.remaining());
        buffer.put_slice(&this.received[this.passed..end]);
        this.passed = end;
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper shows the same bytes again until they are reported as written, so a write that is under way answers for them.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.is_none() {
            this.writing = this.start_write(slices);
            this.wire.is_writing.set(true);
            this.wire.moved.set(Instant::now());
        }
        let Some(writing) = &mut this.writing else {
            this.wire.is_writing.set(false);
            return Poll::Ready(Ok(0));
        };
        let (result, spare) = ready!(writing.as_mut().poll(cx));
        this.writing = None;
        this.spare = spare;
        this.wire.is_writing.set(false);
        let written = result?;
        this.wire.moved.set(Instant::now());
        this.wire.written.set(this.wire.written.get() + written as u64);
        this.wire.taken.set(this.wire.taken.get() + written.saturating_sub(this.copied) as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}
