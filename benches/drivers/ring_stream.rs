//! A connection of tokio-uring behind hyper's traits, which lend buffers where a ring wants to own
//! them.
//!
//! What is received goes through a buffer of the adaptor and is copied into hyper's. What is sent
//! is copied, except for slices of a served file: those are known by their addresses, and the ring
//! then holds a share of the file. So a body is never copied, which is the best that this pair can
//! do.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio_uring::net::TcpStream;

/// Bytes received at a time; a request of the client is about a hundred.
const ROOM_BYTES: usize = 4096;

/// An operation of the ring, with the buffers that it owns until it completes.
type Operation<Buffers> = Pin<Box<dyn Future<Output = (io::Result<usize>, Buffers)>>>;

pub(crate) struct RingStream {
    stream: Rc<TcpStream>,
    /// Files whose slices need no copy.
    files: Rc<[Bytes]>,
    receiving: Option<Operation<Vec<u8>>>,
    /// Received, and not yet taken by hyper.
    received: Bytes,
    sending: Option<Operation<Vec<Bytes>>>,
}

impl RingStream {
    pub(crate) fn new(stream: TcpStream, files: &Rc<[Bytes]>) -> Self {
        Self {
            stream: Rc::new(stream),
            files: Rc::clone(files),
            receiving: None,
            received: Bytes::new(),
            sending: None,
        }
    }

    fn start_receiving(&self) -> Operation<Vec<u8>> {
        let stream = Rc::clone(&self.stream);
        Box::pin(async move { stream.read(Vec::with_capacity(ROOM_BYTES)).await })
    }

    fn start_sending(&self, slices: &[IoSlice<'_>]) -> Operation<Vec<Bytes>> {
        let stream = Rc::clone(&self.stream);
        let slices = slices.iter().filter(|slice| !slice.is_empty());
        let owned: Vec<Bytes> = slices.map(|slice| self.own(slice)).collect();
        Box::pin(async move { stream.writev(owned).await })
    }

    /// A share of the file that the slice lies in, or else a copy of it.
    fn own(&self, slice: &[u8]) -> Bytes {
        let addresses = slice.as_ptr_range();
        let holds = |file: &&Bytes| {
            let held = file.as_ptr_range();
            held.start <= addresses.start && addresses.end <= held.end
        };
        self.files
            .iter()
            .find(holds)
            .map_or_else(|| Bytes::copy_from_slice(slice), |file| file.slice_ref(slice))
    }
}

impl Read for RingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            let mut receiving = self.receiving.take().unwrap_or_else(|| self.start_receiving());
            let Poll::Ready((bytes, buffer)) = receiving.as_mut().poll(context) else {
                self.receiving = Some(receiving);
                return Poll::Pending;
            };
            bytes?;
            self.received = Bytes::from(buffer);
        }
        let taken = self.received.len().min(cursor.remaining());
        cursor.put_slice(&self.received[..taken]);
        self.received.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl Write for RingStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slice: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(slice)])
    }

    /// While an operation is under way, hyper asks again with the same bytes, and perhaps more
    /// behind them.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut sending = self.sending.take().unwrap_or_else(|| self.start_sending(slices));
        match sending.as_mut().poll(context) {
            Poll::Ready((bytes, _)) => Poll::Ready(bytes),
            Poll::Pending => {
                self.sending = Some(sending);
                Poll::Pending
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}
