//! A TFTP server that remembers nothing: an ACK of block n is answered with the window after n,
//! whoever sends it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;

use ringboot::engine::mmsg::{ArrivedDatagram, DatagramInbox, DatagramOutbox};
use ringboot::engine::net::{self, SocketBinding};

const READ_REQUEST: u8 = 1;
const ACK: u8 = 4;
/// Opcode and block number.
const HEADER_BYTES: usize = 4;
/// What a segmented send may hold (IPv4; 64 segments on older kernels).
const SEND_BYTES_MAX: usize = 65_507;
const SEGMENTS_MAX: usize = 64;

struct Server {
    file: Vec<u8>,
    block_size: usize,
    window: usize,
    /// What a request is answered with; None = the first block.
    oack: Option<String>,
}

/// Serves this file under every name, on a thread of this core.
pub(crate) fn serve(
    file: Vec<u8>,
    block_size: Option<u16>,
    window: u16,
) -> io::Result<SocketAddrV4> {
    let binding = SocketBinding {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        interface: None,
        shared: false,
    };
    let socket = net::open_udp_socket(&binding)?;
    let SocketAddr::V4(address) = net::read_local_address(&socket)? else {
        return Err(io::Error::other("not an IPv4 socket"));
    };
    let oack = block_size.map(|size| {
        let window = if window > 1 { format!("windowsize\0{window}\0") } else { String::new() };
        format!("\0\x06blksize\0{size}\0{window}")
    });
    let server =
        Server { file, block_size: block_size.unwrap_or(512).into(), window: window.into(), oack };
    thread::spawn(move || {
        let mut inbox = DatagramInbox::new(64, 600);
        let mut outbox = DatagramOutbox::default();
        loop {
            // It has its core to itself: looking again costs nobody anything.
            if inbox.receive(&socket).is_err() {
                thread::yield_now();
                continue;
            }
            for arrival in inbox.arrivals() {
                server.answer(&arrival, &mut outbox);
            }
            // A blocking socket: it waits for room.
            let _ = outbox.flush(&socket);
        }
    });
    Ok(address)
}

impl Server {
    fn answer(&self, arrival: &ArrivedDatagram<'_>, outbox: &mut DatagramOutbox) {
        let &[0, opcode, high, low, ..] = arrival.bytes else { return };
        let first = match (opcode, &self.oack) {
            (READ_REQUEST, Some(oack)) => {
                return outbox.push(arrival.from, None, None, |bytes| {
                    bytes.extend_from_slice(oack.as_bytes())
                });
            }
            (READ_REQUEST, None) => 1,
            (ACK, _) => usize::from(u16::from_be_bytes([high, low])) + 1,
            _ => return,
        };
        let blocks = self.file.len() / self.block_size + 1;
        let end = (first + self.window).min(blocks + 1);
        let datagram = self.block_size + HEADER_BYTES;
        let at_once = (SEND_BYTES_MAX / datagram).clamp(1, SEGMENTS_MAX);
        for from in (first..end).step_by(at_once) {
            let to = (from + at_once).min(end);
            let segment = (to - from > 1).then(|| u16::try_from(datagram).unwrap_or(u16::MAX));
            outbox.push(arrival.from, None, segment, |bytes| {
                (from..to).for_each(|block| self.write(block, bytes))
            });
        }
    }

    fn write(&self, block: usize, out: &mut Vec<u8>) {
        let [.., high, low] = block.to_be_bytes();
        out.extend_from_slice(&[0, 3, high, low]);
        let start = (block - 1) * self.block_size;
        let end = (start + self.block_size).min(self.file.len());
        out.extend_from_slice(self.file.get(start..end).unwrap_or_default());
    }
}
