//! Batches of UDP datagrams in one system call (recvmmsg, sendmmsg), each with its local address.
//!
//! For sockets of [`super::net::open_udp_socket`], on kernels that may lack io_uring: the kernel
//! keeps no pointer beyond a call.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

use bytes::Bytes;

use super::address::{DatagramTarget, read_socket_name, write_socket_name};
use super::control_message::{self, CONTROL_BYTES, ControlWriter};

/// Buffers for the datagrams of one receive, reused for the next.
pub struct DatagramInbox {
    /// Bytes from one datagram's buffer to the next one's.
    stride: usize,
    bytes: Box<[u8]>,
    names: Box<[[u8; NAME_BYTES]]>,
    controls: Box<[[u8; CONTROL_BYTES]]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// Number of headers that the last receive filled.
    filled: usize,
}

/// A received datagram, or several of one sender that the kernel has joined (UDP_GRO).
#[derive(Clone, Copy, Debug)]
pub struct ArrivedDatagram<'a> {
    /// The sender.
    pub from: SocketAddr,
    /// The local address from which the reply should leave.
    pub local: Option<IpAddr>,
    /// The destination: may be a broadcast or multicast address.
    pub destination: Option<IpAddr>,
    /// Index of the interface at which it arrived; 0: unknown.
    pub interface: u32,
    /// Length of each datagram in `bytes` but the last, which may be shorter. None: `bytes` is one
    /// datagram.
    pub segment: Option<u16>,
    /// The payload.
    pub bytes: &'a [u8],
    /// The datagram was longer than its buffer, and is cut.
    pub is_truncated: bool,
}

/// A queue of datagrams to send.
#[derive(Default)]
pub struct DatagramOutbox {
    bytes: Vec<u8>,
    queued: Vec<QueuedDatagram>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

struct QueuedDatagram {
    payload: QueuedPayload,
    name: libc::sockaddr_storage,
    name_len: libc::socklen_t,
    control: [u8; CONTROL_BYTES],
    control_len: usize,
}

/// Where the bytes of a queued datagram are.
enum QueuedPayload {
    /// In the buffer of the outbox.
    Written(Range<usize>),
    /// In memory that others hold as well.
    Shared(Bytes),
}

/// Length of the longer socket address, bytes.
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Bytes added to each buffer, so that the buffers of a batch do not compete for the same cache
/// sets.
const STAGGER_BYTES: usize = 1600;

/// Most messages of one recvmmsg or sendmmsg (UIO_MAXIOV).
const BATCH_MAX: usize = 1024;

impl DatagramInbox {
    /// An inbox for `datagrams` at a time, of up to `bytes` each; joined ones (UDP_GRO) need up to
    /// 64 KiB.
    pub fn new(datagrams: usize, bytes: usize) -> Self {
        let datagrams = datagrams.clamp(1, BATCH_MAX);
        let stride = bytes + STAGGER_BYTES;
        // SAFETY: iovec and mmsghdr are integers and raw pointers, for which all zeros is a valid
        // value.
        let (vector, header): (libc::iovec, libc::mmsghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut inbox = Self {
            stride,
            bytes: vec![0; datagrams * stride].into_boxed_slice(),
            names: vec![[0; NAME_BYTES]; datagrams].into_boxed_slice(),
            controls: vec![[0; CONTROL_BYTES]; datagrams].into_boxed_slice(),
            vectors: vec![vector; datagrams].into_boxed_slice(),
            headers: vec![header; datagrams].into_boxed_slice(),
            filled: datagrams,
        };
        inbox.point();
        inbox
    }

    /// Resets the headers that the last receive wrote to. The others are unchanged: they point into
    /// boxes of `self`, which never move.
    fn point(&mut self) {
        let places =
            self.bytes.chunks_exact_mut(self.stride).zip(&mut self.names).zip(&mut self.controls);
        let places = places.zip(self.vectors.iter_mut().zip(&mut self.headers)).take(self.filled);
        for (((bytes, name), control), (vector, header)) in places {
            *vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        self.filled = 0;
    }

    /// Receives the waiting datagrams, without blocking, and returns their number.
    /// [`io::ErrorKind::WouldBlock`]: no datagram is waiting.
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.point();
        // SAFETY: `point` has led each header to a name, a control buffer, a vector and, through
        // it, a payload of its own, with their true lengths; all of them are owned by `self`, which
        // is borrowed for the whole call. The kernel keeps no pointer beyond the call. No timeout
        // is given.
        let answer = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(answer).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    /// The datagrams of the last receive.
    pub fn arrivals(&self) -> impl Iterator<Item = ArrivedDatagram<'_>> {
        let places = self.bytes.chunks_exact(self.stride).zip(&self.names).zip(&self.controls);
        places.zip(&self.headers).take(self.filled).filter_map(
            |(((bytes, name), control), header)| {
                // The kernel has set each length to what it wrote: the buffers still hold bytes of
                // earlier datagrams behind that.
                let arrived = control_message::read_control_messages(
                    control.get(..header.msg_hdr.msg_controllen)?,
                );
                let from = read_socket_name(name.get(..header.msg_hdr.msg_namelen as usize)?)?;
                let bytes = bytes.get(..header.msg_len as usize)?;
                Some(ArrivedDatagram {
                    from,
                    local: arrived.local,
                    destination: arrived.destination,
                    interface: arrived.interface,
                    segment: arrived.segment,
                    bytes,
                    is_truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                })
            },
        )
    }

    /// Most datagrams of one receive.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }
}

impl<'a> ArrivedDatagram<'a> {
    /// The datagrams, one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let whole = self.bytes.len().max(1);
        self.bytes.chunks(self.segment.map_or(whole, |segment| usize::from(segment).max(1)))
    }
}

impl DatagramOutbox {
    /// Queues a datagram from this local address (None: by the routing table), with the bytes that
    /// `write` appends. With `segment` the kernel cuts them into datagrams of that length
    /// (UDP_SEGMENT).
    pub fn push(
        &mut self,
        to: SocketAddr,
        from: Option<IpAddr>,
        segment: Option<u16>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        // Even if `write` changed bytes of other datagrams, the range lies within the buffer.
        let bytes = start.min(self.bytes.len())..self.bytes.len();
        self.queue(to, from, segment, QueuedPayload::Written(bytes));
    }

    /// The same for bytes that are prepared: the outbox does not copy them.
    pub fn push_shared(
        &mut self,
        to: SocketAddr,
        from: Option<IpAddr>,
        segment: Option<u16>,
        bytes: Bytes,
    ) {
        self.queue(to, from, segment, QueuedPayload::Shared(bytes));
    }

    fn queue(
        &mut self,
        to: SocketAddr,
        from: Option<IpAddr>,
        segment: Option<u16>,
        payload: QueuedPayload,
    ) {
        // SAFETY: sockaddr_storage is plain integers, for which all zeros is a valid value.
        let mut name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let name_len = write_socket_name(&mut name, DatagramTarget::Ip(to));
        let mut control = [0; CONTROL_BYTES];
        let mut writer = ControlWriter::new(&mut control);
        if let Some(from) = from {
            writer.source(from, 0);
        }
        if let Some(segment) = segment {
            writer.segment(segment);
        }
        let control_len = writer.len();
        self.queued.push(QueuedDatagram { payload, name, name_len, control, control_len });
    }

    /// Number of queued datagrams.
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    /// Whether no datagram is queued.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Sends all queued datagrams. A datagram that the kernel refuses is lost, as on any network.
    /// If a non-blocking socket has no room, returns [`io::ErrorKind::WouldBlock`] and keeps the
    /// rest for the next call.
    pub fn flush(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        self.point();
        let mut sent = 0;
        let mut end = Ok(());
        while sent < self.headers.len() {
            let rest = &mut self.headers[sent..];
            let most = rest.len().min(BATCH_MAX) as libc::c_uint;
            // SAFETY: `point` has led every header to a name, control messages and a vector of
            // bytes with their true lengths, all owned or held (`Bytes`) by `self`, and nothing has
            // been queued or moved since. The kernel only reads them (but for msg_len of each
            // header, which is ours) and keeps no pointer beyond the call.
            let answer = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), most, 0) };
            match usize::try_from(answer) {
                Ok(more) => sent += more,
                Err(_) => match io::Error::last_os_error() {
                    // An ICMP error for an earlier datagram, on a socket that queues such errors:
                    // it occurs once, and not for this datagram.
                    error
                        if matches!(
                            error.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused
                        ) => {}
                    error if error.kind() == io::ErrorKind::WouldBlock => {
                        end = Err(error);
                        break;
                    }
                    // The kernel refused the first of the rest: no route, no memory, a closed port.
                    _ => sent += 1,
                },
            }
        }
        self.headers.clear();
        self.vectors.clear();
        self.queued.drain(..sent);
        if self.queued.is_empty() {
            self.bytes.clear();
        }
        end
    }

    /// Builds the headers of all queued datagrams. They are valid until the next push or send.
    fn point(&mut self) {
        self.vectors.clear();
        self.headers.clear();
        let base = self.bytes.as_mut_ptr();
        for queued in &self.queued {
            let (start, iov_len) = match &queued.payload {
                QueuedPayload::Written(range) => (base.wrapping_add(range.start), range.len()),
                // The kernel only reads what a send's vectors lead to.
                QueuedPayload::Shared(bytes) => (bytes.as_ptr().cast_mut(), bytes.len()),
            };
            self.vectors.push(libc::iovec { iov_base: start.cast(), iov_len });
        }
        for (queued, vector) in self.queued.iter_mut().zip(&mut self.vectors) {
            // SAFETY: mmsghdr is integers and raw pointers, for which all zeros is a valid value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut queued.name).cast();
            header.msg_hdr.msg_namelen = queued.name_len;
            if queued.control_len > 0 {
                header.msg_hdr.msg_control = queued.control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = queued.control_len;
            }
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
    }
}

impl std::fmt::Debug for DatagramInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramInbox")
            .field("capacity", &self.capacity())
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DatagramOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramOutbox").field("queued", &self.queued.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use super::*;
    use crate::engine::net::{self, SocketBinding, read_local_address};

    fn wildcard() -> (OwnedFd, u16) {
        let binding = SocketBinding {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            interface: None,
            shared: false,
        };
        let socket = net::open_udp_socket(&binding).unwrap();
        let port = read_local_address(&socket).unwrap().port();
        (socket, port)
    }

    fn plain(address: [u8; 4]) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::from(address), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn one_receive_brings_many_datagrams_with_both_their_addresses() {
        let (socket, port) = wildcard();
        let mut inbox = DatagramInbox::new(4, 100);
        assert_eq!(inbox.receive(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (client, from) = plain([127, 0, 0, 9]);
        for last in 1..=6u8 {
            client
                .send_to(&vec![last; last.into()], (Ipv4Addr::new(127, 0, 1, last), port))
                .unwrap();
        }
        let mut seen = Vec::new();
        for most in [4, 2] {
            assert_eq!(inbox.receive(&socket).unwrap(), most, "a batch has its limit");
            for arrival in inbox.arrivals() {
                assert_eq!((arrival.from, arrival.segment), (from, None));
                seen.push((arrival.local.unwrap().to_string(), arrival.bytes.to_vec()));
            }
        }
        let sent: Vec<_> =
            (1..=6u8).map(|last| (format!("127.0.1.{last}"), vec![last; last.into()])).collect();
        assert_eq!(seen, sent);
    }

    #[test]
    fn one_send_carries_many_datagrams_each_from_an_address_of_its_own() {
        let (socket, port) = wildcard();
        let (client, to) = plain([127, 0, 0, 9]);
        let mut outbox = DatagramOutbox::default();
        for last in 1..=5u8 {
            let from = Some(IpAddr::from([127, 0, 2, last]));
            match last % 2 {
                0 => outbox.push_shared(to, from, None, Bytes::from(vec![last; 3])),
                _ => outbox.push(to, from, None, |bytes| bytes.extend_from_slice(&[last; 3])),
            }
        }
        assert_eq!(outbox.len(), 5);
        outbox.flush(&socket).unwrap();
        assert!(outbox.is_empty());
        for last in 1..=5u8 {
            let mut bytes = [0; 10];
            let (len, from) = client.recv_from(&mut bytes).unwrap();
            assert_eq!(
                (&bytes[..len], from),
                (&[last; 3][..], SocketAddr::from(([127, 0, 2, last], port)))
            );
        }
    }

    #[test]
    fn a_datagram_that_is_refused_does_not_hold_up_the_others() {
        let (socket, _) = wildcard();
        let (client, to) = plain([127, 0, 0, 9]);
        let mut outbox = DatagramOutbox::default();
        let nowhere = Some(IpAddr::from([203, 0, 113, 1]));
        for (from, byte) in [(None, 1), (nowhere, 2), (nowhere, 3), (None, 4)] {
            outbox.push(to, from, None, |bytes| bytes.push(byte));
        }
        outbox.flush(&socket).unwrap();
        let mut got = [0; 2];
        for byte in &mut got {
            client.recv(std::slice::from_mut(byte)).unwrap();
        }
        assert_eq!(got, [1, 4]);
    }

    #[test]
    fn a_segmented_send_arrives_joined_where_that_is_wanted_and_single_where_not() {
        let (sender, _) = wildcard();
        let window: Vec<u8> = (0..=255u8).cycle().take(3500).collect();
        for joined in [false, true] {
            let (receiver, port) = wildcard();
            if joined {
                net::join_datagrams(&receiver).unwrap();
            }
            let mut outbox = DatagramOutbox::default();
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            outbox.push(to, None, Some(1000), |bytes| bytes.extend_from_slice(&window));
            outbox.flush(&sender).unwrap();
            let mut inbox = DatagramInbox::new(8, 65_536);
            let messages = inbox.receive(&receiver).unwrap();
            assert_eq!(messages, if joined { 1 } else { 4 });
            let datagrams: Vec<_> =
                inbox.arrivals().flat_map(|arrival| arrival.datagrams()).collect();
            let expected: Vec<_> = window.chunks(1000).collect();
            assert_eq!(datagrams, expected);
        }
    }

    #[test]
    fn more_datagrams_than_one_call_takes_are_all_sent() {
        let (socket, _) = wildcard();
        let (receiver, port) = wildcard();
        let mut outbox = DatagramOutbox::default();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        (0..2 * BATCH_MAX).for_each(|_| outbox.push(to, None, None, |bytes| bytes.push(1)));
        outbox.flush(&socket).unwrap();
        assert!(outbox.is_empty() && outbox.bytes.is_empty());
        let mut inbox = DatagramInbox::new(BATCH_MAX, 1);
        assert_eq!(
            (inbox.receive(&receiver).unwrap(), inbox.receive(&receiver).unwrap()),
            (BATCH_MAX, BATCH_MAX)
        );
    }
}
